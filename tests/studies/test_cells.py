"""Searches of cells, from the command line to finished run folders: on digits, with a made-up table."""

import contextlib
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import EXPERIMENTS, assert_same, contents, load, scan_script, stop_after

from depthsearch.cells import genotype
from depthsearch.cells.nasbench201_strings import OPERATIONS, all_cells, parse_cell
from depthsearch.data.cifar import BINARY_SETS
from depthsearch.data.nasbench import read_nasbench201
from depthsearch.data.nasbench_official import COLUMNS, NUMBERS
from depthsearch.measuring.cells import ALWAYS_THE_SAME, YARDSTICKS
from depthsearch.reporting.__main__ import main as report
from depthsearch.running import folders as runs
from depthsearch.running import workers
from depthsearch.running.study import folder_name
from depthsearch.studies.nasbench201 import NASBench201Cell
from depthsearch.studies.random_cells import EQUAL_COST
from depthsearch.studies.saved import study_of

pytestmark = pytest.mark.usefixtures("no_gpu")

STRATEGIES = ("DARTS", "DARTS 2nd order", "DrNAS", "DrNAS progressive", "DARTS partial channels")
WORTH = {"none": 0.0, "skip_connect": 1.0, "nor_conv_1x1": 2.0, "nor_conv_3x3": 3.0, "avg_pool_3x3": 0.5}
HALF, EPOCHS = 128, 5  # points of a half, epochs of --quick


def made_up_rows():
    """A table in which an operation is worth so many points, wherever it stands."""
    rows = []
    for i, string in enumerate(all_cells()):
        worth = sum(WORTH[name] for name in parse_cell(string))
        values = {name: 50 + worth + 1e-5 * i for name in NUMBERS} | {"params_M_c10": worth / 10}
        rows.append([i, string, *(values[name] for name in NUMBERS)])
    return rows


def write_table(path, rows, columns=COLUMNS):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("table") / "nasbench201.csv", made_up_rows())


@pytest.fixture(scope="module")
def finished(results):
    """{strategy: (config, summary)} of the whole grid of --quick, a repeat each."""
    read = [runs.read_run(folder) for folder in runs.run_folders(results)]
    assert len(read) == len(load("nasbench201").QUICK)
    return {config["configuration"]["kind"]: (config, summary) for config, summary in read}


@pytest.fixture(scope="module")
def results(tmp_path_factory, table):
    """The folder of these runs."""
    results = tmp_path_factory.mktemp("results")
    out = scan_script("0", "--quick", "--repeats", 1, "--table", table, "--results", results, name="nasbench201")
    assert out.returncode == 0, out.stderr
    return results


def test_a_search_that_diverged_believes_nothing_and_says_so(table):
    study = replace(next(s for s in load("nasbench201").QUICK if s.kind == "DrNAS"), table=str(table))
    space = study.space(Path("of digits none is read"))
    mixing = study.plan.architect.mixing(space.choices)
    say = study.watch(space)
    row, believed = say(mixing), set(study.measure(mixing))
    assert believed and believed < set(row)
    mixing.alphas["cell"][0, 0] = float("nan")
    assert set(say(mixing)) == set(row) - believed


@pytest.mark.slow
def test_every_strategy_ends_with_a_cell_and_what_it_is_worth(finished, table):
    known = read_nasbench201(table)
    assert set(finished) == {*STRATEGIES, EQUAL_COST, *YARDSTICKS}
    for kind, (config, summary) in finished.items():
        study = study_of(config["configuration"])
        assert isinstance(study, NASBench201Cell) and study.configuration() == config["configuration"]
        assert study.title() in folder_name(study)
        index = known.index(summary["architecture"])
        assert summary["index"] == index and summary["parameters"] == pytest.approx(
            1e6 * known.columns["params_M_c10"][index]
        )
        for short in ("c10", "c100", "in16"):
            assert summary[short] == pytest.approx(float(known.columns[f"{short}_test_200_mean"][index])), kind
        assert summary["skip_only"] == (set(parse_cell(summary["architecture"])) == {"skip_connect"})


