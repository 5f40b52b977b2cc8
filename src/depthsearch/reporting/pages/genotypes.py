"""The text of results/genotypes.md: searches of cells, and what these are worth once trained from scratch."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from depthsearch.reporting.intervals import interval_of
from depthsearch.reporting.judging.rules import FEWEST, TAKEN_BACK, UNSEEN, rules_table
from depthsearch.reporting.judging.trained import (
    ALL_BETTER,
    ALL_WORSE,
    Measure,
    best_of_each,
    differences,
    kinds_in,
    measure_of,
    per_cell,
)
from depthsearch.reporting.pages.cells import moved_table, sizes
from depthsearch.reporting.pages.recurrent import JUDGED, KINDS, rates_said, searches_part, tuning_part
from depthsearch.reporting.tables.genotypes import RANDOM_CELLS, by_origin, searches_of
from depthsearch.reporting.words import counts_said, difference_said, markdown, not_shown, number, spread
from depthsearch.studies.darts_cells import DartsCell
from depthsearch.studies.genotypes import PRESETS
from depthsearch.studies.texts import TEXTS

TO_BE_JUDGED = ("DARTS", "DARTS 2nd order", "DrNAS", "DrNAS progressive")  # that are to be held against random cells
TRAINED = {
    "channels": "C = {}",
    "layers": "{} cells",
    "width": "width {} for a cell of eight nodes",
    "epochs_limit": "{} epochs",
    "train_images": "{} images",
    "n_train": "the first {} words of the training part",
    "n_words": "a vocabulary of {} words",
    "pixels": "{} pixels a side",
    "batch_size": "batches of {}",
    "test_images": "tested on {} images",
}
MOVED = """Entropy of the mixing weights, nats, a mean over edges; where all options are alike it is ln 8 = 2.079 for
DARTS, ln 7 = 1.946 for DrNAS, and ln 4 = 1.386 for the four options that the progressive search keeps: only a fall
below that is learnt. Changes: how often, over all epochs, the largest option of one of the 28 edges became another.
Skips: skip connections among the 16 operations of the two cells. Operation evaluations: operations that images pass,
forward, all told; one on 1/K of the channels counts 1/K. Seconds are wall time beside other work on the machine, so
they are upper bounds. The progressive search leaves alpha alone for the first epochs of each stage, in short stages for
half of them, and passes the fewest operations: how far it moves in these says little of it at full size.
**A search whose entropy and largest options stay where they were has found nothing.**"""
ONE_SEARCH = """A strategy is the mean over its searches, one like the other. DARTS itself repeats a search and keeps
the cell that does best on validation points after a short training, and so were its published cells kept: what is said
of a strategy here is said of one search, without such a choice."""
RATES = """The learning rate of alpha is the one that the rule of [cells.md](cells.md) took for the reduced searches of
NAS-Bench-201: it was not tuned anew for this space and for these steps. The papers' rates were not tried: a step of
Adam moves alpha by about its rate, and there are few steps here. The progressive search has more channels than the
others, as in the papers: it opens but a part of them."""
FIGURES = """![Trained cells by where they are from](figures/genotypes_error_{0}.png)

![Learning curves of trained cells by where they are from](figures/genotypes_curves_{0}.png)"""
DRAWINGS = """A cell that was found, and a random one; of either kind the one of the least {1}: {2}.

![A cell that was found](figures/genotypes_found_{0}.png)

