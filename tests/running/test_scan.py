import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import EXPERIMENTS, load, scan_script

from depthsearch.reporting.figures import spirals as figures
from depthsearch.reporting.judging.claims import spiral_claims
from depthsearch.reporting.maps import draw_maps
from depthsearch.reporting.tables.depth_scans import collect, read_tables
from depthsearch.reporting.tables.files import write_tables
from depthsearch.reporting.tables.schema import RUNS
from depthsearch.running import folders as runs
from depthsearch.running import jobs
from depthsearch.running.options import pick_device
from depthsearch.running.study import Problem, folder_name
from depthsearch.studies.saved import study_of
from depthsearch.studies.spirals import Spirals

SCANS = ("max_depth_spirals", "deterministic_depth_spirals", "width_spirals", "data_amount", "spiral_complexity")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A results folder with a quick scan of LDN and DDN in it."""
    results = tmp_path_factory.mktemp("results")
    for name in ("max_depth_spirals", "deterministic_depth_spirals"):
        out = scan_script("0", "--quick", "--epochs", 40, "--depths", 2, 20, "--results", results, name=name)
        assert out.returncode == 0, out.stderr
    return results


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["banana"], "'banana' is not a CUDA device index"),
        (["0", "--depths", "-1"], "depth must be 0 or more"),
        (["0", "--repeats", "0"], "--repeats must be 1 or more"),
        (["0", "--first-repeat", "4"], "--first-repeat must be 0 to 3, got 4"),
        (["0", "--repeats", "9", "--first-repeat", "-1"], "--first-repeat must be 0 to 8, got -1"),
        (["0", "--epochs", "0"], "--epochs must be 1 or more"),
        (["0", "--workers", "0"], "--workers must be 1 or more"),
        (["0", "--results", __file__], "is a file; give a folder"),
        (["0", "--results", "/proc/nowhere"], "cannot write to results folder"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, said, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(jobs, "train_job", lambda *a: pytest.fail("trained"))
    if "--results" not in arguments:
        arguments = [*arguments, "--results", str(tmp_path)]
    out = scan_script(*arguments)
    assert out.returncode == 2 and len(out.stderr.splitlines()) == 1 and said in out.stderr


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("spiral_complexity", ["--angles", "inf"], "stop_angle must be a finite number"),
        ("data_amount", ["--amounts", "20", "--protocol", "fair"], "of 2 training points a share of 0.25"),
        ("nasbench201", ["--quick", "--reduced"], "--quick is smaller than --reduced: give one of them"),
        (
            "predictor",
            ["--quick", "--datasets", "made-up", "--splits", "100000", "80"],
            "100000 leaves none",
        ),
    ],
)
def test_a_study_that_cannot_be_is_known_before_others_are_trained(name, arguments, said, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "train_job", lambda *a: pytest.fail("trained"))
    out = scan_script("0", *arguments, "--data", tmp_path, "--results", tmp_path / "results", name=name)
    assert out.returncode == 2 and said in out.stderr.splitlines()[-1] and not (tmp_path / "results").exists()


def test_missing_devices_are_listed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: f"Card {i}")
    assert pick_device("1") == torch.device("cuda", 1)
    with pytest.raises(Problem, match=r"no CUDA device 7; there is 0 \(Card 0\), 1 \(Card 1\)"):
        pick_device("7")


def test_without_a_gpu_any_index_is_the_cpu_and_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    out = scan_script("7", "--depths", 1, "--epochs", 2, "--repeats", 1, "--workers", 1, "--results", tmp_path)
    assert out.returncode == 0 and "no CUDA device here: running on the CPU" in out.stderr
    (folder,) = runs.run_folders(tmp_path)
    assert json.loads((folder / "config.json").read_text())["device"]["threads"] == 1  # the study says so


def test_the_grids_are_the_papers():
    grids = {name: load(name).GRID for name in SCANS}
    assert [s.max_depth for s in grids["deterministic_depth_spirals"]] == list(range(101))
    assert {s.kind for s in grids["deterministic_depth_spirals"]} == {"DDN"}
    assert [len(grids[name]) for name in SCANS] == [14, 101, 13, 16, 8]
    assert grids["data_amount"][-1] == Spirals(n=8000, noise=0.15)
    assert grids["spiral_complexity"][0] == Spirals(stop_angle=180.0, noise=0.15)
    assert len({folder_name(s) for grid in grids.values() for s in grid}) == 14 + 101 + 12 + 15 + 8


@pytest.mark.parametrize("name", SCANS)
def test_dry_run_of_every_script_prints_the_missing_runs(name, tmp_path):
    out = scan_script("0", "--dry-run", "--results", tmp_path, "--repeats", 3, name=name)
    assert out.returncode == 0
    n = 3 * len(load(name).GRID)
    assert out.stdout.splitlines()[-1] == f"{n} runs missing" and len(out.stdout.splitlines()) == n + 1
    assert not list(tmp_path.rglob("version_*"))


def test_repeats_that_are_made_elsewhere_are_left_out(tmp_path):
    out = scan_script("0", "--dry-run", "--depths", 7, "--results", tmp_path, "--repeats", 6, "--first-repeat", 4)
    assert out.returncode == 0 and out.stdout.splitlines()[-1] == "2 runs missing"
    assert [Path(line).name for line in out.stdout.splitlines()[:-1]] == ["version_4", "version_5"]


@pytest.mark.slow
def test_run_folder_holds_everything(finished):
    folders = list(runs.run_folders(finished))
    assert len(folders) == 8
    for folder in folders:
        names = {path.name for path in folder.iterdir()}
        assert {"config.json", "summary.json", "weights.pt", "metrics.csv", "meta_tags.csv"} < names
        assert not [name for name in names if name.endswith(".tmp")]
        assert pd.read_csv(folder / "metrics.csv")["epoch"].iloc[-1] == 40
        assert list(folder.rglob("events.out.tfevents*"))
        config = json.loads((folder / "config.json").read_text())
        study = study_of(config["configuration"])
        assert study.configuration() == config["configuration"] and folder_name(study) == folder.parent.name
        network, depth = study.network(), study.posterior()
        runs.load_weights(folder, network, depth)
        summary = json.loads((folder / "summary.json").read_text())
        assert [row["q"] for row in summary["depths"]] == pytest.approx(
            depth().probs[-len(summary["depths"]) :].tolist()
        )


@pytest.mark.slow
def test_a_finished_scan_trains_nothing_and_more_repeats_add_versions(finished):
    before = {f: (f / "summary.json").read_bytes() for f in runs.run_folders(finished)}
    again = ("0", "--quick", "--epochs", 40, "--depths", 2, 20, "--results", finished)
    out = scan_script(*again)
    assert out.returncode == 0 and "--repeats N adds more" in out.stdout
    assert {f: (f / "summary.json").read_bytes() for f in runs.run_folders(finished)} == before
    out = scan_script(*again, "--repeats", 3, "--depths", 2)
    assert out.returncode == 0 and "1 repeats" in out.stdout
    after = {f: (f / "summary.json").read_bytes() for f in runs.run_folders(finished)}
    assert len(after) == len(before) + 1 and before.items() < after.items()
    (new,) = set(after) - set(before)
    assert new.name == "version_2"


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(finished, tmp_path):
    arguments = ["0", "--quick", "--epochs", "40", "--depths", "2", "20", "--results", tmp_path]
    subprocess.run([sys.executable, EXPERIMENTS / "scan_max_depth_spirals.py", *arguments], check=True)
    for folder in runs.run_folders(tmp_path):
        twin = finished / folder.relative_to(tmp_path)
        texts = [(f / "summary.json").read_text() for f in (folder, twin)]
        stripped = [json.dumps({k: v for k, v in json.loads(t).items() if k != "seconds"}) for t in texts]
        assert stripped[0] == stripped[1]
        states = [torch.load(f / "weights.pt", weights_only=True) for f in (folder, twin)]
        for name, value in states[0]["network"].items():
            assert torch.equal(value, states[1]["network"][name]), name


def repeats_said(output: str) -> int:
    return sum(int(line.split(":")[1].split()[0]) for line in output.splitlines() if "d_opt" in line)


@pytest.mark.slow
def test_two_scans_at_once_never_share_a_version(tmp_path):
    arguments = ["0", "--quick", "--epochs", "60", "--depths", "2", "3", "4", "5", "--results", tmp_path]
    command = [sys.executable, EXPERIMENTS / "scan_max_depth_spirals.py", *map(str, arguments)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(2)]
    said = "".join(p.communicate()[0] for p in both)
    assert [p.returncode for p in both] == [0, 0]
    assert len(list(runs.run_folders(tmp_path))) == 8
    assert repeats_said(said) == 8


@pytest.mark.slow
def test_workers_share_a_scan(tmp_path):
    options = ("0", "--quick", "--epochs", 60, "--depths", 2, 3, 4, "--results", tmp_path)
    command = [sys.executable, EXPERIMENTS / "scan_max_depth_spirals.py", *options, "--workers", 2]
    out = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert len(list(runs.run_folders(tmp_path))) == 6
    assert (
        repeats_said(out.stdout) == 6
    )  # of each setting in one line, or in two where both workers came for it at once
    alone = tmp_path / "alone"
    scan_script(*options[:-1], alone)
    for folder in runs.run_folders(alone):
        ours, theirs = (
            json.loads((f / "summary.json").read_text()) for f in (tmp_path / folder.relative_to(alone), folder)
        )
        assert ours["depths"] == theirs["depths"]


@pytest.mark.slow
@pytest.mark.parametrize(("count", "spins"), [(1, {"300000"}), (2, {"300000", "0"})])
def test_threads_of_workers_sleep_where_they_wait(count, spins, tmp_path):
    """GNU's OpenMP says how often a thread that waits looks before it sleeps; the scan itself has one, unlike those."""
    options = ("0", "--quick", "--epochs", 2, "--repeats", 1, "--workers", count, "--results", tmp_path)
    command = [sys.executable, EXPERIMENTS / "scan_max_depth_spirals.py", *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    environment |= {"OMP_DISPLAY_ENV": "verbose"}
    out = subprocess.run([*map(str, command)], capture_output=True, text=True, env=environment)
    assert out.returncode == 0, out.stderr
    if "GOMP_SPINCOUNT" not in out.stderr:
        pytest.skip("torch has another OpenMP here")
    assert set(re.findall(r"GOMP_SPINCOUNT = '(\d+)'", out.stderr)) == spins


@pytest.mark.slow
def test_an_interrupt_stops_the_workers_too(tmp_path):
    command = [
        sys.executable,
        EXPERIMENTS / "scan_max_depth_spirals.py",
        "0",
        "--depths",
        "2",
        "3",
        "4",
        "--repeats",
        "1",
    ]
    process = subprocess.Popen(
        [*map(str, command), "--workers", "2", "--results", str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where the tests run in background
    )
    deadline = time.time() + 60
    while not list(tmp_path.rglob("version_0")) and time.time() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "To go on: python scan_max_depth_spirals.py 0 --depths 2 3 4" in said
    folders = list(tmp_path.rglob("version_*"))
    assert folders and all(
        {path.name for path in folder.iterdir()} == {"checkpoint.pt", "config.json"} for folder in folders
    )


def test_reserve_is_exclusive_and_takes_over_what_the_dead_left(tmp_path):
    folder = tmp_path / "setting" / "version_0"
    mine = runs.reserve(folder)
    assert mine is not None and runs.reserve(folder) is None
    mine.release()
    assert not folder.exists()
    folder.mkdir()
    (folder / "half-written").touch()
    mine = runs.reserve(folder)
    assert mine is not None and list(folder.iterdir()) == [mine.lease.path]
    (folder / "summary.json").touch()
    mine.release()
    assert runs.reserve(folder) is None


def test_interruption_keeps_finished_runs_and_leaves_nothing_half_written(tmp_path, monkeypatch):
    train = jobs.train_job

    def interrupted(job, *rest):
        if job.study.max_depth == 3:
            raise KeyboardInterrupt
        return train(job, *rest)

    monkeypatch.setattr(jobs, "train_job", interrupted)
    out = scan_script("0", "--quick", "--epochs", 10, "--depths", 2, 3, "--results", tmp_path)  # one worker
    assert out.returncode == 130 and "To go on: python" in out.stderr
    assert [f.parent.name.split("_")[1] for f in runs.run_folders(tmp_path)] == ["depth2", "depth2"]
    assert not list(tmp_path.rglob("*depth3*/version_*"))


def test_weights_with_code_in_them_are_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path(tmp_path / "ran").touch, ())

    torch.save({"network": Evil(), "depth": {}}, tmp_path / "weights.pt")
    setting = Spirals(max_depth=1)
    with pytest.raises(Exception, match=r"weights_only|Weights only"):
        runs.load_weights(tmp_path, setting.network(), setting.posterior())
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_tables_survive_the_disk(finished, tmp_path):
    tables = read_tables(finished)
    assert set(tables) == set(RUNS.tables) and len(tables["runs"]) >= 8
    write_tables(finished, collect(finished))
    (tmp_path / "tables").mkdir()
    for path in (finished / "tables").glob("*.csv"):
        (tmp_path / "tables" / path.name).write_bytes(path.read_bytes())
    again = read_tables(tmp_path)
    for name in RUNS.tables:
        pd.testing.assert_frame_equal(again[name], tables[name], rtol=1e-4, check_dtype=False)
    with pytest.raises(FileNotFoundError, match="no finished runs"):
        read_tables(tmp_path / "nowhere")


@pytest.mark.slow
def test_runs_of_different_lengths_never_mix(finished, tmp_path):
    (tmp_path / "tables").mkdir()
    for name, table in collect(finished).items():
        both = pd.concat([table, table.assign(epochs_limit=80, configuration="1", cohort="longer")])
        both.to_csv(tmp_path / "tables" / f"{name}.csv", index=False)
    for name, table in read_tables(tmp_path).items():
        assert set(table["epochs_limit"]) == (set() if name in ("diverged", "curves") else {80})


@pytest.mark.slow
def test_claims_and_figures_from_small_runs(finished):
    tables = read_tables(finished)
    maps = draw_maps(finished, tables["runs"])
    assert set(spiral_claims(tables)["n"]) <= {0, 2, 3}
    assert maps["per_depth"].shape == (21, 110, 110) and maps["predictive"].min() >= 0
    assert figures.spiral_scan(tables, "scan_width_spirals", "width") is None
    for make in (figures.spiral_run, figures.spiral_depths, figures.spiral_posterior_gap):
        assert make(tables) is not None
