"""scan_predictor.py: its runs, what it says of bad tables, its tables, page and figures."""

import json
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import load, scan_script, stop_after

from depthsearch.cells.nasbench101 import enumerate_cells
from depthsearch.cells.nasbench101_size import count_parameters
from depthsearch.data.nasbench101 import Table, nested_splits, save_table, splits
from depthsearch.measuring.yardsticks import NAMES
from depthsearch.reporting.__main__ import main as report
from depthsearch.reporting.figures import predictor as figures
from depthsearch.reporting.intervals import Interval
from depthsearch.reporting.pages.predictor import outcome
from depthsearch.reporting.pages.predictor_tables import spread_and_median, verdict, yardstick_table
from depthsearch.reporting.tables.prediction import collect, read_tables
from depthsearch.reporting.tables.schema import PREDICTIONS
from depthsearch.reporting.words import difference_said
from depthsearch.running import folders as runs
from depthsearch.running import workers
from depthsearch.running.study import Problem, folder_name
from depthsearch.studies.predictor_selection import (
    EVOLUTION,
    ORACLE,
    PREDICTOR,
    RANDOM_SEARCH,
    WITH_CLASSIFIER,
    PredictorSelection,
)
from depthsearch.studies.predictor_table import CHOSEN, CLASSIFIER, ENSEMBLE, ONE_STEP, PUBLISHED, XAVIER, Prediction
from depthsearch.studies.saved import study_of
from depthsearch.studies.trained_pools import MADE_UP, pool_of

pytestmark = pytest.mark.usefixtures("no_gpu")

SMALL = ("--quick", "--epochs", 3, "--repeats", 2)


