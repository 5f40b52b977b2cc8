"""Architectures as graphs for the neural predictor: how they are normalised and what is counted on them.

B graphs padded to V vertices: adjacency (B, V, V), entry (i, j) the edge i -> j, i < j; operations (B, V, K), one-hot,
zero beyond the graph; n_vertices (B,). The input is vertex 0, the output the last of the graph's own vertices.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Values = Tensor | np.ndarray | Sequence
_NEVER = -1e4  # length of a way that does not exist


class Graphs(NamedTuple):
    """Graphs as the predictor takes them; see the module."""

    adjacency: Tensor
    operations: Tensor
    n_vertices: Tensor

    def rows(self, which: Tensor | slice) -> "Graphs":
        return Graphs(*(part[which] for part in self))


def as_graphs(adjacency: Values, operations: Values, n_vertices: Values, dtype: torch.dtype = torch.float32) -> Graphs:
    """Tensors or arrays as `Graphs`, on the CPU, where predictors work.

    Raises:
        ValueError: their shapes do not fit together, or an edge does not go from an earlier to a later vertex.
    """
    a, o, n = (torch.as_tensor(part).cpu() for part in (adjacency, operations, n_vertices))
    a, o = a.to(dtype), o.to(dtype)
    if a.ndim != 3 or o.ndim != 3 or n.ndim != 1 or a.shape[1] != a.shape[2] or a.shape[:2] != o.shape[:2]:
        raise ValueError(
            "graphs are adjacency (B, V, V), operations (B, V, K) and n_vertices (B,), got shapes "
            f"{tuple(a.shape)}, {tuple(o.shape)} and {tuple(n.shape)}"
        )
    if len(n) != len(a) or (len(n) and not 1 <= int(n.min()) <= int(n.max()) <= a.shape[1]):
        raise ValueError(f"n_vertices must be {len(a)} numbers in 1..{a.shape[1]}")
    if a.tril().any():
        raise ValueError("edges must go from earlier to later vertices: adjacency is upper triangular")
    return Graphs(a, o, n.long())


def relations(adjacency: Tensor, twice_normalised: bool = True) -> Tensor:
    """(B, 2, V, V): which vertices a vertex averages, along the edges' matrix and against it; rows sum to 1.

    Along: R, the rows of adjacency + identity divided by their sums. Against, twice_normalised: R transposed, its rows
    divided by their sums, as the original does; otherwise the rows of (adjacency + identity) transposed.
    """
    with_self = adjacency + torch.eye(adjacency.shape[-1], dtype=adjacency.dtype, device=adjacency.device)
    along = _rows_to_one(with_self)
    return torch.stack([along, _rows_to_one((along if twice_normalised else with_self).mT)], -3)


def _rows_to_one(matrix: Tensor) -> Tensor:
    return matrix / matrix.sum(-1, keepdim=True)


VERTEX_FEATURES = 4


def vertex_features(graphs: Graphs) -> Tensor:
    """(B, V, 4): longest way from the input and to the output, edges in and out, each about 1 in size; padding is 0."""
    a, _, n = graphs
    inside = torch.arange(a.shape[1], device=a.device) < n[:, None]
    ones = torch.ones_like(a[:, 0])
    from_input = _ways(a, ones, torch.zeros_like(n)) - 1
    turned = a.flip(1, 2).mT  # the graph backwards: its input is the output
    to_output = _ways(turned, ones, a.shape[1] - n).flip(1) - 1
    parts = [from_input.clamp(min=0) / 3, to_output.clamp(min=0) / 3, a.sum(1) / 2, a.sum(2) / 2]
    return torch.stack(parts, -1) * inside[:, :, None]


def graph_features(graphs: Graphs) -> Tensor:
    """(B, 7 + 6 K): what can be counted on the whole graph.

    Vertices, edges, vertices on the longest and on the shortest way from input to output, edge between them, edges into
    the output, log of the number of ways. Of each operation: how often, at most and at least on a way, mean over ways,
    read by the output, reads the input.
    """
    a, o, n = graphs
    which, end, start = torch.arange(len(a), device=a.device), n - 1, torch.zeros_like(n)
    ones = torch.ones_like(a[:, 0])
    most = torch.stack([_ways(a, o[..., k], start)[which, end] for k in range(o.shape[-1])], -1)
    least = torch.stack([-_ways(a, -o[..., k], start)[which, end] for k in range(o.shape[-1])], -1)
    longest, shortest = _ways(a, ones, start)[which, end], -_ways(a, -ones, start)[which, end]
    number, sums = _all_ways(a, o, end)
    into, out_of = a[which, :, end], a[:, 0]
    whole = [n.to(a.dtype), a.sum((1, 2)), longest, shortest, into[:, 0], into.sum(1), number.clamp(min=1).log()]
    means = sums / number.clamp(min=1)[:, None]
    near = [(weights[:, :, None] * o).sum(1) for weights in (into, out_of)]
    connected = (longest > 0).to(a.dtype)[:, None]
    features = torch.cat([torch.stack(whole, -1), o.sum(1), most, least, means, *near], -1)
    return torch.where(features.abs() < -_NEVER / 2, features, torch.zeros_like(features)) * connected


def _ways(a: Tensor, weights: Tensor, start: Tensor) -> Tensor:
    """(B, V): the largest sum of weights (B, V) of the vertices on a way from `start` (B,) to each vertex."""
    best = torch.full_like(weights, _NEVER)
    for v in range(a.shape[1]):
        before = torch.where(a[:, :, v] > 0, best, torch.full_like(best, _NEVER)).amax(1)
        best = best.clone()
        best[:, v] = torch.where(start == v, weights[:, v], before + weights[:, v])
    return best


def _all_ways(a: Tensor, operations: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Number of ways from the input to `end` (B,), and operations counted over all of them (B, K)."""
    numbers, sums = torch.zeros_like(a[:, 0]), torch.zeros_like(operations)
    numbers[:, 0], sums[:, 0] = 1, operations[:, 0]
    for v in range(1, a.shape[1]):
        numbers[:, v] = (a[:, :, v] * numbers).sum(1)
        sums[:, v] = (a[:, :, v, None] * sums).sum(1) + numbers[:, v, None] * operations[:, v]
    which = torch.arange(len(a), device=a.device)
    return numbers[which, end], sums[which, end]


