"""Every scan of the paper by one command: what it says before it starts."""

import subprocess
import sys
from subprocess import CompletedProcess

import pytest
import torch
from conftest import EXPERIMENTS, load, script

from depthsearch.studies import estimates
from depthsearch.studies.images import Images
from depthsearch.studies.spirals import Spirals

pytestmark = pytest.mark.usefixtures("no_gpu")
CPU = torch.device("cpu")


def test_the_dry_run_says_what_is_missing_how_long_and_where_the_data_are(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(EXPERIMENTS)
    monkeypatch.setattr("depthsearch.studies.estimates.training_seconds", lambda study, n, device: 3600.0 * n)
    data = tmp_path / "data"
    ended = script("paper", "0", "--dry-run", "--repeats", 2, "--data", data, "--results", tmp_path / "results")
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0].split()[:4] == ["28", "runs", "28.0", "h"]  # 14 depths, 2 repeats
    scans = [line for line in lines if "scan_" in line]
    runs = sum(int(line.split()[0]) for line in scans)
    assert runs == 2 * (14 + 101 + 8 + 16 + 13 + 3 * 16 * 2 * 2)  # each once, though D = 50 comes first
    assert sum(line.startswith(f"{runs:6d} runs") for line in lines) == 1
    assert [line.split(":")[0] for line in lines[-3:]] == ["MNIST", "Fashion-MNIST", "SVHN"]
    assert all(str(data) in line for line in lines[-3:]) and not data.exists()


def test_steps_are_timed_in_a_process_that_ends_before_the_scans(monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS)
    said, started = [], []
    paper = load("paper", prefix="")
    monkeypatch.setattr(paper, "SCANS", dict.fromkeys(paper.SCANS, lambda arguments: started.append(len(said))))
    monkeypatch.setattr(subprocess, "run", lambda command: said.append(command) or CompletedProcess(command, 0))
    paper.main(["0", "--repeats", "2"])
    assert said == [[sys.executable, paper.__file__, "0", "--repeats", "2", "--dry-run"]]
    assert started == [1] * len(list(paper.scans(2)))

    monkeypatch.setattr(subprocess, "run", lambda command: CompletedProcess(command, 2))
    with pytest.raises(SystemExit) as ended:
        paper.main(["0"])
    assert ended.value.code == 2 and len(started) == len(list(paper.scans(2)))


def test_no_such_device_is_one_line(monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS)
    ended = script("paper", "gpu", "--dry-run")
    assert ended.returncode == 2 and len(ended.stderr.strip().splitlines()) == 1


def test_an_estimate_grows_with_blocks_steps_and_epochs(monkeypatch):
    monkeypatch.setattr(estimates, "_step_seconds", lambda study, n, batch, device: 1.0)
    assert estimates.training_seconds(Spirals(max_depth=9, epochs=7), 4, CPU) == 7 * 10 / 5  # one batch an epoch
    fair, paper = (Images(data_set="MNIST", max_depth=4, protocol=p, epochs=1) for p in ("fair", "paper"))
    assert estimates.training_seconds(fair, 1, CPU) == 106 and estimates.training_seconds(paper, 1, CPU) == 118


@pytest.mark.parametrize("study", [Spirals(width=4, max_depth=4), Images(data_set="digits", max_depth=4)])
def test_a_step_is_timed(study):
    assert 0 < estimates._step_seconds(study, 1, 16, CPU) < 60
