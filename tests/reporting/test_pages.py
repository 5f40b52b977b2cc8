"""The committed pages are what the committed tables say: no stale number."""

import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import complete

from depthsearch.reporting.judging.claims import image_claims
from depthsearch.reporting.judging.rules import CALIBRATION
from depthsearch.reporting.pages.readme import _guesses, claims_in_words, insert_into_readme, readme_part
from depthsearch.reporting.pages.spirals import _batches, told
from depthsearch.reporting.tables import comparison
from depthsearch.reporting.tables.comparison import by_repeat
from depthsearch.reporting.tables.depth_scans import read_tables
from depthsearch.reporting.tables.files import known_runs
from depthsearch.reporting.words import listed, most_often

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def regenerated(tmp_path_factory):
    """The pages, from the tables alone, written where the locale knows no letter of theirs that is not ASCII."""
    results = tmp_path_factory.mktemp("results")
    for name in ("tables", "benchmarks"):
        shutil.copytree(ROOT / "results" / name, results / name)
    no_utf8 = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "depthsearch.reporting", str(results)]
    subprocess.run(command, env=os.environ | no_utf8, check=True, capture_output=True)
    return results


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "results").glob("*.md")))
def test_a_committed_page_is_what_its_tables_say(page, regenerated):
    assert (regenerated / page).read_text() == (ROOT / "results" / page).read_text()


@pytest.mark.slow
def test_reading_and_writing_changes_no_table(regenerated):
    names = sorted(path.name for path in (ROOT / "results" / "tables").iterdir())
    assert sorted(path.name for path in (regenerated / "tables").iterdir()) == names
    for name in names:
        ours, theirs = ((place / "tables" / name).read_bytes() for place in (regenerated, ROOT / "results"))
        assert ours == theirs, name