def scan(*arguments):
    return scan_script("0", *arguments, name="predictor")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A results folder with the quick grid in it."""
    results = tmp_path_factory.mktemp("results")
    out = scan(*SMALL, "--visualize", "--results", results)
    assert out.returncode == 0, out.stderr
    return results


def summaries(results, title):
    found = [runs.read_run(folder) for folder in runs.run_folders(results) if folder.parent.name.startswith(title)]
    return [run for run in found if run is not None]


def test_a_run_of_the_table_holds_every_predictor_on_every_set(finished):
    pool = pool_of(MADE_UP, finished)
    for seed, (config, summary) in enumerate(summaries(finished, "80_")):
        study = study_of(config["configuration"])
        assert isinstance(study, Prediction) and study.configuration() == config["configuration"]
        names = {row["predictor"] for row in summary["rows"]}
        assert names == {*NAMES, PUBLISHED, *ONE_STEP, CHOSEN, ENSEMBLE, CLASSIFIER} and config["seed"] == seed
        assert {row["evaluated"] for row in summary["rows"]} == {"all", "denoise-80", "denoise-91"}
        assert summary["chosen"] == min(summary["errors"], key=summary["errors"].get)
        train = splits(pool.labels, (80,))["80"]
        train = train[pool.known[train]]
        row = next(r for r in summary["rows"] if (r["predictor"], r["evaluated"]) == ("mean", "all"))
        left = np.setdiff1d(np.flatnonzero(pool.known), train)
        assert (row["n_train"], row["n"], row["networks"]) == (len(train), len(left), 0)
        assert row["mse"] == pytest.approx(np.mean((pool.labels[left] - pool.labels[train].mean()) ** 2))
        assert {row["networks"] for row in summary["rows"] if "ensemble" in row["predictor"]} == {2}
        assert "made up by a formula" in summary["label"]


def test_repeats_of_nested_splits_have_cells_of_their_own(finished):
    pool = pool_of(MADE_UP, finished)
    found = summaries(finished, "91-nested-80_")
    sizes = [next(row["n_train"] for row in summary["rows"]) for _, summary in found]
    expected = []
    for seed in range(2):
        rows = nested_splits(len(pool.labels), (80,), seed)["nested-80"]
        expected.append(int((pool.labels[rows] > 91).sum()))
    assert sizes == expected
    assert not {CLASSIFIER, *ONE_STEP} & {row["predictor"] for _, summary in found for row in summary["rows"]}


def test_a_run_of_selection(finished):
    pool = pool_of(MADE_UP, finished)
    for config, summary in summaries(finished, "selection60"):
        assert isinstance(study_of(config["configuration"]), PredictorSelection)
        trained = {name: np.array(rows) for name, rows in summary["trained"].items()}
        assert set(trained) == {PREDICTOR, WITH_CLASSIFIER, RANDOM_SEARCH, EVOLUTION, ORACLE}
        assert all(len(set(rows.tolist())) == 90 for rows in trained.values())
        for name in (PREDICTOR, WITH_CLASSIFIER):
            np.testing.assert_array_equal(trained[name][:60], trained[RANDOM_SEARCH][:60])
        for name, rows in trained.items():
            labels = np.where(pool.known[rows], pool.labels[rows], -np.inf)
            ends = pool.score["made up"][rows[labels.argmax()]]
            assert summary["curves"][name]["made up"][-1] == pytest.approx(ends, abs=1e-4)


def test_visualize_draws_into_the_run_folders(finished):
    drawn = sorted(finished.rglob("predicted.png"))
    assert len(drawn) == 4 and all(plt.imread(path)[..., :3].std() > 0.02 for path in drawn)


def test_a_stopped_scan_goes_on_as_if_it_never_was(finished, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(workers, "_stopping", stop_after(3))
        out = scan(*SMALL, "--splits", "80", "--results", tmp_path)
    assert out.returncode == 130 and len(list(tmp_path.rglob("checkpoint.pt"))) == 2
    assert not scan(*SMALL, "--splits", "80", "--results", tmp_path).returncode
    for (_, ours), (_, theirs) in zip(summaries(tmp_path, "80_"), summaries(finished, "80_"), strict=True):
        assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}


def test_the_grid_is_the_issue_s_and_no_two_share_a_folder():
    grid = load("predictor").GRID
    assert len({(study.group, folder_name(study)) for study in grid}) == len(grid) == 10
    assert all(study.problem() is None for study in [*grid, *load("predictor").QUICK])
    assert replace(grid[0], run_is="y", visualize=True).configuration() == grid[0].configuration()
    assert replace(grid[0], epochs=10).configuration() != grid[0].configuration()


def test_a_label_is_of_nasbench101_alone(tmp_path):
    out = scan("--label", "mean", "--only", "selection", "--repeats", 1, "--dry-run", "--results", tmp_path)
    asked = {study.group: study for study in load("predictor").GRID if isinstance(study, PredictorSelection)}
    mean = replace(asked["NAS-Bench-101"], label="mean")
    expected = {folder_name(mean), folder_name(asked["NAS-Bench-201"])}
    assert {line.split("/")[-2] for line in out.stdout.splitlines() if "version_" in line} == expected


# Tables of the true layout.


@pytest.fixture(scope="module")
def table() -> Table:
    cells, hashes = enumerate_cells(4)
    n, rng = len(cells), np.random.default_rng(0)
    accuracy = np.repeat(rng.uniform(0.85, 0.95, (n, 1)), 4, 1)
    accuracy[3, -1] = 0.1
    parameters = count_parameters(cells)
    return Table(cells.adjacency, cells.operations, cells.vertices, parameters, hashes, accuracy)


def test_a_table_of_ones_own_and_what_it_is_of(table, tmp_path):
    save_table(tmp_path / "t.npz", table)
    out = scan("--splits", 20, "--table", tmp_path / "t.npz", "--run-is", "best of three", "--epochs", 2,
               "--repeats", 1, "--workers", 1, "--results", tmp_path)  # fmt: skip
    assert not out.returncode, out.stderr
    ((config, summary),) = summaries(tmp_path, "20_")
    assert "best of three; 1 cells below 20 %" in summary["label"] and config["configuration"]["split"] == "20"
    assert {row["n"] for row in summary["rows"] if row["evaluated"] == "all"} == {len(table) - 1 - summary_n(summary)}
    assert collect(tmp_path)["predictor_runs"]["label"].tolist() == [summary["label"]]


def test_runs_of_other_tables_are_other_runs(table, tmp_path):
    accuracy = table.validation_accuracy + 0.001
    for name, of in (("one", table), ("same", table), ("other", replace(table, validation_accuracy=accuracy))):
        save_table(tmp_path / f"{name}.npz", of)

    def folder(name, **own):
        return folder_name(Prediction(split="20", table=str(tmp_path / f"{name}.npz"), **own))

    assert folder("one") == folder("same") != folder("other")
    assert folder("one") != folder("one", run_is="seed 0")


@pytest.mark.parametrize(
    ("study", "said"),
    [
        (
            PredictorSelection(data_set=MADE_UP, n_train=10, budget=20),
            "of the 10 of made-up to learn from only 9 have a label",
        ),
        (Prediction(data_set=MADE_UP, split="91-12"), "have a label, and 5 folds need 10"),
    ],
)
def test_too_few_labels_are_known_before_anything_is_trained(study, said, tmp_path):
    assert any(said in str(problem_of(study, tmp_path, seed)) for seed in range(12))


def problem_of(study, data, seed):
    try:
        study.trains(study.pool(data), (seed,))
    except Problem as problem:
        return problem
    return None


def test_a_classifier_needs_labels_on_both_sides(tmp_path):
    study = Prediction(data_set=MADE_UP, split="80")
    pool = study.pool(tmp_path)
    best = np.argsort(-np.where(pool.known, pool.labels, -np.inf))[:20]
    with pytest.raises(Problem, match="20 are above 91 %: a classifier needs 2 of them or more, and one that is not"):
        study.check(pool, [best], [91.0])
    study.check(pool, [best], [])


def summary_n(summary):
    return summary["rows"][0]["n_train"]


def test_bad_tables_are_one_line_and_status_2(table, tmp_path):
    save_table(tmp_path / "sound.npz", table)
    data = (tmp_path / "sound.npz").read_bytes()
    (tmp_path / "short.npz").write_bytes(data[: len(data) // 2])
    with np.load(tmp_path / "sound.npz") as file:
        columns = {name: file[name] for name in file.files}
    np.savez(tmp_path / "bare.npz", **{name: value for name, value in columns.items() if name != "parameters"})
    backwards = columns["adjacency"].copy()
    backwards[2, 1, 0] = 1
    np.savez(tmp_path / "backwards.npz", **{**columns, "adjacency": backwards})
    (tmp_path / "short.csv").write_text("index,arch_str\n0,|x~0|\n")
    results = tmp_path / "results"
    for arguments, said in (
        (("--table", tmp_path / "short.npz"), "cannot be read"),
        (("--table", tmp_path / "bare.npz"), "lacks parameters"),
        (("--table", tmp_path / "backwards.npz"), "is no cell"),
        (("--table", tmp_path / "nowhere.npz"), "is missing"),
        (("--table", tmp_path / "short.csv"), "has no column"),
        (("--table", tmp_path), "is missing"),
        (("--table", tmp_path / "sound.npz", "--label", "seed 0"), "does not have the three runs"),
        (("--table", tmp_path / "sound.npz", "--splits", "860"), "leaves none to predict"),
        (("--table", tmp_path / "sound.npz", "--splits", "80-172"), "no split '80-172'"),
        (("--table", tmp_path / "sound.npz", "--splits", "9"), "give 10 graphs or more, got 9"),
        (("--table", tmp_path / "sound.npz", "--datasets", "NAS-Bench-301"), "no data set 'NAS-Bench-301'"),
        (("--table", tmp_path / "sound.npz", "--datasets", "NAS-Bench-201"), "no data set 'NAS-Bench-201'"),
        (("--table", tmp_path / "sound.npz", "--ensemble", "0"), "1 network or more"),
        (("--quick", "--label", "mean"), "--label and --run-is are of NAS-Bench-101"),
        (("--table", tmp_path / "short.csv", "--run-is", "best"), "--label and --run-is are of NAS-Bench-101"),
    ):
        out = scan(*arguments, "--results", results)
        assert out.returncode == 2 and len(out.stderr.splitlines()) == 1 and said in out.stderr, out.stderr
    assert not results.exists()


def test_limits_in_percent_are_for_nasbench101():
    study = Prediction(data_set="NAS-Bench-201-CIFAR-100", split="91-nested-100")
    assert "91 % is a limit for cells of NAS-Bench-101" in study.problem()
    with pytest.raises(Problem, match="only 0 have a label"):
        pool = pool_of(MADE_UP, Path("."))
        dark = replace(pool, known=np.zeros_like(pool.known))
        Prediction(data_set=MADE_UP, split="80").trains(dark, (0,))


# From runs to tables, page and figures.


def test_tables_page_and_figures(finished, tmp_path):
    tables = collect(finished)
    assert set(tables) == set(PREDICTIONS.tables) and len(tables["predictor_runs"]) == 6
    rows = [row for _, summary in summaries(finished, "80_") for row in summary["rows"]]
    mine = tables["predictor"][tables["predictor"]["split"] == "80"]
    np.testing.assert_allclose(sorted(mine["mse"]), sorted(row["mse"] for row in rows), rtol=1e-5)
    report([str(finished)])
    page = (finished / "predictor.md").read_text()
    for words in (
        "## Outcome",
        "### made-up, 80",
        "made up by a formula",
        "chosen, ensemble",
        "| 61 | 2 |",
        "undecided: needs",
    ):
        assert words in page
    (tmp_path / "tables").mkdir()
    for name in PREDICTIONS.tables:
        (tmp_path / "tables" / f"{name}.csv").write_bytes((finished / "tables" / f"{name}.csv").read_bytes())
    report([str(tmp_path)])  # a machine without the runs
    assert (tmp_path / "predictor.md").read_text() == page
    for name in PREDICTIONS.tables:
        ours, theirs = ((place / "tables" / f"{name}.csv").read_bytes() for place in (tmp_path, finished))
        assert ours == theirs
    shown = read_tables(tmp_path)
    made = (figures.scatter(shown, MADE_UP, "80"), figures.errors(shown, MADE_UP, "80"))
    assert all(figure is not None for figure in (*made, figures.selection(shown, MADE_UP, "selection-60")))
    assert (
        figures.errors(shown, "NAS-Bench-101", "172") is None
        and figures.selection(shown, MADE_UP, "selection-1") is None
    )
    assert figures.scatter(shown, MADE_UP, "81") is None


def errors_of(values, evaluated="all", data_set="NAS-Bench-101"):
    """Rows of the table of errors: a mean squared error a predictor and repeat, learnt from split 172."""
    key = {"data_set": data_set, "split": "172", "evaluated": evaluated}
    return [
        key | {"seed": seed, "predictor": name, "mse": v} for name, own in values.items() for seed, v in enumerate(own)
    ]


def test_errors_stand_beside_the_best_yardstick_and_published_numbers():
    values = {PUBLISHED: [3.0, 4.0], ENSEMBLE: [2.0, 2.5], "ridge": [1.5, 2.5], "mean": [6.0, 6.0]}
    rows = pd.DataFrame(errors_of(values) + errors_of(values, data_set="NAS-Bench-201"))
    row, elsewhere = yardstick_table({"predictor": rows}).to_dict("records")
    assert (row["paper"], row["reproduction"], row["n"]) == ("1.95", "3.62", 2)
    assert row["best yardstick"] == "2 ± 0.71 (ridge)"
    assert row[f"{ENSEMBLE}, minus best yardstick"].startswith("+0.25 [")
    assert (elsewhere["table"], elsewhere["paper"], elsewhere["reproduction"]) == ("NAS-Bench-201", "", "")


def test_the_outcome_says_where_the_predictor_is_better():
    yardsticks = {"mean": [6.0] * 4, "ridge": [2.0, 2.1, 2.2, 2.3]}
    better, worse = [1.0, 1.2, 1.1, 1.4], [3.0, 3.2, 3.1, 3.4]
    between = [2.0, 2.2, 2.1, 2.4]  # a network, and a variant of the one as published, that lie between
    rows = errors_of(yardsticks | {ENSEMBLE: better, PUBLISHED: worse, XAVIER: between, CHOSEN: worse})
    rows += errors_of(yardsticks | {ENSEMBLE: worse, PUBLISHED: better}, "denoise-80")
    picks = [
        {"data_set": "T", "split": "s", "scored": "test", "n_train": 5, "trained": trained, "search": name}
        | {"seed": seed, "accuracy": 90 + seed + lead * (1 + 0.1 * seed)}
        for trained, lead in ((6, 1), (15, 0))
        for name, lead in ((RANDOM_SEARCH, 0), (PREDICTOR, lead), (WITH_CLASSIFIER, -lead), (ORACLE, 5))
        for seed in range(4)
    ]
    said = outcome({"predictor": pd.DataFrame(rows), "predictor_selection": pd.DataFrame(picks)}).splitlines()
    for line in said[:2]:
        assert "**yes** for NAS-Bench-101 (172 → all); **no** for NAS-Bench-101 (172 → denoise-80)." in line
    assert said[2].startswith(
        "- Mean squared error of *chosen, one network* less than that of the network as published"
    )
    assert said[2].endswith("**no** for NAS-Bench-101 (172 → all).")  # the variant is better than the network here
    assert "the cell that the predictor picks is better than that of random search" in said[3]
    assert said[3].endswith("**yes** for T (test after 6); **undecided** for T (test after 15).")
    assert "the cell that the predictor with classifier picks" in said[4]
    assert said[4].endswith("**undecided** for T (test after 15); **no** for T (test after 6).")


def test_words_of_differences():
    for difference, said in (
        ((0.5, 0.1, 0.9, 20), "yes"),
        ((0.5, -0.1, 0.9, 20), "undecided"),
        ((-0.5, -0.9, -0.1, 20), "no"),
        ((0.5, 0.1, 0.9, 2), "undecided: needs 4 repeats"),
    ):
        assert verdict(Interval(*difference)) == said
    assert difference_said(Interval(0.5, -0.25, 1.25, 20)) == "+0.5 [-0.25, +1.25]"
    for values, said in (
        ([1.1, 1.1, 1.1], "1.1 ± 0"),
        ([1.0, 3.0], "2 ± 1.4"),
        ([1.0, 2.0, 30.0], "11 ± 16, median 2"),
        ([-1.0, 1.0], "0 ± 1.4"),
    ):
        assert spread_and_median(pd.Series(values)) == said


def test_runs_are_made_by_a_cpu_whatever_the_device(finished):
    for folder in runs.run_folders(finished):
        config = json.loads((folder / "config.json").read_text())
        assert config["device"]["name"].startswith("CPU") and config["device"]["threads"] == 1
