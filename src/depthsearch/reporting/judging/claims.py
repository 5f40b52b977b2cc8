"""The paper's claims against the tables of saved runs: paired differences over repeats, intervals, verdicts."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from depthsearch.reporting.intervals import Interval, interval_of
from depthsearch.reporting.judging.manual_search import ManualSearch, chosen_on, is_search
from depthsearch.reporting.judging.rules import (
    CALIBRATION,
    DIFFICULTY,
    ERROR_MARGIN,
    LIKELIHOOD_MARGIN,
    MARGIN_SHARE,
    PRUNING,
    SEARCH,
    SLOPE_MARGIN,
    STEADY,
    STEADY_FROM,
    Rule,
)
from depthsearch.reporting.parts import claimed_depth, cohorts, ldn_and_ddn, of_data_sets, of_scan, reference_depth
from depthsearch.reporting.tables.schema import Tables
from depthsearch.reporting.words import difference_said
from depthsearch.studies.images import Images

REFERENCE = 20  # the paper's preset on spirals
PAPER_EPOCHS = Images().preset.epochs
NOT_MEASURED = "not measured"
COLUMNS = ["claim", "quantity", "difference", "margin", "n", "verdict"]
MEASURES = (  # name, metric, sign of a cost, margin, unit
    ("test error", "error", 1, ERROR_MARGIN, "points"),
    ("negative test log-likelihood", "log_likelihood", -1, LIKELIHOOD_MARGIN, "nats"),
)


def spiral_claims(tables: Tables, protocol: str = "") -> pd.DataFrame:
    """The claims on spirals, a row a quantity: paired difference with its interval, margin, n, verdict.

    `protocol` is `FAIR` or, for the paper's, nothing.
    """
    ldn, ddn = ldn_and_ddn(tables["runs"], f"spirals{protocol}")
    rows = _of_depth_scans(ldn, ddn, REFERENCE, REFERENCE)
    angle = of_scan(tables["runs"], f"scan_spiral_complexity{protocol}")
    if len(angle):
        of_repeats = 360 * slopes(angle, "stop_angle")
        rows.append(_row(DIFFICULTY, "slope of d_opt against the angle", interval_of(of_repeats), 0, "layers a turn"))
    return pd.DataFrame(rows, columns=COLUMNS)


def image_claims(tables: Tables) -> pd.DataFrame:
    """The same on images, for each data set of each cohort of runs; the fair protocol first.

    Verdicts on networks that were trained less than the paper's say after how many epochs.
    """
    rows: list[dict] = []
    for name, cohort in cohorts(tables).items():
        limit = int(cohort["runs"]["epochs_limit"].iloc[0])
        found = []
        for data_set, ldn, ddn in of_data_sets(cohort["runs"]):
            of_set = _of_depth_scans(ldn, ddn, claimed_depth(ldn, ddn), reference_depth(ldn))
            found += [{"data": data_set, "runs": name} | row for row in of_set]
        ldn, _ = ldn_and_ddn(cohort["runs"], "images")
        easy, hard = (ldn[ldn["data_set"] == name] for name in ("MNIST", "Fashion-MNIST"))
        depth = reference_depth(easy, hard)
        if depth is not None:
            quantity = f"d_opt of Fashion-MNIST minus d_opt of MNIST, D = {depth}"
            differences = _at(hard, depth)["pruned_depth"] - _at(easy, depth)["pruned_depth"]
            row = _row(DIFFICULTY, quantity, interval_of(differences), 0, "layers")
            found.append({"data": "both", "runs": name} | row)
        rows += [row | {"verdict": after(limit, row["verdict"])} for row in found]
    return pd.DataFrame(rows, columns=["data", "runs", *COLUMNS])


def after(epochs: int, verdict: str) -> str:
    """A verdict on image networks that may not have converged: it says after how many epochs it holds."""
    word, colon, why = verdict.partition(":")
    return f"{word} after {epochs} epochs{colon}{why}" if epochs < PAPER_EPOCHS and word != NOT_MEASURED else verdict


def _of_depth_scans(ldn: pd.DataFrame, ddn: pd.DataFrame, reference: int | None, own: int | None) -> list[dict]:
    """Claims 1 to 4a from the runs of both kinds at all depths.

    Args:
        ldn, ddn: the runs.
        reference: the D of claims 2 and 3.
        own: that of claim 1, for which no DDN is needed.
    """
    rows: list[dict] = []
    if own and len(preset := _at(ldn, own)):
        rows += _pruning(preset, own)
    if reference is not None and len(preset := _at(ldn, reference)) and len(ddn):
        best = {metric: ManualSearch(ddn, metric) for _, metric, *_ in MEASURES} if is_search(ddn) else {}
        rows += _search(preset, best, chosen_on(ddn), reference) if best else []
        rows += _calibration(preset, ddn, best.get("log_likelihood"), reference)
    steady = ldn[ldn["max_depth"] >= STEADY_FROM]
    if len(steady):
        of_repeats = slopes(steady, "max_depth")
        row = _row(STEADY, STEADY.judged, interval_of(of_repeats), SLOPE_MARGIN, "layers a layer")
        if steady["max_depth"].nunique() == 1:
            row["n"] = steady["seed"].nunique()
            row["verdict"] = f"{NOT_MEASURED}: needs more depths from {STEADY_FROM} on"
        rows.append(row)
    return rows


def _pruning(preset: pd.DataFrame, reference: int) -> list[dict]:
    rows = []
    for name, metric, sign, margin, unit in MEASURES:
        cut, full = (sign * preset[f"{variant}_test_{metric}"] for variant in ("LDN-95", "LDN-full"))
        quantity = f"{name}, LDN-95 minus LDN-full (D = {reference})"
        rows.append(_row(PRUNING, quantity, interval_of(cut - full), _margin(margin, full), unit))
    return rows


def _search(preset: pd.DataFrame, best: Mapping[str, ManualSearch], points: str, reference: int) -> list[dict]:
    rows = []
    for name, metric, sign, margin, unit in MEASURES:
        found, column = best[metric], f"DDN_test_{metric}"
        gap = found.gap(preset[f"LDN-95_test_{metric}"], column)
        quantity = f"{name}, LDN-95 (D = {reference}) minus the DDN best on {points} (D = {found.depths()})"
        within = _margin(margin, sign * found.values(column))
        rows.append(_row(SEARCH, quantity, gap if sign > 0 else gap.negated(), within, unit))
    return rows


def _calibration(preset: pd.DataFrame, ddn: pd.DataFrame, best: ManualSearch | None, reference: int) -> list[dict]:
    ours, column, regular = preset["LDN-full_test_ece"], "DDN_test_ece", f"regular network of D = {reference}"
    gaps = {regular: interval_of(ours - _at(ddn, reference)[column])}
    if best is not None and best.depth == reference:
        gaps = {f"{regular}, the best DDN": gaps[regular]}
    elif best is not None:
        gaps[f"the best DDN (D = {best.depths()})"] = best.gap(ours, column)
    quantity = f"ECE, LDN-full (D = {reference}) minus"
    return [_row(CALIBRATION, f"{quantity} {name}", gap, 0, "points") for name, gap in gaps.items()]


def _at(runs: pd.DataFrame, depth: int) -> pd.DataFrame:
    return runs[runs["max_depth"] == depth].set_index("seed")


def _margin(most: float, reference: pd.Series) -> float:
    return min(most, MARGIN_SHARE * reference.mean())


def _row(rule: Rule, quantity: str, interval: Interval, margin: float, unit: str) -> dict:
    scale = 100 if unit == "points" else 1
    sign = "±" if rule is STEADY else ""
    row = {"claim": rule.claim, "quantity": quantity, "difference": difference_said(interval, scale, unit)}
    return row | {"margin": f"{sign}{scale * margin:.2g}", "n": interval.n, "verdict": rule.judge(interval, margin)}


def slopes(runs: pd.DataFrame, x: str) -> pd.Series:
    """Per repeat, the least-squares slope of d_opt against x."""
    return pd.Series(
        {s: np.polyfit(t[x], t["pruned_depth"], 1)[0] for s, t in runs.groupby("seed") if t[x].nunique() > 1},
        dtype=float,
    )
