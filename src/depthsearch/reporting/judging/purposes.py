"""What each strategy is good for, of those compared: by purpose the best, and those not seen below it.

A *family* is all spirals together or one image data set. Differences are paired: repeat r has the same data and
network seeds for every strategy; on spirals a repeat counts once, with its mean over the angles.
"""

from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from depthsearch.reporting.intervals import interval_of
from depthsearch.reporting.judging.guesses import as_good
from depthsearch.reporting.judging.rules import FEWEST
from depthsearch.reporting.tables.baselines import BASELINES
from depthsearch.reporting.tables.comparison import ORDER, by_repeat, off_the_data
from depthsearch.strategies import METHODS

FREE_WIDTH = ("random", "predictor")  # choose a width too


@dataclass(frozen=True)
class _Purpose:
    """What a strategy may be wanted for: the more of a column the better; `scale` makes `unit` of it.

    What knows nothing has `chance` of it.
    """

    name: str
    said: str
    rows: pd.DataFrame
    column: str
    scale: float = 1.0
    unit: str = "nats"
    chance: float | None = None


def _purposes(rows: pd.DataFrame, shift: pd.DataFrame) -> list[_Purpose]:
    """All but retraining at the chosen depth."""
    cut, calibrated = rows[rows["strategy"].isin(list(METHODS))], rows.assign(x=-rows["searched_ece"])
    searched, kept = "To predict with what the search itself leaves", "To cut the searched network at the chosen depth"
    found = [
        _Purpose("predicting as searched", searched, rows, "searched_log_likelihood"),
        _Purpose("cutting", f"{kept} and keep it", cut, "truncated_log_likelihood"),
        _Purpose("calibration", "For calibration as searched", calibrated, "x", -100, "% ECE"),
    ]
    if len(shift):
        noticed = "To notice inputs off the data by predictive entropy"
        moved = off_the_data(shift)
        unit = "AUROC, of which 0.5 is chance"
        found.append(_Purpose("noticing inputs off the data (AUROC)", noticed, moved, "auroc", 1, unit, chance=0.5))
    return found


def when_to_use_which(rows: pd.DataFrame, shift: pd.DataFrame) -> list[str]:
    """Sentences about one family, from its numbers."""
    said = []
    cost = rows.groupby("strategy")["block_evaluations"].mean()
    regrets = by_repeat(rows, "regret")
    regret = regrets.mean().dropna()
    here = regret[[name for name in regret.index if name not in (*FREE_WIDTH, *BASELINES)]]
    if len(here):
        best, guesses = str(here.idxmin()), as_good(regrets)
        none = "least regret"
        if guesses:
            none = f"no strategy is seen to be better than {' or '.join(guesses)}. Least regret of a strategy"
        elif set(BASELINES) & set(regret.index):
            none = "each guess is beaten by a strategy. Least regret"
        manual = f" against {cost['manual']:.2g} of manual search" if "manual" in cost else ""
        said.append(
            f"To choose a depth and retrain at it: {none}: {best}, {here[best]:.3g} nats, "
            f"{cost[best]:.2g} block evaluations{manual}{_always_the_same(rows, best)}."
        )
    wide = ", ".join(f"{name} {regret[name]:.3g} nats" for name in FREE_WIDTH if name in regret)
    said.append(f"To choose a width too: regret of {wide}, against the same reference." if wide else "")
    said += [_best(purpose) for purpose in _purposes(rows, shift)]
    return [sentence for sentence in said if sentence]


def _always_the_same(rows: pd.DataFrame, strategy: str) -> str:
    """Says so where a strategy chose one depth in all runs, or one of two: it has told little of one from another."""
    depths = rows[rows["strategy"] == strategy]["depth"].dropna()  # one that diverged chose nothing
    chosen = sorted(depths.unique())
    if not 1 <= len(chosen) <= 2 or len(depths) < 2 * len(chosen):
        return ""
    return f"; {strategy} chose {' or '.join(f'{depth:g}' for depth in chosen)} in all {len(depths)} runs"


def good_for(rows: pd.DataFrame, shift: pd.DataFrame) -> dict[str, list[str]]:
    """For each purpose the best strategies on one family, but for those not shown to be above chance."""
    found = {"retraining": standing(rows.assign(x=-rows["regret"]), "x")}
    found |= {p.name: standing(p.rows, p.column, p.chance) for p in _purposes(rows, shift)}
    return {
        purpose: [name for name in (best, *ties) if name is not None and name not in low]
        for purpose, (best, ties, low) in found.items()
    }


class Standing(NamedTuple):
    """The best at a purpose (None of no rows), what is not seen below it, and what of all these not above chance."""

    best: str | None
    ties: list[str]
    not_above_chance: list[str]


def standing(rows: pd.DataFrame, column: str, chance: float | None = None) -> Standing:
    """How strategies stand in a column, of which what knows nothing has `chance`.

    The best has the highest mean, of those with as many repeats as a verdict needs, if there are any. Seen below: the
    whole 95 % interval of a paired difference lies below 0. It is of one comparison, not corrected for how many there
    are, which would make the list longer: to be on it is what is claimed.
    """
    values = by_repeat(rows, column).dropna(axis=1, how="all")
    if values.empty:
        return Standing(None, [], [])
    enough = values.count() >= FEWEST
    best = str(values.loc[:, enough if enough.any() else slice(None)].mean().idxmax())
    ties = [str(name) for name in values if name != best and not _below(values[name] - values[best])]
    low = [name for name in (best, *ties) if chance is not None and not _below(chance - values[name])]
    return Standing(best, ties, low)


def _below(differences: pd.Series) -> bool:
    _, _, high, n = interval_of(differences)
    return n >= FEWEST and high < 0


def _best(purpose: _Purpose) -> str:
    """`standing` in words."""
    best, ties, low = standing(purpose.rows, purpose.column, purpose.chance)
    if best is None:
        return ""
    value = purpose.scale * by_repeat(purpose.rows, purpose.column)[best].mean()
    guessed = set(BASELINES) & set(purpose.rows["strategy"])
    others = "all others are" if guessed else "all other strategies are"  # a guess has nothing to cut
    said = f"not seen to be worse: {_list(ties)}" if ties else f"{others} worse"
    said += f"; of these not seen above chance: {_list(low)}" if low else ""
    return f"{purpose.said}: {best} ({value:.3g} {purpose.unit}); {said}."


def _list(names: list[str]) -> str:
    return ", ".join(sorted(names, key=ORDER.index))
