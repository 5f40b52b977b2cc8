"""The space of NAS-Bench-101 (Ying et al. 2019, arXiv 1902.09635): 423,624 cells of at most 7 vertices and 9 edges.

A cell is a directed acyclic graph: vertex 0 is the input, the last one the output, those between are operations. Many
cells are held side by side (`Cells`), padded to 7 vertices.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from depthsearch.cells.fingerprints import hash_of_graph, hashes_of_graphs

OPERATIONS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")  # ids 0, 1, 2
CONV3X3, CONV1X1, MAXPOOL, INPUT, OUTPUT, NO_VERTEX = 0, 1, 2, 3, 4, -1
MAX_VERTICES, MAX_EDGES = 7, 9
COLUMNS = (OUTPUT, INPUT, CONV3X3, CONV1X1, MAXPOOL)  # of the one-hot operations that the predictor takes
_LABELS = np.array([0, 1, 2, -1, -2, 0])  # id -> what the hash calls it; the last stands for NO_VERTEX


@dataclass(frozen=True)
class Cells:
    """n cells: adjacency (n, 7, 7), entry (i, j) the edge i -> j, i < j; operations (n, 7), ids; vertices (n,).

    The ids are 0 conv3x3, 1 conv1x1, 2 maxpool3x3, 3 input, 4 output, -1 no vertex.
    """

    adjacency: np.ndarray
    operations: np.ndarray
    vertices: np.ndarray

    def __len__(self) -> int:
        return len(self.vertices)

    def __getitem__(self, rows: slice | np.ndarray) -> "Cells":
        return Cells(self.adjacency[rows], self.operations[rows], self.vertices[rows])


def pack(graphs: list[tuple[np.ndarray, list[int]]]) -> Cells:
    """`Cells` of single graphs (adjacency (V, V), ids of the V operations), each pruned first.

    Raises:
        ValueError: a graph is no cell of the space.
    """
    adjacency = np.zeros((len(graphs), MAX_VERTICES, MAX_VERTICES), dtype=np.uint8)
    operations = np.full((len(graphs), MAX_VERTICES), NO_VERTEX, dtype=np.int8)
    vertices = np.zeros(len(graphs), dtype=np.uint8)
    for row, graph in enumerate(graphs):
        edges, ids = prune(*graph)
        size = len(ids)
        adjacency[row, :size, :size], operations[row, :size], vertices[row] = edges, ids, size
    return Cells(adjacency, operations, vertices)


def prune(adjacency: np.ndarray, operations: list[int]) -> tuple[np.ndarray, list[int]]:
    """The cell without vertices that the input does not reach or that do not reach the output.

    Args:
        adjacency: (V, V) of 0 and 1; entry (i, j) is the edge i -> j.
        operations: V ids, the first 3 (input), the last 4 (output).

    Raises:
        ValueError: no cell of the space: says what is wrong.
    """
    edges, ids = np.asarray(adjacency), [int(i) for i in operations]
    n = len(ids)
    if edges.shape != (n, n) or n < 2:
        raise ValueError(f"a cell of {n} operations needs an adjacency of shape ({n}, {n}) and 2 or more vertices, "
                         f"got {edges.shape}")  # fmt: skip
    if not np.isin(edges, (0, 1)).all() or np.tril(edges).any():
        raise ValueError("edges must be 0 or 1 and go from earlier to later vertices: adjacency is upper triangular")
    if ids[0] != INPUT or ids[-1] != OUTPUT or not set(ids[1:-1]) <= {CONV3X3, CONV1X1, MAXPOOL}:
        raise ValueError(f"operations must be {INPUT} (input), any of 0, 1, 2, and {OUTPUT} (output), got {ids}")
    reach = np.linalg.matrix_power(edges.astype(np.int64) + np.eye(n, dtype=np.int64), n) > 0
    if not reach[0, -1]:
        raise ValueError("the cell's input does not reach its output: add a path of edges between them")
    kept = np.flatnonzero(reach[0] & reach[:, -1])
    edges, ids = edges[np.ix_(kept, kept)].astype(np.uint8), [ids[k] for k in kept]
    if len(kept) > MAX_VERTICES or edges.sum() > MAX_EDGES:
        raise ValueError(f"a cell has at most {MAX_VERTICES} vertices and {MAX_EDGES} edges, this one has {len(kept)} "
                         f"and {int(edges.sum())} once pruned")  # fmt: skip
    return edges, ids


def problem(adjacency: np.ndarray, operations: list[int]) -> str | None:
    """What keeps this graph from being a cell of the space, in a line; None if it is one (maybe after pruning)."""
    try:
        prune(adjacency, operations)
    except ValueError as error:
        return str(error)
    return None


def hash_of(adjacency: np.ndarray, operations: list[int]) -> str:
    """The official hash of one cell, pruned first. Raises ValueError if it is none."""
    edges, ids = prune(adjacency, operations)
    return hash_of_graph(edges, _LABELS[ids].tolist())


def hashes_of(cells: Cells) -> np.ndarray:
    """The official hashes (n,), text, of pruned cells."""
    hashes = np.empty(len(cells), dtype="U32")
    for size in np.unique(cells.vertices).tolist():
        rows = np.flatnonzero(cells.vertices == size)
        adjacency = cells.adjacency[rows, :size, :size]
        hashes[rows] = hashes_of_graphs(adjacency, _LABELS[cells.operations[rows, :size]])
    return hashes


def one_hot(cells: Cells) -> np.ndarray:
    """Operations as the predictor takes them: (n, 7, 5), columns output input conv3x3 conv1x1 maxpool; padding zero."""
    return (cells.operations[:, :, None] == np.array(COLUMNS)).astype(np.float32)


# The whole space.


def enumerate_cells(max_vertices: int = MAX_VERTICES) -> tuple[Cells, np.ndarray]:
    """Every cell of at most max_vertices vertices, one of each hash, and the hashes: 423,624 of at most 7.

    In the order of the benchmark's own enumeration: by vertices, then the bits of the edges, then operations; of cells
    that share a hash the first stands for all.

    Raises:
        ValueError: max_vertices is not in 2..7.
    """
    if not 2 <= max_vertices <= MAX_VERTICES:
        raise ValueError(f"max_vertices must be in 2..{MAX_VERTICES}, got {max_vertices}")
    sizes = [_cells_of(size) for size in range(2, max_vertices + 1)]
    cells = Cells(*(np.concatenate([getattr(part, name) for part in sizes]) for name in Cells.__dataclass_fields__))
    hashes = hashes_of(cells)
    first = np.sort(np.unique(hashes, return_index=True)[1])
    return cells[first], hashes[first]


def _cells_of(size: int) -> Cells:
    """One labelled graph of every isomorphism class of this many vertices, the first in the benchmark's order."""
    edges, symmetries = _graphs_of(size)
    labels = np.array(list(itertools.product(range(len(OPERATIONS)), repeat=size - 2)), dtype=np.int8)
    labels = labels.reshape(len(OPERATIONS) ** (size - 2), size - 2)
    code = len(OPERATIONS) ** np.arange(size - 2)[::-1]
    kept = np.ones((len(edges), len(labels)), dtype=bool)
    for order, same in symmetries:  # of labellings that a symmetry of the graph exchanges, the first
        kept[same] &= labels @ code <= labels[:, order] @ code
    graph, labelling = np.nonzero(kept)
    adjacency = np.zeros((len(graph), MAX_VERTICES, MAX_VERTICES), dtype=np.uint8)
    adjacency[:, :size, :size] = edges[graph]
    operations = np.full((len(graph), MAX_VERTICES), NO_VERTEX, dtype=np.int8)
    operations[:, 0], operations[:, size - 1], operations[:, 1 : size - 1] = INPUT, OUTPUT, labels[labelling]
    return Cells(adjacency, operations, np.full(len(graph), size, dtype=np.uint8))


