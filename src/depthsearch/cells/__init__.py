"""Spaces of operations: networks in which choices are open, the networks that they become, architectures as values."""

from depthsearch.cells.nasbench201 import NASBench201Block, nasbench201_network, nasbench201_search_network
from depthsearch.cells.nasbench201_strings import all_cells, cell_class, cell_string, parse_cell
from depthsearch.cells.progressive import carry_over, strongest

__all__ = [
    "NASBench201Block",
    "all_cells",
    "carry_over",
    "cell_class",
    "cell_string",
    "nasbench201_network",
    "nasbench201_search_network",
    "parse_cell",
    "strongest",
]
