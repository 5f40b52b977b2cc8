"""Tables of the comparison of strategies, whose runs lie in `results/runs/scan_strategies`."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from depthsearch.hardware import in_words
from depthsearch.measuring.choices import SHOWN_METRICS
from depthsearch.reporting.tables.baselines import BASELINES, with_baselines
from depthsearch.reporting.tables.depth_scans import overflowed_last
from depthsearch.reporting.tables.files import cohort_of, known_runs, nonempty, read_runs, thin
from depthsearch.reporting.tables.schema import CHOICES, POOL, Tables, frames
from depthsearch.reporting.tables.shown import shown
from depthsearch.strategies import METHODS, SEARCHES
from depthsearch.studies.pools import pool_row

TABLES = (*CHOICES.tables, *POOL.tables)
# What is of a strategy, or of a network; all else is shared.
OF_A_STRATEGY = ("kind", "max_depth", "width", "points", "pool", "selection", "rate")
ORDER = [*METHODS, *SEARCHES, *BASELINES]
ONE_OF_A_KIND = ("LDN", "normal", "DARTS (paper)", "DrNAS", "manual")  # where twelve would be too many to see
LOOKED_UP = ("retrained_", "best_depth", "best_log_likelihood", "regret")  # how columns begin that are of the pool
MODES = ("searched", "truncated", "retrained")


def is_reduced(family: str) -> bool:
    """Whether a family is compared on a part of its training points."""
    return family not in ("spirals", "digits")


def collect(results: Path) -> Tables:
    """All finished runs of the comparison as tidy tables, `CHOICES` and `POOL`.

    - `strategies`: one row a run: chosen depth and width, costs, test metrics under `<mode>_<metric>`, of which
      `retrained` is looked up in the pool; `regret`: how far its retrained log-likelihood lies below that of
      `best_depth`, the best of the preset's width on the test points; Kendall's tau and mean squared error of the
      predictor. Of a run whose loss was no longer finite there are `diverged_epoch` and what it cost.
    - `strategies_pool`: one row a deterministic network.
    - `strategies_shift`: one row a run and amount of shift.
    - `strategies_curves`: one row a run and logged epoch: entropy of q, expected depth.

    All have the `configuration`, its hash; the first two also `cohort`, the hash of what all strategies share on a data
    set, and when the run `started`.
    """
    rows: dict[str, list[dict]] = {name: [] for name in TABLES}
    for config, summary in read_runs(results, "choices"):
        asked, which = config["configuration"], {"configuration": config["hash"]}
        making = {"cohort": shared_by_strategies(config), "started": config["started"]}
        if asked["kind"] == "DDN":
            rows["strategies_pool"].append(pool_row(config, summary) | which | making)
            continue
        key = {"data_set": asked["data_set"], "strategy": asked["kind"], "seed": config["seed"]}
        key |= {"epochs_limit": asked["training"]["epochs"]} | which
        row = key | making | {"max_depth": asked["max_depth"], "preset_width": asked["width"]}
        row |= {"device": in_words(config["device"])}
        diverged = summary.get("diverged_epoch")
        row |= {"diverged_epoch": math.nan if diverged is None else diverged}
        if diverged is not None:
            rows["strategies"].append(row | _spent(summary))
            continue
        rows["strategies"].append(row | _found(summary, asked["kind"], asked["width"]))
        rows["strategies_shift"] += [key | point for point in summary["shift"]]
        for point in thin(summary["history"]) if asked["kind"] in METHODS else []:
            columns = ("epoch", "depth_entropy", "expected_depth", "pruned_depth", "valid_log_likelihood")
            rows["strategies_curves"].append(key | {k: point[k] for k in columns})
    tables = frames(rows)
    return tables | {"strategies_shift": overflowed_last(tables["strategies_shift"])}


def shared_by_strategies(config: Mapping) -> str:
    """The hash of what all strategies share on a data set; each has a learning rate of its own."""
    return cohort_of(config, *OF_A_STRATEGY, of_training=("learning_rate",))


def _found(summary: Mapping, kind: str, width: int) -> dict:
    row = {"depth": summary["pruned_depth"], "width": summary.get("width", width)}
    row |= {"expected_depth": summary["expected_depth"], "epochs": summary["epochs"]}
    row |= _spent(summary)
    for mode, found in summary["variants"].items():
        if mode == "truncated" and METHODS[kind].depthwise and "heads" not in found:
            continue  # a run of a version that kept the last head alone
        row |= {f"{mode}_{m}": found[f"test_{m}"] for m in SHOWN_METRICS}
    return row | summary.get("extra", {})


def _spent(summary: Mapping) -> dict:
    return {"seconds": summary["seconds"]["training_seconds"]} | summary.get("costs", {})


def with_retrained(tables: Tables) -> Tables:
    """The tables with what the pool says of each choice: its depth `retrained_...` on all points, and its `regret`.

    Of networks trained in several configurations the last one counts.
    """
    strategies, pool = tables["strategies"], tables["strategies_pool"]
    strategies = strategies.drop(columns=[c for c in strategies if str(c).startswith(LOOKED_UP)])
    if strategies.empty or pool.empty or "depth" not in strategies:  # all may have diverged
        unknown = {name: np.nan for name in ("best_depth", "best_log_likelihood", "regret")}
        return {**tables, "strategies": strategies.assign(**unknown)}
    keys = ["data_set", "seed", "cohort"]
    columns = [*keys, "depth", "width"]
    retrained = pool[pool["points"] == "all"].sort_values("started", kind="stable")
    retrained = retrained.rename(
        columns={f"test_{m}": f"retrained_{m}" for m in SHOWN_METRICS} | {"max_depth": "depth"}
    )
    retrained = retrained.drop_duplicates(columns, keep="last")
    table = strategies.merge(retrained[columns + [f"retrained_{m}" for m in SHOWN_METRICS]], on=columns, how="left")
    at_preset = retrained.merge(strategies[[*keys, "preset_width"]].drop_duplicates(), on=keys)
    at_preset = at_preset[at_preset["width"] == at_preset["preset_width"]].dropna(subset="retrained_log_likelihood")
    best = at_preset.loc[at_preset.groupby(keys)["retrained_log_likelihood"].idxmax()]
    names = {"depth": "best_depth", "retrained_log_likelihood": "best_log_likelihood"}
    best = best.rename(columns=names)[[*keys, *names.values()]].drop_duplicates(keys)
    table = table.merge(best, on=keys, how="left")
    regret = table["best_log_likelihood"] - table["retrained_log_likelihood"]
    return {**tables, "strategies": table.assign(regret=regret)}


def read_tables(results: Path) -> Tables:
    """Of the runs of the comparison that a results folder knows of what is `shown`.

    Raises:
        FileNotFoundError: there are neither runs nor tables.
    """
    return shown_tables(nonempty(known_runs(results, collect), results))[0]


def shown_tables(tables: Tables) -> tuple[Tables, list[str]]:
    """What is `shown` of the comparison, and a line for each cohort left out.

    Regrets are among what is shown, and there is a row for each of the `BASELINES`.
    """
    part, others = shown({name: tables[name] for name in TABLES})
    part = with_retrained(part)
    return part | {"strategies": with_baselines(part["strategies"], part["strategies_pool"])}, others


# Parts of these tables. A *family* is all spirals together or one image data set.


def families(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each family by its name."""
    name = _family_of(table)
    for family in dict.fromkeys(sorted(name, key=lambda n: (n != "spirals", n))):
        yield family, table[name == family]


def of_family(table: pd.DataFrame, family: str) -> pd.DataFrame:
    """The rows of one family; none where there is none."""
    return table[_family_of(table) == family]


def _family_of(table: pd.DataFrame) -> pd.Series:
    return table["data_set"].where(~table["data_set"].str.startswith("spirals"), "spirals")


def by_repeat(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Means over data sets: one row a repeat, one column a strategy; NaN where a repeat misses one of the data sets."""
    groups = rows.groupby(["strategy", "seed"])[column]
    table = groups.mean().where(groups.count() == rows["data_set"].nunique()).unstack("strategy")
    return table[[name for name in ORDER if name in table]]


def off_the_data(shift: pd.DataFrame) -> pd.DataFrame:
    """Per run, the mean over all amounts of shift but none: log-likelihood, ECE and AUROC."""
    keys = ["data_set", "strategy", "seed"]
    return shift[shift["shift"] > 0].groupby(keys)[["log_likelihood", "ece", "auroc"]].mean().reset_index()
