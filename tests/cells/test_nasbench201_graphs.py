"""NAS-Bench-201's cells with operations on vertices."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from depthsearch.cells import all_cells, cell_function, parse_cell
from depthsearch.cells.nasbench201_graphs import COLUMNS, FUNCTIONS, nasbench201_graphs
from depthsearch.cells.nasbench201_strings import EDGES
from depthsearch.data.graphs import as_graphs


def test_a_cell_s_graph_written_out() -> None:
    cell = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|"
    adjacency, operations, vertices = nasbench201_graphs([cell])
    assert vertices.tolist() == [6]
    names = [COLUMNS[k] for k in operations[0, :6].argmax(-1)]
    assert names == ["input", "nor_conv_3x3", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "output"]
    assert adjacency[0].nonzero().tolist() == [[0, 1], [0, 3], [1, 2], [2, 4], [3, 5], [4, 5]]
    assert operations[0, 6:].sum() == 0 and (operations[0, :6].sum(-1) == 1).all()


def test_operations_that_carry_nothing_are_left_out() -> None:
    dead = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"  # nothing reads 1, nothing feeds 2
    adjacency, operations, vertices = nasbench201_graphs([dead, "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"])
    assert vertices.tolist() == [3, 2] and operations[0, 1].tolist() == [0, 0, 1, 0, 0, 0]
    assert adjacency[0].nonzero().tolist() == [[0, 1], [1, 2]] and adjacency[1].sum() == 0
    with pytest.raises(ValueError, match="unknown operation"):
        nasbench201_graphs(["|pool~0|+|none~0|none~1|+|none~0|none~1|none~2|"])


def test_all_cells_are_graphs_of_ways() -> None:
    graphs = as_graphs(*nasbench201_graphs(all_cells()[::25]))
    inside = torch.arange(8) < graphs.n_vertices[:, None]
    assert torch.equal(graphs.operations.sum(-1) > 0, inside)
    inner = inside & (torch.arange(8) > 0) & (torch.arange(8) < graphs.n_vertices[:, None] - 1)
    assert graphs.adjacency.sum(1)[inner].min() >= 1 and graphs.adjacency.sum(2)[inner].min() >= 1
    assert int(graphs.n_vertices.max()) == 8


NOTHING = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
ONE = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|"
SAME = {
    "by another state": (ONE, "|none~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|skip_connect~2|"),
    "beside what nothing reads": (ONE, "|nor_conv_3x3~0|+|avg_pool_3x3~0|none~1|+|none~0|skip_connect~1|none~2|"),
    "after a skip": (ONE, "|skip_connect~0|+|none~0|none~1|+|none~0|nor_conv_3x3~1|none~2|"),
    "a sum averaged": (
        "|nor_conv_3x3~0|+|skip_connect~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|",
        "|nor_conv_3x3~0|+|avg_pool_3x3~0|avg_pool_3x3~1|+|none~0|none~1|skip_connect~2|",
    ),
    "fed by nothing": (NOTHING, "|none~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|avg_pool_3x3~2|"),
}
OTHER = {
    "its kind": (ONE, ONE.replace("3x3", "1x1")),
    "twice": (ONE, "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|skip_connect~1|skip_connect~2|"),
    "one twice, two of a kind": (
        "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|skip_connect~1|skip_connect~2|",
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|none~0|skip_connect~1|skip_connect~2|",
    ),
    "a pool": (NOTHING, NOTHING.replace("|none~0|none~1|none~2", "|avg_pool_3x3~0|none~1|none~2")),
}


@pytest.mark.parametrize("one, other", SAME.values(), ids=SAME)
def test_cells_that_compute_the_same(one: str, other: str) -> None:
    assert cell_function(one) == cell_function(other)


@pytest.mark.parametrize("one, other", OTHER.values(), ids=OTHER)
def test_cells_that_compute_something_else(one: str, other: str) -> None:
    assert cell_function(one) != cell_function(other)


def computed(cell: str, x: Tensor, weights: dict[str, list[Tensor]]) -> Tensor:
    """The output for an image (1, 4, 4), the convolutions of a kind taking their weights in the order of the cell."""
    given = {name: iter(kernels) for name, kernels in weights.items()}
    states = [x, *(torch.zeros_like(x) for _ in range(3))]
    for (to, source), name in zip(EDGES, parse_cell(cell), strict=True):
        read = states[source]
        if name == "skip_connect":
            states[to] = states[to] + read
        elif name == "avg_pool_3x3":
            states[to] = states[to] + F.avg_pool2d(read, 3, 1, 1, count_include_pad=False)
        elif name != "none":
            kernel = next(given[name])
            states[to] = states[to] + torch.tanh(F.conv2d(read, kernel, padding=kernel.shape[-1] // 2))
    return states[-1]


def test_functions_are_told_apart_by_what_they_compute() -> None:
    """Of cells of at most one convolution, whose weights need no order, classes are those of the outputs."""
    x = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = {f"nor_conv_{k}x{k}": [torch.linspace(-1, 2, k * k).double().reshape(1, 1, k, k)] for k in (1, 3)}
    weights["nor_conv_1x1"][0][:] = 0.7
    cells = [cell for cell in all_cells() if cell.count("conv") < 2]
    found: dict[str, set] = {}
    for cell in cells:
        found.setdefault(cell_function(cell), set()).add(tuple((computed(cell, x, weights) + 1e-12).flatten().tolist()))
    outputs = [{tuple(round(value, 9) + 0.0 for value in output) for output in own} for own in found.values()]
    assert all(len(own) == 1 for own in outputs) and len(set.union(*outputs)) == len(found)


def test_all_cells_are_so_many_functions() -> None:
    assert len({cell_function(cell) for cell in all_cells()}) == FUNCTIONS
