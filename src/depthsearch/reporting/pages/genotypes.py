"""The text of results/genotypes.md: searches of the DARTS space, and what their cells are worth once trained."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from depthsearch.reporting.genotypes import RANDOM_CELLS, by_origin
from depthsearch.reporting.pages.cells import moved_table, sizes
from depthsearch.reporting.pages.results import not_shown
from depthsearch.reporting.rules import FEWEST, SEARCH_HELPS, rules_table
from depthsearch.reporting.trained import (
    Measure,
    against_random,
    best_of_each,
    interval_of,
    kinds_in,
    measure_of,
    per_cell,
)
from depthsearch.reporting.words import markdown, span
from depthsearch.studies.genotypes import PRESETS

STRATEGIES = ("DARTS", "DARTS 2nd order", "DrNAS", "DrNAS progressive")  # that are to be held against random cells
MOVED = """Entropy of the mixing weights, nats, a mean over edges; where all options are alike it is ln 8 = 2.079 for
DARTS, ln 7 = 1.946 for DrNAS, and ln 4 = 1.386 for the four options that the progressive search keeps: what it falls by
beyond that is learnt. Changes: how often, over all epochs, the largest option of one of the 28 edges became another.
Skips: skip connections among the 16 operations of the two cells. Operation evaluations: operations that images pass,
forward, all told; one on 1/K of the channels counts 1/K. Seconds are wall time beside other work on the machine, so
they are upper bounds. **A search whose entropy and largest options stay where they were has found nothing.**"""
RATES = """The learning rate of alpha is the one that the rule of [cells.md](cells.md) took for the reduced searches of
NAS-Bench-201: it was not tuned anew for this space and for these steps. The papers' rates hardly move alpha in searches
this short. The progressive search has more channels than the others, as in the papers: it opens but a part of them."""
FIGURES = """![Error of trained cells by where they are from](figures/genotypes_error_{0}.png)

![Learning curves of trained cells by where they are from](figures/genotypes_curves_{0}.png)"""
DRAWINGS = """A cell that was found, and a random one; of either kind the one of the least test error:

![A cell that was found](figures/genotypes_found_{0}.png)

