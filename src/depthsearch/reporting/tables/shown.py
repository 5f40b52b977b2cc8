"""Which of several configurations of a scan a report shows.

Tables keep every configuration. Runs of a scan whose configurations differ only in what the scan varies are of one
*cohort*. Of each scan and data set the fullest cohort is shown: the one with most settings, then with most repeats of
every setting; of those that are as full, the one started last. So a scan that is run anew after a change is shown as
soon as it is as complete as what was there, and a small trial never hides it. Of images, whose runs take hours, that
holds for each setting alone, so that one that was run anew may stand beside one that was not. The others are named.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from depthsearch.reporting.tables.rate_scans import for_tuning
from depthsearch.reporting.tables.schema import (
    CELLS,
    CHAINS,
    CHOICES,
    POOL,
    PREDICTIONS,
    RUNS,
    SETTING,
    TRAININGS,
    VARIATIONS,
    Family,
    Tables,
    as_text,
    stacked,
    with_all_columns,
)
from depthsearch.studies.recurrent_genotypes import LSTM

WAYS = ("protocol", "precision", "epochs_limit")  # of training images, which pages show side by side
NETWORK = ("strategy", "points", "max_depth", "width")
VARIED = ("q_rate", "kl_weight", "prior_ratio", "patience")  # of a learnt depth


class Choice(NamedTuple):
    """Of which `groups` the `fullest` cohort is shown, and which `settings` a scan varies; names of columns."""

    groups: tuple[str, ...]
    settings: tuple[str, ...]
    cohort: tuple[str, ...] = ("cohort", "epochs_limit")


CHOSEN = {
    CELLS: Choice(("scan", "data_set"), ("kind", "setting")),
    CHAINS: Choice(("data_set",), ("cell",)),
    PREDICTIONS: Choice(("data_set", "split"), ("split",)),  # a split as it was run most often, whatever the others
    VARIATIONS: Choice(("scan", "data_set", "max_depth"), (*VARIED, "fit"), ("cohort",)),
}


def shown(tables: Tables) -> tuple[Tables, list[str]]:
    """The rows that reports show.

    Where a run is left out so are its rows in all tables. All have the columns that pages look for.

    Returns:
        the tables, and a line for each cohort that is left out.
    """
    kept: dict[Family, pd.Series] = {}
    lines: list[str] = []
    if "runs" in tables:
        runs = stacked([tables["runs"], tables["diverged"]])
        of_images = runs["scan"].str.endswith("_images")
        spirals, others = fullest(runs[~of_images], Choice(("scan", "data_set"), SETTING))
        parts, lines = [], lines + others
        for part, ways in ((spirals, ()), (runs[of_images], WAYS)):
            best, others = fullest(part, Choice(("scan", "data_set", *ways, *SETTING), (), ("configuration",)))
            parts.append(RUNS.keys(best))
            lines += others
        kept[RUNS] = pd.concat(parts)
    if "strategies" in tables:
        choices, pool = tables["strategies"], tables["strategies_pool"]
        both = stacked([choices.assign(pool=False, max_depth=None, width=None), pool.assign(pool=True)])
        # All that is compared on a data set is trained alike; of a strategy or network that was selected in two ways
        # since, one is taken.
        best, others = fullest(both, Choice(("data_set",), NETWORK))
        best, more = fullest(best, Choice(("data_set", *NETWORK), (), ("configuration",)))
        of_pool = best["pool"].astype(bool)
        kept |= {CHOICES: CHOICES.keys(best[~of_pool]), POOL: POOL.keys(best[of_pool])}
        lines += others + more
    for family, choice in CHOSEN.items():
        if family.mains[0] in tables:
            best, others = fullest(tables[family.mains[0]], choice)
            kept[family] = family.keys(best)
            lines += others
    if "genotypes" in tables:
        best, others = _trainings(tables["genotypes"])
        kept[TRAININGS] = TRAININGS.keys(best)
        lines += others
    return _only(tables, kept), lines


def _trainings(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Of genotypes; those for tuning apart, of which all learning rates are shown, and of the others one a network."""
    tuning, lstm = for_tuning(rows), rows["name"] == LSTM
    rows = rows.assign(tuning=tuning.map({True: "tuning", False: ""}), network=lstm.map({True: LSTM, False: ""}))
    best, others = fullest(rows, Choice(("scan", "data_set", "tuning"), ("architecture",)))
    tuned = best["tuning"] == "tuning"
    of_one = Choice(("scan", "data_set", "network"), ("architecture",), ("learning_rate",))
    compared, more = fullest(best[~tuned], of_one)
    return stacked([compared, best[tuned]]), others + more


def fullest(rows: pd.DataFrame, choice: Choice) -> tuple[pd.DataFrame, list[str]]:
    """Of each group the rows of its fullest cohort, and of as full ones those of the newest.

    Args:
        rows: one a run, with `seed` and `started`.

    Returns:
        the rows, and a line for each cohort left out.
    """
    if rows.empty:
        return rows, []
    names = {"group": choice.groups, "one": [*choice.groups, *choice.cohort], "setting": choice.settings}
    texts = {name: as_text(rows, columns) for name, columns in names.items()}
    facts = rows[["seed", "started", "epochs_limit"]].assign(**texts, pool=rows.get("pool", False))
    repeats = facts.groupby(["one", "setting"])["seed"].nunique().groupby("one")
    sizes = facts.groupby("one").agg(
        group=("group", "first"),
        runs=("seed", "size"),
        pool=("pool", "sum"),
        started=("started", "max"),
        epochs=("epochs_limit", "max"),
    )
    sizes = sizes.assign(settings=repeats.size(), repeats=repeats.min())
    sizes = sizes.sort_values(["settings", "repeats", "started", "epochs"], kind="stable")
    best = sizes.groupby("group").tail(1).index
    lines = [_said(row, choice.groups) for row in sizes.drop(best).sort_index().to_dict("records")]
    return rows[texts["one"].isin(set(best))], lines


def _said(cohort: Mapping, columns: Sequence[str]) -> str:
    when = f"started {cohort['started'][:10]}" if cohort["started"] else "of an earlier version"
    values = zip(columns, cohort["group"].split("|"), strict=True)
    words = [f"{name} {value}" if name in SETTING else value for name, value in values if value]
    own, pool = cohort["runs"] - cohort["pool"], cohort["pool"]
    counts = [f"{own} runs"] * (own > 0) + [f"{pool} networks of the pool"] * (pool > 0)
    return f"{' '.join(words)}: {' and '.join(counts)} of at most {cohort['epochs']} epochs, {when}"


def _only(tables: Tables, kept: Mapping[Family, pd.Series]) -> Tables:
    part = dict(tables)
    for family, keys in kept.items():
        for name in family.tables:
            if name in tables:
                table = tables[name][family.keys(tables[name]).isin(set(keys))].reset_index(drop=True)
                part[name] = with_all_columns(name, table)
    return part
