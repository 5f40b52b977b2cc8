"""Spaces of operations: networks in which choices are open, the networks that they become, architectures as values."""

from depthsearch.cells.darts import darts_network
from depthsearch.cells.darts_search import darts_search_network
from depthsearch.cells.genotype import GENOTYPES, CellGenotype, RecurrentGenotype, genotype
from depthsearch.cells.language import activation_penalty, temporal_penalty
from depthsearch.cells.lstm import lstm_network
from depthsearch.cells.recurrent import random_recurrent_genotype, recurrent_network, recurrent_search_network

__all__ = [
    "GENOTYPES",
    "CellGenotype",
    "RecurrentGenotype",
    "activation_penalty",
    "darts_network",
    "darts_search_network",
    "genotype",
    "lstm_network",
    "random_recurrent_genotype",
    "recurrent_network",
    "recurrent_search_network",
    "temporal_penalty",
]