@pytest.mark.slow
def test_a_search_logs_how_its_weights_leave_their_start(finished):
    for kind in STRATEGIES:
        _, summary = finished[kind]
        history, start = summary["history"], summary["entropy"]["start"]["cell"]
        assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5]
        assert start == pytest.approx(torch.tensor(5.0).log().item(), abs=1e-3)  # nats
        assert (
            summary["entropy"]["end"]["cell"] == pytest.approx(history[-1]["entropy_cell"])
            and start > 1.001 * history[-1]["entropy_cell"]
        )
        assert summary["changes"] == sum(row["changed_cell"] for row in history)
        trajectory = torch.tensor(summary["trajectory"]["cell"])
        assert trajectory.shape == (6, 6, 5) and trajectory[0].abs().max() < 0.01 < trajectory[-1].abs().max()
        chosen = [OPERATIONS[i] for i in trajectory[-1].masked_fill(trajectory[-1] == 0, -9).argmax(1).tolist()]
        assert tuple(chosen) == parse_cell(summary["architecture"]) == parse_cell(history[-1]["architecture"])
        assert history[-1]["c10_mode"] == pytest.approx(summary["c10"]) and history[-1]["c10"] == summary["c10"]
        assert history[-1]["c10_q05"] <= history[-1]["c10_q50"] <= history[-1]["c10_q95"]


@pytest.mark.slow
def test_operations_are_counted(finished):
    """An image passes 4 operations on each of 6 edges of 3 cells; an epoch runs both halves, second order 1 + 4."""
    spent = {kind: summary["operation_evaluations"] for kind, (_, summary) in finished.items()}
    one = EPOCHS * HALF * 3 * 24
    assert spent["DARTS"] == spent["DrNAS"] == 2 * one and spent["DARTS 2nd order"] == 5 * one
    assert spent["DARTS partial channels"] == 2 * one / 4
    # Stages of 3 and 2 epochs, alpha learnt after the first of each: 1/4 of the channels, then 1/2, for 3 of 5 options.
    first, second = 5 * HALF * 3 * 24 / 4, 3 * HALF * 3 / 2
    assert first + 12 * second <= spent["DrNAS progressive"] <= first + 18 * second
    assert all(spent[kind] == 0 for kind in YARDSTICKS)
    _, summary = finished[EQUAL_COST]
    assert 0.75 * spent["DARTS"] < spent[EQUAL_COST] <= spent["DARTS"] and len(summary["trials"]) >= 5
    for trial in summary["trials"]:
        n = sum(name != "none" for name in parse_cell(trial["name"]))
        assert trial["cost"] == (EPOCHS + 1) * HALF * 3 * n
    best = min(summary["trials"], key=lambda trial: (trial["valid_error"], trial["valid_loss"]))
    assert summary["architecture"] == best["name"] == summary["history"][-1]["architecture"]


@pytest.mark.slow
def test_yardsticks_take_what_their_names_say(finished):
    cells = {kind: parse_cell(finished[kind][1]["architecture"]) for kind in YARDSTICKS}
    assert set(cells["all 3x3"]) == set(cells["best on CIFAR-10"]) == set(cells["most parameters"]) == {"nor_conv_3x3"}
    worth = {kind: finished[kind][1]["c10"] for kind in YARDSTICKS}
    assert worth["random cell"] < worth["random search, 500 looks"] <= worth["best on CIFAR-10"]
    looks = [worth[f"random search, {n} looks"] for n in (10, 100, 500)]
    assert looks == sorted(looks)  # the first look is the same, and here 12 epochs say what 200 do


@pytest.mark.slow
def test_the_page_is_the_same_from_the_tables_alone(results, finished, tmp_path):
    report([str(results)])
    (tmp_path / "tables").mkdir()
    for path in (results / "tables").iterdir():
        shutil.copy(path, tmp_path / "tables")
    report([str(tmp_path)])
    page = (results / "cells.md").read_text()
    assert (tmp_path / "cells.md").read_text() == page
    for path in (results / "tables").iterdir():
        assert (tmp_path / "tables" / path.name).read_bytes() == path.read_bytes()
    for kind, (_, summary) in finished.items():
        n = "-" if kind in ALWAYS_THE_SAME else 1
        (line,) = [
            line
            for line in page.splitlines()
            if line.startswith(f"| {kind} | ") and f"| {n} |" in line and "%" not in line
        ][:1]
        assert f"{summary['c10']:.2f}" in line, kind


SHORT = ("0", "--quick", "--repeats", 1, "--epochs", 4)