@pytest.mark.slow
def test_the_readmes_results_are_what_the_tables_say(regenerated, tmp_path):
    readme = shutil.copy(ROOT / "README.md", tmp_path)
    choices = comparison.shown_tables(known_runs(regenerated, comparison.collect))[0]
    insert_into_readme(Path(readme), readme_part(read_tables(regenerated), choices))
    assert Path(readme).read_text() == (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_command_says_what_it_can_do():
    out = subprocess.run([sys.executable, "-m", "depthsearch.reporting", "-h"], capture_output=True, text=True)
    assert out.returncode == 0 and "--add DIR" in out.stdout


def test_the_first_page_is_short():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 200 and max(line.count("|") for line in lines) - 1 <= 6 and max(map(len, lines)) < 400


def tables_of_claims(verdicts):
    claim, less = "1. Pruning to d_opt costs nothing", "LDN-95 minus LDN-full (D = 20)"
    names = ("test error", "negative test log-likelihood")
    return pd.DataFrame(
        [
            {"claim": claim, "quantity": f"{q}, {less}", "n": 16, "verdict": v}
            for q, v in zip(names, verdicts, strict=True)
        ]
    )


def test_verdicts_in_words():
    none = image_claims(complete({}))
    same = claims_in_words(tables_of_claims(["undecided", "undecided: needs 4 repeats"]), none, none)
    assert same["spirals"][0] == "undecided (n = 16)" and set(same["SVHN"]) == {"not run"}
    assert set(same["spirals, points held out"]) == {"not run"}
    worse = claims_in_words(none, tables_of_claims(["undecided", "undecided: worse, not clear"]), none)
    said = "error: undecided; log-likelihood: undecided, but worse (n = 16)"
    assert worse["spirals, points held out"][0] == said and worse["spirals"][0] == "not run"
    differ = claims_in_words(tables_of_claims(["reproduced", "undecided"]), none, none)
    assert differ["spirals"][0] == "error: reproduced; log-likelihood: undecided (n = 16)"
    one = {"claim": CALIBRATION.claim, "quantity": "ECE, LDN-full (D = 20) minus regular network of D = 20", "n": 16}
    best = one | {"quantity": "ECE, LDN-full (D = 20) minus the best DDN (D = 11 in 53 %, others in 47 %)"}
    both = pd.DataFrame([one | {"verdict": "undecided"}, best | {"verdict": "reproduced"}])
    said = "than DDN of D = 20: undecided; than the best DDN: reproduced (n = 16)"
    assert claims_in_words(both, none, none)["spirals"][2] == said


@pytest.mark.parametrize(
    ("values", "said"),
    [([], ""), ([5, 10], "5, 10"), ([0, 1, 2, 3], "0, 1, 2, 3"), ([*range(21), 30, 50, 51], "0 to 20, 30, 50, 51")],
)
def test_numbers_that_follow_each_other_are_told_by_the_first_and_the_last(values, said):
    assert listed(values) == said


@pytest.mark.parametrize(
    ("depths", "said"),
    [
        ([], "-"),
        ([3], "3 in 100 %"),
        ([3, 4, 4, 5], "4 in 50 %"),
        ([5, 6, 5, 6, 1], "5 and 6 in 40 % each"),
        ([5, 6, 5, 6, 7, 7], "5, 6 and 7 in 33 % each"),
        ([1, 2, 3, 4], "4 depths in 25 % each"),
    ],
)
def test_depths_chosen_equally_often_are_all_told(depths, said):
    assert most_often(pd.Series(depths, dtype=float)) == said


def test_the_page_has_rows_of_some_depths_of_ddn_and_of_all_of_ldn():
    depths = [5, 20, 25, 30, 100]
    runs = pd.DataFrame([{"scan": kind, "kind": kind, "max_depth": d} for kind in ("LDN", "DDN") for d in depths])
    assert told({"runs": runs}, "LDN")["max_depth"].tolist() == depths
    assert told({"runs": runs}, "DDN")["max_depth"].tolist() == [5, 20, 30, 100]
    assert told({"runs": runs}, "of no runs").empty


def test_where_an_epoch_takes_two_steps():
    def rows(scan, amounts):
        return pd.DataFrame([{"scan": f"scan_data_amount{scan}", "n": 10 * amount} for amount in amounts])

    runs = pd.concat([rows("", (500, 512, 600, 514)), rows("_fair", (600, 700, 800))])
    said = _batches({"runs": runs})
    assert "from 514 (the second of what is left, 2 or more), " in said
    assert "from 700 with a quarter held out (half of the points each). Until 2026-11-30" in said
    assert "Until" not in _batches({"runs": rows("", (500, 600))})
    assert _batches({"runs": rows("", (500, 512))}) == ""


GUESSES = {"always D": 0.5, "always D/2": 0.5, "uniform guess": 0.5}


def regrets(repeats, data_set="digits", **others):
    """Rows of LDN, with regrets near 0, and of the guesses, or of `others`, by name."""
    return pd.DataFrame(
        [
            {"data_set": data_set, "strategy": name, "seed": seed, "regret": regret + 0.01 * seed * (name == "LDN")}
            for name, regret in ({"LDN": 0.0} | (others or GUESSES)).items()
            for seed in range(repeats)
        ]
    )


UNBEATEN = "No search is seen to beat these guesses, each corrected for all strategies (Holm)"


def test_guesses_are_not_said_to_be_beaten_by_too_few_repeats():
    def said(**found):
        return _guesses(found).removeprefix("**Which way of choosing a depth?** ")

    assert said(digits=regrets(2)) == "Undecided on digits: needs 4 repeats."
    assert said(digits=regrets(4)) == "Every guess is beaten by a strategy on digits (n = 4)."
    two = said(spirals=regrets(2), digits=regrets(8))
    assert two == "Every guess is beaten by a strategy on digits (n = 8). Undecided on spirals: needs 4 repeats."
    worse = regrets(4, **GUESSES | {"always D": -1.0})
    assert said(digits=worse) == f"{UNBEATEN}: always D, on digits (n = 4)."
    better = regrets(4, **GUESSES | {"always D": -1.0, "uniform guess": -2.0})
    assert said(spirals=worse, digits=worse, MNIST=better) == (
        f"{UNBEATEN}: always D, on spirals (n = 4) and digits (n = 4); "
        "always D or uniform guess, on MNIST (n = 4, reduced)."
    )


def test_where_a_guess_is_missing_nothing_is_said_of_guesses():
    undecided = "Undecided on digits: needs 4 repeats."
    eight, two = regrets(8), regrets(8)
    two = two[(two["strategy"] == "LDN") | (two["seed"] < 2)]
    for rows in (eight[eight["strategy"] == "LDN"], two, eight.assign(regret=math.nan)):
        assert _guesses({"digits": rows}).endswith(undecided)


def test_a_strategy_that_misses_a_data_set_is_compared_with_none():
    rows = pd.concat([regrets(4, "spirals180"), regrets(4, "spirals900", LDN=1.0, DARTS=0.0)])
    table = by_repeat(rows, "regret")
    assert list(table["LDN"]) == pytest.approx([0.5, 0.51, 0.52, 0.53])
    assert table["DARTS"].isna().all() and table["always D"].isna().all()


def test_every_figure_on_a_page_is_there():
    pages = [ROOT / "README.md", *(ROOT / "results").glob("*.md")]
    linked = {page.parent / path for page in pages for path in re.findall(r"\]\(([^)\s]+\.png)\)", page.read_text())}
    assert len(linked) > 20 and not [path for path in linked if not path.exists()]
