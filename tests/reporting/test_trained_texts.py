"""Recurrent cells trained from scratch: runs to tables, the rule on all its differences, tuning, page, figures."""

import itertools
import json
import re

import numpy as np
import pandas as pd
import pytest
from conftest import scan_script, script
from scipy.stats import ttest_ind

from depthsearch.cells import GENOTYPES, random_cell_genotype, random_recurrent_genotype
from depthsearch.reporting.__main__ import main
from depthsearch.reporting.figures import genotypes as figures
from depthsearch.reporting.figures.style import limits
from depthsearch.reporting.judging.trained import MEASURES, best_of_each, differences, measure_of, per_cell
from depthsearch.reporting.judging.tuning import TUNING_TEXT, tuned, tuned_text
from depthsearch.reporting.pages.genotypes import genotypes_page, worth_table
from depthsearch.reporting.pages.recurrent import KINDS, alpha_rates, training_rates, tuning_part
from depthsearch.reporting.tables import depth_scans, files, genotypes, searches
from depthsearch.reporting.tables.files import known_runs
from depthsearch.reporting.tables.genotypes import OTHER_CELLS, RANDOM_CELLS, by_origin, name_of
from depthsearch.reporting.tables.shown import shown
from depthsearch.running.folders import RESULTS
from depthsearch.running.study import fingerprint
from depthsearch.studies.darts_cells import DartsCell
from depthsearch.studies.genotypes import PRESETS, TrainGenotype
from depthsearch.studies.nasbench201 import NASBench201Cell
from depthsearch.studies.recurrent_cells import RecurrentCell
from depthsearch.studies.recurrent_genotypes import LSTM, TEXT_PRESETS
from depthsearch.studies.seeds import CHOOSING
from depthsearch.studies.spirals import Spirals

PERPLEXITY = next(measure for measure in MEASURES if measure.column == "test_perplexity")
RANDOM = [random_recurrent_genotype(seed).to_json() for seed in range(4)]
FOUND = [random_recurrent_genotype(seed).to_json() for seed in range(300, 312)]
V2 = GENOTYPES["DARTS_V2_RNN"].to_json()
HEADER = {"scan": "train_genotype", "data_set": "PTB", "epochs_limit": 6, "cohort": "0", "diverged_epoch": None}
HEADER |= {"started": "2026-11-28T18:00", "seconds": 90.0, "device": "CPU", "parameters": 146920}
HEADER |= {"width": 64, "n_train": 100_000, "n_words": 1000, "batch_size": 32}


def trainings(found):
    """Rows of the table `genotypes` from (architecture, first seed, seed, test perplexity[, learning rate])."""
    rows = []
    for i, (architecture, first, seed, value, *rate) in enumerate(found):
        row = {"name": name_of(architecture), "architecture": architecture, "configuration": f"{i:08x}", "seed": seed}
        row |= {"first_seed": first, "learning_rate": rate[0] if rate else 20.0}
        rows.append(HEADER | row | {"test_perplexity": value, "valid_perplexity": value + 3})
    return pd.DataFrame(rows)


def searched(found, scan="scan_recurrent_cells"):
    """Rows of the table `cells` from (kind, seed, architecture, rate, entropy in the end, validation loss)."""
    table = pd.DataFrame(found, columns=["kind", "seed", "architecture", "setting", "entropy_end", "end_loss"])
    table = table.assign(
        scan=scan, space="recurrent cells", data_set="PTB", entropy_start=1.609, changes=30, skips=None
    )
    table = table.assign(skip_only=None, diverged_epoch=None, operation_evaluations=1e6, seconds=9.0, device="CPU")
    return table.assign(started="2026-11-28T18:00", width=64, epochs_limit=4, n_train=50_000, n_words=1000, bptt=10)


def four_of_each(values):
    """All that the rule asks for, of (perplexity of the cells of DARTS, of random ones, of the LSTM, of DARTS_V2)."""
    ours, random, lstm, published = values
    rows = [(g, seed, 0, ours[seed]) for seed, g in enumerate(FOUND[:4])]
    rows += [(g, seed, 0, random[seed]) for seed, g in enumerate(RANDOM)]
    rows += [(name, 0, seed, own[seed]) for name, own in ((LSTM, lstm), (V2, published)) for seed in range(4)]
    return trainings(rows), searched([("DARTS", i, g, 0.1, 1.4, 4.0) for i, g in enumerate(FOUND[:4])])


