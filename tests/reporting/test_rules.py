"""What a verdict means, and since when: a rule may not be younger than runs that it judges without saying so."""

from pathlib import Path

import pandas as pd
import pytest

from depthsearch.reporting.intervals import Interval
from depthsearch.reporting.judging import rules
from depthsearch.reporting.tables import comparison
from depthsearch.reporting.tables.depth_scans import read_tables
from depthsearch.reporting.tables.schema import empty

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("low", "high", "no_worse", "less", "more", "still"),
    [
        (-0.3, -0.2, "reproduced", "reproduced", "not reproduced", "not reproduced"),
        (-0.2, 0.05, "reproduced", "undecided", "undecided", "undecided"),
        (-0.05, 0.05, "reproduced", "undecided", "undecided", "reproduced"),
        (0.02, 0.08, "reproduced: worse, within the margin", "not reproduced", "reproduced", "reproduced"),
        (-0.2, 0.2, "undecided", "undecided", "undecided", "undecided"),
        (
            0.05,
            0.2,
            "undecided: worse, not clear whether by more than the margin",
            "not reproduced",
            "reproduced",
            "undecided: grows, not clear whether by more than the margin",
        ),
        (
            -0.2,
            -0.05,
            "reproduced",
            "reproduced",
            "not reproduced",
            "undecided: falls, not clear whether by more than the margin",
        ),
        (0.2, 0.3, "not reproduced", "not reproduced", "reproduced", "not reproduced"),
    ],
)
def test_verdicts_by_where_the_interval_lies(low, high, no_worse, less, more, still):
    interval = Interval((low + high) / 2, low, high, 4)
    assert rules.no_worse(interval, 0.1) == no_worse and rules.still(interval, 0.1) == still
    assert rules.less(interval) == less and rules.more(interval) == more
    assert {rule.judge(interval._replace(n=3), 0.1) for rule in rules.RULES} == {"undecided: needs 4 repeats"}


def test_the_rules_are_those_of_their_date():
    """Whoever changes a rule or a margin gives it a new date, says what was changed, and then this line."""
    margins = (rules.ERROR_MARGIN, rules.LIKELIHOOD_MARGIN, rules.MARGIN_SHARE, rules.SLOPE_MARGIN)
    assert (margins, rules.FEWEST, rules.STEADY_FROM) == ((0.005, 0.02, 0.1, 0.1), 4, 20)
    dated = {
        (rule.claim.partition(" ")[0], rule.verdict.__name__, rule.since) for rule in (*rules.RULES, rules.BETTER_CELLS)
    }
    assert dated == {
        ("1.", "no_worse", "2026-11-30T19:55"),
        ("2.", "no_worse", "2026-11-30T17:20"),
        ("3.", "less", "2026-11-30T17:20"),
        ("4a.", "still", "2026-11-28T09:10"),
        ("4b.", "more", "2026-11-28T09:10"),
        ("Choosing", "less", "2026-11-28T10:30"),
        ("DrNAS", "more", "2026-11-28T11:01"),
    }


def test_a_rule_that_is_younger_than_its_runs_says_what_was_changed():
    compared = comparison.read_tables(ROOT / "results")["strategies"].assign(scan="scan_strategies")
    runs = pd.concat([read_tables(ROOT / "results")["runs"], compared])
    for rule in rules.RULES:
        older, of = rule.older(runs)
        assert of and (not older or rule.changed), rule.claim


def test_the_age_of_runs_is_counted():
    started = ["", "", "2026-11-28T09:09:59+00:00", "2026-11-28T09:10:00+00:00", "2027-01-01T00:00:00+00:00"]
    runs = pd.DataFrame({"scan": ["scan_max_depth_spirals"] * 5, "started": started})
    other = pd.DataFrame({"scan": ["scan_width_spirals"], "started": [""]})
    assert rules.STEADY.older(pd.concat([runs, other])) == (3, 5)
    assert rules.DIFFICULTY.older(runs) == (0, 0) and rules.STEADY.older(empty("runs")) == (0, 0)
    table = rules.rules_table(runs).set_index("claim")
    assert table.loc[rules.STEADY.claim, "older runs"] == "3 of 5" and set(table["since"]) == {
        "2026-11-28",
        "2026-11-30",
    }


def test_repeats_that_were_added_are_later_than_what_fixed_their_number():
    """Of the scans of D on spirals; none is added after them, and those that there are come in whole settings."""
    runs = read_tables(ROOT / "results")["runs"]
    added = runs[runs["scan"].str.contains("_depth_spirals") & (runs["seed"] >= rules.ADDED_FROM)]
    assert (added["started"] >= rules.ADDED_AT).all() and (added["seed"] < rules.REPEATS).all()
    settings = added.groupby(["scan", "kind", "max_depth"])["seed"].nunique()
    assert (settings == rules.REPEATS - rules.ADDED_FROM).all()
    assert max(rule.since for rule in (rules.PRUNING, rules.SEARCH, rules.CALIBRATION, rules.STEADY)) < rules.ADDED_AT