@pytest.mark.parametrize("kind", ["DARTS 2nd order", "DrNAS progressive", EQUAL_COST])
def test_a_stopped_search_goes_on_as_if_it_never_was(kind, table, tmp_path, monkeypatch):
    options = (*SHORT, "--table", table, "--strategies", kind)
    assert scan_script(*options, "--results", tmp_path / "whole", name="nasbench201").returncode == 0
    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(workers, "_stopping", stop_after(1))
            out = scan_script(*options, "--results", tmp_path / "cut", name="nasbench201")
        assert out.returncode == 130 and "To go on: python scan_nasbench201.py" in out.stderr
        (kept,) = (tmp_path / "cut").rglob("checkpoint.pt")
    assert torch.load(kept, weights_only=True)["epoch"] == 3
    assert scan_script(*options, "--results", tmp_path / "cut", name="nasbench201").returncode == 0
    assert_same(contents(tmp_path / "cut"), contents(tmp_path / "whole"))
    assert not list((tmp_path / "cut").rglob("checkpoint*"))


@pytest.mark.slow
def test_a_search_killed_at_random_moments_ends_like_one_left_alone(table, tmp_path):
    options = [*SHORT[:-1], 10, "--table", table, "--strategies", "DrNAS progressive", EQUAL_COST]
    options += ["--n-train", 512, "--checkpoint-seconds", 0, "--results"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert scan_script(*options, whole, name="nasbench201").returncode == 0
    command = [sys.executable, str(EXPERIMENTS / "scan_nasbench201.py"), *map(str, options), str(killed)]
    rng, kills = random.Random(0), 0
    for _ in range(3):
        begun = time.time()
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        while process.poll() is None and not written_since(killed, begun):
            time.sleep(0.01)
        time.sleep(0.5 * rng.random())
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills >= 1 and scan_script(*options, killed, name="nasbench201").returncode == 0
    assert_same(contents(killed), contents(whole))


def written_since(results, begun):
    with contextlib.suppress(FileNotFoundError):  # it is renamed or removed meanwhile
        return any(path.stat().st_mtime > begun for path in results.rglob("checkpoint.pt"))
    return False


# Bad input.

NO_RUN = ("0", "--quick", "--repeats", 1)


def refused(results, said, *options, name="nasbench201"):
    out = scan_script(*NO_RUN, *options, "--results", results, name=name)
    assert out.returncode == 2 and len(out.stderr.splitlines()) == 1 and said in out.stderr, out.stderr
    assert not results.exists()


def unknown_operation(rows):
    rows[9][1] = rows[9][1].replace("skip_connect", "skip").replace("none", "nothing").replace("avg", "max")


def other_length(rows):
    del rows[-1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (unknown_operation, "is not a cell of NAS-Bench-201"),
        (other_length, "has 15,624 cells, NAS-Bench-201 has 15,625"),
    ],
)
def test_a_bad_table_is_one_line_before_anything_is_trained(change, said, tmp_path):
    rows = made_up_rows()
    change(rows)
    refused(tmp_path / "results", said, "--table", write_table(tmp_path / "bad.csv", rows))


def test_a_table_without_a_column_or_none_at_all_is_one_line(tmp_path):
    at = COLUMNS.index("in16_test_200_mean")
    rows = [[*row[:at], *row[at + 1 :]] for row in made_up_rows()]
    path = write_table(tmp_path / "bad.csv", rows, [*COLUMNS[:at], *COLUMNS[at + 1 :]])
    refused(tmp_path / "results", "has no column in16_test_200_mean", "--table", path)
    refused(tmp_path / "results", "no table of NAS-Bench-201", "--table", tmp_path / "nowhere")
    refused(tmp_path / "results", "looks into the table", "--strategies", "all 3x3")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--channels", 6), "opens 1 in 4 channels, and 6 channels are not divided by 4"),
        (("--strategies", "DARTS 3rd order"), "no strategy 'DARTS 3rd order'; there are DARTS (paper), DARTS"),
        (("--data-set", "SVHN"), "no data set 'SVHN' for cells; there are CIFAR-10"),
        (("--data-set", "CIFAR-10"), "no data_batch_1.bin"),
        (("--data-set", "ImageNet16-120"), "ImageNet16-120.npz"),
        (("--channels", 0), "channels must be 1 or more, got 0"),
        (("--epochs", 1), "DrNAS progressive searches in 2 stages"),
        (("--n-train", 5000), "need 1 to 1,437 training points, got 5,000"),
        (("--pixels", 8, "--n-train", 2), "two training and two validation points or more"),
        (("--pixels", 2), "they need 4 pixels a side, got 2"),
        (("--pixels", 5), "pixels must divide the 8 of a side, got 5"),
        (("--alpha-rate", "inf"), "must be a finite number"),
        (("--alpha-rate", 0), "the learning rate of alpha must be positive"),
        (("--trial-epochs", 6), "random search trains a cell for 1 to 5 epochs, as many as a search has, got 6"),
        (("--batch-size", 0), "batch size must be 1 or more, got 0"),
        (("--batch-size", 1), "needs a batch size of 2 or more"),
    ],
)
def test_bad_options_are_one_line_before_anything_is_trained(options, said, tmp_path):
    refused(tmp_path / "results", said, *options, "--data", tmp_path / "data")