def save(results, study, scan, seed=0, **summary):
    """A run folder as a scan leaves it, but for weights."""
    configuration = study.configuration()
    asked = fingerprint(configuration)
    folder = results / "runs" / scan / configuration["data_set"] / f"{study.title()}-{asked}" / f"version_{seed}"
    folder.mkdir(parents=True)
    config = {"scan": scan, "seed": seed, "swept": "kind", "started": "2026-11-28T18:00", "hash": asked}
    config |= {"configuration": configuration, "required": [], "replicates": 1}
    config |= {"device": {"name": "CPU (made up)", "threads": 1}}
    common = {"diverged_epoch": None, "epochs": 1, "parameters": 9, "seconds": {"training_seconds": 1.0}, "changes": 3}
    common |= {"history": [{"epoch": 1, "valid_loss": 5.0}], "operation_evaluations": 4}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "summary.json").write_text(json.dumps(common | summary))


# From runs to tables.


def test_every_study_goes_to_its_table():
    studies = {
        DartsCell: "cells", NASBench201Cell: "cells", RecurrentCell: "cells", TrainGenotype: "genotypes",
        type(PRESETS["PTB"]): "genotypes", Spirals: "depth",
    }  # fmt: skip
    for study, of in studies.items():
        assert files._kind_of({"configuration": {"study": study.name}}) == of, study
    for name, of in (("choice on images", "choices"), ("chain of cells", "chains")):
        assert files._kind_of({"configuration": {"study": name}}) == of


def test_recurrent_runs_are_in_the_tables_of_cells_and_of_trainings(tmp_path):
    entropy = {"start": {"recurrent": 1.609}, "end": {"recurrent": 1.2}}
    found = {"architecture": FOUND[0], "entropy": entropy}
    save(tmp_path, RecurrentCell(**RecurrentCell.REDUCED, alpha_rate=0.03), "scan_recurrent_cells", **found)
    test = {"test": {"perplexity": 70.0, "log_likelihood": -4.2}, "valid": {"perplexity": 73.0}}
    for genotype, first, rate in ((FOUND[0], 2, 20.0), (LSTM, 0, 5.0)):
        small = PRESETS["reduced-text"]
        recipe = small.recipe.__class__(**{**vars(small.recipe), "learning_rate": rate})
        study = small.__class__(**{**vars(small), "genotype": genotype, "recipe": recipe, "first_seed": first})
        save(tmp_path, study, "train_genotype", **test)
    (search,) = searches.collect(tmp_path)["cells"].to_dict("records")
    assert search["space"] == RecurrentCell.name and search["entropy_end"] == 1.2 and search["end_loss"] == 5.0
    assert search["width"] == 64 and search["n_words"] == 1000 and search["setting"] == 0.03
    rows = genotypes.collect(tmp_path)["genotypes"].sort_values("name")
    assert list(rows["name"]) == ["", LSTM] and set(rows["test_perplexity"]) == {70.0}
    assert set(rows["valid_perplexity"]) == {73.0} and set(rows["first_seed"]) == {0, 2}
    assert rows["cohort"].nunique() == 1 and set(rows["learning_rate"]) == {5.0, 20.0}
    assert all(table.empty for table in depth_scans.collect(tmp_path).values())
    main([str(tmp_path)])
    page, cells = ((tmp_path / f"{name}.md").read_text() for name in ("genotypes", "cells"))
    assert "## PTB" in page and "DARTS 1 trained of 1 found" in page and "1.609" in page
    assert "PTB" not in cells and "recurrent" not in cells


def test_numbers_beside_nothing_are_written_as_they_are_read_back(tmp_path):
    sizes = pd.Series([8.0, None], dtype=object)  # of images, and of a text that has no such size
    (path,) = files.write_tables(tmp_path, {"cells": pd.DataFrame({"seed": [0, 1], "channels": sizes})})
    assert path.read_text() == "seed,channels\n0,8\n1,\n"


