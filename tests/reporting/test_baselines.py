"""What guessing a depth gives, and when a strategy counts as better than that."""

import numpy as np
import pandas as pd
import pytest

from depthsearch.measuring.choices import SHOWN_METRICS
from depthsearch.reporting.intervals import Interval, holm
from depthsearch.reporting.judging.guesses import against_baselines, as_good
from depthsearch.reporting.judging.rules import LIKELIHOOD_MARGIN, difference_seen
from depthsearch.reporting.tables.baselines import with_baselines


def test_holm_as_in_a_worked_example():
    # Four p-values in order 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, none below the one before it.
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005, "none": np.nan})
    assert [corrected[n] for n in "abcd"] == pytest.approx([0.03, 0.06, 0.06, 0.02]) and np.isnan(corrected["none"])
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def made_up(deepest=3, seeds=4):
    """Networks whose log-likelihood is -1 at depth 0 and better by 0.1 with each block; LDN takes depth 1."""
    pool = [
        {"data_set": "digits", "seed": s, "cohort": "c", "started": "", "max_depth": d, "width": 8, "points": points}
        | {f"test_{m}": d / 10 - 1 + s / 100 for m in SHOWN_METRICS}
        | {"seconds": 1.0 + d, "epochs": 5, "block_evaluations": 10 * d, "networks": 1, "step_bytes": 8, "device": "x"}
        for s in range(seeds)
        for d in range(deepest + 1)
        for points in ("train", "all")
    ]
    strategies = [
        {"data_set": "digits", "seed": s, "cohort": "c", "strategy": "LDN", "epochs_limit": 5, "max_depth": deepest}
        | {"preset_width": 8, "best_depth": 3, "best_log_likelihood": -0.7 + s / 100, "depth": 1, "regret": 0.2}
        for s in range(seeds)
    ]
    return pd.DataFrame(strategies), pd.DataFrame(pool)


def test_guesses_are_means_over_what_they_may_take():
    table = with_baselines(*made_up()).set_index(["strategy", "seed"])
    assert len(table) == 4 * 4
    for name, depths in {"always D": [3], "always D/2": [1], "uniform guess": [0, 1, 2, 3]}.items():
        row, depth = table.loc[(name, 2)], np.mean(depths)
        assert row["depth"] == depth and row["seconds"] == 1 + depth and row["block_evaluations"] == 10 * depth
        assert row["retrained_log_likelihood"] == row["searched_log_likelihood"] == pytest.approx(depth / 10 - 0.98)
        assert row["regret"] == pytest.approx(0.3 - depth / 10)


def test_of_a_pool_with_gaps_no_guess_is_made_up():
    strategies, pool = made_up()
    pool.loc[(pool["max_depth"] == 0) & (pool["points"] == "all") & (pool["seed"] == 1), "test_log_likelihood"] = np.nan
    counts = with_baselines(strategies, pool)["strategy"].value_counts()
    assert counts.to_dict() == {"LDN": 4, "always D": 4, "always D/2": 4, "uniform guess": 3}
    assert with_baselines(strategies, pool[:0]) is strategies


@pytest.mark.parametrize(
    ("interval", "p", "said"),
    [
        ((-0.1, -0.15, -0.05, 8), 0.01, "better"),
        ((-0.1, -0.19, -0.01, 8), 0.01, "better, by little"),
        ((-0.1, -0.19, -0.01, 8), 0.06, "no difference seen once corrected"),
        ((0.1, 0.05, 0.15, 8), 0.01, "worse"),
        ((0.1, 0.01, 0.19, 8), 0.01, "worse, by little"),
        ((-0.1, -0.15, -0.05, 3), 0.01, "needs 4 repeats"),
        ((0.0, np.nan, np.nan, 8), np.nan, "no difference seen"),
    ],
)
def test_words(interval, p, said):
    assert difference_seen(Interval(*interval), p, LIKELIHOOD_MARGIN) == said


def test_a_strategy_is_held_against_every_guess():
    noise = np.array([0.01, -0.01, 0.02, -0.02, 0.0])
    regrets = pd.DataFrame({"LDN": 0.1 + noise, "DARTS": 0.5 - noise, "always D": 0.1, "uniform guess": 0.3})
    table = against_baselines(regrets).set_index("strategy")
    assert table.loc["LDN", "minus always D"].startswith("no difference seen: +0.000")
    assert table.loc["LDN", "minus uniform guess"].startswith("better: -0.200")
    assert table.loc["DARTS", "minus uniform guess"].startswith("worse: +0.200")
    assert table.loc["always D", "minus uniform guess"] == "-"
    assert as_good(regrets) == ["always D"]
