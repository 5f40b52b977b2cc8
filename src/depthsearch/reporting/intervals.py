"""Means and differences with their 95 % t-intervals, and p-values of many of them."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

Name = TypeVar("Name")


class Interval(NamedTuple):
    """A mean, the two ends of its interval (no numbers of fewer than two values), and of how many values it is."""

    mean: float
    low: float
    high: float
    n: int

    def negated(self) -> "Interval":
        """Of the difference the other way round."""
        return Interval(-self.mean, -self.high, -self.low, self.n)


def interval_of(values: pd.Series) -> Interval:
    """Student's, of a mean; of paired differences, one a repeat, that of the mean difference."""
    d = values.dropna().to_numpy(dtype=float)
    if len(d) < 2:
        return Interval(float(d.mean()) if len(d) else np.nan, np.nan, np.nan, len(d))
    low, high = _t_test(d).confidence_interval()
    return Interval(float(d.mean()), float(low), float(high), len(d))


def jackknife(value: float, without: Sequence[float]) -> Interval:
    """Of a statistic of n repeats that is no mean over them, from its values `without` each (Tukey 1958).

    Of a mean it is Student's interval.
    """
    from scipy.stats import t

    left = np.asarray(without, dtype=float)
    n = len(left)
    half = t.ppf(0.975, n - 1) * np.sqrt((n - 1) / n * np.square(left - left.mean()).sum())
    return Interval(value, float(value - half), float(value + half), n)


def unpaired(ours: pd.Series, theirs: pd.Series) -> tuple[Interval, float]:
    """Welch's, of the difference of two means, n the size of the smaller sample; and its p-value."""
    from scipy.stats import ttest_ind

    mean, n = float(ours.mean() - theirs.mean()), min(len(ours), len(theirs))
    if n < 2:
        return Interval(mean, np.nan, np.nan, n), np.nan
    if np.ptp(ours) + np.ptp(theirs) == 0:
        return Interval(mean, mean, mean, n), float(mean == 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of one sample whose values are all alike
        test: Any = ttest_ind(ours, theirs, equal_var=False)
    low, high = test.confidence_interval()
    return Interval(mean, float(low), float(high), n), float(test.pvalue)


def p_value(differences: pd.Series) -> float:
    """That their mean is 0, of the t-test that belongs to `interval_of`; of differences all alike 0 or 1."""
    d = differences.dropna().to_numpy(dtype=float)
    if len(d) > 1 and np.ptp(d) == 0:
        return float(d[0] == 0)
    return float(_t_test(d).pvalue) if len(d) > 1 else np.nan


def holm(p: Mapping[Name, float]) -> dict[Name, float]:
    """P-values corrected for how many there are (Holm 1979): the chance of any false discovery is kept.

    A p-value that is no number is left out of account, and stays as it is.
    """
    known = {name: value for name, value in p.items() if not np.isnan(value)}
    corrected, largest = dict(p), 0.0
    for i, (name, value) in enumerate(sorted(known.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(known) - i) * value))
        corrected[name] = largest
    return corrected


def intervals_and_p(gaps: Mapping[Name, pd.Series]) -> dict[Name, tuple[Interval, float]]:
    """Of each paired difference its interval, and its p-value corrected for how many there are."""
    p = holm({name: p_value(gap) for name, gap in gaps.items()})
    return {name: (interval_of(gap), p[name]) for name, gap in gaps.items()}


def _t_test(d: np.ndarray) -> Any:
    from scipy.stats import ttest_1samp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of differences that are all alike, whose interval is a point
        return ttest_1samp(d, 0)