def test_searches_of_a_text_are_those_that_are_no_tuning():
    both = [
        searched([("DARTS", 0, FOUND[0], 0.1, 1.4, 4.0)], scan)
        for scan in ("scan_recurrent_cells", "scan_recurrent_rates")
    ]
    assert list(genotypes.searches_of(pd.concat(both))["scan"]) == ["scan_recurrent_cells"]


def test_seeds_of_an_lstm_and_of_a_published_cell_are_observations():
    runs = [(FOUND[0], 1, 0, 80.0), (RANDOM[2], 2, 0, 90.0), (LSTM, 0, 1, 60.0), (LSTM, 1, 0, 61.0), (LSTM, 1, 2, 70.0)]
    runs += [(V2, 0, 0, 75.0), (V2, 0, 1, 77.0), (FOUND[1], 0, 0, 99.0), (RANDOM[0], 100, 0, 1.0), (LSTM, 100, 0, 1.0)]
    rows = by_origin(trainings(runs), searched([("DrNAS", 1, FOUND[0], 0.1, 1.4, 4.0)]))
    cells = per_cell(rows, PERPLEXITY)
    assert [(row["kind"], row["cell"], row["value"]) for row in cells.to_dict("records")] == [
        ("DrNAS", "seed 1", 80.0),
        (RANDOM_CELLS, "random:2", 90.0),
        (LSTM, "seed 1", 60.5),
        (LSTM, "seed 3", 70.0),
        ("DARTS_V2_RNN", "seed 0", 75.0),
        ("DARTS_V2_RNN", "seed 1", 77.0),
        (OTHER_CELLS, "unnamed", 99.0),
    ]
    table = worth_table(rows, PERPLEXITY).set_index("cells")
    assert list(table["n"]) == [1, 2, 2, 1, 1] and table.loc[LSTM, "trainings"] == 3
    assert list(table.index) == ["DrNAS", "DARTS_V2_RNN", LSTM, OTHER_CELLS, RANDOM_CELLS]


def test_of_one_network_trainings_of_one_learning_rate_are_shown_and_all_that_are_tuning():
    rows = [(g, 0, 0, 80.0, 20.0) for g in FOUND[:3]] + [(FOUND[0], 0, 0, 90.0, 10.0), (LSTM, 0, 0, 60.0, 5.0)]
    rows += [(g, 100, 0, 70.0, rate) for g in (RANDOM[0], LSTM) for rate in (5.0, 10.0, 20.0)]
    runs = trainings(rows)
    kept, left = shown({"genotypes": runs})
    assert [(r["architecture"], r["first_seed"], r["learning_rate"]) for r in kept["genotypes"].to_dict("records")] == [
        (row[0], row[1], row[4]) for row in rows if row[:2] != (FOUND[0], 0) or row[4] == 20.0
    ]
    assert len(left) == 1 and left[0].startswith("train_genotype PTB: 1 runs")
    other = trainings([(g, 0, 0, 50.0) for g in FOUND[:2]]).assign(cohort="1", configuration="other")
    kept, left = shown({"genotypes": pd.concat([runs, other], ignore_index=True)})
    assert "other" not in set(kept["genotypes"]["configuration"]) and len(left) == 2


# The rule.


