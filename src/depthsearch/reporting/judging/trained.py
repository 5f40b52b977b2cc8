"""Cells trained from scratch held against others: an observation is a cell, intervals are Welch's."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from depthsearch.cells.genotype import GENOTYPES
from depthsearch.reporting.intervals import holm, unpaired
from depthsearch.reporting.judging.rules import (
    BETTER_RECURRENT,
    ERROR_MARGIN,
    SEARCH_HELPS,
    TAKEN_BACK,
    UNSEEN,
    Rule,
    difference_seen,
)
from depthsearch.reporting.tables.genotypes import OTHER_CELLS, PUBLISHED_CELLS, RANDOM_CELLS
from depthsearch.studies.plans import DARTS, RECURRENT
from depthsearch.studies.recurrent_genotypes import LSTM

STRATEGIES = tuple(DARTS | RECURRENT)  # that search cells which are trained
# Not seen, but all values of the one on one side of all of the other.
ALL_BETTER, ALL_WORSE = (f"{UNSEEN}, but all {how}" for how in ("better", "worse"))


@dataclass(frozen=True)
class Measure:
    """What cells are judged by, the less the better.

    Attributes:
        column: of the table `genotypes`.
        name, unit: as a page says it; of a difference the unit of `scale` times what the table has.
        rule: which differences are judged, and how.
        margin: what counts as little.
    """

    column: str
    name: str
    unit: str
    rule: Rule
    scale: float = 1.0
    margin: float = 0.0

    @property
    def short(self) -> str:
        """The name without a unit."""
        return self.name.partition(" (")[0]


MEASURES = (
    Measure("test_error", "test error (%)", "points", SEARCH_HELPS, 100, ERROR_MARGIN),
    Measure("test_perplexity", "test perplexity", "perplexity", BETTER_RECURRENT),
)


def measure_of(rows: pd.DataFrame) -> Measure | None:
    """By what the cells of a data set are judged; None where nothing was measured."""
    return next((m for m in MEASURES if m.column in rows and rows[m.column].notna().any()), None)


def per_cell(rows: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """A row a cell, means over its trainings: `kind`, `cell`, `value`, `n` (trainings that came to an end), `sd`."""
    groups = rows.dropna(subset=measure.column).groupby(["kind", "cell"], sort=False)
    found = groups[measure.column].agg(value="mean", n="size", sd="std").reset_index()
    return found.assign(parameters=groups["parameters"].first().to_numpy())


def kinds_in(rows: pd.DataFrame) -> list[str]:
    """The kinds of cells, searched ones first, random ones last."""
    order = {name: i for i, name in enumerate((*STRATEGIES, PUBLISHED_CELLS, *GENOTYPES, LSTM, OTHER_CELLS))}
    order[RANDOM_CELLS] = len(order)
    return sorted(rows["kind"].unique(), key=lambda name: (order.get(name, -1), name))


def differences(cells: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """A row a difference that the rule of the measure judges: `kind` minus `other`, `interval`, Holm's `p`, `word`.

    Args:
        cells: as of `per_cell`.
    """
    values = {kind: cells[cells["kind"] == kind]["value"] for kind in kinds_in(cells)}
    found = {(a, b): unpaired(values[a], values[b]) for a, b in _pairs(list(values), measure.rule)}
    corrected = holm({pair: p for pair, (_, p) in found.items()})
    rows = []
    for (kind, other), (interval, _) in found.items():
        p = corrected[kind, other]
        word = difference_seen(interval, p, measure.margin, "on both sides")
        if word in (UNSEEN, TAKEN_BACK):
            if values[kind].max() < values[other].min():
                word = ALL_BETTER
            elif values[kind].min() > values[other].max():
                word = ALL_WORSE
        rows.append({"kind": kind, "other": other, "interval": interval, "p": p, "word": word})
    return pd.DataFrame(rows, columns=["kind", "other", "interval", "p", "word"])


def _pairs(kinds: Sequence[str], rule: Rule) -> list[tuple[str, str]]:
    """What a rule holds against what: all kinds against random cells, or what strategies found against all others."""
    known = [kind for kind in kinds if kind != OTHER_CELLS]
    if rule is BETTER_RECURRENT:
        others = [kind for kind in known if kind not in STRATEGIES]
        return [(kind, other) for kind in known if kind in STRATEGIES for other in others]
    return [(kind, RANDOM_CELLS) for kind in known if kind != RANDOM_CELLS] if RANDOM_CELLS in known else []


def best_of_each(rows: pd.DataFrame) -> dict[str, dict]:
    """Of the cells that searches `found` and of `random` ones that of the best training, as a row; to be drawn."""
    if (measure := measure_of(rows)) is None:
        return {}
    done = rows.dropna(subset=measure.column).sort_values(measure.column, kind="stable")
    searched = done[done["kind"].isin(STRATEGIES)]
    kinds = {"found": searched, "random": done[done["kind"] == RANDOM_CELLS]}
    return {name: own.iloc[0].to_dict() for name, own in kinds.items() if len(own)}
