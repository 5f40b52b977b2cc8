"""NAS-Bench-201's cells with operations on vertices."""

import pytest
import torch

from depthsearch.cells import all_cells
from depthsearch.cells.nasbench201_graphs import COLUMNS, nasbench201_graphs
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
