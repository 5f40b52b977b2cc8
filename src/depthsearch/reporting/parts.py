"""Parts of tables: of a scan, a data set, a way of training."""

from collections.abc import Iterator

import pandas as pd

from depthsearch.reporting.tables.schema import FAIR, Tables


def of_scan(table: pd.DataFrame, scan: str) -> pd.DataFrame:
    """The rows of one scan."""
    return table[table["scan"] == scan]


def held_out(scan: str) -> str:
    """What a title adds for a scan, or family of scans, that ends in `FAIR`."""
    return ", a quarter of the training points held out" if scan.endswith(FAIR) else ""


def ldn_and_ddn(table: pd.DataFrame, family: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the depth scans on "spirals", "spirals_fair" or "images", but for DDN of limits that no LDN has."""
    ldn, ddn = of_scan(table, f"scan_max_depth_{family}"), of_scan(table, f"scan_deterministic_depth_{family}")
    return ldn, ddn[ddn["epochs_limit"].isin(ldn["epochs_limit"])] if len(ldn) else ddn


def timed_runs(ldn: pd.DataFrame) -> pd.DataFrame:
    """The LDN rows beside which deterministic networks were timed, and what pruning `saved` of a DDN's time (%)."""
    ldn = ldn[ldn["DDN_predict_seconds"].notna()]
    return ldn.assign(saved=100 * (1 - ldn["LDN-95_predict_seconds"] / ldn["DDN_predict_seconds"]))


def cohorts(tables: Tables) -> dict[str, dict[str, pd.DataFrame]]:
    """The image runs by protocol, precision and limit on epochs, which never mix; fair and long ones first.

    Returns:
        by a name such as `fair_bfloat16_500epochs`, the tables of those runs alone.
    """
    keys = ["protocol", "precision", "epochs_limit"]
    if "protocol" not in tables["runs"]:
        return {}
    images = {
        name: table[table["scan"].str.endswith("_images")] for name, table in tables.items() if "protocol" in table
    }
    order = {"by": ["protocol", "epochs_limit", "precision"], "ascending": [True, False, True]}
    ways = images["runs"][keys].dropna().drop_duplicates().sort_values(**order)
    parts = {}
    for way in ways.to_dict("records"):
        name = f"{way['protocol']}_{way['precision']}_{way['epochs_limit']}epochs"
        parts[name] = {key: table[(table[keys] == pd.Series(way)).all(axis=1)] for key, table in images.items()}
    return parts


def of_data_sets(runs: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Of each image data set with LDN runs: its name, its LDN and its DDN rows."""
    ldn, ddn = ldn_and_ddn(runs, "images")
    for name in ldn["data_set"].unique():
        yield name, ldn[ldn["data_set"] == name], ddn[ddn["data_set"] == name]


def first_cohorts(tables: Tables) -> dict[str, tuple[str, pd.DataFrame]]:
    """Of each image data set the first cohort with LDN runs of it: its name, and its runs of that data set."""
    found: dict[str, tuple[str, pd.DataFrame]] = {}
    for way, cohort in cohorts(tables).items():
        for name, *runs in of_data_sets(cohort["runs"]):
            found.setdefault(name, (way, pd.concat(runs)))
    return found


def claimed_depth(ldn: pd.DataFrame, ddn: pd.DataFrame) -> int | None:
    """The D of claims 2 and 3: the `reference_depth` of both kinds, or where they share none of LDN."""
    shared = reference_depth(ldn, ddn)
    return reference_depth(ldn) if shared is None else shared


def shared_depth(runs: pd.DataFrame) -> int | None:
    """The `reference_depth` of LDN and DDN, of the runs of one data set: where they can be held against each other."""
    return reference_depth(*(runs[runs["kind"] == kind] for kind in ("LDN", "DDN")))


def reference_depth(*tables: pd.DataFrame) -> int | None:
    """Of the depths that all tables have, in most repeats: the one of the paper's image figures, 50, or the deepest."""
    repeats = [table.groupby("max_depth")["seed"].nunique() for table in tables]
    fewest = pd.concat(repeats, axis=1, join="inner").min(axis=1)
    shared = set(fewest[fewest == fewest.max()].index)
    return 50 if 50 in shared else max(map(int, shared), default=None)
