"""Drawings say what the genotype says, with Graphviz and without."""

import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from depthsearch.cells import GENOTYPES, genotype
from depthsearch.cells.drawing import _staircase, dot_source, draw, pictures

SCRIPT = Path(__file__).parents[2] / "experiments" / "draw_genotype.py"
STARTS = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}


def edges_of(g):
    cells = (g.normal, g.reduce) if hasattr(g, "normal") else (g.recurrent,)
    return [(i, name, state) for i, edges in enumerate(cells) for name, state in edges]


@pytest.mark.parametrize("name", GENOTYPES)
def test_the_graph_has_the_edges_of_the_genotype(name):
    g = GENOTYPES[name]
    found = re.findall(r'c(\d)_(\d+) -> c\1_(\d+) \[label="(\w+)"', dot_source(g))
    assert sorted((int(cell), label, int(state)) for cell, state, _, label in found) == sorted(edges_of(g))
    per_node = 2 if hasattr(g, "normal") else 1
    targets = sorted((int(cell), int(node)) for cell, _, node, _ in found)
    assert all(targets.count(target) == per_node for target in targets)
    concat = re.findall(r"c(\d)_(\d+) -> c\1_out", dot_source(g))
    wanted = [g.normal_concat, g.reduce_concat] if hasattr(g, "normal") else [g.concat]
    assert sorted((int(cell), int(state)) for cell, state in concat) == [
        (i, s) for i, c in enumerate(wanted) for s in c
    ]


@pytest.mark.parametrize("name", ["AmoebaNet", "ENAS_RNN"])
def test_the_staircase_leads_every_edge_from_its_state_to_its_node(name):
    for picture in pictures(GENOTYPES[name]):
        axes = Figure().subplots()
        _staircase(axes, picture)
        labels = [text.get_text().strip() for text in axes.texts]
        place = {text.get_text().strip(): text.get_position() for text in axes.texts}
        bent = [line for line in axes.lines if len(line.get_xdata()) == 3]
        edges = [(label, state, node) for node, pair in enumerate(picture.nodes) for label, state in pair]
        assert len(bent) == len(edges)
        for line, (label, state, node) in zip(bent, edges, strict=True):
            assert label in labels
            assert (
                line.get_xdata()[0] == place[picture.name(state)][0]
                and line.get_ydata()[0] == place[picture.name(state)][1]
            )
            assert line.get_xdata()[-1] == place[str(node)][0]
        rows = [line.get_ydata()[1] for line in bent]
        assert len(set(rows)) == len(rows)  # a row for every edge: no label lies on another


@pytest.mark.parametrize("ending", STARTS)
@pytest.mark.parametrize("engine", ["matplotlib", "dot"])
def test_files(ending, engine, tmp_path):
    if engine == "dot" and not shutil.which("dot"):
        pytest.skip("Graphviz is not installed")
    path = tmp_path / f"cell{ending}"
    assert draw(genotype("DARTS_V2"), path, engine) == engine
    assert path.read_bytes().startswith(STARTS[ending])


def test_without_graphviz_matplotlib_draws(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert draw(genotype("DARTS_V2_RNN"), tmp_path / "cell.png") == "matplotlib"
    with pytest.raises(ValueError, match="dot is not installed"):
        draw(genotype("DARTS_V2_RNN"), tmp_path / "cell.png", "dot")


def test_what_cannot_be_drawn(tmp_path):
    with pytest.raises(ValueError, match=r"a drawing ends in \.png, \.pdf, \.svg"):
        draw(genotype("DARTS_V2"), tmp_path / "cell.txt")
    with pytest.raises(ValueError, match="unknown engine 'neato'"):
        draw(genotype("DARTS_V2"), tmp_path / "cell.png", "neato")


@pytest.fixture
def script(tmp_path, monkeypatch, capsys):
    """Runs the script in this process, in an empty folder: its exit status and what it says of errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["draw_genotype.py"])
    main = runpy.run_path(str(SCRIPT))["main"]

    def run(*arguments):
        try:
            main(arguments)
        except SystemExit as stop:
            return stop.code, capsys.readouterr().err
        return 0, capsys.readouterr().err

    return run


def test_the_script_draws_names_and_files(script, tmp_path):
    (tmp_path / "found.json").write_text(genotype("PC_DARTS_cifar").to_json())
    for name in ("NASNet", "found.json"):
        assert script(name, "--engine", "matplotlib") == (0, "")
        assert (tmp_path / f"{Path(name).stem}.png").stat().st_size > 1000


def test_a_drawing_of_a_run_is_named_after_its_setting_too(script, tmp_path):
    for repeat in ("version_0", "version_1"):
        (tmp_path / "DARTS-1234" / repeat).mkdir(parents=True)
        (tmp_path / "DARTS-1234" / repeat / "genotype.json").write_text(genotype("DARTS_V2").to_json())
        assert script(f"DARTS-1234/{repeat}", "--engine", "matplotlib") == (0, "")
    assert {path.name for path in tmp_path.glob("*.png")} == {"DARTS-1234_version_0.png", "DARTS-1234_version_1.png"}


@pytest.mark.parametrize(
    "arguments", [("DARTS_V7",), ("x" * 5000,), ('{"normal": []}',), ("DARTS_V2", "--output", "x.gif"), ("cut.json",)]
)
def test_the_script_refuses_in_a_line(script, arguments, tmp_path):
    (tmp_path / "cut.json").write_text(genotype("DARTS_V2").to_json()[:50])
    status, said = script(*arguments)
    assert status == 2 and said.startswith("draw_genotype.py: ") and said.count("\n") == 1
