"""The notebooks run on small saved runs and draw figures that are not blank."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from conftest import scan_script, script

from depthsearch.reporting import notebooks

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def as_a_reader_does(notebook, results, figures):
    """What it draws, by name, run by Jupyter."""
    environment = {**os.environ, "RESULTS": str(results), "FIGURES": str(figures)}
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--output-dir", str(figures)]
    subprocess.run([*command, str(ROOT / "notebooks" / notebook)], check=True, env=environment, capture_output=True)
    return drawn_in(figures)


def execute(notebook, results, figures):
    """The same of its code cells in this process, without the seconds that a kernel and torch take to start."""
    cells, names = json.loads((ROOT / "notebooks" / notebook).read_text())["cells"], {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebooks, "RESULTS", results)
        patch.setattr(notebooks, "FIGURES", figures)
        patch.chdir(ROOT / "notebooks")
        for cell in cells:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), names)
                plt.close("all")
    return drawn_in(figures)


def drawn_in(figures):
    return {path.stem: plt.imread(path) for path in figures.glob("*.png")}


@pytest.fixture(scope="module")
def small_runs(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    grids = {
        "max_depth_spirals": ["--depths", "3", "20"],
        "deterministic_depth_spirals": ["--depths", "3", "20"],
        "width_spirals": ["--widths", "5", "10"],
        "data_amount": ["--amounts", "500", "1000"],
        "spiral_complexity": ["--angles", "180", "360"],
    }
    for name, grid in grids.items():
        options = [*grid, "--epochs", "30", "--repeats", "2", "--results", results, "--workers", "1"]
        assert scan_script("0", *options, name=name).returncode == 0
    return results


def check(images, folder):
    for name, image in images.items():
        assert image[..., :3].std() > 0.02, f"{name} is blank"
        assert (folder / f"{name}.pdf").stat().st_size > 2000


def test_spirals(small_runs, tmp_path):
    images = as_a_reader_does("spirals.ipynb", small_runs, tmp_path)
    assert len(images) == 10
    check(images, tmp_path)


def test_images(tmp_path):
    for name in ("max_depth_images", "deterministic_depth_images"):
        options = ("--quick", "--depths", 0, 2, "--epochs", 3, "--results", tmp_path / "results")
        assert scan_script("0", *options, name=name).returncode == 0
    images = execute("images.ipynb", tmp_path / "results", tmp_path)
    assert {name.partition("_paper_")[0] for name in images} == {
        "image_depth_dist_exps",
        "image_depth_dist_exps2",
        "image_curves",
        "calibration_digits",
        "image_speedups",
    }
    check(images, tmp_path)


def test_strategies(tmp_path):
    options = ("--quick", "--epochs", 6, "--datasets", "spirals360", "--results", tmp_path / "results")
    assert scan_script("0", *options, name="strategies").returncode == 0
    images = execute("strategies.ipynb", tmp_path / "results", tmp_path)
    assert len(images) == 6
    check(images, tmp_path)


def test_cells(tmp_path):
    options = ("--quick", "--epochs", 2, "--strategies", "DARTS", "DrNAS", "--results", tmp_path / "results")
    assert scan_script("0", *options, name="nasbench201").returncode == 0
    images = execute("cells.ipynb", tmp_path / "results", tmp_path)
    assert set(images) == {"cells_entropy"}  # what cells are worth is in a table that is not at hand
    check(images, tmp_path)


def test_genotypes(tmp_path):
    small = ("--quick", "--channels", 2, "--epochs", 2, "--results", tmp_path / "results")
    search = ("--strategies", "DARTS", "--n-train", 32, "--batch-size", 16)
    assert not scan_script("0", *small, *search, name="darts_cells").returncode
    cells = (*(tmp_path / "results").glob("runs/*/digits/*/version_*"), "random:0", "random:1", "DARTS_V2")
    few = ("--repeats", 1, "--train-images", 60, "--test-images", 30)
    assert not script("train_genotype", 0, *small, *few, "--genotype", *cells).returncode
    text = ("--quick", "--epochs", 2, "--repeats", 1, "--results", tmp_path / "results")
    assert not scan_script("0", *text, "--strategies", "DARTS", name="recurrent_cells").returncode
    cells = (*(tmp_path / "results").glob("runs/*/generated/*/version_*"), "random:0", "LSTM")
    few = ("--data-set", "generated", "--n-train", 600)
    assert not script("train_genotype", 0, *text, *few, "--genotype", *cells).returncode
    images = execute("genotypes.ipynb", tmp_path / "results", tmp_path)
    drawn = itertools.product(("error", "curves", "found", "random"), ("digits", "generated"))
    assert set(images) == {f"genotypes_{figure}_{name}" for figure, name in drawn}
    check(images, tmp_path)


def test_predictor(tmp_path):
    options = ("--quick", "--epochs", 3, "--results", tmp_path / "results")
    assert not scan_script("0", *options, name="predictor").returncode
    images = execute("predictor.ipynb", tmp_path / "results", tmp_path)
    assert len(images) == 4  # errors of two splits, points of one, a selection
    check(images, tmp_path)


GENOTYPES = len(list((ROOT / "results" / "figures").glob("genotypes_*.png")))


@pytest.mark.parametrize(("name", "drawn"), [("spirals", 14), ("cells", 6), ("genotypes", GENOTYPES)])
def test_from_the_committed_tables_alone(name, drawn, tmp_path):
    fresh = tmp_path / "results"
    fresh.mkdir()
    (fresh / "tables").symlink_to(ROOT / "results" / "tables")
    images = execute(f"{name}.ipynb", fresh, tmp_path)
    assert len(images) == drawn
    check(images, tmp_path)
