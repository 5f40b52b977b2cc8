"""The paper's claims against the tables of saved runs: paired differences over repeats, intervals, verdicts."""

import numpy as np
import pandas as pd

from depthsearch.reporting.intervals import Interval, interval_of
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
from depthsearch.reporting.words import difference_said, enumerated
from depthsearch.studies.images import Images

REFERENCE = 20  # the paper's preset on spirals
PAPER_EPOCHS = Images().preset.epochs
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
    rows = _of_depth_scans(ldn, ddn, REFERENCE)
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
            of_set = _of_depth_scans(ldn, ddn, claimed_depth(ldn, ddn))
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
    return f"{word} after {epochs} epochs{colon}{why}" if epochs < PAPER_EPOCHS else verdict


def best_ddn(ddn: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The runs of the deterministic depth that manual search would choose by a metric, `error` or `log_likelihood`.

    By the mean over repeats, among the depths with the most repeats, on the validation points where all runs have some
    of their own, else on the test points. A network that trained well by luck has it on both, so that no repeat is
    judged at a depth that it chose: all the others choose for each. A single repeat chooses for itself: by its test
    points, that is no search (`is_search`).
    """
    column, whole = f"{'valid' if has_validation(ddn) else 'DDN_test'}_{metric}", with_most_repeats(ddn)
    seeds = _shared(whole)
    if len(seeds) < 2:  # there is no other to choose
        return ddn[ddn["max_depth"] == _best_depth(whole, column, metric)]
    runs, found = whole[whole["seed"].isin(seeds)], []
    for seed in seeds:
        judged, choosing = runs[runs["seed"] == seed], runs[runs["seed"] != seed]
        found.append(judged[judged["max_depth"] == _best_depth(choosing, column, metric)])
    return pd.concat(found)


def is_search(ddn: pd.DataFrame) -> bool:
    """Whether there is a depth to choose, of several, by other points than those on which it is judged."""
    return ddn["max_depth"].nunique() > 1 and (has_validation(ddn) or _has_others(ddn))


def _has_others(ddn: pd.DataFrame) -> bool:
    return len(_shared(with_most_repeats(ddn))) > 1


def with_most_repeats(ddn: pd.DataFrame) -> pd.DataFrame:
    """The runs of the depths with the most repeats, among which `best_ddn` chooses."""
    repeats = ddn.groupby("max_depth")["seed"].nunique()
    return ddn[ddn["max_depth"].isin(repeats[repeats == repeats.max()].index)]


def _shared(ddn: pd.DataFrame) -> list[int]:
    """The repeats that all depths have."""
    depths = ddn.groupby("seed")["max_depth"].nunique()
    return sorted(depths[depths == ddn["max_depth"].nunique()].index)


def _best_depth(choosing: pd.DataFrame, column: str, metric: str) -> int:
    means = choosing.groupby("max_depth")[column].mean()
    return means.index[int(means.argmin() if metric == "error" else means.argmax())]


def has_validation(runs: pd.DataFrame) -> bool:
    """Whether their epochs were selected on points held out from training, so that a depth can be too."""
    return "protocol" in runs and set(runs["protocol"]) == {"fair"}


def chosen_on(ddn: pd.DataFrame) -> str:
    """What `best_ddn` chooses on."""
    points = f"{'validation' if has_validation(ddn) else 'test'} points"
    return f"{points} of other repeats" if _has_others(ddn) else points


def depths_of(runs: pd.DataFrame) -> str:
    """`10`, or of repeats for which different depths were chosen `8 and 10`."""
    return enumerated([str(depth) for depth in sorted(set(runs["max_depth"]))])


def _of_depth_scans(ldn: pd.DataFrame, ddn: pd.DataFrame, reference: int | None) -> list[dict]:
    """Claims 1 to 4a from the runs of both kinds at all depths; `reference` is the D of claims 1 to 3."""
    rows: list[dict] = []
    if reference is not None and reference in set(ldn["max_depth"]):
        preset = _at(ldn, reference)
        rows += _pruning(preset, reference) if reference > 0 else []
        if len(ddn):
            rows += _search(preset, ddn, reference) if is_search(ddn) else []
            rows += _calibration(preset, ddn, reference)
    steady = ldn[ldn["max_depth"] >= STEADY_FROM]
    if len(steady):
        of_repeats = slopes(steady, "max_depth")
        row = _row(STEADY, STEADY.judged, interval_of(of_repeats), SLOPE_MARGIN, "layers a layer")
        if steady["max_depth"].nunique() == 1:
            row |= {"n": steady["seed"].nunique(), "verdict": "not measured: needs more depths"}
        rows.append(row)
    return rows


def _pruning(preset: pd.DataFrame, reference: int) -> list[dict]:
    rows = []
    for name, metric, sign, margin, unit in MEASURES:
        cut, full = (sign * preset[f"{variant}_test_{metric}"] for variant in ("LDN-95", "LDN-full"))
        quantity = f"{name}, LDN-95 minus LDN-full (D = {reference})"
        rows.append(_row(PRUNING, quantity, interval_of(cut - full), _margin(margin, full), unit))
    return rows


def _search(preset: pd.DataFrame, ddn: pd.DataFrame, reference: int) -> list[dict]:
    rows = []
    for name, metric, sign, margin, unit in MEASURES:
        best = best_ddn(ddn, metric).set_index("seed")
        cut, manual = sign * preset[f"LDN-95_test_{metric}"], sign * best[f"DDN_test_{metric}"]
        quantity = f"{name}, LDN-95 (D = {reference}) minus the DDN best on {chosen_on(ddn)} (D = {depths_of(best)})"
        rows.append(_row(SEARCH, quantity, interval_of(cut - manual), _margin(margin, manual), unit))
    return rows


def _calibration(preset: pd.DataFrame, ddn: pd.DataFrame, reference: int) -> list[dict]:
    regular = f"regular network of D = {reference}"
    others = {regular: _at(ddn, reference)}
    if is_search(ddn):
        best = best_ddn(ddn, "log_likelihood").set_index("seed")
        if depths_of(best) == str(reference):
            others = {f"{regular}, the best DDN": best}
        else:
            others[f"the best DDN (D = {depths_of(best)})"] = best
    return [
        _row(
            CALIBRATION,
            f"ECE, LDN-full (D = {reference}) minus {name}",
            interval_of(preset["LDN-full_test_ece"] - other["DDN_test_ece"]),
            0,
            "points",
        )
        for name, other in others.items()
    ]


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
