"""A results folder in which little was run has pages and figures all the same: of what is not there, none."""

import math
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from conftest import complete

from depthsearch.reporting.__main__ import write_pages
from depthsearch.reporting.figures import cells, images, learnt_depth, predictor, spirals, strategies
from depthsearch.reporting.tables.files import known_runs, nonempty, stored_tables, write_tables
from depthsearch.reporting.tables.schema import CELLS, FAMILIES, RUNS, empty, frames
from depthsearch.reporting.tables.shown import shown
from depthsearch.studies.nasbench201 import NASBench201Cell

RESULTS = Path(__file__).parents[2] / "results"


def pages(found, folder):
    folder.mkdir(exist_ok=True)
    write_pages(folder, complete(found))
    texts = {path.stem: path.read_text() for path in folder.glob("*.md")}
    assert not [line for text in texts.values() for line in text.splitlines() if "nan" in line]
    return texts


@pytest.mark.parametrize(
    ("family", "others"),
    list(
        zip(
            FAMILIES,
            [[], ["strategies"], [], [], ["cells", "genotypes"], [], ["predictor"], ["genotypes"], ["learnt_depth"]],
            strict=True,
        )
    ),
    ids=lambda of: of.mains[0] if hasattr(of, "mains") else "",
)
def test_one_family_of_tables_alone(family, others, tmp_path):
    texts = pages(stored_tables(RESULTS, family.tables), tmp_path)
    assert sorted(texts) == sorted(["README", *others])
    assert (texts["README"].count("(no runs)") > 5) == (family is not RUNS)


@pytest.mark.parametrize("end", ["_spirals", "_spirals_fair", "_images", "_amount"])
def test_some_scans_alone(end, tmp_path):
    """Spirals have no protocol, and images no angle: the columns of the others are not there either."""
    tables = {
        name: rows.dropna(axis=1, how="all")
        for name, table in stored_tables(RESULTS, RUNS.tables).items()
        if len(rows := table[table["scan"].str.endswith(end)])
    }
    assert f"scan_max_depth{end}" in (text := pages(tables, tmp_path)["README"]) or "scan_data_amount" in text
    assert ("MNIST: not run" in text) == (end != "_images")


def test_some_searches_alone(tmp_path):
    tables = stored_tables(RESULTS, CELLS.tables)
    for space in tables["cells"]["space"].unique():
        texts = pages({name: t[t["space"] == space] for name, t in tables.items()}, tmp_path / space)
        assert len(texts) == (2 if space == NASBench201Cell.name else 3)


def test_figures_of_nothing():
    tables = complete({})
    of_one = [spirals.spiral_run, spirals.spiral_calibration, spirals.spiral_depths, spirals.spiral_variants]
    of_one += [spirals.spiral_posterior_gap, images.image_posteriors, images.image_depths, images.image_speedups]
    of_one += [images.image_curves]
    of_one += [cells.accuracies, cells.trajectory, cells.entropies, cells.depths]
    of_one += [strategies.choices, strategies.quality, strategies.costs, strategies.entropies]
    assert [figure(tables) for figure in of_one] == [None] * len(of_one)
    assert spirals.spiral_scan(tables, "scan_width_spirals", "width") is None
    assert images.image_calibration(tables, "MNIST") is None and strategies.shifts(tables, "spirals") is None
    assert learnt_depth.variations(tables["variations"]) is None
    for figure in (predictor.scatter, predictor.errors, predictor.selection):
        assert figure(tables, "NAS-Bench-101", "100") is None


def test_an_empty_table_has_the_columns_of_its_family_and_is_read_back(tmp_path):
    assert set(RUNS.key) < set(empty("depths")) and "label" in empty("predictor_runs")
    made = frames({"runs": [{"scan": "a", "configuration": "b", "cohort": "c"}], "diverged": []})
    write_tables(tmp_path, made | {"cells": empty("cells")})
    assert sorted(path.stem for path in (tmp_path / "tables").iterdir()) == ["diverged", "runs"]
    back = known_runs(tmp_path, lambda _: frames({"runs": [], "diverged": []}))
    assert list(back["diverged"]) == list(empty("diverged")) and list(back["runs"]["scan"]) == ["a"]


