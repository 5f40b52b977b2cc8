"""DARTS (Liu, Simonyan & Yang 2019, arXiv 1806.09055): softmax weights, first or second order, for any space."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from depthsearch.learning.mixing import SoftmaxWeights
from depthsearch.strategies.mixing import Mixing


@dataclass(frozen=True)
class Darts(Mixing):
    """Weights softmax(alpha) of the options of each choice; the space derives what is chosen from the largest.

    The attributes are those of `Architect`; the defaults are the paper's for images (its second order is `order=2`).
    """

    def mixing(
        self, choices: Mapping[str, tuple[int, int]], generator: torch.Generator | None = None
    ) -> SoftmaxWeights:
        return SoftmaxWeights(choices, generator)