def test_searched_cells_are_held_against_random_ones_an_lstm_and_each_published_cell():
    values = {
        "DARTS": [70.0, 71.0, 70.5, 71.5],
        "DrNAS": [75.0, 78.0, 71.0, 74.0],
        "DARTS_V2_RNN": [72.0, 72.5, 71.8, 72.2],
        "ENAS_RNN": [71.0, 74.0, 78.0],
        LSTM: [65.0, 65.5, 64.5, 65.2],
        OTHER_CELLS: [1.0, 2.0, 3.0, 4.0],
        RANDOM_CELLS: [80.0, 79.0, 81.0, 80.5],
    }
    rows = [(kind, str(i), value) for kind, own in values.items() for i, value in enumerate(own)]
    cells = pd.DataFrame(rows, columns=["kind", "cell", "value"]).assign(n=1, sd=np.nan, parameters=10)
    table = differences(cells, PERPLEXITY)
    others = ("DARTS_V2_RNN", "ENAS_RNN", LSTM, RANDOM_CELLS)
    pairs = list(itertools.product(("DARTS", "DrNAS"), others))
    assert list(zip(table["kind"], table["other"], strict=True)) == pairs
    tests = {pair: ttest_ind(*(values[kind] for kind in pair), equal_var=False) for pair in pairs}
    order, largest, corrected = sorted(pairs, key=lambda pair: tests[pair].pvalue), 0.0, {}
    for i, pair in enumerate(order):
        largest = corrected[pair] = max(largest, min(1.0, (len(pairs) - i) * tests[pair].pvalue))
    for row in table.to_dict("records"):
        pair = row["kind"], row["other"]
        ends = tests[pair].confidence_interval()
        gap, n = np.mean(values[pair[0]]) - np.mean(values[pair[1]]), 3 if "ENAS_RNN" in pair else 4
        assert row["interval"] == pytest.approx((gap, ends.low, ends.high, n))
        assert row["p"] == pytest.approx(corrected[pair])
        seen = corrected[pair] < 0.05 and not ends.low <= 0 <= ends.high
        ours, theirs = (values[kind] for kind in pair)
        word = ("better" if gap < 0 else "worse") if seen else "no difference seen"
        if not seen and max(ours) < min(theirs):
            word += ", but all better"
        if not seen and min(ours) > max(theirs):
            word += ", but all worse"
        assert row["word"] == ("needs 4 on both sides" if n < 4 else word)
    words = table.set_index(["kind", "other"])["word"]
    assert words["DARTS", RANDOM_CELLS] == "better" and words["DARTS", LSTM] == "worse"
    # Alone it would be seen; among eight it is not.
    assert tests["DARTS", "DARTS_V2_RNN"].pvalue < 0.05 < corrected["DARTS", "DARTS_V2_RNN"]
    assert words["DARTS", "DARTS_V2_RNN"] == "no difference seen, but all better"


def test_the_page_says_it_in_words_and_by_the_rule_of_texts():
    runs, found = four_of_each(
        ([70.0, 71, 70.5, 71.5], [80.0, 79, 81, 82], [65.0, 65.5, 64.5, 65.2], [71.0, 70, 72, 70.8])
    )
    page = genotypes_page(runs, found, [])
    assert (
        "DARTS: no difference seen from DARTS_V2_RNN; worse than LSTM; better than random cells." in page
        and "**Better than DARTS_V2_RNN, LSTM, random cells?**" in page
    )
    assert "A searched recurrent cell is better than a random one" in page and "A searched cell is" not in page
    assert (
        "| DARTS − LSTM | +5.70 [" in page and "| LSTM | 4 | 4 | 0 | 65.05 ± 0.42 | [64.38, 65.72] | 146,920 |" in page
    )
    assert "judged on the test part alone" in page and "0 of 16" in page
    assert "width 64 for a cell of eight nodes, 6 epochs, the first 100,000 words of the training part" in page
    assert "batches of 32, learning rate 20. A training" in page
    runs.loc[runs["name"] == LSTM, "learning_rate"] = 5.0
    assert "learning rate 5 (LSTM) and 20 (cells). A training" in genotypes_page(runs, found, [])
    assert "| DARTS | 4 | 0 | 0.1 | 1.609 | 1.4 ± 0 | 30 ± 0 | 1e+06 | 9 | CPU |" in page and "skips" not in page
    assert "DARTS 2nd order 0 trained of 0 found" in page and "ENAS_RNN 0 trained." in page
    within = np.sqrt((np.var([65.0, 65.5, 64.5, 65.2], ddof=1) + np.var([71.0, 70, 72, 70.8], ddof=1)) / 2)
    assert f"between trainings of one cell: {within:.2f}, of LSTM (4), DARTS_V2_RNN (4)" in page


def test_images_and_texts_stand_side_by_side_each_by_its_rule():
    runs, found = four_of_each(([70.0] * 4, [80.0] * 4, [65.0] * 4, [71.0] * 4))
    pictures = [random_cell_genotype(seed).to_json() for seed in range(4)]
    rows = trainings([(g, np.nan, 0, np.nan, 0.025) for g in pictures]).assign(data_set="CIFAR-10", test_error=0.5)
    page = genotypes_page(pd.concat([runs, rows], ignore_index=True), found, [])
    assert page.index("## CIFAR-10") < page.index("## PTB") < page.index("### How far the searches went")
    assert "A searched recurrent cell is better" in page and "A searched cell is better" in page
    assert "| random cells | 4 | 4 | 0 | 50.00 ± 0.00" in page


