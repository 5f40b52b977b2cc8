"""Spaces of operations: networks in which choices are open, the networks that they become, architectures as values."""

from depthsearch.cells.darts import darts_network
from depthsearch.cells.darts_search import darts_search_network
from depthsearch.cells.genotype import GENOTYPES, CellGenotype, RecurrentGenotype, genotype

__all__ = ["GENOTYPES", "CellGenotype", "RecurrentGenotype", "darts_network", "darts_search_network", "genotype"]
