"""DrNAS (Chen et al. 2021, arXiv 2006.10355): weights drawn from a learnt Dirichlet, options dropped on the way."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from depthsearch.learning.mixing import DirichletWeights, MixingWeights, Weights
from depthsearch.learning.replicates import Replicates
from depthsearch.strategies.mixing import Mixing, MixtureDepth, mixture_of


def better_half(max_depth: int) -> int:
    """How many of the depths 0..D the second stage of a search has."""
    return (max_depth + 2) // 2


@dataclass(frozen=True)
class DrNAS(Mixing):
    """Weights of the options of each choice ~ Dirichlet(elu(beta) + 1), a new draw every pass; beta is `alpha` here.

    The attributes are those of `Architect`; the defaults are the paper's: L2 on beta, its KL (`regulariser=1e-3`,
    `weight_decay=0`) is the option. What is chosen has the largest mean weight; if `faithful`, the largest
    softmax(beta) as in the original, which ranks the options of an edge alike, but not edges among each other.

    Cells are searched in the stages that a `Search` is given. Depth is searched in two stages of half the epochs each,
    of an odd number the second one more; between them the better half of the depths is kept. Only states of the second
    stage should be candidates (`Selection.settle` of a half).
    """

    def mixing(
        self, choices: Mapping[str, tuple[int, int]], generator: torch.Generator | None = None
    ) -> DirichletWeights:
        return DirichletWeights(choices, generator)

    def ranking(self, mixing: MixingWeights) -> Weights:
        return mixing.softmax() if self.faithful else mixing.mean()

    def block_evaluations(self, depth: MixtureDepth, n_train: int, epochs: int, limit: int) -> float:
        first = min(epochs, limit // 2)
        before, after = self.passes_in(range(1, first + 1), limit), self.passes_in(range(first + 1, epochs + 1), limit)
        return n_train * (depth.max_depth * before + depth.deepest() * after)

    def run_epoch(self, replicates: Replicates, data, generators) -> Tensor:
        if replicates.epoch == replicates.training.epochs // 2 + 1:
            depth = mixture_of(replicates)
            depth.mixing.keep_best(better_half(depth.max_depth))
        return super().run_epoch(replicates, data, generators)

    def learns_at(self, epoch: int, epochs: int) -> bool:
        first = epochs // 2
        return self.learns_in(epoch, first) if epoch <= first else self.learns_in(epoch - first, epochs - first)
