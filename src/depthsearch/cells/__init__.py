"""Spaces of operations: networks in which choices are open, the networks that they become, architectures as values."""

from depthsearch.cells.darts import darts_network
from depthsearch.cells.darts_search import darts_search_network
from depthsearch.cells.genotype import (
    GENOTYPES,
    CellGenotype,
    RecurrentGenotype,
    genotype,
    random_cell_genotype,
    random_recurrent_genotype,
)
from depthsearch.cells.lstm import lstm_network
from depthsearch.cells.nasbench201 import NASBench201Block, nasbench201_network, nasbench201_search_network
from depthsearch.cells.nasbench201_graphs import cell_function
from depthsearch.cells.nasbench201_strings import all_cells, cell_class, cell_string, parse_cell
from depthsearch.cells.recurrent import recurrent_network, recurrent_search_network

__all__ = [
    "GENOTYPES",
    "CellGenotype",
    "NASBench201Block",
    "RecurrentGenotype",
    "all_cells",
    "cell_class",
    "cell_function",
    "cell_string",
    "darts_network",
    "darts_search_network",
    "genotype",
    "lstm_network",
    "nasbench201_network",
    "nasbench201_search_network",
    "parse_cell",
    "random_cell_genotype",
    "random_recurrent_genotype",
    "recurrent_network",
    "recurrent_search_network",
]
