"""Trainable parameters of a cell of NAS-Bench-101 in the benchmark's network (Ying et al. 2019, section 2).

The network: convolution 3x3 to 128 channels, three stacks of three cells of 128, 256 and 512 channels, mean over
pixels, linear to 10 classes. All convolutions are without bias and followed by a batch norm with scale and shift.
Isomorphic cells may differ by a percent: where channels cannot be shared evenly, earlier vertices get one more.
"""

import numpy as np

from depthsearch.cells.nasbench101 import CONV1X1, CONV3X3, Cells

STEM, STACKS, CELLS, CLASSES = 128, 3, 3, 10


def count_parameters(cells: Cells) -> np.ndarray:
    """Trainable parameters (n,) of the network of each of n pruned cells."""
    total = np.full(len(cells), _conv(3, 3, STEM) + (STEM * 2 ** (STACKS - 1) + 1) * CLASSES, dtype=np.int64)
    for size in np.unique(cells.vertices).tolist():
        rows = np.flatnonzero(cells.vertices == size)
        edges = cells.adjacency[rows, :size, :size].astype(np.int64)
        operations, width = cells.operations[rows, :size], STEM
        for stack in range(STACKS):
            out_width = STEM * 2**stack
            for _ in range(CELLS):
                total[rows] += _cell(edges, operations, width, out_width)
                width = out_width
    return total


def _conv(kernel: int, in_width, out_width):
    return kernel * kernel * in_width * out_width + 2 * out_width


def _cell(edges: np.ndarray, operations: np.ndarray, in_width: int, out_width: int) -> np.ndarray:
    """Parameters (n,) of cells of one size. An edge from the input is a 1x1 projection, any other crops channels."""
    size = edges.shape[1]
    widths = _widths(edges, out_width)
    total = edges[:, 0, -1] * _conv(1, in_width, out_width)
    for v in range(1, size - 1):
        total += edges[:, 0, v] * _conv(1, in_width, widths[:, v])
        for kernel, operation in ((3, CONV3X3), (1, CONV1X1)):
            total += (operations[:, v] == operation) * _conv(kernel, widths[:, v], widths[:, v])
    return total


def _widths(edges: np.ndarray, out_width: int) -> np.ndarray:
    """Channels (n, V) of the vertices.

    Those read by the output share its channels, the first of them one more where there is a rest; every other vertex
    has as many as the widest that reads it.
    """
    n, size, _ = edges.shape
    widths = np.zeros((n, size), dtype=np.int64)
    readers = edges[:, 1:-1, -1]  # (n, V - 2): is read by the output
    shares = np.maximum(readers.sum(1), 1)
    extra = np.cumsum(readers, 1) <= (out_width % shares)[:, None]
    widths[:, 1:-1] = readers * ((out_width // shares)[:, None] + extra)
    for v in range(size - 3, 0, -1):
        widest = (edges[:, v, v + 1 : -1] * widths[:, v + 1 : -1]).max(1)
        widths[:, v] = np.where(readers[:, v - 1] > 0, widths[:, v], widest)
    return widths