# Tuning.


TRIED = [("DARTS", 0.03, 1.58, 4.0), ("DARTS", 0.1, 1.5, 4.2), ("DARTS", 0.3, 1.2, 4.3), ("DrNAS", 0.1, 1.3, 4.2)]
TUNING_RUNS = [(RANDOM[0], 100, 0, v, rate) for v, rate in ((75.0, 5.0), (63.0, 10.0), (64.0, 20.0))]
TUNING_RUNS += [(LSTM, 100, 0, v, rate) for v, rate in ((69.0, 5.0), (71.0, 10.0), (72.0, 20.0))]


def taken_in(text):
    rows = [re.split(r" *\| *", line.strip("| ")) for line in text.splitlines() if "taken" in line and "|" in line]
    return {(row[0], row[1]): row[-1] for row in rows}


def test_the_record_of_the_tuning_says_what_was_tried_and_what_was_taken():
    rates = searched([(kind, 0, FOUND[0], rate, end, loss) for kind, rate, end, loss in TRIED], "scan_recurrent_rates")
    text = "\n\n".join(tuning_part(trainings(TUNING_RUNS), rates))
    assert taken_in(text) == {
        ("DARTS", "0.1"): "taken",
        ("DrNAS", "0.1"): "taken, the edge of what was tried",
        (RANDOM_CELLS, "10"): "taken",
        (LSTM, "5"): "taken, the edge of what was tried",
    }
    assert "| DARTS | 0.03 | 1 | 1.609 | 4.0000 | 1.580 | 0.029 |  |" in text and "0 of 10 runs are older" in text
    assert "| random cells | 10 | 1 | 66.00 | taken |" in text
    assert list(alpha_rates(rates)["fall"]) == pytest.approx([0.029, 0.109, 0.409, 0.309])
    assert tuning_part(trainings([(LSTM, 0, 0, 60.0)]), searched([])) == []
    older = trainings(TUNING_RUNS).assign(started="2026-11-28T15:00")
    assert "6 of 6 runs are older" in "\n".join(tuning_part(older, searched([])))


def test_a_diverged_trial_is_shown_and_not_taken():
    rows = trainings(TUNING_RUNS)
    rows.loc[4, ["test_perplexity", "valid_perplexity", "diverged_epoch"]] = [np.nan, np.nan, 2]
    text = "\n\n".join(tuning_part(rows, searched([])))
    assert "| LSTM | 10 | 1 | - |  |" in text and (LSTM, "5") in taken_in(text)


def test_tuning_is_on_the_page_and_not_in_the_comparison():
    runs, found = four_of_each(
        ([70.0, 71, 70.5, 71.5], [80.0, 79, 81, 82], [65.0, 65.5, 64.5, 65.2], [71.0, 70, 72, 70.8])
    )
    rates = searched([("DARTS", 0, FOUND[9], 0.3, 0.7, 3.0)], "scan_recurrent_rates")
    tuning = trainings(TUNING_RUNS).assign(configuration=[f"tuning{i}" for i in range(6)])
    alone, page = genotypes_page(runs, found, []), genotypes_page(
        pd.concat([runs, tuning], ignore_index=True), pd.concat([found, rates], ignore_index=True), []
    )  # fmt: skip
    assert (
        page.startswith(alone.rstrip()) and "### The learning rates at the reduced size" in page[len(alone.rstrip()) :]
    )
    only = genotypes_page(tuning, rates, [])
    assert "## PTB\n\nNo cell is trained yet." in only and "### The learning rates" in only
    assert len(training_rates(tuning)) == 6 and training_rates(runs).empty


# Figures.


def test_a_value_far_out_does_not_hide_the_others():
    groups = [pd.Series(own, dtype=float) for own in ([70, 71, 72, 73], [76, 78, 75, 310], [60, 61, 62, 61])]
    low, high = limits(groups)
    assert 59 < low < 60 and 78 < high < 80
    low, high = limits([*groups, pd.Series([600.0, 610, 620, 640])])  # a whole kind
    assert 59 < low < 60 and 78 < high < 80
    low, high = limits([pd.Series([5.0])])
    assert low < 5 < high
    runs, found = four_of_each(
        ([70.0, 71, 70.5, 71.5], [80.0, 79, 81, 310], [65.0, 65.5, 64.5, 65.2], [71.0, 70, 72, 70.8])
    )
    (ax,) = figures.errors(by_origin(runs, found)).axes
    assert ax.get_xlim()[1] < 90 and [text.get_text() for text in ax.texts] == ["310"]
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        f"{kind} (n = 4)" for kind in ("DARTS", "DARTS_V2_RNN", LSTM, RANDOM_CELLS)
    ]


