"""DrNAS over depth (Chen et al. 2021, arXiv 2006.10355): weights from a learnt Dirichlet, depths dropped half way."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical, Dirichlet, kl_divergence

from depthsearch.learning.replicates import Replicates
from depthsearch.strategies.mixing import Batch, Mixing, MixtureWeights, gradient_of_alpha


class DirichletWeights(MixtureWeights):
    """w ~ Dirichlet(elu(beta) + 1) over the depths that are kept; beta is the buffer `alpha`.

    A call returns the mean. After `draw` the weights are a sample, differentiable in beta, until `forget`.
    """

    kept: Tensor

    def __init__(self, beta: Tensor) -> None:
        super().__init__(beta)
        self.register_buffer("kept", torch.ones_like(beta))
        self._sample: Tensor | None = None

    def concentration(self) -> Tensor:
        return F.elu(self.alpha) + 1

    def forward(self) -> Categorical:
        return Categorical(probs=self.concentration() * self.kept, validate_args=False)

    def draw(self, generators: Sequence[torch.Generator]) -> None:
        """A sample for each replicate, each from its own generator."""
        # torch samples a Dirichlet from its global generator only. The weights kept, divided by their sum, are
        # Dirichlet too.
        samples = []
        for concentration, generator in zip(self.concentration(), generators, strict=True):
            with torch.random.fork_rng(devices=[concentration.device] if concentration.is_cuda else []):
                torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
                samples.append(Dirichlet(concentration).rsample())
        self._sample = _normalised(torch.stack(samples) * self.kept)

    def forget(self) -> None:
        self._sample = None

    def deepest(self) -> int:
        """The deepest depth that a replicate keeps; no block beyond it is run."""
        return int(self.kept.reshape(-1, self.max_depth + 1).amax(0).nonzero().max())

    def weights(self) -> Tensor:
        weights = _normalised(self.concentration() * self.kept) if self._sample is None else self._sample
        return weights[..., : self.deepest() + 1]

    def keep_best_half(self) -> None:
        """Drops the depths of the smaller half of the mean weights, of equals the deeper ones."""
        best = torch.argsort(-self().probs, dim=-1, stable=True)[..., : (self.max_depth + 2) // 2]
        self.kept.zero_().scatter_(-1, best, 1.0)


def _normalised(weights: Tensor) -> Tensor:
    return weights / weights.sum(-1, keepdim=True)


@dataclass(frozen=True)
class DrNAS(Mixing):
    """Two stages of half the epochs each; between them the better half of the depths is kept.

    The choice is the depth of the largest mean weight. Only states of the second stage should be candidates
    (`Selection.settle` of a half).

    Attributes:
        regulariser: weight of KL(Dirichlet(elu(beta) + 1) || Dirichlet(1)) in what beta minimises.
        warm_up: share of each stage for which beta is left alone.
    """

    weight_decay: float = 0.0
    regulariser: float = 1e-3
    warm_up: float = 0.2

    def posterior(self, max_depth: int) -> DirichletWeights:
        return DirichletWeights(1e-3 * torch.randn(max_depth + 1))

    @property
    def passes(self) -> float:
        return 1 - self.warm_up / 2

    def block_evaluations(self, depth: DirichletWeights, n_train: int, epochs: int, limit: int) -> float:
        first = min(epochs, limit // 2)
        return self.passes * n_train * (depth.max_depth * first + depth.deepest() * (epochs - first))

    def run_epoch(self, replicates: Replicates, data, generators) -> Tensor:
        if replicates.epoch == replicates.training.epochs // 2 + 1:
            _weights(replicates).keep_best_half()
        value = super().run_epoch(replicates, data, generators)
        _weights(replicates).forget()
        return value

    def before_step(self, replicates: Replicates, own: Batch, other: Batch, generators) -> None:
        depth, stage = _weights(replicates), max(replicates.training.epochs // 2, 1)
        if (replicates.epoch - 1) % stage >= self.warm_up * stage:
            (gradient,) = gradient_of_alpha(replicates, lambda: self.bound(replicates, other, generators))
            depth.ascend(gradient, self.learning_rate, self.weight_decay)
        depth.draw(generators)

    def bound(self, replicates: Replicates, batch: Batch, generators) -> Tensor:
        """What beta maximises (R,): the objective under a sample, less the regulariser."""
        depth = _weights(replicates)
        depth.draw(generators)
        concentration = depth.concentration()
        kl = kl_divergence(Dirichlet(concentration), Dirichlet(torch.ones_like(concentration)))
        return replicates.value(*batch, n_train=1) - self.regulariser * kl


def _weights(replicates: Replicates) -> DirichletWeights:
    assert isinstance(replicates.depth, DirichletWeights)
    return replicates.depth
