"""Genotypes: the published ones are those of the counts, JSON comes back as it went, and what is wrong is said."""

import dataclasses
import itertools
import json
import math
from collections import Counter
from pathlib import Path

import pytest

from depthsearch.cells import (
    GENOTYPES,
    CellGenotype,
    RecurrentGenotype,
    genotype,
    random_cell_genotype,
    random_recurrent_genotype,
)
from depthsearch.cells.genotype import CELL_OPERATIONS

PARITY = Path(__file__).parents[1] / "parity"
COUNTS = json.loads((PARITY / "counts.json").read_text())
PUBLISHED = {**COUNTS["darts_network_C36_L20"], **COUNTS["drnas_network_C36_L20"]}
RECURRENT = {"recurrent": [["tanh", 0], ["relu", 1]], "concat": [1, 2]}


def cell(**changes):
    value = {"normal": [["skip_connect", 0], ["sep_conv_3x3", 1]], "normal_concat": [2]}
    value |= {"reduce": [["max_pool_3x3", 0], ["none", 1], ["skip_connect", 2], ["skip_connect", 0]]}
    return value | {"reduce_concat": [2, 3]} | changes


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_cells_are_those_of_the_authors_code(name):
    assert json.loads(genotype(name).to_json()) == PUBLISHED[name]["genotype"]


def test_every_convolutional_genotype_of_the_counts_is_here_by_name():
    assert {name for name, g in GENOTYPES.items() if isinstance(g, CellGenotype)} == set(PUBLISHED)


def test_published_recurrent_cells():
    recurrent = {name: g for name, g in GENOTYPES.items() if isinstance(g, RecurrentGenotype)}
    assert set(recurrent) == {"DARTS_V1_RNN", "DARTS_V2_RNN", "ENAS_RNN"}
    # a node is a matrix (width, 2 width): the parameters of the counts fix the number of nodes
    for name, counted in (("DARTS_V1_RNN", "DARTS_V1"), ("DARTS_V2_RNN", "DARTS_V2"), ("ENAS_RNN", "ENAS")):
        size = COUNTS["darts_rnn"]["ptb_850"]
        words, width = size["vocabulary"], size["width"]
        others = words * width + words + 2 * width * 2 * width
        assert size[counted] == others + len(recurrent[name].recurrent) * width * 2 * width


@pytest.mark.parametrize("name", GENOTYPES)
def test_json_comes_back(name, tmp_path):
    value = GENOTYPES[name]
    (tmp_path / "genotype.json").write_text(value.to_json())
    (tmp_path / "run").mkdir()
    (tmp_path / "run/genotype.json").write_text(value.to_json())
    assert genotype(value.to_json()) == genotype(json.loads(value.to_json())) == genotype(value) == value
    assert genotype(tmp_path / "genotype.json") == genotype(str(tmp_path / "genotype.json")) == value
    assert genotype(tmp_path / "run") == value
    assert len({value, genotype(value.to_json())}) == 1


def test_a_genotype_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        genotype("DARTS_V2").normal = ()


BAD = {
    "unknown operation 'conv_9x9'; one of none, max_pool_3x3": cell(normal=[["conv_9x9", 0], ["none", 1]]),
    "unknown operation ['none']": cell(normal=[[["none"], 0], ["none", 1]]),
    "normal, edge 1 (none): reads state 2; only states 0 to 1": cell(normal=[["none", 0], ["none", 2]]),
    "reads state -1": cell(normal=[["none", 0], ["none", -1]]),
    "a state is a whole number, not True": cell(normal=[["none", 0], ["none", True]]),
    "a state is a whole number, not 1.0": cell(normal=[["none", 0], ["none", 1.0]]),
    "reduce: 3 edges; a cell has two edges a node": cell(reduce=[["none", 0], ["none", 1], ["none", 0]]),
    "normal: 0 edges": cell(normal=[]),
    "normal: must be a list of pairs": cell(normal=[["none", 0, 1], ["none", 1]]),
    "reduce: must be a list of pairs": cell(reduce="none~0"),
    "normal_concat: must be a list of states from 2 to 2, not [3]": cell(normal_concat=[3]),
    "normal_concat: must be a list of states from 2 to 2, not [1]": cell(normal_concat=[1]),
    "normal_concat: must be a list of states from 2 to 2, not []": cell(normal_concat=[]),
    "reduce_concat: a state is listed twice": cell(reduce_concat=[2, 2]),
    "keys normal, normal_concat, reduce, reduce_concat or recurrent, concat; got normal": {"normal": []},
    "got none": {},
    "unknown activation 'softplus'": RECURRENT | {"recurrent": [["softplus", 0]]},
    "unknown activation 'none'": RECURRENT | {"recurrent": [["none", 0]]},
    "recurrent, node 2 (relu): reads state 2": RECURRENT | {"recurrent": [["tanh", 0], ["relu", 2]]},
    "recurrent: no nodes": RECURRENT | {"recurrent": []},
    "concat: must be a list of states from 1 to 2": RECURRENT | {"concat": [0, 1]},
}


