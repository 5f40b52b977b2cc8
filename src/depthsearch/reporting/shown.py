"""Which of several configurations of a scan a report shows.

Tables keep every configuration. Runs of a scan whose configurations differ only in what the scan varies are of one
*cohort*. Of each scan and data set the fullest cohort is shown: the one with most settings, then with most repeats of
every setting; of those that are as full, the one started last. So a scan that is run anew after a change is shown as
soon as it is as complete as what was there, and a small trial never hides it. The others are named.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from depthsearch.reporting.joining import (
    CELLS,
    CHAINS,
    CHOICES,
    FAMILIES,
    GENOTYPES,
    POOL,
    PREDICTIONS,
    RUNS,
    SETTING,
    VARIATIONS,
    Family,
    Tables,
    as_text,
    stacked,
)
from depthsearch.reporting.tuning import for_tuning
from depthsearch.studies.recurrent_genotypes import LSTM

WAYS = ("protocol", "precision", "epochs_limit")  # of training images, which pages show side by side
NETWORK = ("strategy", "points", "max_depth", "width")
VARIED = ("q_rate", "kl_weight", "prior_ratio", "patience")  # of a learnt depth


def shown(tables: Mapping[str, pd.DataFrame]) -> tuple[Tables, list[str]]:
    """The rows that reports show.

    Where a run is left out so are its rows in all tables.

    Returns:
        the tables, and a line for each cohort that is left out.
    """
    kept: dict[Family, pd.Series] = {}
    lines: list[str] = []
    if "runs" in tables:
        runs = stacked([tables["runs"], tables["diverged"]])
        of_images = runs["scan"].str.endswith("_images")
        for part, ways in ((runs[~of_images], ()), (runs[of_images], WAYS)):
            best, others = fullest(part, ["scan", "data_set", *ways], ["cohort", "epochs_limit"], SETTING)
            kept[RUNS] = pd.concat([kept.get(RUNS, pd.Series(dtype=object)), RUNS.keys(best)])
            lines += others
    if "strategies" in tables:
        choices, pool = tables["strategies"], tables["strategies_pool"]
        both = stacked([choices.assign(pool=False, max_depth=None, width=None), pool.assign(pool=True)])
        # All that is compared on a data set is trained alike; of a strategy or network that was selected in two ways
        # since, one is taken.
        best, others = fullest(both, ["data_set"], ["cohort", "epochs_limit"], NETWORK)
        lines += others
        best, others = fullest(best, ["data_set", *NETWORK], ["configuration"], ())
        lines += others
        if len(best):
            kept |= {CHOICES: CHOICES.keys(best[~best["pool"]]), POOL: POOL.keys(best[best["pool"]])}
    if "cells" in tables:
        best, others = fullest(tables["cells"], ["scan", "data_set"], ["cohort", "epochs_limit"], ["kind", "setting"])
        lines += others
        kept[CELLS] = CELLS.keys(best)
    if len(tables.get("genotypes", ())):
        best, others = _trainings(tables["genotypes"])
        lines += others
        kept[GENOTYPES] = GENOTYPES.keys(best)
    if len(tables.get("chains", ())):
        best, others = fullest(tables["chains"], ["data_set"], ["cohort", "epochs_limit"], ["cell"])
        lines += others
        kept[CHAINS] = CHAINS.keys(best)
    if len(tables.get("predictor_runs", ())):
        # A split is shown as it was run most often, whatever the others.
        best, others = fullest(tables["predictor_runs"], ["data_set", "split"], ["cohort", "epochs_limit"], ("split",))
        lines += others
        kept[PREDICTIONS] = PREDICTIONS.keys(best)
    if len(tables.get("variations", ())):
        facts = ["scan", "data_set", "max_depth"], ["cohort"], (*VARIED, "fit")
        best, others = fullest(tables["variations"], *facts)
        lines += others
        kept[VARIATIONS] = VARIATIONS.keys(best)
    return _only(tables, kept), lines


def _trainings(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Of genotypes; those for tuning apart, of which all learning rates are shown, and of the others one a network."""
    tuning, lstm = for_tuning(rows), rows["name"] == LSTM
    rows = rows.assign(tuning=tuning.map({True: "tuning", False: ""}), network=lstm.map({True: LSTM, False: ""}))
    best, others = fullest(rows, ["scan", "data_set", "tuning"], ["cohort", "epochs_limit"], ["architecture"])
    tuned = best["tuning"] == "tuning"
    compared, more = fullest(best[~tuned], ["scan", "data_set", "network"], ["learning_rate"], ["architecture"])
    return stacked([compared, best[tuned]]), others + more


def fullest(
    rows: pd.DataFrame, groups: Sequence[str], cohort: Sequence[str], settings: Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Of each group the rows of its fullest cohort, and of as full ones those of the newest.

    Args:
        rows: one a run, with `seed` and `started`.
        groups: columns that say what is chosen for.
        cohort: columns that say which rows belong together.
        settings: columns that a scan varies.

    Returns:
        the rows, and a line for each cohort left out.
    """
    if rows.empty:
        return rows, []
    names = {"group": groups, "one": [*groups, *cohort], "setting": settings}
    texts = {name: as_text(rows, columns) for name, columns in names.items()}
    facts = rows[["seed", "started", "epochs_limit"]].assign(**texts)
    repeats = facts.groupby(["one", "setting"])["seed"].nunique().groupby("one")
    sizes = facts.groupby("one").agg(
        group=("group", "first"), runs=("seed", "size"), started=("started", "max"), epochs=("epochs_limit", "max")
    )
    sizes = sizes.assign(settings=repeats.size(), repeats=repeats.min())
    sizes = sizes.sort_values(["settings", "repeats", "started", "epochs"], kind="stable")
    best = sizes.groupby("group").tail(1).index
    lines = [_said(row) for row in sizes.drop(best).sort_index().to_dict("records")]
    return rows[texts["one"].isin(set(best))], lines


def _said(cohort: Mapping) -> str:
    when = f"started {cohort['started'][:10]}" if cohort["started"] else "of an earlier version"
    words = cohort["group"].replace("|", " ").split()
    return f"{' '.join(words)}: {cohort['runs']} runs of at most {cohort['epochs']} epochs, {when}"


def _only(tables: Mapping[str, pd.DataFrame], kept: Mapping[Family, pd.Series]) -> Tables:
    part = dict(tables)
    for family in FAMILIES:
        for name in (*family.mains, *family.details):
            if name in tables and family in kept:
                part[name] = tables[name][family.keys(tables[name]).isin(set(kept[family]))].reset_index(drop=True)
    return part
