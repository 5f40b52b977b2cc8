"""The committed pages are what the committed tables say: no stale number."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from depthsearch.reporting.__main__ import main
from depthsearch.reporting.pages.readme import insert_into_readme, readme_part
from depthsearch.reporting.tables import read_tables

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
    insert_into_readme(Path(readme), readme_part(read_tables(regenerated)))
    assert Path(readme).read_text() == (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_command_says_what_it_can_do():
    out = subprocess.run([sys.executable, "-m", "depthsearch.reporting", "-h"], capture_output=True, text=True)
    assert out.returncode == 0 and "--add DIR" in out.stdout