@pytest.mark.parametrize("message", BAD)
def test_what_is_wrong_is_said_in_a_line(message):
    for value in (BAD[message], json.dumps(BAD[message])):
        with pytest.raises(ValueError) as error:
            genotype(value)
        assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "value, message",
    [
        ("DARTS_V3", "no genotype 'DARTS_V3': neither a file that can be read nor one of DARTS_V1, DARTS_V2"),
        ("{'normal': []}", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1, 2]", "got list"),
        ("x" * 5000, "no genotype"),
        ("nul\0l", "no genotype"),
        ("", "no genotype"),
        ("random:" + 30 * "9", "the seed must be 9223372036854775807 or less"),
        ("random:" + 5000 * "9", "the seed must be"),
        ('{"normal": ' + 5000 * "9" + "}", "genotype: not JSON"),
        (3, "not int"),
        (None, "not NoneType"),
    ],
)
def test_what_names_no_genotype(value, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        genotype(value)
    assert message in str(error.value)


def test_files_that_are_no_genotype(tmp_path):
    (tmp_path / "cut.json").write_text(genotype("DARTS_V2").to_json()[:-20])
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    for name, message in (("cut.json", "cut.json: not JSON"), ("bytes.json", "neither a file that can be read")):
        with pytest.raises(ValueError, match=message):
            genotype(tmp_path / name)


def test_a_genotype_of_the_other_kind():
    assert genotype("DARTS_V2", CellGenotype) == GENOTYPES["DARTS_V2"]
    with pytest.raises(ValueError, match="genotype of a recurrent cell; a convolutional cell is needed"):
        genotype("DARTS_V2_RNN", CellGenotype)
    with pytest.raises(ValueError, match="genotype of a convolutional cell; a recurrent cell is needed"):
        genotype("DARTS_V2", RecurrentGenotype)


def test_random_cells_are_those_of_the_space_by_seed():
    drawn = [random_cell_genotype(seed) for seed in range(400)]
    assert len(set(drawn)) == 400 and drawn[7] == random_cell_genotype(7) == genotype("random:7")
    operations, pairs = Counter(), Counter()
    for g in drawn:
        for edges in (g.normal, g.reduce):
            assert len(edges) == 8
            operations.update(name for name, _ in edges)
            pairs.update((i // 2, edges[i][1], edges[i + 1][1]) for i in range(0, 8, 2))
    assert set(operations) == set(CELL_OPERATIONS[1:8])
    assert all(abs(n / 6400 - 1 / 7) < 0.02 for n in operations.values())
    possible = {(node, a, b) for node in range(4) for a, b in itertools.combinations(range(node + 2), 2)}
    assert set(pairs) == possible
    for node, a, b in possible:
        assert abs(pairs[node, a, b] / 800 - 1 / math.comb(node + 2, 2)) < 0.06
    assert genotype("random:7", RecurrentGenotype) == random_recurrent_genotype(7)
    for name in ("random:", "random:-1", "random:x"):
        with pytest.raises(ValueError, match="random:SEED"):
            genotype(name)
