"""The space of NAS-Bench-101: hash, validity, pruning, enumeration, parameters."""

import hashlib
import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from depthsearch.cells.fingerprints import hash_of_graph, hashes_of_graphs, md5
from depthsearch.cells.nasbench101 import (
    Cells,
    enumerate_cells,
    hash_of,
    hashes_of,
    one_hot,
    pack,
    problem,
    prune,
)
from depthsearch.cells.nasbench101_size import count_parameters
from depthsearch.data.nasbench101 import read_table

# Two cells of the benchmark with the hash and the number of parameters that it publishes.
RESNET_LIKE = [[0, 1, 0, 0, 1, 1, 0], [0, 0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 1], [0, 0, 0, 0, 0, 1, 0],
               [0, 0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0]]  # fmt: skip
PUBLISHED = [
    (np.array(RESNET_LIKE), [3, 0, 2, 0, 0, 1, 4], "00005c142e6f48ac74fdcf73e3439874", 8_555_530),
    (
        np.array([[0, 1, 0, 0, 0, 1, 0], [0, 0, 1, 0, 0, 1, 0], [0, 0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0, 1],
                  [0, 0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0]]),
        [3, 0, 2, 1, 2, 1, 4], "0000cb5372fad9d62c470df699ac6d52", 3_729_162,
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def small() -> tuple[Cells, np.ndarray]:
    return enumerate_cells(5)


@pytest.mark.parametrize("length", [0, 1, 31, 55, 56, 64, 119, 120, 226])
def test_batched_md5_is_hashlib_s(length: int) -> None:
    messages = np.random.default_rng(length).integers(0, 256, (5, length), dtype=np.uint8)
    assert [bytes(d).hex() for d in md5(messages)] == [hashlib.md5(bytes(m)).hexdigest() for m in messages]


@pytest.mark.parametrize("adjacency, operations, digest, parameters", PUBLISHED)
def test_published_hashes_and_parameters(adjacency, operations, digest, parameters) -> None:
    cell = pack([(adjacency, operations)])
    assert hash_of(adjacency, operations) == digest == hashes_of(cell)[0]
    assert count_parameters(cell).tolist() == [parameters]


def test_hashes_in_a_batch_are_those_one_by_one() -> None:
    rng = np.random.default_rng(0)
    for size in (2, 4, 7):
        adjacency = np.triu(rng.integers(0, 2, (50, size, size)), 1)
        labels = np.concatenate([np.full((50, 1), -1), rng.integers(0, 3, (50, size - 2)), np.full((50, 1), -2)], 1)
        alone = [hash_of_graph(a, row.tolist()) for a, row in zip(adjacency, labels, strict=True)]
        assert hashes_of_graphs(adjacency, labels).tolist() == alone


def test_isomorphic_cells_share_a_hash_and_others_do_not() -> None:
    adjacency, operations = PUBLISHED[0][:2]
    order = [0, 1, 4, 2, 3, 5, 6]  # vertex 4 reads only the input
    renamed = adjacency[np.ix_(order, order)], [operations[v] for v in order]
    assert not np.array_equal(renamed[0], adjacency) and hash_of(*renamed) == hash_of(adjacency, operations)
    assert hash_of(adjacency, [3, 0, 2, 0, 1, 0, 4]) != hash_of(adjacency, operations)


def test_dead_ends_are_pruned_and_do_not_change_the_hash() -> None:
    chain = np.array([[0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]])  # vertex 2 has no edge in
    edges, ids = prune(chain, [3, 0, 1, 4])
    assert edges.tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0]] and ids == [3, 0, 4]
    assert hash_of(chain, [3, 0, 1, 4]) == hash_of(edges, ids)
    assert problem(chain, [3, 0, 1, 4]) is None
    cell = pack([(chain, [3, 0, 1, 4])])
    assert one_hot(cell)[0].tolist() == [[0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [1, 0, 0, 0, 0], *[[0.0] * 5] * 4]


CHAIN = np.diag(np.ones(2, dtype=int), 1)


@pytest.mark.parametrize(
    "adjacency, operations, says",
    [
        (CHAIN, [3, 0, 0, 4], "shape"),
        (CHAIN.T, [3, 0, 4], "upper triangular"),
        (2 * CHAIN, [3, 0, 4], "0 or 1"),
        (CHAIN, [0, 0, 4], "operations must be"),
        (CHAIN, [3, 3, 4], "operations must be"),
        (np.zeros((3, 3)), [3, 0, 4], "does not reach"),
        (np.triu(np.ones((7, 7)), 1), [3, 0, 0, 0, 0, 0, 4], "at most 7 vertices and 9 edges"),
        (np.diag(np.ones(7, dtype=int), 1), [3, *[0] * 6, 4], "at most 7 vertices and 9 edges"),
    ],
)
def test_cells_that_are_none_are_named_in_a_line(adjacency, operations, says) -> None:
    message = problem(adjacency, operations)
    assert message is not None and says in message and "\n" not in message
    with pytest.raises(ValueError, match=says):
        pack([(adjacency, operations)])


def test_enumeration_of_small_cells_has_the_known_counts(small) -> None:
    cells, hashes = small
    assert np.bincount(cells.vertices).tolist() == [0, 0, 1, 6, 84, 2441]
    assert len(set(hashes.tolist())) == len(cells) == 2532


def test_enumeration_is_brute_force_and_keeps_the_first_of_a_hash(small) -> None:
    cells, hashes = small
    found: dict[str, tuple[list, list[int]]] = {}
    for size in (2, 3, 4):
        pairs = [(i, j) for j in range(size) for i in range(j)]
        for bits in range(2 ** len(pairs)):
            adjacency = np.zeros((size, size), dtype=int)
            for place, pair in enumerate(pairs):
                adjacency[pair] = bits >> place & 1
            if adjacency[:-1].any(1).all() and adjacency[:, 1:].any(0).all() and adjacency.sum() <= 9:
                for inner in itertools.product(range(3), repeat=size - 2):
                    found.setdefault(hash_of(adjacency, [3, *inner, 4]), (adjacency.tolist(), [3, *inner, 4]))
    n = len(found)
    assert hashes[:n].tolist() == list(found)
    for row, (adjacency, operations) in enumerate(found.values()):
        size = len(operations)
        assert cells.adjacency[row, :size, :size].tolist() == adjacency
        assert cells.operations[row].tolist() == operations + [-1] * (7 - size)


def test_cells_have_two_to_seven_vertices() -> None:
    with pytest.raises(ValueError, match="max_vertices"):
        enumerate_cells(8)


def test_parameters_against_a_walk_through_one_cell() -> None:
    # Input -> conv3x3 -> output and input -> conv1x1 -> output: 64 + 64 channels of 128, and so on.
    cell = pack([(np.array([[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]), [3, 0, 1, 4])])
    total = 3 * 3 * 3 * 128 + 2 * 128 + 512 * 10 + 10
    for in_width, width in [(128, 128), (128, 128), (128, 128), (128, 256), (256, 256), (256, 256), (256, 512),
                            (512, 512), (512, 512)]:  # fmt: skip
        half = width // 2
        total += 2 * (in_width * half + 2 * half) + 9 * half * half + 2 * half + half * half + 2 * half
    assert count_parameters(cell).tolist() == [total]


@pytest.mark.slow
def test_whole_space_has_423_624_cells_and_holds_every_cell_of_the_table() -> None:
    folder = os.environ.get("DEPTHSEARCH_DATA")
    cells, hashes = enumerate_cells()
    assert len(cells) == 423_624
    if not folder or not any(Path(folder).glob("**/nasbench101.npz")):
        pytest.skip("the table is compared where DEPTHSEARCH_DATA names the folder of nasbench101.npz")
    table = read_table(folder)
    assert np.isin(table.hash, hashes).all()
    listed = Cells(table.adjacency, table.operations, table.vertices)
    assert np.array_equal(hashes_of(listed), table.hash)
    # Three vertices that share 128 channels have 43, 43, 42: which has fewer depends on the order of the vertices.
    into_output = listed.adjacency[np.arange(len(listed)), 1:, listed.vertices.astype(int) - 1].sum(1)
    same = count_parameters(listed) == table.parameters
    assert same[into_output != 3].all() and same.mean() > 0.98
