"""The paper's claims against the tables of saved runs: paired differences over repeats, intervals, verdicts."""

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd

from depthsearch.reporting.parts import cohorts, ldn_and_ddn, of_data_sets, of_scan, reference_depth

# What counts as "costs nothing" and "stays put": points of error / 100, nats, layers a layer; of error and nats at most
# this share of what the reference has, or on easy data nothing could ever count as worse.
ERROR_MARGIN, LIKELIHOOD_MARGIN, SLOPE_MARGIN, MARGIN_SHARE = 0.005, 0.02, 0.1, 0.1
STEADY_FROM = 20  # d_opt is held against D from here on: below, D itself may be what limits it
NLL = "negative test log-likelihood"
Interval = tuple[float, float, float, int]


def paired(differences: pd.Series) -> Interval:
    """Mean, 95 % t-interval and n of paired differences, one a repeat."""
    from scipy.stats import ttest_1samp

    d = differences.dropna().to_numpy(dtype=float)
    if len(d) < 2:
        return float(d.mean()) if len(d) else np.nan, np.nan, np.nan, len(d)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of differences that are all alike, whose interval is a point
        low, high = ttest_1samp(d, 0).confidence_interval()
    return float(d.mean()), float(low), float(high), len(d)


def no_worse(interval: Interval, margin: float) -> str:
    """Verdict on "this difference costs nothing", differences being costs (positive is worse)."""
    _, low, high, _ = interval
    if high <= margin:
        return "reproduced: worse, within the margin" if low > 0 else "reproduced"
    if low > margin:
        return "not reproduced"
    return "undecided: worse, by less or more than the margin" if low > 0 else "undecided"