@pytest.mark.parametrize("name", ["nasbench201", "darts_cells"])
def test_a_half_downloaded_file_is_one_line_before_anything_is_trained(name, tmp_path):
    known = BINARY_SETS["CIFAR-10"]
    folder = tmp_path / known.folder
    folder.mkdir()
    for file in (*known.train, *known.test):
        (folder / file).write_bytes(bytes(3073 * 7 + 100))
    said = "data_batch_1.bin has 21,611 bytes, 10,000 images have 30,730,000; delete it and unpack"
    refused(tmp_path / "results", said, "--data-set", "CIFAR-10", "--data", tmp_path, name=name)


def test_the_cells_of_darts_need_even_channels_that_divide(tmp_path):
    refused(tmp_path / "results", "channels", "--channels", 9, name="darts_cells")
    refused(tmp_path / "results", "opens 1 in 6 channels, and 8 channels", "--channels", 8, name="darts_cells")


# The other scripts.


def test_a_genotype_is_in_the_run_folder_from_the_first_epochs_on(tmp_path, monkeypatch):
    seen = []

    @contextlib.contextmanager
    def watching():
        yield lambda: seen.append([genotype(str(path)) for path in tmp_path.rglob("genotype.json")])  # goes on

    monkeypatch.setattr(workers, "_stopping", watching)
    options = ("0", "--quick", "--repeats", 1, "--epochs", 2, "--strategies", "DrNAS", "--n-train", 64)
    out = scan_script(*options, "--checkpoint-seconds", 0, "--results", tmp_path, name="darts_cells")
    assert out.returncode == 0 and [len(genotypes) for genotypes in seen[:3]] == [0, 0, 1]
    (folder,) = runs.run_folders(tmp_path)
    _, summary = runs.read_run(folder)
    found = genotype(str(folder / "genotype.json"))
    assert found.to_json() == summary["architecture"] == summary["history"][-1]["architecture"]
    assert found == genotype(summary["architecture"]) and len(found.normal) == len(found.reduce) == 8
    names = [name for name, _ in (*found.normal, *found.reduce)]
    assert summary["skips"] == names.count("skip_connect") and "none" not in names
    assert summary["operation_evaluations"] > 0 and set(summary["entropy"]["end"]) == {"normal", "reduce"}


def test_strategies_of_a_reduced_scan_have_what_was_tuned_for_them(tmp_path):
    """In the whole grid and where strategies are asked for by name."""
    for asked in ((), ("--strategies", "DrNAS", "DARTS", EQUAL_COST)):
        options = ("0", "--reduced", "--dry-run", "--repeats", 1, *asked, "--results", tmp_path)
        out = scan_script(*options, name="nasbench201")
        folders = {Path(line).parent.name for line in out.stdout.splitlines()[:-1]}
        assert out.returncode == 0 and len(folders) == (3 if asked else 6)
        for kind in ("DrNAS", "DARTS", EQUAL_COST):
            rate = NASBench201Cell.TUNED.get(kind, {"alpha_rate": None})["alpha_rate"]
            study = NASBench201Cell(kind=kind, alpha_rate=rate, **NASBench201Cell.REDUCED)
            assert folder_name(study) in folders
    given = scan_script("0", "--reduced", "--dry-run", "--alpha-rate", 0.5, "--strategies", "DrNAS", name="nasbench201")
    study = NASBench201Cell(kind="DrNAS", alpha_rate=0.5, **NASBench201Cell.REDUCED)
    assert folder_name(study) in given.stdout


def test_tuning_is_on_seeds_of_its_own_with_an_equal_budget_for_all():
    grids = {name: load(name).GRID for name in ("nasbench201", "nasbench201_rates")}
    assert {study.first_seed for study in grids["nasbench201"]} == {0}
    assert {study.first_seed for study in grids["nasbench201_rates"]} == {100}
    per_strategy = {kind: 0 for kind in (*STRATEGIES, EQUAL_COST)}
    for study in grids["nasbench201_rates"]:
        per_strategy[study.kind] += 1
        assert study.problem() is None and study.table is None
    assert set(per_strategy.values()) == {3}  # an equal budget
