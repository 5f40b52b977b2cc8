"""Tidy tables of many runs, and parts of them."""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from depthsearch.hardware import in_words
from depthsearch.running.folders import configuration_number, read_run, run_folders

TABLES = ("runs", "depths", "reliability", "curves", "diverged")


def collect(results: Path) -> dict[str, pd.DataFrame]:
    """All finished runs of a results folder as tidy tables, keyed by `TABLES`.

    - `runs`: one row a run: its configuration, chosen depths, the metric sets of each variant under
      `<variant>_<split>_<metric>`, parameters, epochs, seconds, hardware; `DDN_predict_seconds` of an LDN run is that
      of a deterministic network of the same depth.
    - `depths`: one row a run and depth: q, prior, exact posterior, metric sets per depth.
    - `reliability`: one row a run, variant and confidence bin.
    - `curves`: one row a run and logged epoch.
    - `diverged`: one row a run whose loss became infinite or no number, with its `epoch`; it is in no other table.

    A run that cannot be read is left out, and said so. `configuration` is the n of a `<setting>~n`.
    """
    tables: dict[str, list[dict]] = {name: [] for name in TABLES}
    for folder in run_folders(results):
        run = read_run(folder)
        if run is None:
            print(f"{folder} is damaged: left out", file=sys.stderr)
            continue
        config, summary = run
        key = {"scan": config["scan"], "data_set": folder.parents[1].name, **config["setting"]}
        key |= {"precision": config.get("precision", "float32")}
        key |= {"configuration": configuration_number(folder)}
        key |= {"seed": config["seed"], "epochs_limit": config["epochs"]}
        if summary.get("diverged_epoch") is not None:
            tables["diverged"].append(key | {"epoch": summary["diverged_epoch"]})
            continue
        row = dict(key)
        row |= {k: summary[k] for k in ("pruned_depth", "expected_depth", "kl_to_exact", "parameters")}
        row |= {k: summary[k] for k in ("pruned_parameters", "best_epoch", "epochs")}
        selected = next((point for point in summary["history"] if point["epoch"] == summary["best_epoch"]), {})
        row |= {k: v for k, v in selected.items() if k.startswith("valid_")}
        row |= summary["seconds"] | {"device": in_words(config["device"]), "replicates": config["replicates"]}
        for variant, values in summary["variants"].items():
            row |= {f"{variant}_{k}": v for k, v in values.items()}
        tables["runs"].append(row)
        tables["depths"] += [key | depth for depth in summary["depths"]]
        for variant, bins in summary["reliability"].items():
            for i, (count, confidence, accuracy) in enumerate(zip(*bins.values(), strict=True)):
                if count:
                    values = {"bin": i, "count": count, "confidence": confidence, "accuracy": accuracy}
                    tables["reliability"].append(key | {"variant": variant} | values)
        tables["curves"] += [key | point for point in thin(summary["history"])]
    return {name: _table(rows) for name, rows in tables.items()}


def _table(rows: list[dict]) -> pd.DataFrame:
    # Where there are none, with the columns that all tables share: an empty file cannot be read back.
    shared = ["scan", "data_set", "kind", "max_depth", "seed", "epochs_limit"]
    return pd.DataFrame(rows, columns=None if rows else shared)


def thin(history: list[dict], most: int = 40) -> list[dict]:
    """Every so many of the evaluations of a run, that at most so many are left."""
    return history[:: math.ceil(len(history) / most)] if history else []


def read_tables(results: Path) -> dict[str, pd.DataFrame]:
    """`comparable` tables of the finished runs under `results`; those in `results/tables` if there are no runs.

    Raises:
        FileNotFoundError: there is neither.
    """
    there = next(run_folders(results), None) is not None
    return comparable(collect(results) if there else stored_tables(results, TABLES))


