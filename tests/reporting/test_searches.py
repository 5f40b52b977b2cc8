"""Tables, page and words of the searches of cells, against small ones made by hand."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t, ttest_1samp

from depthsearch.reporting.intervals import Interval
from depthsearch.reporting.judging.against import against
from depthsearch.reporting.judging.rules import difference_seen
from depthsearch.reporting.judging.tuning import TUNING, tuned, tuned_text
from depthsearch.reporting.tables import searches
from depthsearch.reporting.tables.files import known_runs
from depthsearch.reporting.tables.rate_scans import CELL_RATES
from depthsearch.reporting.tables.searches import end_loss
from depthsearch.studies.nasbench201 import NASBench201Cell
from depthsearch.studies.random_cells import EQUAL_COST

RESULTS = Path(__file__).parents[2] / "results"


COST = {"DrNAS": 1e6, "DARTS": 2e6, EQUAL_COST: 4e6}


def runs(accuracies):
    """A row a run from {kind: accuracies by seed}, which are those of all three data sets."""
    rows = [
        {"kind": kind, "seed": seed, "c10": value, "c100": value, "in16": 0.0, "operation_evaluations": COST[kind]}
        for kind, values in accuracies.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_differences_are_paired_and_corrected_for_how_many_there_are():
    drnas, darts, random = [94.0, 93.0, 92.5, 94.1], [90.0, 88.0, 89.5, 89.0], [93.0, 94.0, 92.0, 93.5]
    table = against(runs({"DrNAS": drnas, "DARTS": darts, EQUAL_COST: random})).set_index(["data", "difference"])
    assert len(table) == 6
    gaps = {name: np.subtract(drnas, other) for name, other in (("DARTS", darts), (EQUAL_COST, random))}
    p = {name: ttest_1samp(gap, 0).pvalue for name, gap in gaps.items()}
    assert p["DARTS"] < p[EQUAL_COST]
    corrected = {"DARTS": 2 * p["DARTS"], EQUAL_COST: p[EQUAL_COST]}
    for name, gap in gaps.items():
        row = table.loc[("CIFAR-10", f"DrNAS − {name}")]
        half = t.ppf(0.975, 3) * gap.std(ddof=1) / 2
        assert row["points"] == f"{gap.mean():+.2f} [{gap.mean() - half:+.2f}, {gap.mean() + half:+.2f}]"
        assert row["Holm's p"] == f"{corrected[name]:.2g}" and row["n"] == 4
        assert row["above 0"] == f"{sum(gap > 0)} of 4"
        assert row["cost"] == {"DARTS": "0.5", EQUAL_COST: "0.25"}[name]
    assert table.loc[("CIFAR-100", "DrNAS − DARTS"), "word"] == "better"
    assert table.loc[("CIFAR-10", f"DrNAS − {EQUAL_COST}"), "word"] == "no difference seen"
    assert set(table.loc["ImageNet16-120"]["word"]) == {"no difference seen"}  # all alike


def test_a_difference_that_is_the_same_in_every_repeat_is_one():
    rows = runs({"DrNAS": [93.0] * 4, "DARTS": [54.3] * 4})
    assert set(against(rows)["word"]) == {"better", "no difference seen"}  # of ImageNet16-120, all are alike
    assert against(runs({"DARTS": [54.3] * 4})).empty


@pytest.mark.parametrize(
    ("interval", "p", "said"),
    [
        ((1.0, 0.5, 1.5, 8), 0.01, "better"),
        ((-1.0, -1.5, -0.5, 8), 0.01, "worse"),
        ((1.0, -0.1, 2.1, 8), 0.08, "no difference seen"),
        ((1.0, 0.1, 1.9, 8), 0.06, "no difference seen once corrected"),
        ((1.0, 0.5, 1.5, 8), math.nan, "no difference seen"),
        ((1.0, 0.5, 1.5, 3), 0.01, "needs 4 repeats"),
    ],
)
def test_a_word_needs_both_the_interval_and_the_corrected_p(interval, p, said):
    assert difference_seen(Interval(*interval).negated(), p) == said


def test_the_setting_of_the_lowest_validation_loss_is_taken():
    rows = [("DARTS", 0.01, 1.0), ("DARTS", 0.01, 2.0), ("DARTS", 0.1, 1.4), ("DARTS", 0.1, 1.5)]
    rows += [("DrNAS", 0.01, 1.0), ("DrNAS", 0.1, 1.0)]
    assert tuned(pd.DataFrame(rows, columns=["kind", "setting", "end_loss"])) == {"DARTS": 0.1, "DrNAS": 0.01}
    rows += [("DrNAS", 0.1, math.nan), ("PC", 0.1, math.nan)]  # searches that diverged
    assert tuned(pd.DataFrame(rows, columns=["kind", "setting", "end_loss"])) == {"DARTS": 0.1, "DrNAS": 0.01}
    text = [("DARTS", 0.03, 1.0, 0.05), ("DARTS", 0.3, 0.5, 0.2), ("DARTS", 0.3, math.nan, math.nan)]
    assert tuned_text(pd.DataFrame(text, columns=["kind", "setting", "end_loss", "fall"])) == {"DARTS": 0.03}
    history = [{"epoch": epoch, "valid_loss": 1 / epoch} for epoch in range(1, 9)]
    assert end_loss(history) == pytest.approx((1 / 7 + 1 / 8) / 2)
    assert end_loss([{"epoch": 1}]) is None


def test_reduced_searches_have_what_the_rule_takes_from_the_committed_table():
    rows = known_runs(RESULTS, searches.collect)["cells"]
    rows = rows[rows["scan"] == CELL_RATES]
    ours = {kind: own["alpha_rate"] for kind, own in NASBench201Cell.TUNED.items()}
    assert tuned(rows) == ours | {EQUAL_COST: NASBench201Cell.REDUCED["epochs"]}
    assert (rows["started"] >= TUNING[0]).all() and set(rows["first_seed"]) == {100}
    assert set(rows.groupby(["kind", "setting"])["seed"].nunique()) == {2}
    assert set(rows.groupby("kind")["setting"].nunique()) == {3}  # an equal budget for all


def test_a_recurrent_search_must_leave_its_start():
    rows = [("DARTS", 0.03, 4.0, 0.01), ("DARTS", 0.1, 4.2, 0.1), ("DARTS", 0.3, 4.3, 0.5), ("DrNAS", 0.03, 4.0, 0.0)]
    rows = pd.DataFrame([*rows, ("DrNAS", 0.1, 5.0, 0.05)], columns=["kind", "setting", "end_loss", "fall"])
    assert tuned_text(rows) == {"DARTS": 0.1, "DrNAS": 0.1}
    assert tuned_text(rows.assign(fall=0.0)) == {"DARTS": 0.3, "DrNAS": 0.1}
    assert tuned_text(rows.assign(fall=1.0)) == {"DARTS": 0.03, "DrNAS": 0.03}