def test_nothing_at_all_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no finished runs in .* and no tables"):
        nonempty(complete({}), tmp_path)
    tables, left = shown(complete({}))
    assert not left and all(isinstance(table, pd.DataFrame) and table.empty for table in tables.values())


def test_of_a_setting_that_was_configured_anew_the_newest_is_shown():
    """Runs of a scan that says more of some of its settings than of the others are of one cohort all the same."""
    about = {"scan": "scan_data_amount_fair", "data_set": "spirals", "kind": "LDN", "cohort": "a", "epochs_limit": 9}
    rows = [
        about | {"n": n, "seed": seed, "configuration": f"{which}{n}", "started": when}
        for n, which, when in ((6500, "old", "2026-11-29"), (7000, "old", "2026-11-29"), (7000, "new", "2026-11-30"))
        for seed in range(2)
    ]
    tables, left = shown(complete({"runs": pd.DataFrame(rows)}))
    assert tables["runs"]["configuration"].tolist() == ["old6500"] * 2 + ["new7000"] * 2
    assert left == ["scan_data_amount_fair spirals n 7000: 2 runs of at most 9 epochs, started 2026-11-29"]


def test_of_image_runs_a_setting_is_shown_whatever_the_others_are():
    """Of another cohort, as soon as it has as many repeats; ways of training stay apart."""
    about = {"scan": "scan_max_depth_images", "data_set": "MNIST", "kind": "LDN", "protocol": "fair"}
    about |= {"precision": "bfloat16", "epochs_limit": 9}
    made, when = [(10, "old", 2), (20, "old", 2), (20, "new", 1), (10, "new", 2)], {"old": "2026-11", "new": "2026-12"}
    rows = [
        about | {"max_depth": D, "seed": seed, "configuration": f"{which}{D}", "cohort": which, "started": when[which]}
        for D, which, repeats in made
        for seed in range(repeats)
    ]
    rows += [rows[0] | {"epochs_limit": 3, "configuration": "short"}]
    tables, left = shown(complete({"runs": pd.DataFrame(rows)}))
    assert tables["runs"]["configuration"].tolist() == ["old20"] * 2 + ["new10"] * 2 + ["short"]
    assert len(left) == 2


ODD = {
    "manual and random search alone": ("strategies", lambda rows: rows["strategy"].isin(["manual", "random"])),
    "random search alone": ("strategies", lambda rows: rows["strategy"] == "random"),
    "strategies that diverged": ("strategies", lambda rows: rows["diverged_epoch"].notna()),
    "chains of a learnt depth": ("chains", lambda rows: rows["kind"] == "LDN"),
    "images without a learnt depth": ("runs", lambda rows: rows["scan"] == "scan_deterministic_depth_images"),
    "variations that diverged": ("variations", lambda rows: rows["diverged_epoch"].notna()),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("beside", [True, False])
def test_what_only_some_kinds_of_run_write_may_be_missing(odd, beside, tmp_path):
    """Of a folder with nothing but these runs, and with the others of their family `beside`, on other data."""
    name, which = ODD[odd]
    family = next(family for family in FAMILIES if name in family.tables)
    tables = stored_tables(RESULTS, (*family.tables, "cells") if name == "chains" else family.tables)
    main = tables[name].assign(diverged_epoch=tables[name].get("diverged_epoch", math.nan))
    if "diverged" in odd:
        main["diverged_epoch"] = main["diverged_epoch"].where(main["seed"] > 1, 3.0)
    odd_ones = main[which(main)]
    assert len(odd_ones)
    keep = odd_ones.drop(columns=[c for c in odd_ones if "diverged" in odd and str(c).startswith(MEASURED)])
    others = main.assign(data_set=main["data_set"] + "0")[: 50 if beside else 0]
    tables[name] = pd.concat([keep.dropna(axis=1, how="all"), others]) if beside else keep.dropna(axis=1, how="all")
    for column in ("diverged_epoch", "precision"):
        tables[name] = tables[name].assign(**{column: tables[name].get(column)})
    pages(tables, tmp_path)
    found = shown(complete(tables))[0]
    for draw in (
        images.image_depths,
        images.image_curves,
        images.image_speedups,
        cells.depths,
        strategies.quality,
        strategies.costs,
    ):
        draw(found)
    plt.close("all")


MEASURED = ("searched", "truncated", "test", "shift", "pruned_depth", "expected_depth", "kl_to_exact", "depth", "width")
