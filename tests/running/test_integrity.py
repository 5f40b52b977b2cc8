"""Runs of another configuration, damaged and diverged runs; how far a scan is; several devices; a cluster."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from conftest import EXPERIMENTS, scan_script

from depthsearch.hardware import in_words, went_on
from depthsearch.learning.loop import train
from depthsearch.learning.method import Training
from depthsearch.reporting.pages.costs import costs
from depthsearch.reporting.tables.depth_scans import collect, read_tables
from depthsearch.reporting.tables.files import write_tables
from depthsearch.running import folders as runs
from depthsearch.running import leases, options, scan, slurm, status, workers
from depthsearch.running.jobs import Job
from depthsearch.running.study import Problem, fingerprint
from depthsearch.studies.images import Images
from depthsearch.studies.predictor_selection import PredictorSelection
from depthsearch.studies.spirals import Spirals

SMALL = ("0", "--depths", 2, "--epochs", 20, "--repeats", 2, "--workers", 1)


def folders(results):
    return sorted(str(f.relative_to(results / "runs")).split("/", 2)[2] for f in runs.run_folders(results))


def test_runs_of_another_configuration_lie_in_another_folder(tmp_path, monkeypatch):
    assert scan_script(*SMALL, "--results", tmp_path).returncode == 0
    before = folders(tmp_path)
    monkeypatch.setattr(Spirals, "preset", property(lambda self: Training(learning_rate=0.05)))
    assert scan_script(*SMALL, "--results", tmp_path).returncode == 0
    assert len(folders(tmp_path)) == 4 and set(before) < set(folders(tmp_path))
    names = {Path(f).parts[0] for f in folders(tmp_path)}
    assert len(names) == 2 and len({name.rpartition("-")[0] for name in names}) == 1  # but for the hash
    assert "are finished" in scan_script(*SMALL, "--results", tmp_path).stdout  # it finds them again
    monkeypatch.undo()
    assert "are finished" in scan_script(*SMALL, "--results", tmp_path).stdout
    rates = [runs.read_run(f)[0]["configuration"]["training"]["learning_rate"] for f in runs.run_folders(tmp_path)]
    assert sorted(rates) == [0.05, 0.05, 0.1, 0.1]
    assert len(collect(tmp_path)["runs"]) == 4


def test_a_fingerprint_is_of_the_values_alone():
    one = Spirals(max_depth=3).configuration()
    assert fingerprint(one) == fingerprint(dict(reversed(one.items())))
    assert fingerprint(one) != fingerprint(Spirals(max_depth=4).configuration())
    assert fingerprint(one) != fingerprint(Spirals(max_depth=3, epochs=1).configuration())
    assert fingerprint(Spirals(epochs=8000).configuration()) == fingerprint(Spirals().configuration())


@pytest.mark.parametrize("file", ["summary.json", "config.json"])
@pytest.mark.parametrize("content", ["{half", "[]", '{"epochs": 1, "configuration": 1}'])
def test_a_damaged_run_is_set_aside_and_repeated(file, content, tmp_path, capsys):
    assert scan_script(*SMALL, "--results", tmp_path).returncode == 0
    first, _ = runs.run_folders(tmp_path)
    whole = json.loads((first / "summary.json").read_text())
    (first / file).write_text(content)
    assert len(collect(tmp_path)["runs"]) == 1 and "is damaged: left out" in capsys.readouterr().err
    assert "damaged" in set(status.status(tmp_path).to_numpy().flat)
    out = scan_script(*SMALL, "--results", tmp_path)
    said = [line for line in out.stderr.splitlines() if "kept as set_aside_" in line]
    assert out.returncode == 0 and len(said) == 1
    assert json.loads((first / "summary.json").read_text()) | {"seconds": 0} == whole | {"seconds": 0}
    assert len(list(first.glob("set_aside_*.json"))) == 1 and len(collect(tmp_path)["runs"]) == 2


def test_a_run_that_diverges_stops_and_is_told_from_others(tmp_path, monkeypatch):
    """The second of two repeats gets an infinite input, the first goes on as without it."""
    assert scan_script(*SMALL, "--results", tmp_path / "whole").returncode == 0
    split = Spirals.split

    def poisoned(self, seed, root):
        made = split(self, seed, root)
        if seed == 1:
            made.x_train[0] = torch.inf
        return made

    monkeypatch.setattr(Spirals, "split", poisoned)
    out = scan_script(*SMALL, "--results", tmp_path)
    assert out.returncode == 0 and "1 repeats" in out.stdout and "1 diverged" in out.stdout
    monkeypatch.undo()
    tables = read_tables(tmp_path)
    assert tables["runs"]["seed"].tolist() == [0]
    assert tables["diverged"][["max_depth", "seed", "epoch"]].to_numpy().tolist() == [[2, 1, 1]]
    healthy, whole = (next(runs.run_folders(f)) for f in (tmp_path, tmp_path / "whole"))
    assert runs.read_run(healthy)[1]["depths"] == runs.read_run(whole)[1]["depths"]
    assert status.status(tmp_path).loc[("scan_max_depth_spirals", "spirals")].iloc[0].tolist() == [
        "done",
        "diverged at 1",
    ]
    assert costs(tables)["diverged"].tolist() == ["D = 2, repeat 1 at epoch 1"]
    write_tables(tmp_path, collect(tmp_path))
    read = pd.read_csv(tmp_path / "tables" / "diverged.csv")
    assert read["epoch"].tolist() == [1]
    assert "are finished" in scan_script(*SMALL, "--results", tmp_path).stdout


def test_divergence_ends_a_run_at_once():
    setting = Spirals(max_depth=1, n=60)
    data = setting.split(0, Path())
    data.x_train[3] = torch.nan
    (result,) = train([setting.network()], [setting.posterior()], [data], Training(epochs=50), [0])
    assert result.diverged_epoch == 1 and len(result.objective) == 1 and result.best_epoch == 0


@pytest.mark.slow
def test_status_tells_who_runs_what_and_how_long_still(tmp_path):
    (tmp_path / "runs/scan/set/setting/version_copy").mkdir(parents=True)  # of somebody who tidies up
    assert scan_script(*SMALL, "--results", tmp_path).returncode == 0
    done = next(runs.run_folders(tmp_path))
    running = runs.reserve(done.with_name("version_7"))
    assert status.status(tmp_path)["repeat 7"].iloc[0] == f"running from now on on {os.uname().nodename}:{os.getpid()}"
    running.lease._since = time.time() - 100
    running.lease.progress = {"epoch": 30, "epochs": 80, "resumed_at": 20}
    running.lease.renew()
    said = f"running 30/80, at most 0:08:20 left on {os.uname().nodename}:{os.getpid()}"
    assert status.status(tmp_path)["repeat 7"].iloc[0] == said
    running.save({"epoch": 31})
    running.release()
    assert status.status(tmp_path)["repeat 7"].iloc[0] == "interrupted at 31"
    out = subprocess.run(
        [sys.executable, "-m", "depthsearch.running.status", str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "2 done, 1 interrupted" in out.stdout and done.parent.name in out.stdout
    out = subprocess.run(
        [sys.executable, "-m", "depthsearch.running.status", str(tmp_path / "no")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 2 and len(out.stderr.splitlines()) == 1


def test_tensorboard_shows_the_curves_by_name(tmp_path):
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    assert scan_script(*SMALL, "--results", tmp_path).returncode == 0
    board = EventMultiplexer().AddRunsFromDirectory(str(tmp_path / "runs"))
    board.Reload()
    names = [str(f.relative_to(tmp_path / "runs") / "tf") for f in runs.run_folders(tmp_path)]
    assert set(board.Runs()) == set(names)
    for name in names:
        assert {"elbo", "test_error", "pruned_depth"} <= set(board.Runs()[name]["scalars"])
        assert [event.step for event in board.Scalars(name, "elbo")] == [20]


def test_several_devices_get_a_worker_each(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    parser = options.parser_of("scan_max_depth_images", [Images()], "max_depth", "depths")

    def picked(*arguments):
        asked = parser.parse_args([*arguments])
        asked.devices = options.devices_of(asked)
        return [str(device) for device in options.for_processes(asked, [Images()])]

    assert picked("0,1,3") == ["cuda:0", "cuda:1", "cuda:3"]
    assert picked("2", "--workers", "2") == ["cuda:2", "cuda:2"]
    assert picked("0,1", "--workers", "2")[:2] == ["cuda:0", "cuda:1"]  # where there is less to do than processes
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: f"Card {i}")
    with pytest.raises(Problem, match="no CUDA device 4"):
        picked("0,4")
    with pytest.raises(Problem, match="'' is not a CUDA device index"):
        picked("0,")


def test_work_that_is_not_for_a_gpu_has_the_cores(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(options, "cores", lambda: 3)
    study = PredictorSelection()
    parser = options.parser_of("scan_predictor", [study], "group", "datasets")
    asked = parser.parse_args(["1"])
    asked.devices = options.devices_of(asked)
    assert [str(device) for device in options.for_processes(asked, [study])] == ["cpu"] * 3
    asked = parser.parse_args(["--slurm", "cluster", "--cpus-per-job", "3"])
    options.settle(asked)
    assert (asked.gpus_per_job, options.devices_of(asked)) == (0, [torch.device("cpu")])
    asked = parser.parse_args(["--slurm", "cluster", "--gpus-per-job", "1"])
    with pytest.raises(Problem, match="uses no GPU: leave --gpus-per-job out"):
        options.settle(asked)


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_its_runs_go_on(tmp_path):
    options = ["0", "--depths", "8", "9", "--repeats", "1", "--epochs", "800", "--checkpoint-seconds", "0.2"]
    command = [sys.executable, str(EXPERIMENTS / "scan_max_depth_spirals.py"), *options, "--workers", "2"]
    process = subprocess.Popen([*command, "--results", str(tmp_path)], stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 120
    while not list(tmp_path.rglob("checkpoint.pt")) and time.time() < deadline:
        time.sleep(0.05)
    owner = leases.holder(next(tmp_path.rglob("checkpoint.pt")).parent)
    assert owner is not None and owner["pid"] != process.pid
    os.kill(owner["pid"], signal.SIGKILL)
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 0, said
    assert len(list(runs.run_folders(tmp_path))) == 2 and not list(tmp_path.rglob("claim*"))


def test_a_submission_is_printed(tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "submit", lambda *a, **k: pytest.fail("submitted"))
    options = ("--slurm", "gpu", "--jobs", 3, "--time", 90, "--gpus-per-job", 2, "--dry-run", "--results", tmp_path)
    out = scan_script("0", "--depths", 2, "--repeats", 1, *options)
    assert out.returncode == 0
    assert {"1 runs missing", "slurm_partition: gpu", "slurm_array_parallelism: 3", "timeout_min: 90"} <= set(
        out.stdout.splitlines()
    )
    assert not list(tmp_path.rglob("version_*"))


def test_what_is_submitted_is_the_scan_on_the_devices_of_the_job(tmp_path, monkeypatch):
    submitted = []
    monkeypatch.setattr(scan, "submit", lambda *a: submitted.append(a) or ["1_0", "1_1"])
    options = ("--slurm", "debug", "--jobs", 2, "--gpus-per-job", 0, "--cpus-per-job", 2, "--results", tmp_path)
    out = scan_script(*SMALL[:-2], *options)
    assert out.returncode == 0 and "2 jobs: 1_0 1_1" in out.stdout
    assert f"how far: python -m depthsearch.running.status {tmp_path}" in out.stdout
    array, name, _, work = submitted[0]
    assert name == "scan_max_depth_spirals"
    assert (array.partition, array.jobs, array.gpus, array.cpus) == ("debug", 2, 0, 2)
    assert work.args[-1].workers == 2 and work.args[-1].device == "0"
    work()  # what a job does
    assert len(list(runs.run_folders(tmp_path))) == 2


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("--checkpoint-seconds", "nan"), "--checkpoint-seconds must be 0 or more, got nan"),
        (("--slurm", "gpu", "--gpus-per-job", -1), "--gpus-per-job must be 0 or more, got -1"),
        (("--slurm", "gpu", "--cpus-per-job", 0), "--cpus-per-job must be 1 or more, got 0"),
        (("--slurm", "gpu", "--time", -5), "--time must be 1 or more, got -5"),
        (("--jobs", 8), "--jobs is for --slurm PARTITION"),
        (("--gpus-per-job", 1), "--gpus-per-job is for --slurm PARTITION"),
        (("0,1", "--slurm", "gpu"), "has the GPUs that it is given: --gpus-per-job N instead of 0,1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(wrong, said, tmp_path):
    device = () if wrong[0].startswith("0") else SMALL[:1]
    out = scan_script(*device, *wrong, *SMALL[1:], "--dry-run", "--results", tmp_path / "results")
    assert out.returncode == 2 and len(out.stderr.splitlines()) == 1 and said in out.stderr


def test_a_job_whose_gpu_is_not_there_ends_at_once(tmp_path, monkeypatch):
    """It would train on the CPU what the jobs beside it do on theirs."""
    submitted = []
    monkeypatch.setattr(scan, "submit", lambda *a: submitted.append(a) or ["1_0"])
    assert scan_script(*SMALL, "--slurm", "gpu", "--results", tmp_path).returncode == 0
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(SystemExit) as ended:
        submitted[0][3]()
    assert ended.value.code == 2 and not list(runs.run_folders(tmp_path))


def test_a_worker_that_fails_leaves_the_others_at_work(tmp_path, monkeypatch):
    """A card that fails is no reason to stop the other ones."""

    def work(jobs, parent):
        if jobs[0].device.index == 0:
            sys.exit(workers.FAILED)
        time.sleep(2)
        jobs[0].folders[0].touch()

    fork, done = multiprocessing.get_context("fork"), tmp_path / "done"
    monkeypatch.setattr(workers, "_worker", work)
    monkeypatch.setattr(workers.multiprocessing, "get_context", lambda kind: fork)
    job = Job("scan", Spirals(), "max_depth", [done], torch.device("cpu"), tmp_path, 1)
    cards = [torch.device("cuda", i) for i in range(2)]
    board = SimpleNamespace(look=lambda: None)
    with pytest.raises(workers.WorkerFailed, match="a worker failed, as said above"):
        workers._supervise([job], cards, board, lambda: False)
    assert done.exists()


def test_a_run_that_went_on_elsewhere_names_all_its_hardware(tmp_path):
    card, cpu = ({"name": name, "threads": n, "torch": "2.9"} for name, n in (("Card", None), ("CPU", 1)))
    once = went_on(None, card)
    assert once == card and in_words(once) == "Card"
    assert went_on(once, dict(card)) == card
    twice = went_on(went_on(once, cpu), card | {"torch": "2.10"})
    assert twice["earlier"] == [card, cpu] and in_words(twice) == "Card, then CPU, 1 thread"
    folder = tmp_path / "version_0"
    for device in (card, cpu):
        reservation = runs.reserve(folder)
        assert reservation is not None
        config = reservation.begin({"configuration": {}, "device": device})
        reservation.save({"epoch": 1})  # or the folder is removed
        reservation.release()
    assert in_words(config["device"]) == "Card, then CPU, 1 thread"
    reservation = runs.reserve(folder)
    assert reservation is not None
    reservation.set_aside("is damaged")  # it begins anew: what was before is not in it
    assert reservation.begin({"configuration": {}, "device": card})["device"] == card
    reservation.release()


def test_precision_is_that_of_all_devices(monkeypatch):
    parser = options.parser_of("scan_max_depth_images", [Images()], "max_depth", "depths")
    asked = parser.parse_args(["0,1"])
    asked.devices = [torch.device("cuda", 0), torch.device("cuda", 1)]
    monkeypatch.setattr(options, "precision_of", lambda name, device: ("bfloat16", "float32")[device.index])
    with pytest.raises(Problem, match="0,1: not all can do the same; give --precision bfloat16 or float32"):
        options.precision_asked(asked)
    monkeypatch.setattr(options, "precision_of", lambda name, device: "bfloat16")
    assert options.precision_asked(asked) == "bfloat16"
    asked.slurm, asked.gpus_per_job = "gpu", 1
    with pytest.raises(Problem, match="what the GPUs of the jobs can do is not known here"):
        options.precision_asked(asked)


def test_a_run_that_ends_while_its_state_is_told(tmp_path, monkeypatch):
    def gone(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(status, "read_checkpoint", gone)
    assert status.state(tmp_path) == "interrupted"


def test_nothing_is_submitted_without_its_data(tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "submit", lambda *a: pytest.fail("submitted"))
    options = ("--slurm", "gpu", "--data", tmp_path, "--results", tmp_path / "results")
    out = scan_script("0", "--data-set", "CIFAR-10", *options, name="nasbench201")
    assert out.returncode == 2 and "no data_batch_1.bin" in out.stderr


def test_what_comes_then_is_submitted_too(tmp_path, monkeypatch):
    """The chains that are trained anew at the depths learnt, of a scan whose own runs are finished."""
    options = ("0", "--quick", "--repeats", 1, "--epochs", 1, "--results", tmp_path)
    assert scan_script(*options, name="cell_depth").returncode == 0
    again = [folder for folder in runs.run_folders(tmp_path) if folder.parent.name.startswith("DDN")]
    depths = {folder.parent.name.split("_")[1]: folder for folder in again}
    if len(depths) == 1:
        pytest.skip("the depth learnt is that of the grid")
    shutil.rmtree(depths[min(depths, key=lambda name: int(name.removeprefix("depth")))])
    submitted = []
    monkeypatch.setattr(scan, "submit", lambda *a: submitted.append(a) or ["1_0"])
    out = scan_script(*options, "--slurm", "debug", "--gpus-per-job", 0, name="cell_depth")
    assert out.returncode == 0 and "are finished" in out.stdout and len(submitted) == 1
    submitted[0][3]()
    assert set(again) <= set(runs.run_folders(tmp_path))


def test_without_slurm_it_is_said_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    out = scan_script(*SMALL, "--slurm", "gpu", "--results", tmp_path)
    assert out.returncode == 2 and len(out.stderr.splitlines()) == 1 and "Slurm does not take the jobs" in out.stderr


@pytest.mark.parametrize("repeats", [2, 400])
def test_output_that_nobody_reads_to_the_end_is_no_error(repeats, tmp_path):
    """400 repeats are more than what a pipe holds back, 2 are written when the process ends."""
    script = EXPERIMENTS / "scan_max_depth_spirals.py"
    command = f"{sys.executable} {script} 0 --dry-run --depths 3 --repeats {repeats} --results {tmp_path} | head -1"
    out = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert "version_0" in out.stdout and out.stderr == ""


def test_a_dry_run_changes_nothing(tmp_path):
    assert scan_script(*SMALL, "--results", tmp_path).returncode == 0
    first, _ = runs.run_folders(tmp_path)
    (first / "summary.json").write_text("{half")
    before = sorted(tmp_path.rglob("*"))
    assert "1 runs missing" in scan_script(*SMALL, "--dry-run", "--results", tmp_path).stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_who_has_the_rest_is_said(tmp_path):
    assert scan_script(*SMALL, "--results", tmp_path).returncode == 0
    first, _ = runs.run_folders(tmp_path)
    shutil.rmtree(first)
    mine = runs.reserve(first)
    said = scan_script(*SMALL, "--results", tmp_path).stdout
    assert f"1 runs are in the hands of {os.uname().nodename}:{os.getpid()}" in said
    mine.release()


@pytest.mark.slow
def test_where_all_runs_diverged_tables_and_report_say_so(tmp_path):
    assert scan_script(*SMALL, "--results", tmp_path).returncode == 0
    for folder in runs.run_folders(tmp_path):
        summary = runs.read_run(folder)[1]
        left = {key: summary[key] for key in ("epochs", "best_epoch", "history", "seconds")} | {"diverged_epoch": 2}
        (folder / "summary.json").write_text(json.dumps(left))
    subprocess.run([sys.executable, "-m", "depthsearch.reporting", str(tmp_path)], check=True, capture_output=True)
    assert "D = 2, repeat 0 at epoch 2; D = 2, repeat 1 at epoch 2" in (tmp_path / "README.md").read_text()


def test_a_job_that_was_stopped_waits_for_what_puts_it_back_into_the_queue(monkeypatch):
    """SIGTERM ends the scan with 130; the SIGUSR2 that follows must find the job."""

    def work():
        raise SystemExit(slurm.INTERRUPTED)

    def requeue(number, frame):
        raise SystemExit(7)

    before = signal.signal(signal.SIGUSR2, requeue)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGUSR2)).start()
    with pytest.raises(SystemExit, match="7"):
        slurm._Share(work)()
    signal.signal(signal.SIGUSR2, before)
    with pytest.raises(SystemExit, match="2"):
        slurm._Share(lambda: sys.exit(2))()