def _graphs_of(size: int) -> tuple[np.ndarray, list[tuple[list[int], np.ndarray]]]:
    """Graphs (m, size, size), one a class of isomorphic ones, and of each order of the inner vertices which it maps to
    themselves: (order, (m,) booleans).

    Bit i + j (j - 1) / 2 of a graph's number is its edge i -> j. Renaming vertices moves bits, so the numbers of a
    graph under all orders are one matrix product; an order that would turn an edge round gives one beyond all others.
    """
    pairs = [(i, j) for j in range(size) for i in range(j)]
    rows, columns = np.array(pairs).T
    numbers = np.arange(2 ** len(pairs))
    bits = (numbers[:, None] >> np.arange(len(pairs)) & 1).astype(np.uint8)
    bits = bits[bits.sum(1) <= MAX_EDGES]
    edges = np.zeros((len(bits), size, size), dtype=np.uint8)
    edges[:, rows, columns] = bits
    full = (edges[:, :-1].max(2).min(1) & edges[:, :, 1:].max(1).min(1)) == 1  # all vertices lie on a way to the output
    edges, bits = edges[full], bits[full]
    orders = [(0, *order, size - 1) for order in itertools.permutations(range(1, size - 1))]
    weights = np.empty((len(pairs), len(orders)))
    for column, order in enumerate(orders):
        place = np.argsort(order)  # vertex -> where it comes to stand
        i, j = place[rows], place[columns]
        weights[:, column] = np.where(i < j, 2.0 ** (i + j * (j - 1) // 2), 2.0**30)
    own = bits @ weights[:, :1]
    renamed = bits.astype(np.float64) @ weights
    first = (own <= renamed.min(1, keepdims=True)).ravel()
    own, renamed, edges = own[first], renamed[first], edges[first]
    inner = [[vertex - 1 for vertex in order[1:-1]] for order in orders]
    return edges, [(order, renamed[:, k] == own[:, 0]) for k, order in enumerate(inner) if k > 0]
