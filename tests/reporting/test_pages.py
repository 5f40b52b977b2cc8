"""The committed pages are what the committed tables say: no stale number."""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from depthsearch.reporting import comparison
from depthsearch.reporting.__main__ import main
from depthsearch.reporting.pages.readme import _guesses, claims_in_words, insert_into_readme, readme_part
from depthsearch.reporting.pages.results import _told
from depthsearch.reporting.tables import read_tables
from depthsearch.reporting.words import listed

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def regenerated(tmp_path_factory):
    """The pages, from the tables alone."""
    results = tmp_path_factory.mktemp("results")
    for name in ("tables", "benchmarks"):
        shutil.copytree(ROOT / "results" / name, results / name)
    main([str(results)])
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
    choices = comparison.shown_tables(comparison.all_tables(regenerated))[0]
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
    none = pd.DataFrame()
    same = claims_in_words(tables_of_claims(["undecided", "undecided: worse, by less"]), none)
    assert same["spirals"][0] == "undecided (n = 16)" and set(same["SVHN"]) == {"not run"}
    differ = claims_in_words(tables_of_claims(["reproduced", "undecided"]), none)
    assert differ["spirals"][0] == "error: reproduced; log-likelihood: undecided (n = 16)"


@pytest.mark.parametrize(
    ("values", "said"),
    [([], ""), ([5, 10, 15], "5 10 15"), ([0, 1, 2, 3], "0 1 2 3"), ([*range(21), 30, 50, 51], "0 to 20 30 50 51")],
)
def test_numbers_that_follow_each_other_are_told_by_the_first_and_the_last(values, said):
    assert listed(values) == said


def test_the_page_has_rows_of_some_depths_of_ddn_and_of_all_of_ldn():
    depths = [5, 20, 25, 30, 100]
    runs = pd.DataFrame([{"scan": kind, "kind": kind, "max_depth": d} for kind in ("LDN", "DDN") for d in depths])
    assert _told({"runs": runs}, "LDN")["max_depth"].tolist() == depths
    assert _told({"runs": runs}, "DDN")["max_depth"].tolist() == [5, 20, 30, 100]
    assert _told({"runs": runs}, "of no runs").empty


def test_guesses_are_not_said_to_be_beaten_by_too_few_repeats():
    regrets = {"LDN": 0.0, "always D": 0.5, "always D/2": 0.5, "uniform guess": 0.5}

    def said(repeats):
        rows = [
            {"data_set": "digits", "strategy": name, "seed": seed, "regret": regret + 0.01 * seed * (name == "LDN")}
            for name, regret in regrets.items()
            for seed in range(repeats)
        ]
        return _guesses({"digits": pd.DataFrame(rows)})

    assert said(2).endswith("Undecided: needs 4 repeats.")
    assert said(4).endswith("Every guess is beaten by a strategy.")