![A random cell](figures/genotypes_random_{0}.png)"""


WORDS = {
    "better": "better than",
    "better, by little": "better, by little, than",
    "worse": "worse than",
    "worse, by little": "worse, by little, than",
    UNSEEN: "no difference seen from",
    TAKEN_BACK: "no difference seen once corrected for all comparisons from",
    ALL_BETTER: "no difference seen, but all are better than",
    ALL_WORSE: "no difference seen, but all are worse than",
}


def genotypes_page(trained: pd.DataFrame, cells: pd.DataFrame, others: Sequence[str]) -> str:
    """The text of results/genotypes.md.

    Args:
        trained: what is shown of the table `genotypes`, and
        cells: of the table `cells`.
        others: a line for each cohort of runs that is not.
    """
    searched = searches_of(cells)
    runs = by_origin(trained, searched)
    text = [
        "# Cells trained from scratch",
        "Generated from the saved runs by `make figures`; no number here is typed. A cell is one observation: a mean "
        "over its trainings. Intervals are of 95 %, Student's for a mean, Welch's for a difference; ± is a standard "
        "deviation over cells.",
    ]
    if runs.empty:
        text.append("No cell is trained yet.")
    of_text = runs["data_set"].isin(TEXTS)
    for name, rows in runs[~of_text].groupby("data_set", sort=False):
        text += _of_data(str(name), rows)
    pictures = searched[searched["space"] == DartsCell.name]
    if len(pictures):
        text += ["### How far the searches went, and what they cost", sizes(pictures), RATES, MOVED]
        text += [markdown(moved_table(pictures)), _missing(runs[~of_text], pictures, (*TO_BE_JUDGED, RANDOM_CELLS))]
    for name in pd.concat([table["data_set"] for table in (trained, cells)]).unique():
        if name in TEXTS:
            text += _of_text(name, *(table[table["data_set"] == name] for table in (runs, searched, trained, cells)))
    return "\n\n".join(text) + not_shown(others) + "\n"


NO_OVERLAP = """But all better, or worse: every cell of the one is, than every one of the other. With so few on a side
and so many comparisons the test can hardly see more; that no difference is seen does not say that they are alike."""


def _of_text(
    name: str, runs: pd.DataFrame, searched: pd.DataFrame, trained: pd.DataFrame, cells: pd.DataFrame
) -> list[str]:
    text = _of_data(name, runs) if len(runs) else [f"## {name}", "No cell is trained yet."]
    if len(searched):
        text += [*searches_part(searched), _missing(runs, searched, KINDS)]
    return text + tuning_part(trained, cells)


def _of_data(name: str, rows: pd.DataFrame) -> list[str]:
    measure = measure_of(rows)
    if measure is None:
        return [f"## {name}", "(all diverged)"]
    cells = per_cell(rows, measure)
    judged = differences(cells, measure)
    return [
        f"## {name}",
        _trained(rows),
        *([JUDGED] if name in TEXTS else []),
        _in_words(judged),
        *([ONE_SEARCH] if cells["kind"].isin(TO_BE_JUDGED).any() else []),
        markdown(worth_table(rows, measure)),
        *([markdown(differences_table(judged, measure))] if len(judged) else []),
        *([NO_OVERLAP] if judged["word"].isin([ALL_BETTER, ALL_WORSE]).any() else []),
        _noise(rows, cells, measure),
        FIGURES.format(name),
        "The rule, and the runs that it judges:",
        markdown(rules_table(rows, [measure.rule])),
        "Every cell:",
        markdown(cells_table(cells, measure)),
        *_drawings(name, rows, measure),
    ]


def _drawings(name: str, rows: pd.DataFrame, measure: Measure) -> list[str]:
    """The drawings of a cell that was found and of a random one, and which these are; none where one is missing."""
    best = best_of_each(rows)
    which = [f"{row['kind']}, {row['cell']}, {measure.scale * row[measure.column]:.2f}" for row in best.values()]
    return [DRAWINGS.format(name, measure.short, "; ".join(which))] if len(best) == 2 else []


def _trained(rows: pd.DataFrame) -> str:
    """How the networks of a data set were trained, and on what, in a sentence."""
    texts = rows["data_set"].iloc[0] in TEXTS
    said = counts_said(rows, TRAINED) + (rates_said(rows) if texts else "")
    reduced = rows["epochs_limit"].max() < PRESETS["PTB" if texts else "DARTS"].recipe.epochs
    return (
        ("**Reduced: these numbers stand beside each other, not against the papers'.** " if reduced else "")
        + f"All alike: {said}. A training takes {rows['seconds'].median():.3g} s (median, beside other work) on "
        + (f"{', '.join(rows['device'].unique())}.")
    )


def _in_words(judged: pd.DataFrame) -> str:
    """What is better than what, in a sentence."""
    if judged.empty:
        return "There are no two kinds to hold against each other yet: random cells, and others."
    said = []
    for kind, own in judged.groupby("kind", sort=False):
        parts = own.groupby("word", sort=False)["other"].agg(", ".join)
        said.append(
            f"{kind}: "
            + "; ".join(f"{WORDS.get(str(word), f'{word} against')} {names}" for word, names in parts.items())
        )
    return f"**Better than {', '.join(judged['other'].unique())}?** {'. '.join(said)}."


def worth_table(rows: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """A row a kind of cells: how well they do."""
    cells, table = per_cell(rows, measure), []
    for kind in kinds_in(rows):
        own, ours = cells[cells["kind"] == kind], rows[rows["kind"] == kind]
        values = measure.scale * own["value"]
        _, low, high, _ = interval_of(values)
        row = {"cells": kind, "n": len(own), "trainings": ours["configuration"].add(ours["seed"].astype(str)).nunique()}
        row |= {"diverged": int(ours["diverged_epoch"].notna().sum()), measure.name: spread(values, ".2f", ".2f")}
        row |= {"interval": "-" if np.isnan(low) else f"[{low:.2f}, {high:.2f}]"}
        table.append(row | {"parameters": number(own["parameters"].mean(), ",.0f")})
    return pd.DataFrame(table)


def differences_table(judged: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """A row a difference of `differences`."""
    table = []
    for row in judged.to_dict("records"):
        p = number(row["p"], ".2g")
        shown = {
            "difference": f"{row['kind']} − {row['other']}",
            measure.unit: difference_said(row["interval"], measure.scale, how="+.2f"),
        }
        table.append(shown | {"Holm's p": p, "word": row["word"]})
    return pd.DataFrame(table)


def cells_table(cells: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """A row a cell, the best first."""
    table = []
    for row in cells.sort_values("value", kind="stable").to_dict("records"):
        value = f"{measure.scale * row['value']:.2f}"
        value += f" ± {measure.scale * row['sd']:.2f}" if row["n"] > 1 else ""
        shown = {"cells": row["kind"], "cell": row["cell"], "trainings": row["n"], measure.name: value}
        table.append(shown | {"parameters": f"{row['parameters']:,.0f}"})
    return pd.DataFrame(table)


def _noise(rows: pd.DataFrame, cells: pd.DataFrame, measure: Measure) -> str:
    """How much trainings of one cell differ, beside how much random cells do."""
    trainings = rows.dropna(subset=measure.column).drop_duplicates(["configuration", "seed"])
    known = trainings["name"].fillna("")
    labels = known.where(known != "", trainings["kind"] + ", " + trainings["cell"])
    of_one = trainings.assign(label=labels).groupby("architecture", sort=False)
    of_one = of_one.agg(label=("label", "first"), n=(measure.column, "size"), var=(measure.column, "var"))
    again, random = of_one[of_one["n"] > 1], cells[cells["kind"] == RANDOM_CELLS]["value"]
    if again.empty or len(random) < 2:
        return "No cell was trained twice: how much is chance of a training is not known."
    within = measure.scale * np.sqrt((again["var"] * (again["n"] - 1)).sum() / (again["n"] - 1).sum())
    said = [f"{row['label']} ({row['n']})" for row in again.to_dict("records")]
    return (
        f"Standard deviation between trainings of one cell: {within:.2f}, of {', '.join(said)}; between random cells, "
        f"each trained once: {measure.scale * random.std():.2f}."
    )


def _missing(runs: pd.DataFrame, searched: pd.DataFrame, kinds: Sequence[str]) -> str:
    """What is still to be done before there is a word on every strategy."""
    found = searched["kind"].value_counts()
    trained = runs[runs["diverged_epoch"].isna()].drop_duplicates(["kind", "cell"])
    done = trained["kind"].value_counts()
    few = {kind: done.get(kind, 0) for kind in kinds if done.get(kind, 0) < FEWEST}
    if not few:
        return (
            f"Of the cells that {len(searched)} searches found, {sum(done.get(k, 0) for k in found.index)} are trained."
        )
    searches = {kind: f" of {found.get(kind, 0)} found" for kind in TO_BE_JUDGED}
    said = [f"{kind} {n} trained{searches.get(kind, '')}" for kind, n in few.items()]
    return f"**Unfinished.** There is no word on a kind before {FEWEST} of its cells are trained: {'; '.join(said)}."
