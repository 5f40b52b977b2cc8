"""The 15,625 cells of NAS-Bench-201 as strings (Dong & Yang 2020, arXiv 2001.00326).

A cell has the states 0 (its input), 1, 2 and 3 (its output) and an edge from each state to each later one, on which
stands one of five operations. `|nor_conv_3x3~0|+|none~0|skip_connect~1|+|...|` lists, state by state, the
operation and the state that it reads.
"""

import itertools
import random
import re
from collections.abc import Sequence

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))  # (to, from), the order of all weights
N_STATES = 4


def parse_cell(string: str) -> tuple[str, ...]:
    """The six operations of a cell, in the order of `EDGES`.

    Raises:
        ValueError: the string is not a cell, or has an operation that does not exist.
    """
    words = [re.findall(r"([^|~+]*)~([^|~+]*)\|", node) for node in string.split("+")]
    operations = [name for node in words for name, _ in node]
    for name in operations:
        if name not in OPERATIONS:
            raise ValueError(f"unknown operation {name!r} in the cell {string!r}; there are {', '.join(OPERATIONS)}")
    if len(operations) != len(EDGES) or cell_string(operations) != string:
        shape = "|OP~0|+|OP~0|OP~1|+|OP~0|OP~1|OP~2|"
        raise ValueError(f"{string!r} is not a NAS-Bench-201 cell; write it as {shape}, an operation for each OP")
    return tuple(operations)


def cell_string(operations: Sequence[str]) -> str:
    """The official string of six operations in the order of `EDGES`."""
    nodes = ["|"] * (N_STATES - 1)
    for (to, source), name in zip(EDGES, operations, strict=True):
        nodes[to - 1] += f"{name}~{source}|"
    return "+".join(nodes)


def all_cells() -> list[str]:
    """The 15,625 strings in the official order: all products, shuffled by Python's generator of seed 88."""
    cells = list(itertools.product(OPERATIONS, repeat=len(EDGES)))
    random.Random(88).shuffle(cells)
    return [cell_string(cell) for cell in cells]


def cell_class(string: str) -> str:
    """A text that is the same for isomorphic cells: 6,466 of them over the whole space (section 2 of the paper).

    It writes the output as an expression of the input: a skip connection is what it reads, an edge from a zero state
    or with `none` is zero (#), and the terms of a state are sorted. As published: sums inside of sums are not
    flattened and zeros not dropped from them (both would leave 4,930 classes), and what is computed once and used twice
    is not told from two operations of a kind.

    Raises:
        ValueError: as `parse_cell`.
    """
    operations = dict(zip(EDGES, parse_cell(string), strict=True))
    states = ["0"]
    for to in range(1, N_STATES):
        states.append("+".join(sorted(_term(operations[to, source], states[source]) for source in range(to))))
    return states[-1]


def _term(operation: str, state: str) -> str:
    if operation == "none" or state == "#":
        return "#"
    return state if operation == "skip_connect" else f"({state})@{operation}"