def comparable(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Of runs that share a name, those of the first configuration (not `<setting>~2`, ...); the longest of a scan."""
    return {name: _longest(_first_configuration(name, table)) for name, table in tables.items()}


def _first_configuration(name: str, table: pd.DataFrame) -> pd.DataFrame:
    if table.empty or "configuration" not in table:
        return table
    first = table["configuration"] == 1
    if name == "runs" and not first.all():
        print(f"{(~first).sum()} runs of another configuration (folders ~2, ...) are left out", file=sys.stderr)
    return table[first]


def _longest(table: pd.DataFrame) -> pd.DataFrame:
    """Where a spiral scan was run with several limits on epochs (--quick), the rows of the longest: they never mix."""
    if table.empty:
        return table
    longest = table["epochs_limit"] == table.groupby("scan")["epochs_limit"].transform("max")
    return table[longest | table["scan"].str.endswith("_images")]


# Parts of tables.


def of_scan(table: pd.DataFrame, scan: str) -> pd.DataFrame:
    """The rows of one scan."""
    return table if table.empty else table[table["scan"] == scan]


def ldn_and_ddn(table: pd.DataFrame, family: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the depth scans on "spirals" or "images"."""
    return of_scan(table, f"scan_max_depth_{family}"), of_scan(table, f"scan_deterministic_depth_{family}")


def timed_runs(ldn: pd.DataFrame) -> pd.DataFrame:
    """The LDN rows beside which deterministic networks were timed, and what pruning `saved` of a DDN's time (%)."""
    if "DDN_predict_seconds" not in ldn:
        return ldn[:0].assign(saved=())
    ldn = ldn[ldn["DDN_predict_seconds"].notna()]
    return ldn.assign(saved=100 * (1 - ldn["LDN-95_predict_seconds"] / ldn["DDN_predict_seconds"]))


def cohorts(tables: Mapping[str, pd.DataFrame]) -> dict[str, dict[str, pd.DataFrame]]:
    """The image runs by protocol, precision and limit on epochs, which never mix; fair and long ones first.

    Returns:
        by a name such as `fair_bfloat16_500epochs`, the tables of those runs alone.
    """
    keys = ["protocol", "precision", "epochs_limit"]
    if "protocol" not in tables["runs"]:
        return {}
    ways = tables["runs"][keys].dropna().drop_duplicates().sort_values(keys, ascending=[True, True, False])
    parts = {}
    for way in ways.to_dict("records"):
        name = f"{way['protocol']}_{way['precision']}_{way['epochs_limit']}epochs"
        parts[name] = {
            key: table[(table[keys] == pd.Series(way)).all(axis=1)]
            for key, table in tables.items()
            if "protocol" in table
        }
    return parts


def of_data_sets(runs: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Of each image data set with LDN runs: its name, its LDN and its DDN rows."""
    ldn, ddn = ldn_and_ddn(runs, "images")
    for name in ldn["data_set"].unique():
        yield name, ldn[ldn["data_set"] == name], ddn[ddn["data_set"] == name]


def reference_depth(*tables: pd.DataFrame) -> int | None:
    """Of the depths that all tables have, the one of the paper's image figures, 50, or else the deepest."""
    shared = set.intersection(*(set(table["max_depth"]) for table in tables))
    return 50 if 50 in shared else max(map(int, shared), default=None)


# Tables on disk and on a page.


def write_tables(results: Path, tables: Mapping[str, pd.DataFrame]) -> list[Path]:
    """Writes `results/tables/<name>.csv`; returns the paths."""
    (results / "tables").mkdir(parents=True, exist_ok=True)
    paths = {results / "tables" / f"{name}.csv": table for name, table in tables.items()}
    for path, table in paths.items():
        table.to_csv(path, index=False, float_format="%.6g")
    return list(paths)


def stored_tables(results: Path, names: Sequence[str]) -> dict[str, pd.DataFrame]:
    """
    Raises:
        FileNotFoundError: there are none, or not all of them.
    """
    paths = {name: results / "tables" / f"{name}.csv" for name in names}
    if not all(path.exists() for path in paths.values()):
        raise FileNotFoundError(f"no finished runs in {results / 'runs'} and no tables in {results / 'tables'}")
    # An empty table is an empty line on disk.
    return {name: pd.read_csv(path) if path.stat().st_size > 1 else pd.DataFrame() for name, path in paths.items()}


def markdown(table: pd.DataFrame) -> str:
    """A pipe table."""
    if table.empty:
        return "(no runs)"
    rows = [list(table.columns), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def span(counts: pd.Series) -> str:
    """The number that all counts are, or the least and the largest: `4`, `4 to 16`."""
    low, high = counts.min(), counts.max()
    return f"{low}" if low == high else f"{low} to {high}"


def spread(values: pd.Series) -> str:
    """Mean and standard deviation."""
    return f"{values.mean():.3g} ± {values.std():.2g}"