def spiral_claims(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The four claims on spirals, the paper's preset D = 20: quantity, paired difference, interval, n, verdict."""
    ldn, ddn = ldn_and_ddn(tables["runs"], "spirals")
    rows = _of_depth_scans(ldn, ddn, reference=20)
    angle = of_scan(tables["runs"], "scan_spiral_complexity")
    if len(angle):
        interval = paired(360 * _slopes(angle, "stop_angle"))
        quantity = "slope of d_opt against the angle (layers a turn of 360 degrees)"
        rows.append(_row("4b. The chosen depth follows the difficulty", quantity, interval, _larger))
    return pd.DataFrame(rows)


def image_claims(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The four claims on images, for each data set of each cohort of runs; the fair protocol first."""
    rows: list[dict] = []
    for name, cohort in cohorts(tables).items():
        for data_set, ldn, ddn in of_data_sets(cohort["runs"]):
            found = _of_depth_scans(ldn, ddn, reference=reference_depth(ldn, ddn))
            rows += [{"data": data_set, "runs": name} | row for row in found]
        ldn, _ = ldn_and_ddn(cohort["runs"], "images")
        easy, hard = (ldn[ldn["data_set"] == name] for name in ("MNIST", "Fashion-MNIST"))
        depth = reference_depth(easy, hard)
        if depth is not None:
            easy, hard = (runs[runs["max_depth"] == depth].set_index("seed") for runs in (easy, hard))
            interval = paired(hard["pruned_depth"] - easy["pruned_depth"])
            quantity = f"d_opt of Fashion-MNIST minus d_opt of MNIST, D = {depth} (layers)"
            row = _row("4b. The chosen depth follows the difficulty", quantity, interval, _larger)
            rows.append({"data": "both", "runs": name} | row)
    return pd.DataFrame(rows)


def best_ddn(ddn: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The runs of the deterministic depth that manual search would choose by a metric, `error` or `log_likelihood`.

    By the mean over repeats on the validation points where all runs have some of their own, else on the test points;
    among the depths with the most repeats.
    """
    column = f"valid_{metric}" if has_validation(ddn) else f"DDN_test_{metric}"
    groups = ddn.groupby("max_depth")
    repeats = groups["seed"].nunique()
    means = groups[column].mean()[repeats == repeats.max()]
    return ddn[ddn["max_depth"] == (means.idxmin() if metric == "error" else means.idxmax())]


def has_validation(runs: pd.DataFrame) -> bool:
    """Whether their epochs were selected on points held out from training, so that a depth can be too."""
    return "protocol" in runs and set(runs["protocol"]) == {"fair"}


def _of_depth_scans(ldn: pd.DataFrame, ddn: pd.DataFrame, reference: int | None) -> list[dict]:
    """Claims 1 to 4a from the runs of both kinds at all depths; `reference` is the D of claims 2 and 3."""
    rows = []
    cuttable = ldn[ldn["max_depth"] > 0] if len(ldn) else ldn
    if len(cuttable):
        claim = "1. Pruning to d_opt costs nothing"
        deep = f"LDN-95 minus LDN-full, mean over D = {' '.join(map(str, sorted(cuttable['max_depth'].unique())))}"
        for name, metric, sign, margin, unit in MEASURES:
            pruned, full = (sign * _mean_over_depths(cuttable, f"{v}_test_{metric}") for v in ("LDN-95", "LDN-full"))
            rows.append(_row(claim, f"{name}, {deep}", paired(pruned - full), _margin(margin, full), unit))
    if len(ldn) and len(ddn) and reference is not None:
        claim = "2. One LDN run matches the best depth of manual search"
        preset = ldn[ldn["max_depth"] == reference].set_index("seed")
        chosen_on = "validation points" if has_validation(ddn) else "the test set itself"
        for name, metric, sign, margin, unit in MEASURES:
            best = best_ddn(ddn, metric).set_index("seed")
            quantity = (
                f"{name}, LDN-95 (D = {reference}) minus the DDN best on {chosen_on} (D = {best['max_depth'].iloc[0]})"
            )
            cut, manual = sign * preset[f"LDN-95_test_{metric}"], sign * best[f"DDN_test_{metric}"]
            rows.append(_row(claim, quantity, paired(cut - manual), _margin(margin, manual), unit))
        claim = "3. Marginalising over depth is better calibrated than a regular network"
        best = best_ddn(ddn, "log_likelihood").set_index("seed")
        regular = {f"regular network of D = {reference}": ddn[ddn["max_depth"] == reference].set_index("seed")}
        for name, table in (regular | {f"the best DDN (D = {best['max_depth'].iloc[0]})": best}).items():
            difference = preset["LDN-full_test_ece"] - table["DDN_test_ece"]
            quantity = f"ECE, LDN-full (D = {reference}) minus {name}"
            rows.append(_row(claim, quantity, paired(difference), _smaller, "points"))
    steady = ldn[ldn["max_depth"] >= STEADY_FROM] if len(ldn) else ldn
    if len(steady):
        quantity = f"slope of d_opt against D, D >= {STEADY_FROM} (layers a layer)"
        claim = "4a. The chosen depth stays put as D grows"
        if steady["max_depth"].nunique() > 1:
            rows.append(_row(claim, quantity, paired(_slopes(steady, "max_depth")), SLOPE_MARGIN))
        else:
            row = {"claim": claim, "quantity": quantity, "difference": "-", "n": steady["seed"].nunique()}
            rows.append(row | {"verdict": "undecided: needs more depths"})
    return rows


def _margin(most: float, reference: pd.Series) -> float:
    return min(most, MARGIN_SHARE * reference.mean())


MEASURES = (
    ("test error", "error", 1, ERROR_MARGIN, "points"),
    (NLL, "log_likelihood", -1, LIKELIHOOD_MARGIN, "nats"),
)


def _row(claim: str, quantity: str, interval: Interval, judge: float | Callable[[Interval], str], unit="") -> dict:
    # `judge` is the margin up to which a cost counts as none, or says what the interval means.
    mean, low, high = ((100 if unit == "points" else 1) * v for v in interval[:3])
    of_depths_alike = not unit and high - low < 1e-9  # whole numbers, equal by chance
    if interval[3] < 2 or (of_depths_alike and interval[3] < 4):
        verdict = "undecided: needs more runs"
    else:
        verdict = judge(interval) if callable(judge) else no_worse(interval, judge)
    difference = f"{mean:+.3g} [{low:+.3g}, {high:+.3g}] {unit}".strip()
    return {"claim": claim, "quantity": quantity, "difference": difference, "n": interval[3], "verdict": verdict}


def _smaller(interval: Interval) -> str:
    if interval[2] < 0:
        return "reproduced"
    return "not reproduced" if interval[1] > 0 else "not reproduced: no difference seen"


def _larger(interval: Interval) -> str:
    mean, low, high, n = interval
    return _smaller((-mean, -high, -low, n))


def _mean_over_depths(runs: pd.DataFrame, column: str) -> pd.Series:
    """Per repeat that was run at every depth, the mean over depths."""
    groups = runs[column].groupby(runs["seed"])
    return groups.mean()[groups.size() == groups.size().max()]


def _slopes(runs: pd.DataFrame, x: str) -> pd.Series:
    """Per repeat, the least-squares slope of d_opt against x."""
    return pd.Series({s: np.polyfit(t[x], t["pruned_depth"], 1)[0] for s, t in runs.groupby("seed") if len(t) > 1})
