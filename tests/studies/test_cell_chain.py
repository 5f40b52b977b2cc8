"""Chains of cells, from their network to the part of the page about them: on digits, a few epochs."""

import pandas as pd
import pytest
import torch
from conftest import scan_script

from depthsearch.depth.posteriors import CategoricalDepth, geometric_prior
from depthsearch.depth.pruning import prune
from depthsearch.reporting.judging.rules import COUNTING_CELLS
from depthsearch.reporting.pages.chains import chains_part
from depthsearch.reporting.tables import chains
from depthsearch.reporting.tables.files import known_runs
from depthsearch.running.study import folder_name
from depthsearch.studies.cell_chain import ALL_3X3, CellChain, retrained
from depthsearch.studies.saved import study_of

pytestmark = pytest.mark.usefixtures("no_gpu")

SKIPS = "|skip_connect~0|+|skip_connect~0|none~1|+|skip_connect~0|none~1|none~2|"
TINY = CellChain(data_set="digits", channels=3, max_depth=4, n_train=64)


def scan(*arguments):
    return scan_script(*arguments, name="cell_depth")


def test_each_depth_is_the_head_of_so_many_cells_in_a_row():
    torch.manual_seed(0)
    network = TINY.network().double().eval()
    x = torch.randn(5, 1, 8, 8, dtype=torch.float64)
    logits = network(x)
    a, head = network.stem(x), network.head
    assert a.shape == (5, 3, 4, 4)
    for depth in range(5):
        if depth:
            a = a + network.blocks[depth - 1].cell(a)
        pooled = a.mean((2, 3))
        expected = head.linear(pooled * (1 + head.norm.eps) ** -0.5)  # its statistics are still 0 and 1
        torch.testing.assert_close(logits[depth], expected, rtol=1e-12, atol=1e-12)


def test_a_cut_chain_gives_the_logits_of_the_whole_one():
    torch.manual_seed(0)
    network = TINY.network()
    x = torch.randn(16, 1, 8, 8)
    for _ in range(3):
        network(x)  # statistics of batch norm
    network.eval()
    cut, depth = prune(network, CategoricalDepth(geometric_prior(4)), 2)
    assert len(cut.blocks) == 2 and depth.max_depth == 2
    assert torch.equal(cut(x), network(x)[:3])


def test_a_chain_of_skips_is_a_known_function():
    network = CellChain(cell=SKIPS, data_set="digits", channels=2, max_depth=3).network().eval()
    x = torch.randn(4, 1, 8, 8)
    a = network.stem(x)
    # node 1 is a, node 2 a, node 3 a: a cell of skips hands its input on, a block doubles it
    torch.testing.assert_close(network.blocks[2](a), 2 * a)


def test_what_is_wrong_is_one_line(tmp_path):
    for wrong in (["--cells", "|conv~0|"], ["--data-set", "SVHN2"], ["--channels", "0"], ["--max-depth", "-1"]):
        ended = scan("0", *wrong, "--results", tmp_path)
        assert ended.returncode == 2 and len(ended.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_saved_configuration_is_read_back():
    study = CellChain(kind="DDN", cell=SKIPS, max_depth=3, channels=8, n_train=100, pixels=16, epochs=7)
    assert folder_name(study_of(study.configuration())) == folder_name(study)


@pytest.mark.slow
def test_the_depths_learnt_are_trained_anew_and_told(tmp_path):
    assert scan("0", "--quick", "--results", tmp_path, "--cells", ALL_3X3, SKIPS).returncode == 0
    tables = known_runs(tmp_path, chains.collect)
    rows = tables["chains"]
    learnt = rows[rows["kind"] == "LDN"]
    assert len(learnt) == 4 and (tables["chains_depths"].groupby(["cell", "seed"])["q"].sum() - 1).abs().max() < 1e-5
    beside = chains.side_by_side(rows)
    assert len(beside) == 4
    for row in beside.to_dict("records"):
        run = learnt[(learnt["cell"] == row["cell"]) & (learnt["seed"] == row["seed"])].iloc[0]
        assert row["depth"] == run["pruned_depth"] and row["learnt"] == run["LDN-95_test_error"]
        assert 0 < row["share"] <= 1
    # there is nothing left to do, and the page says what was found
    before = sorted((tmp_path / "runs").rglob("summary.json"))
    assert scan("0", "--quick", "--results", tmp_path, "--cells", ALL_3X3, SKIPS).returncode == 0
    assert sorted((tmp_path / "runs").rglob("summary.json")) == before
    searches = pd.DataFrame(columns=["scan", "space", "seed", "kind", "end_loss", "architecture"])
    text = "\n\n".join(chains_part({**tables, "cells": searches}))
    assert COUNTING_CELLS.claim in text and "needs 4 repeats" in text and SKIPS.replace("|", "\\|") in text


def test_only_finished_runs_of_learnt_depth_are_trained_anew(tmp_path):
    assert retrained([(TINY, [tmp_path / "version_0"])], tmp_path) == []