![A random cell](figures/genotypes_random_{0}.png)"""


def genotypes_page(trained: pd.DataFrame, searched: pd.DataFrame, others: Sequence[str]) -> str:
    """The text of results/genotypes.md.

    Args:
        trained: what is shown of the table `genotypes`, and
        searched: of the table `cells` the searches of their space.
        others: a line for each cohort of trainings that is not.
    """
    runs = by_origin(trained, searched)
    text = [
        "# Cells trained from scratch",
        "Generated from the saved runs by `make figures`; no number here is typed. A cell is one observation: a mean "
        "over its trainings. Intervals are of 95 %, Student's for a mean, Welch's for a difference; ± is a standard "
        "deviation over cells.",
    ]
    if runs.empty:
        text.append("No cell is trained yet.")
    for name, rows in runs.groupby("data_set", sort=False):
        text += _of_data(str(name), rows)
    if len(searched):
        text += ["## How far the searches went, and what they cost", sizes(searched), RATES, MOVED]
        text += [markdown(moved_table(searched)), _missing(runs, searched)]
    return "\n\n".join(text) + not_shown(others) + "\n"


def _of_data(name: str, rows: pd.DataFrame) -> list[str]:
    measure = measure_of(rows)
    if measure is None:
        return [f"## {name}", "(all diverged)"]
    cells = per_cell(rows, measure)
    return [
        f"## {name}",
        _trained(rows),
        _in_words(cells, measure),
        markdown(worth_table(rows, measure)),
        _noise(cells, measure),
        FIGURES.format(name),
        "The rule, and the runs that it judges:",
        markdown(rules_table(rows, [SEARCH_HELPS])),
        "Every cell:",
        markdown(cells_table(cells, measure)),
        *([DRAWINGS.format(name)] if len(best_of_each(rows)) == 2 else []),
    ]


def _trained(rows: pd.DataFrame) -> str:
    """How the networks of a data set were trained, and on what, in a sentence."""
    said = {"channels": "C = {}", "layers": "{} cells", "epochs_limit": "{} epochs", "train_images": "{} images"}
    said |= {"pixels": "{} pixels a side", "batch_size": "batches of {}", "test_images": "tested on {} images"}
    known = {name: rows[name].dropna() for name in said if name in rows}
    words = [said[name].format(span(values.astype(int))) for name, values in known.items() if len(values)]
    seconds, devices = rows["seconds"].median(), ", ".join(rows["device"].unique())
    reduced = rows["epochs_limit"].max() < PRESETS["DARTS"].recipe.epochs
    return (
        "**Reduced: these numbers stand beside each other, not against the papers'.** " if reduced else ""
    ) + f"All alike: {', '.join(words)}. A training takes {seconds:.3g} s (median, beside other work) on {devices}."


def _in_words(cells: pd.DataFrame, measure: Measure) -> str:
    table = against_random(cells, measure)
    said = [
        f"{row['kind']}: {row['word']}, {_difference(row['interval'], measure)}" for row in table.to_dict("records")
    ]
    return (
        f"**Better than random cells?** {'; '.join(said)}."
        if said
        else "There are no two kinds to hold against each other yet: random cells, and others."
    )


def worth_table(rows: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """A row a kind of cells: how well they do, and what random ones do less well."""
    cells = per_cell(rows, measure)
    judged = {row["kind"]: row for row in against_random(cells, measure).to_dict("records")}
    table = []
    for kind in kinds_in(rows):
        own, ours = cells[cells["kind"] == kind], rows[rows["kind"] == kind]
        values = measure.scale * own["value"]
        low, high = interval_of(values)
        row = {"cells": kind, "n": len(own), "trainings": ours["configuration"].add(ours["seed"].astype(str)).nunique()}
        row |= {"diverged": int(ours["diverged_epoch"].notna().sum()), measure.name: _spread(values)}
        row |= {"interval": "-" if np.isnan(low) else f"[{low:.2f}, {high:.2f}]"}
        row |= {"parameters": f"{own['parameters'].mean():,.0f}" if len(own) else "-"}
        if (verdict := judged.get(kind)) is None:
            table.append(row | {"minus random": "-", "Holm's p": "-", "word": "-"})
            continue
        p = "-" if np.isnan(verdict["p"]) else f"{verdict['p']:.2g}"
        row |= {"minus random": _difference(verdict["interval"], measure), "Holm's p": p}
        table.append(row | {"word": verdict["word"]})
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


def _noise(cells: pd.DataFrame, measure: Measure) -> str:
    """How much trainings of one cell differ, beside how much random cells do."""
    again, random = cells[cells["n"] > 1], cells[cells["kind"] == RANDOM_CELLS]["value"]
    if again.empty or len(random) < 2:
        return "No cell was trained twice: how much is chance of a training is not known."
    within = measure.scale * np.sqrt((again["sd"] ** 2 * (again["n"] - 1)).sum() / (again["n"] - 1).sum())
    names = ", ".join(f"{row['cell']} ({row['n']})" for row in again.to_dict("records"))
    return (
        f"Standard deviation between trainings of one cell: {within:.2f}, of {names}; between random cells, each "
        f"trained once: {measure.scale * random.std():.2f}."
    )


def _missing(runs: pd.DataFrame, searched: pd.DataFrame) -> str:
    """What is still to be done before there is a word on every strategy."""
    found = searched["kind"].value_counts()
    trained = runs[runs["diverged_epoch"].isna()].drop_duplicates(["kind", "cell"]) if len(runs) else runs
    done = trained["kind"].value_counts() if len(runs) else found[:0]
    kinds = (*STRATEGIES, RANDOM_CELLS)
    few = {kind: (found.get(kind, 0), done.get(kind, 0)) for kind in kinds if done.get(kind, 0) < FEWEST}
    if not few:
        return (
            f"Of the cells that {len(searched)} searches found, {sum(done.get(k, 0) for k in found.index)} are trained."
        )
    said = [f"{kind} {m} trained" + ("" if kind == RANDOM_CELLS else f" of {n} found") for kind, (n, m) in few.items()]
    return f"**Unfinished.** There is no word on a kind before {FEWEST} of its cells are trained: {'; '.join(said)}."


def _difference(interval: tuple[float, float, float, int], measure: Measure) -> str:
    mean, low, high = (measure.scale * value for value in interval[:3])
    return f"{mean:+.2f} {measure.unit}" + ("" if np.isnan(low) else f" [{low:+.2f}, {high:+.2f}]")


def _spread(values: pd.Series) -> str:
    return "-" if values.empty else f"{values.mean():.2f}" + (f" ± {values.std():.2f}" if len(values) > 1 else "")
