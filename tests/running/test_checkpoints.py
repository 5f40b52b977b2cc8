"""Runs that are stopped, killed or damaged end with the numbers of runs that never were."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import HERE, assert_same, contents, scan_script, stop_after

from depthsearch import CategoricalDepth, geometric_prior, mlp_resnet
from depthsearch.data.spirals import spiral_split
from depthsearch.learning.loop import train
from depthsearch.learning.method import Training
from depthsearch.running import folders as runs
from depthsearch.running import jobs, workers
from depthsearch.running.jobs import Job
from depthsearch.studies.spirals import Spirals

SPIRALS = ("0", "--depths", 2, 4, "--epochs", 60, "--repeats", 2, "--workers", 1)
DIGITS = ("0", "--quick", "--depths", 2, "--epochs", 6, "--protocol", "fair")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [("max_depth_spirals", SPIRALS), ("max_depth_images", DIGITS), ("deterministic_depth_images", DIGITS)],
)
def test_a_stopped_scan_goes_on_as_if_it_never_was(name, options, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert scan_script(*options, "--results", whole, name=name).returncode == 0
    for epochs in (1, 3, 4, 5):
        monkeypatch.setattr(workers, "_stopping", stop_after(epochs))
        out = scan_script(*options, "--results", cut, name=name)
        assert out.returncode == 130 and "To go on: python scan_" in out.stderr
        assert all((f / "checkpoint.pt").exists() or runs.finished(f) for f in cut.rglob("version_*"))
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert scan_script(*options, "--results", cut, name=name).returncode == 0
    assert_same(contents(cut), contents(whole), but="num_batches_tracked")
    assert not list(cut.rglob("checkpoint*"))


def test_replicates_go_on_alone_from_where_each_stood():
    """One of three stops early; from its checkpoint of any epoch each replicate ends with the same weights."""
    training = Training(epochs=30, patience=4, learning_rate=0.4)

    def fresh(seeds):
        torch.manual_seed(3)
        networks = [mlp_resnet(3, 6) for _ in range(3)]
        depths = [CategoricalDepth(geometric_prior(3)) for _ in range(3)]
        splits = [spiral_split(60, 360.0, 0.2, seed) for seed in range(3)]
        return *([things[s] for s in seeds] for things in (networks, depths, splits)), training, list(seeds)

    kept = []
    together = train(*fresh(range(3)), on_epoch=lambda learner: kept.append(learner.checkpoint()))
    assert len({len(result.objective) for result in together}) > 1  # they did not stop at the same time
    for checkpoints in kept[::5]:
        for seed in range(3):
            (alone,) = train(*fresh([seed]), resume=[checkpoints[seed]])
            assert alone.objective == together[seed].objective and alone.history == together[seed].history
            assert alone.best_epoch == together[seed].best_epoch
            for a, b in zip(alone.network.parameters(), together[seed].network.parameters(), strict=True):
                assert torch.equal(a, b)
    with pytest.raises(ValueError, match="same epoch"):
        train(*fresh(range(2)), resume=[kept[0][0], kept[1][1]])
    with pytest.raises(ValueError, match="as many checkpoints"):
        train(*fresh(range(2)), resume=[kept[0][0]])


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path(self.path).touch, ())


@pytest.mark.parametrize(
    "damage", ["code", "cut", "empty", "other configuration", "no checkpoint", "other keys", "other shapes"]
)
def test_a_useless_checkpoint_is_set_aside_and_the_run_repeated(damage, tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    options = ("0", "--depths", 2, "--epochs", 20, "--repeats", 1, "--workers", 1)
    assert scan_script(*options, "--results", whole).returncode == 0
    monkeypatch.setattr(workers, "_stopping", stop_after(5))
    assert scan_script(*options, "--results", cut).returncode == 130
    monkeypatch.undo()
    (path,) = cut.rglob("checkpoint.pt")
    content = torch.load(path, weights_only=True)
    if damage == "code":
        torch.save(content | {"learner": Evil(tmp_path / "ran")}, path)
    elif damage == "other configuration":
        torch.save(content | {"hash": "01234567"}, path)
    elif damage == "no checkpoint":
        torch.save(torch.ones(3), path)
    elif damage == "other keys":
        del content["learner"]["velocity"]
        torch.save(content, path)
    elif damage == "other shapes":
        content["learner"]["state"] = content["learner"]["state"][1:]
        torch.save(content, path)
    else:
        path.write_bytes(path.read_bytes()[: 1000 if damage == "cut" else 0])
    out = scan_script(*options, "--results", cut)
    assert out.returncode == 0 and not (tmp_path / "ran").exists()
    said = [line for line in out.stderr.splitlines() if "kept as set_aside_" in line]
    why = {
        "other configuration": "another configuration",
        "other keys": "another version",
        "other shapes": "another version",
    }
    assert len(said) == 1 and why.get(damage, "is damaged") in said[0]
    assert_same(contents(cut), contents(whole), but="num_batches_tracked")
    assert len(list(cut.rglob("set_aside_*.pt"))) == 1 and not list(cut.rglob("checkpoint*"))


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    """One line, status 1; the run goes on from what was written before."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    options = ("0", "--depths", 2, "--epochs", 20, "--repeats", 1, "--workers", 1, "--checkpoint-seconds", 0)
    assert scan_script(*options, "--results", whole).returncode == 0
    sync, calls = os.fsync, iter(range(10**9))

    def full(descriptor):
        if next(calls) >= 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    out = scan_script(*options, "--results", cut)
    assert out.returncode == 1
    assert [line for line in out.stderr.splitlines() if "is on a full disk" in line and "To go on: python" in line]
    monkeypatch.undo()
    (folder,) = cut.rglob("version_0")
    assert {path.name for path in folder.iterdir()} == {"checkpoint.pt", "config.json"}
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["epoch"] >= 4
    assert scan_script(*options, "--results", cut).returncode == 0
    assert_same(contents(cut), contents(whole), but="num_batches_tracked")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_a_gpu_without_memory_is_one_line_and_the_run_goes_on(error, tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    options = ("0", "--depths", 2, "--epochs", 20, "--repeats", 1, "--workers", 1, "--checkpoint-seconds", 0)
    assert scan_script(*options, "--results", whole).returncode == 0
    evaluate = Spirals.evaluate

    def too_large(*_):
        raise error

    monkeypatch.setattr(Spirals, "evaluate", too_large)
    out = scan_script(*options, "--results", cut)
    assert out.returncode == 2 and "has no memory left; with fewer --workers" in out.stderr.splitlines()[-1]
    monkeypatch.setattr(Spirals, "evaluate", evaluate)
    assert scan_script(*options, "--results", cut).returncode == 0
    assert_same(contents(cut), contents(whole), but="num_batches_tracked")


def test_a_gpu_that_fails_is_one_line_and_a_bug_is_not(tmp_path, monkeypatch):
    options = ("0", "--depths", 2, "--epochs", 20, "--repeats", 1, "--workers", 1, "--results", tmp_path)
    for error, said in (
        ("CUDA error: uncorrectable ECC error encountered\nmore", "failed: CUDA error: uncorrectable ECC error"),
        ("CUDA error: device-side assert triggered", None),
    ):

        def fails(*_, error=error):
            raise RuntimeError(error)

        monkeypatch.setattr(Spirals, "evaluate", fails)
        if said is None:
            with pytest.raises(RuntimeError, match="device-side assert"):
                scan_script(*options)
        else:
            out = scan_script(*options)
            assert out.returncode == 2 and said in out.stderr.splitlines()[-1]


def test_seconds_are_those_of_all_stretches_shared_by_who_learnt_together(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(jobs.time, "perf_counter", lambda: now[0])
    group = [(SimpleNamespace(lease=SimpleNamespace()), {"seconds": s, "epoch": 1}) for s in (10.0, 4.0)]
    kept = jobs._Kept(None, group, "hash", Spirals())  # type: ignore[arg-type]
    now[0] += 6
    assert kept.seconds() == [13.0, 7.0]


@pytest.mark.slow
def test_kills_at_random_moments(tmp_path):
    """The small form of `python tests/kills.py`."""
    command = [sys.executable, str(HERE / "kills.py"), "--kills", "3", "--epochs", "400"]
    out = subprocess.run([*command, "--folder", str(tmp_path)], capture_output=True, text=True, check=False)
    kills = re.search(r"(\d+) kills", out.stdout)  # of those planned some come too late where the machine gets faster
    assert out.returncode == 0 and kills and int(kills[1]) >= 1, out.stdout + out.stderr


def test_the_time_that_is_left_is_told_by_the_epochs_that_were_worked_on(tmp_path):
    """A run goes on at epoch 40 of 60, works for three and stops early; another was finished by others."""
    studies = [Spirals(max_depth=depth, epochs=60) for depth in (2, 4)]
    how = torch.device("cpu"), tmp_path, 1, 30.0
    jobs = [Job("scan", study, "max_depth", [tmp_path / str(study.max_depth)], *how) for study in studies]
    with workers._Board(jobs) as board:
        bar = board._bar
        assert bar.total == 120
        for epoch in (40, 41, 42):
            board.show(jobs[0], epoch, "")
        assert (bar.n, bar.n - bar.initial) == (42, 3)
        board.show(jobs[0], 0, "done", end=True)
        assert (bar.n, bar.n - bar.initial) == (60, 4)
        board.show(jobs[1], 0, "done", end=True)
        assert (bar.n, bar.n - bar.initial) == (120, 5)
