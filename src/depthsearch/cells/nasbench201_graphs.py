"""Cells of NAS-Bench-201 as graphs with the operations on the vertices, as the neural predictor takes them.

And which of the 15,625 cells compute the same.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from depthsearch.cells.nasbench201_strings import EDGES, N_STATES, parse_cell

FUNCTIONS = 5044  # that the 15,625 cells compute, constants left out of account
COLUMNS = ("output", "input", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
SIZE = len(EDGES) + 2


def nasbench201_graphs(cells: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Adjacency (n, 8, 8), one-hot operations (n, 8, 6), vertices (n,), of cells in their official strings.

    Vertices are the input, the operations other than `none` that lie on a way from input to output, and the output; an
    edge leads from an operation to every one that reads the state it adds to. A cell whose ways all lead through `none`
    is an input and an output without an edge.

    Raises:
        ValueError: a string is no cell.
    """
    adjacency = np.zeros((len(cells), SIZE, SIZE), np.float32)  # element by element, numpy is much faster than torch
    operations, vertices = np.zeros((len(cells), SIZE, len(COLUMNS)), np.float32), np.zeros(len(cells), np.int64)
    for row, cell in enumerate(cells):
        kept = _on_a_way(parse_cell(cell))
        out = len(kept) + 1
        vertices[row] = out + 1
        operations[row, 0, 1] = operations[row, out, 0] = 1
        for v, (to, source, name) in enumerate(kept, start=1):
            operations[row, v, COLUMNS.index(name)] = 1
            if source == 0:
                adjacency[row, 0, v] = 1
            if to == N_STATES - 1:
                adjacency[row, v, out] = 1
            for w, (_, later_source, _) in enumerate(kept, start=1):
                if later_source == to:
                    adjacency[row, v, w] = 1
    return torch.from_numpy(adjacency), torch.from_numpy(operations), torch.from_numpy(vertices)


def cell_function(cell: str) -> str:
    """A text that two cells share exactly if they compute the same function of their input and their weights.

    It writes the output as a sum: a skip connection is what it reads, the average of a sum the sum of averages, and a
    convolution that is read twice is told from two of a kind, which have weights of their own. As in `cell_class`,
    which is coarser there and finer elsewhere, a convolution of nothing is nothing; batch norm makes a constant of it,
    which is left out of account.

    Raises:
        ValueError: as `parse_cell`.
    """
    edges = _on_a_way(parse_cell(cell))
    convolutions = [edge for edge in edges if edge[2].startswith("nor_conv")]
    numbered = itertools.permutations(range(len(convolutions)))  # which is called the first is of no account
    return min(_output(edges, dict(zip(convolutions, numbers, strict=True))) for numbers in numbered)


def _output(edges: Sequence[tuple[int, int, str]], numbers: dict[tuple[int, int, str], int]) -> str:
    """The output as a sum of terms, convolutions by the numbers that they are given."""
    terms: list[list[str]] = [["x"], *([] for _ in range(1, N_STATES))]  # of each state
    for to, source, name in edges:
        read = sorted(terms[source])
        if name == "skip_connect":
            terms[to] += read
        elif name == "avg_pool_3x3":
            terms[to] += [f"{name}({term})" for term in read]
        else:
            terms[to].append(f"{name}[{numbers[to, source, name]}]({'+'.join(read)})")
    return "+".join(sorted(terms[-1]))


def _on_a_way(names: Sequence[str]) -> list[tuple[int, int, str]]:
    """(to, from, operation) of the edges of a cell that carry something from its input to its output, in order."""
    edges = [(to, source, name) for (to, source), name in zip(EDGES, names, strict=True) if name != "none"]
    fed, needed = {0}, {N_STATES - 1}
    for to, source, _ in edges:
        if source in fed:
            fed.add(to)
    for to, source, _ in reversed(edges):
        if to in needed:
            needed.add(source)
    return [(to, source, name) for to, source, name in edges if source in fed and to in needed]