# Chains of blocks: a depth and a width as a graph.

OPERATIONS_OF_CHAINS = 4  # of a vertex: input, block, identity, output
Sizes = Sequence[tuple[int, int]]  # depth and width of networks


def encode(sizes: Sizes, max_depth: int, widths: Sequence[int]) -> Tensor:
    """Operations (n, max_depth + 2, 4 + len(widths)) of chains: input, max_depth slots, output.

    A slot is a block or the identity, so that all graphs have one size: mean pooling over chains of their own length
    would forget how long they are. Every vertex carries the one-hot width.
    """
    operations = torch.full((len(sizes), max_depth + 2), 2)
    operations[:, 0], operations[:, -1] = 0, 3
    for row, (depth, _) in zip(operations, sizes, strict=True):
        row[1 : depth + 1] = 1
    width = torch.tensor([list(widths).index(width) for _, width in sizes], dtype=torch.long)
    width = F.one_hot(width, len(widths)).unsqueeze(1).expand(-1, max_depth + 2, -1)
    return torch.cat([F.one_hot(operations, OPERATIONS_OF_CHAINS), width], -1).float()


def chains(sizes: Sizes, max_depth: int, widths: Sequence[int]) -> Graphs:
    """Networks of these depths and widths as graphs of max_depth + 2 vertices in a row; see `encode`."""
    operations = encode(sizes, max_depth, widths)
    n, size = operations.shape[:2]
    row = torch.diag(torch.ones(size - 1), 1)
    return Graphs(row.expand(n, -1, -1), operations, torch.full((n,), size))
