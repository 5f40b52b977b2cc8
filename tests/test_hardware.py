"""What is noted of the code that a run was made with."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

import depthsearch
from depthsearch.hardware import code_version, describe


def test_code_is_noted_with_its_commit_and_whether_it_was_changed(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("no git here")

    def git(*asked: str) -> str:
        who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        return subprocess.run(["git", *who, *asked], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    (tmp_path / "src").mkdir()
    (tmp_path / "experiments").mkdir()
    (tmp_path / "results").mkdir()
    (tmp_path / "src" / "code.py").write_text("1\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "one")
    commit = git("rev-parse", "HEAD")[:12]
    (tmp_path / "results" / "run.json").write_text("{}")  # is no code
    assert code_version(tmp_path) == f"{depthsearch.__version__}, commit {commit}"
    (tmp_path / "src" / "code.py").write_text("2\n")
    code_version.cache_clear()
    assert code_version(tmp_path) == f"{depthsearch.__version__}, commit {commit}, changed"


def test_without_a_clone_the_version_stands_alone(tmp_path):
    (tmp_path / ".git").write_text("of nothing")  # git refuses it
    assert code_version(tmp_path / "installed") == code_version(tmp_path) == depthsearch.__version__


def test_a_run_says_which_code_made_it():
    told = describe(torch.device("cpu"))["depthsearch"]
    assert told.startswith(depthsearch.__version__)
    assert told == code_version(Path(depthsearch.__file__).parents[2])


def test_version_is_that_of_the_package():
    root = Path(depthsearch.__file__).parents[2]
    for name, line in (("pyproject.toml", 'version = "{}"'), ("CITATION.cff", "version: {}")):
        assert line.format(depthsearch.__version__) in (root / name).read_text().splitlines()
