"""Cells trained from scratch: tables of small runs, differences against oracles, the page in words."""

import itertools

import numpy as np
import pandas as pd
import pytest
from conftest import scan_script, script
from scipy.stats import t

from depthsearch.cells import GENOTYPES, random_cell_genotype
from depthsearch.reporting.__main__ import main
from depthsearch.reporting.figures import genotypes as figures
from depthsearch.reporting.judging.trained import MEASURES, best_of_each, differences, measure_of, per_cell
from depthsearch.reporting.pages.genotypes import differences_table, genotypes_page, worth_table
from depthsearch.reporting.tables import genotypes
from depthsearch.reporting.tables.genotypes import PUBLISHED_CELLS, RANDOM_CELLS, by_origin, name_of
from depthsearch.reporting.tables.schema import TRAININGS, empty

ERROR, PERPLEXITY = MEASURES
SHARED = {"scan": "train_genotype", "data_set": "CIFAR-10", "epochs_limit": 10, "channels": 8, "batch_size": 64}
SHARED |= {"learning_rate": 0.025, "first_seed": None}
SHARED |= {"parameters": 1000, "diverged_epoch": None, "seconds": 2.0, "device": "CPU", "started": "2026-11-28T15:00"}


def cells_of(values):
    """Cells, a row each, from {kind: values}, each trained once."""
    rows = [(kind, str(i), value) for kind, own in values.items() for i, value in enumerate(own)]
    return pd.DataFrame(rows, columns=["kind", "cell", "value"]).assign(n=1, sd=np.nan, parameters=10)


def trainings(errors):
    """Rows of the table `genotypes` from {genotype: errors by seed}."""
    rows = [
        {
            "name": name_of(g),
            "architecture": g,
            "configuration": f"{i:08x}",
            "seed": seed,
            "test_error": error,
            **SHARED,
        }
        for i, (g, own) in enumerate(errors.items())
        for seed, error in enumerate(own)
    ]
    return pd.DataFrame(rows)


def searches(found):
    """Rows of the table `cells` from (kind, seed, genotype)."""
    table = pd.DataFrame(found, columns=["kind", "seed", "architecture"])
    return table.assign(scan="scan_darts_cells", space="cells of DARTS", data_set="CIFAR-10")


def test_differences_are_welchs_and_corrected_for_how_many_there_are():
    random = [0.60, 0.62, 0.61, 0.65, 0.58, 0.63]
    ours = {"DARTS": [0.50, 0.52, 0.49, 0.53], "DrNAS": [0.61, 0.58, 0.66, 0.60], PUBLISHED_CELLS: [0.61, 0.62, 0.6]}
    table = differences(cells_of({**ours, RANDOM_CELLS: random}), ERROR).set_index("kind")
    assert list(table.index) == list(ours)
    p = {}
    for kind, own in ours.items():
        parts = [np.var(values, ddof=1) / len(values) for values in (own, random)]
        degrees = sum(parts) ** 2 / sum(part**2 / (n - 1) for part, n in zip(parts, (len(own), 6), strict=True))
        gap, scale = np.mean(own) - np.mean(random), np.sqrt(sum(parts))
        half = t.ppf(0.975, degrees) * scale
        assert table.loc[kind, "interval"] == pytest.approx((gap, gap - half, gap + half, min(len(own), 6)))
        p[kind] = 2 * t.sf(abs(gap) / scale, degrees)
    assert p["DARTS"] < min(p["DrNAS"], p[PUBLISHED_CELLS])
    assert table.loc["DARTS", "p"] == pytest.approx(3 * p["DARTS"])
    assert list(table["word"]) == ["better", "no difference seen", "needs 4 on both sides"]
    assert set(table["other"]) == {RANDOM_CELLS}


def test_by_little_is_within_the_margin_and_worse_is_worse():
    near = {"DARTS": [0.600, 0.601, 0.602, 0.603], RANDOM_CELLS: [0.605, 0.606, 0.607, 0.608]}
    assert list(differences(cells_of(near), ERROR)["word"]) == ["better, by little"]
    assert list(differences(cells_of({k: [1 - v for v in own] for k, own in near.items()}), ERROR)["word"]) == [
        "worse, by little"
    ]
    alone = cells_of({"DARTS": [0.6, 0.6, 0.6, 0.6], RANDOM_CELLS: [0.6, 0.6, 0.6, 0.6]})
    assert list(differences(alone, ERROR)["word"]) == ["no difference seen"]
    assert differences(cells_of({"DARTS": [0.6] * 4}), ERROR).empty


def test_a_training_serves_every_search_that_found_its_cell():
    found, random, known = (
        g.to_json() for g in (random_cell_genotype(900), random_cell_genotype(3), GENOTYPES["NASNet"])
    )
    runs = trainings({found: [0.5], random: [0.6], known: [0.4, 0.42], random_cell_genotype(901).to_json(): [0.7]})
    rows = by_origin(runs, searches([("DARTS", 2, found), ("DrNAS", 0, found)]))
    named = [(row["kind"], row["cell"], row["test_error"]) for row in rows.to_dict("records")]
    assert named == [
        ("DARTS", "seed 2", 0.5),
        ("DrNAS", "seed 0", 0.5),
        (RANDOM_CELLS, "random:3", 0.6),
        (PUBLISHED_CELLS, "NASNet", 0.4),
        (PUBLISHED_CELLS, "NASNet", 0.42),
        ("other cells", "unnamed", 0.7),
    ]
    cells = per_cell(rows, ERROR).set_index("cell")
    assert cells.loc["NASNet", "value"] == pytest.approx(0.41) and cells.loc["NASNet", "n"] == 2
    table = worth_table(rows, ERROR).set_index("cells")
    assert table.loc[PUBLISHED_CELLS, "n"] == 1 and table.loc[PUBLISHED_CELLS, "trainings"] == 2
    assert list(by_origin(runs, empty("cells"))["kind"])[:2] == ["other cells", RANDOM_CELLS]


