"""Manual search: the deterministic network that is best on some points, judged on repeats that had no say in that."""

from functools import cache, cached_property
from itertools import combinations
from math import comb

import numpy as np
import pandas as pd

from depthsearch.reporting.intervals import Interval, interval_of, jackknife

MOST, DRAWN = 10_000, 2_000  # halvings: where there are more than the one, so many as the other are drawn
TOLD = 0.1  # of the depths that are chosen seldomer than that only the sum is told
FAILED = 1e300  # the loss, in a mean that chooses, of a network whose own is infinite


class ManualSearch:
    """The deterministic network (DDN) that one would choose by a metric, `error` or `log_likelihood`.

    By its mean over repeats, among the depths with the most repeats, on the validation points where all runs have some
    of their own, else on the test points. A network that trained well by luck has it on both, so that no repeat is
    judged at a depth that it helped to choose: the repeats are halved, and each half chooses for the other. That is
    done in all ways there are, or in `DRAWN` of more than `MOST`, and what a repeat has is its mean over them, so that
    the order of the repeats is of no account. A single repeat, or repeats that depths do not share, choose for
    themselves: by test points, that is no search (`is_search`).

    Args:
        ddn: rows of the table `runs`.
        metric: by which it is chosen.

    Attributes:
        shares: (repeats, depths), in which share of the halvings a repeat is judged at a depth.
    """

    def __init__(self, ddn: pd.DataFrame, metric: str) -> None:
        self._runs = with_most_repeats(ddn)
        column = f"{'valid' if has_validation(ddn) else 'DDN_test'}_{metric}"
        losses = (1 if metric == "error" else -1) * self._table(column)
        self._others_choose = _has_others(ddn)
        self._losses = losses.loc[_shared(self._runs)] if self._others_choose else losses
        self.shares = self._shares() if self._others_choose else self._own_choice()

    @property
    def depth(self) -> int | None:
        """The depth that is chosen, if it is always the same one."""
        chosen = self._of_depths
        return int(chosen.index[0]) if len(chosen) == 1 else None

    def depths(self) -> str:
        """`9`, or of several how often each is chosen: `9 in 62 %, 18 in 30 %, others in 8 %`."""
        if self.depth is not None:
            return str(self.depth)
        shares = self._of_depths.sort_values(ascending=False, kind="stable")
        told = {str(depth): share for depth, share in shares.items() if share >= TOLD}
        told["others"] = 1 - sum(told.values())
        return ", ".join(f"{depth} in {100 * share:.0f} %" for depth, share in told.items() if share >= 0.005)

    def runs(self) -> pd.DataFrame:
        """A row a repeat: the numbers of its networks, means over the halvings."""
        names = [name for name in self._runs.select_dtypes("number") if name != "seed"]
        found = {str(name): self.values(str(name)) for name in names}
        return pd.DataFrame(found, index=self.shares.index).reset_index(names="seed")

    def values(self, column: str) -> pd.Series:
        """A column of the runs, by repeat, means over the halvings."""
        return _weighted(self.shares, self._table(column))

    def gap(self, ours: pd.Series, column: str) -> Interval:
        """What others have, by repeat, minus what the chosen network has, a mean over the repeats of both.

        The interval is the jackknife's: the choice is made anew without each repeat. Student's interval of the
        differences would take them as independent, though all choices hang on all repeats, and be too narrow.
        """
        differences = (ours - self.values(column)).dropna()
        repeats = list(differences.index)
        if len(repeats) < 3 or not self._others_choose:
            return interval_of(differences)
        table = self._table(column)
        left = [(ours - _weighted(self._without[seed], table)).drop(seed).mean() for seed in repeats]
        return jackknife(float(differences.mean()), left)

    # The choice.

    @property
    def _of_depths(self) -> pd.Series:
        shares = self.shares.mean()
        return shares[shares > 0]

    @cached_property
    def _without(self) -> dict[int, pd.DataFrame]:
        return {seed: self._shares(seed) for seed in self._losses.index}

    def _table(self, column: str) -> pd.DataFrame:
        return self._runs.pivot(index="seed", columns="max_depth", values=column)

    def _own_choice(self) -> pd.DataFrame:
        best = self._losses.mean().fillna(np.inf).idxmin()
        rows = self._losses[best].dropna().index
        return pd.DataFrame({depth: float(depth == best) for depth in self._losses}, index=rows)

    def _shares(self, without: int | None = None) -> pd.DataFrame:
        """As `shares`, where one repeat is left out."""
        losses = self._losses if without is None else self._losses.drop(without)
        values, found = losses.fillna(np.inf).clip(upper=FAILED).to_numpy(), np.zeros(losses.shape)
        halves = _halvings(len(self._losses))
        if without is not None:
            halves = np.delete(halves, self._losses.index.get_loc(without), axis=1)
        halves = halves[halves.any(1) & ~halves.all(1)]
        for choosing, judged in ((halves, ~halves), (~halves, halves)):
            chosen = ((choosing @ values) / choosing.sum(1, keepdims=True)).argmin(1)
            for depth in np.unique(chosen):
                found[:, depth] += judged[chosen == depth].sum(0)
        return pd.DataFrame(found / found.sum(1, keepdims=True), index=losses.index, columns=losses.columns)


def _weighted(shares: pd.DataFrame, table: pd.DataFrame) -> pd.Series:
    values = table.reindex(index=shares.index, columns=shares.columns)
    return (shares * values).where(shares > 0, 0.0).sum(axis=1, skipna=False)


@cache
def _halvings(n: int) -> np.ndarray:
    """(K, n) booleans: the ways to halve n repeats, each once, the first half the smaller one where n is odd."""
    even, rows = n % 2 == 0, np.arange(n)
    first = combinations(rows[1:], n // 2 - 1) if even else combinations(rows, n // 2)
    if comb(n, n // 2) // (2 if even else 1) <= MOST:
        found = [(0, *half) if even else half for half in first]
    else:
        rng = np.random.default_rng(0)
        found = [rng.permutation(n)[: n // 2] for _ in range(DRAWN)]
    halves = np.zeros((len(found), n), dtype=bool)
    for row, half in zip(halves, found, strict=True):
        row[list(half)] = True
    return halves


# Whether there is a choice, and on what.


def is_search(ddn: pd.DataFrame) -> bool:
    """Whether there is a depth to choose, of several, by other points than those on which it is judged."""
    return ddn["max_depth"].nunique() > 1 and (has_validation(ddn) or _has_others(ddn))


def has_validation(runs: pd.DataFrame) -> bool:
    """Whether their epochs were selected on points held out from training, so that a depth can be too."""
    return "protocol" in runs and set(runs["protocol"]) == {"fair"}


def chosen_on(ddn: pd.DataFrame) -> str:
    """What a `ManualSearch` chooses on."""
    points = f"{'validation' if has_validation(ddn) else 'test'} points"
    return f"{points} of other repeats" if _has_others(ddn) else points


def with_most_repeats(ddn: pd.DataFrame) -> pd.DataFrame:
    """The runs of the depths with the most repeats, among which a `ManualSearch` chooses."""
    repeats = ddn.groupby("max_depth")["seed"].nunique()
    return ddn[ddn["max_depth"].isin(repeats[repeats == repeats.max()].index)]


def _has_others(ddn: pd.DataFrame) -> bool:
    return len(_shared(with_most_repeats(ddn))) > 1


def _shared(ddn: pd.DataFrame) -> list[int]:
    """The repeats that all depths have."""
    depths = ddn.groupby("seed")["max_depth"].nunique()
    return sorted(depths[depths == ddn["max_depth"].nunique()].index)