def test_curves_are_of_what_was_measured_on_the_data_set():
    runs, found = four_of_each(([70.0] * 4, [80.0] * 4, [65.0] * 4, [71.0] * 4))
    keys = ["scan", "data_set", "epochs_limit", "configuration", "seed"]
    points = [
        row | {"epoch": epoch, "train_loss": 5.0 - epoch, "valid_loss": np.log(100.0 / epoch)}
        for row in runs[keys].to_dict("records")
        for epoch in (1, 2)
    ]
    points.append(points[0] | {"data_set": "CIFAR-10", "test_error": 0.5, "train_error": 0.5})
    left, right = figures.curves(by_origin(runs, found), pd.DataFrame(points)).axes
    assert (left.get_ylabel(), right.get_ylabel()) == ("training loss (nats)", "validation perplexity")
    assert all(list(line.get_ydata()) == pytest.approx([100, 50]) for line in right.lines) and len(right.lines) == 4
    best = best_of_each(by_origin(runs, found))
    assert best["found"]["kind"] == "DARTS" and best["random"]["kind"] == RANDOM_CELLS


# End to end.


@pytest.mark.slow
def test_from_small_runs_to_a_page(tmp_path):
    place = ("--results", tmp_path)
    small = ("--quick", *place, "--repeats", 1, "--epochs", 2)
    assert not scan_script("0", *small, "--strategies", "DARTS", name="recurrent_cells").returncode
    assert not scan_script("0", *small, "--rates", 0.1, 0.3, name="recurrent_rates").returncode
    (found,) = tmp_path.glob("runs/scan_recurrent_cells/generated/*/version_*")
    train = (*place, "--data-set", "generated", "--n-train", 1000, "--epochs", 2)
    for options in (
        ("--genotype", found, "random:0", "DARTS_V2_RNN", "--repeats", 1),
        ("--genotype", LSTM, "--repeats", 2, "--learning-rate", 5),
        ("--genotype", "random:100", LSTM, "--repeats", 1, "--first-seed", 100),
        ("--genotype", "random:100", LSTM, "--repeats", 1, "--first-seed", 100, "--learning-rate", 5),
    ):
        out = script("train_genotype", 0, *train, *options)
        assert out.returncode == 0, out.stderr
    main([str(tmp_path)])
    page = (tmp_path / "genotypes.md").read_text()
    assert "DARTS: needs 4 on both sides against DARTS_V2_RNN, LSTM, random cells." in page
    assert len(taken_in(page)) == 5 and "0 of 10 runs are older" in page  # three strategies, two networks
    stored = genotypes.read_tables(tmp_path)
    rows = by_origin(stored["genotypes"], genotypes.searches_of(stored["cells"]))
    assert len(rows) == 5 and measure_of(rows) == PERPLEXITY and set(rows["kind"]) < set(KINDS)
    assert len(figures.curves(rows, stored["genotypes_history"]).axes) == 2
    main([str(tmp_path)])
    assert (tmp_path / "genotypes.md").read_text() == page


def test_the_reduced_size_has_the_rates_that_the_rule_takes_from_the_committed_tables():
    found = known_runs(RESULTS, genotypes.collect) | known_runs(RESULTS, searches.collect)
    alphas, networks = alpha_rates(found["cells"]), training_rates(found["genotypes"])
    assert tuned_text(alphas) == {kind: own["alpha_rate"] for kind, own in RecurrentCell.TUNED.items()}
    assert set(tuned(networks).values()) == {TEXT_PRESETS["reduced-text"].recipe.learning_rate}
    for rows in (alphas, networks):
        assert (rows["started"] >= TUNING_TEXT[0]).all() and set(rows["first_seed"]) == {CHOOSING}
        assert set(rows.groupby("kind")["setting"].nunique()) == {3}  # an equal budget for all