def test_a_network_that_diverged_is_counted_and_has_no_value():
    g, h = random_cell_genotype(0).to_json(), random_cell_genotype(1).to_json()
    runs = trainings({g: [0.5], h: [np.nan]})
    runs.loc[1, "diverged_epoch"] = 2
    row = worth_table(by_origin(runs, empty("cells")), ERROR).iloc[0]
    assert (row["n"], row["trainings"], row["diverged"], row["test error (%)"]) == (1, 2, 1, "50.00")


def test_other_data_join_by_a_column():
    g = [random_cell_genotype(seed).to_json() for seed in range(2)]
    images = trainings({g[0]: [0.5]})
    text = trainings({g[1]: [np.nan]}).assign(data_set="PTB", test_perplexity=150.0, channels=None)
    both = by_origin(pd.concat([images, text], ignore_index=True), empty("cells"))
    assert [measure_of(rows) for _, rows in both.groupby("data_set")] == [ERROR, PERPLEXITY]
    page = genotypes_page(both.drop(columns=["kind", "cell"]), empty("cells"), ["an older cohort"])
    assert "test perplexity" in page and "150.00" in page and "50.00" in page and "an older cohort" in page


def test_the_page_gives_every_strategy_a_word_and_its_interval():
    drawn = [random_cell_genotype(seed).to_json() for seed in range(300, 310)]
    random = {random_cell_genotype(seed).to_json(): [0.60 + 0.01 * seed] for seed in range(5)}
    ours = dict(zip(drawn[:4], [[0.30], [0.31], [0.32], [0.33]], strict=True))
    runs = by_origin(trainings(ours | random), searches([("DARTS", i, g) for i, g in enumerate(drawn[:4])]))
    page = genotypes_page(trainings(ours | random), searches([]), [])
    assert "random cells" in page and "other cells" in page and "DARTS" not in page.partition("Every cell")[0]
    (difference,) = differences_table(differences(per_cell(runs, ERROR), ERROR), ERROR).to_dict("records")
    assert difference["difference"] == "DARTS − random cells" and difference["word"] == "better"
    assert difference["points"].startswith("-30.50 [-3")
    said = worth_table(runs, ERROR).set_index("cells").loc["DARTS"]
    assert said["test error (%)"] == "31.50 ± 1.29" and said["interval"] == "[29.45, 33.55]"


# End to end: small searches, their cells and random ones trained, tables, page, figures.


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    small = ("--quick", "--channels", 2, "--results", results)
    few = ("--strategies", "DARTS", "--epochs", 1, "--n-train", 32, "--batch-size", 16)
    assert scan_script("0", *small, *few, name="darts_cells").returncode == 0
    found = sorted(results.glob("runs/scan_darts_cells/digits/*/version_*"))
    assert len(found) == 2
    asked = ("--repeats", 1, "--epochs", 2, "--train-images", 60, "--test-images", 30, "--batch-size", 16)
    out = script("train_genotype", 0, *small, *asked, "--genotype", *found, "random:0", "random:1", "DARTS_V2")
    assert out.returncode == 0, out.stderr
    main([str(results)])
    return results


@pytest.mark.slow
def test_from_runs_to_tables_and_back(results):
    collected, stored = genotypes.collect(results), genotypes.read_tables(results)
    rows = stored["genotypes"]
    assert len(rows) == 5 and sorted(rows["name"].fillna("")) == ["", "", "DARTS_V2", "random:0", "random:1"]
    assert rows["cohort"].nunique() == 1 and rows["configuration"].nunique() == 5
    for name in TRAININGS.tables:
        assert list(stored[name].columns) == list(collected[name].columns)
    history = stored["genotypes_history"]
    assert len(history) == 10 and {"train_loss", "train_error", "test_error"} <= set(history)
    last = history[history["epoch"] == 2].set_index("configuration")["test_error"]
    assert last.to_dict() == pytest.approx(rows.set_index("configuration")["test_error"].to_dict(), abs=1e-6)
    page = (results / "genotypes.md").read_text()
    assert (
        "DARTS 2 trained of 2 found; DARTS 2nd order 0 trained of 0 found" in page and "random cells 2 trained" in page
    )
    assert "C = 2, 3 cells, 2 epochs, 60 images, batches of 16, tested on 30 images" in page


@pytest.mark.slow
def test_figures_are_of_those_numbers(results):
    tables = genotypes.read_tables(results)
    rows = by_origin(tables["genotypes"], genotypes.searches_of(tables["cells"]))
    (ax,) = figures.errors(rows).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "DARTS (n = 2)",
        "published cells (n = 1)",
        "random cells (n = 2)",
    ]
    dots = itertools.chain(*(line.get_xdata() for line in ax.lines if line.get_marker() == "o"))
    assert sorted(dots) == pytest.approx(sorted(100 * rows["test_error"]))
    axes = figures.curves(rows, tables["genotypes_history"]).axes
    assert len(axes) == 3 and len(axes[0].lines) == 3
    best = best_of_each(rows)
    assert best["random"]["kind"] == RANDOM_CELLS and best["found"]["kind"] == "DARTS"
    assert figures.errors(rows.assign(test_error=np.nan)) is None


def test_without_runs_there_is_nothing_to_show(tmp_path):
    tables = genotypes.read_tables(tmp_path)
    assert all(table.empty for table in tables.values()) and set(TRAININGS.tables) < set(tables)
    assert by_origin(tables["genotypes"], genotypes.searches_of(tables["cells"])).empty
