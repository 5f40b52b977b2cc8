"""Tables of the comparison of strategies, whose runs lie in `results/runs/scan_strategies`."""

import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from depthsearch.hardware import in_words
from depthsearch.measuring.choices import METRICS
from depthsearch.reporting.joining import join
from depthsearch.reporting.tables import read_runs, stored_tables, thin
from depthsearch.running.study import fingerprint
from depthsearch.strategies import METHODS
from depthsearch.studies.pools import pool_row

TABLES = ("strategies", "strategies_pool", "strategies_shift", "strategies_curves")
MODES = ("searched", "truncated", "retrained")


def collect(results: Path) -> dict[str, pd.DataFrame]:
    """All finished runs of the comparison as tidy tables, keyed by `TABLES`.

    - `strategies`: one row a run: chosen depth and width, costs, test metrics under `<mode>_<metric>`, of which
      `retrained` is looked up in the pool; `regret`: how far its retrained log-likelihood lies below that of
      `best_depth`, the best of the preset's width on the test points; Kendall's tau and mean squared error of the
      predictor. Of a run whose loss was no longer finite there is `diverged_epoch` and nothing else.
    - `strategies_pool`: one row a deterministic network.
    - `strategies_shift`: one row a run and amount of shift.
    - `strategies_curves`: one row a run and logged epoch: entropy of q, expected depth.

    All have the `configuration`, `cohort` and `started` of `tables.key_of`.
    """
    rows: dict[str, list[dict]] = {name: [] for name in TABLES}
    for config, summary in read_runs(results, comparison=True):
        asked = config["configuration"]
        shared = {k: asked[k] for k in ("study", "data_set", "training")}
        which = {"configuration": config["hash"], "cohort": fingerprint(shared), "started": config["started"]}
        if asked["kind"] == "DDN":
            rows["strategies_pool"].append(pool_row(config, summary) | which)
            continue
        key = {"data_set": asked["data_set"], "strategy": asked["kind"], "seed": config["seed"]}
        key |= {"epochs_limit": asked["training"]["epochs"]} | which
        row = key | {"max_depth": asked["max_depth"], "preset_width": asked["width"]}
        row |= {"device": in_words(config["device"])}
        diverged = summary.get("diverged_epoch")
        row |= {"diverged_epoch": math.nan if diverged is None else diverged}
        if diverged is not None:
            rows["strategies"].append(row)
            continue
        rows["strategies"].append(row | _found(summary, asked["width"]))
        rows["strategies_shift"] += [key | point for point in summary["shift"]]
        for point in thin(summary["history"]) if asked["kind"] in METHODS else []:
            columns = ("epoch", "depth_entropy", "expected_depth", "pruned_depth", "valid_log_likelihood")
            rows["strategies_curves"].append(key | {k: point[k] for k in columns})
    return with_retrained({name: pd.DataFrame(found) for name, found in rows.items()})


def _found(summary: Mapping, width: int) -> dict:
    row = {"depth": summary["pruned_depth"], "width": summary.get("width", width)}
    row |= {"expected_depth": summary["expected_depth"], "epochs": summary["epochs"]}
    row |= {"seconds": summary["seconds"]["training_seconds"]} | summary["costs"]
    for mode, found in summary["variants"].items():
        row |= {f"{mode}_{m}": found[f"test_{m}"] for m in METRICS}
    return row | summary.get("extra", {})


def with_retrained(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The tables with what the pool says of each choice: its depth retrained, and its regret."""
    strategies = tables["strategies"]
    looked_up = [f"retrained_{m}" for m in METRICS] + ["best_depth", "best_log_likelihood", "regret"]
    strategies = strategies.drop(columns=[c for c in looked_up if c in strategies])
    return {**tables, "strategies": _with_retrained(strategies, tables["strategies_pool"])}


def _with_retrained(strategies: pd.DataFrame, pool: pd.DataFrame) -> pd.DataFrame:
    if "depth" not in strategies or pool.empty:
        return strategies
    keys = ["data_set", "seed", "epochs_limit"]
    retrained = pool[pool["points"] == "all"].rename(columns={f"test_{m}": f"retrained_{m}" for m in METRICS})
    retrained = retrained.rename(columns={"max_depth": "depth"})
    columns = [*keys, "depth", "width"]
    table = strategies.merge(retrained[columns + [f"retrained_{m}" for m in METRICS]], on=columns, how="left")
    at_preset = retrained.merge(strategies[[*keys, "preset_width"]].drop_duplicates(), on=keys)
    at_preset = at_preset[at_preset["width"] == at_preset["preset_width"]].dropna(subset="retrained_log_likelihood")
    if at_preset.empty:
        return table
    best = at_preset.loc[at_preset.groupby(keys)["retrained_log_likelihood"].idxmax()]
    names = {"depth": "best_depth", "retrained_log_likelihood": "best_log_likelihood"}
    table = table.merge(best.rename(columns=names)[[*keys, *names.values()]], on=keys, how="left")
    return table.assign(regret=table["best_log_likelihood"] - table["retrained_log_likelihood"])


def all_tables(results: Path) -> dict[str, pd.DataFrame]:
    """Every run that a results folder knows of: those in `runs`, and the rows of `tables` whose runs are elsewhere.

    Raises:
        FileNotFoundError: there are neither runs nor tables.
    """
    collected, stored = collect(results), stored_tables(results, TABLES)
    if stored is None and all(table.empty for table in collected.values()):
        raise FileNotFoundError(f"no finished runs in {results / 'runs'} and no tables in {results / 'tables'}")
    return collected if stored is None else with_retrained(join(collected, stored)[0])


def read_tables(results: Path) -> dict[str, pd.DataFrame]:
    """Of `all_tables` what is to be shown: of each data set the longest runs, of those the fullest, the newest.

    Raises:
        FileNotFoundError: there are neither runs nor tables.
    """
    tables = all_tables(results)
    rows = tables["strategies"]
    if rows.empty:
        rows = tables["strategies_pool"]
    if rows.empty:
        return tables
    sums = (
        rows.assign(n=1)
        .groupby(["data_set", "cohort"], as_index=False)
        .agg(epochs=("epochs_limit", "max"), n=("n", "sum"), started=("started", "max"))
    )
    shown = sums.sort_values(["epochs", "n", "started"]).groupby("data_set").tail(1)
    keep = set(zip(shown["data_set"], shown["cohort"], strict=True))
    return {name: _of(table, keep) for name, table in tables.items()}


def _of(table: pd.DataFrame, keep: set[tuple]) -> pd.DataFrame:
    if table.empty:
        return table
    rows = zip(table["data_set"], table["cohort"], strict=True)
    return table[[row in keep for row in rows]].reset_index(drop=True)
