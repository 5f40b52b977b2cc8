"""Depth searched as a mixture of outputs: what an architect needs to learn the one choice of a `DepthSpace`.

The weights of the network take a step of SGD on one half of the training points for every step of the architecture
parameters on the other half, which therefore serves as their validation set.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Categorical

from depthsearch.data.split import Split
from depthsearch.depth.choice import CHOICE, largest, mix_depths
from depthsearch.depth.networks import DepthNetwork
from depthsearch.depth.posteriors import DepthPosterior
from depthsearch.learning.architect import PASSES, Architect
from depthsearch.learning.bilevel import Bilevel, LookAhead, Loss
from depthsearch.learning.method import Method
from depthsearch.learning.mixing import MixingWeights, Weights
from depthsearch.learning.replicates import Replicates

Batch = tuple[Tensor, Tensor]


class MixtureDepth(DepthPosterior):
    """The mixing weights of the choice "depth" (*R, 1, D + 1), as a distribution over depth: a call returns their mean.

    All of their state is buffers, so SGD leaves them alone, and replicates, best states and checkpoints carry them. The
    prior, uniform, plays no part.

    Args:
        mixing: over {"depth": (1, D + 1)}.
    """

    def __init__(self, mixing: MixingWeights) -> None:
        super().__init__(torch.ones(mixing.alphas[CHOICE].shape[-1]))
        self.mixing = mixing
        self._held: Weights | None = None
        self._deepest: int | None = None

    def forward(self) -> Categorical:
        return Categorical(probs=self.mixing.mean()[CHOICE].squeeze(-2), validate_args=False)

    def hold(self, weights: Weights | None) -> None:
        """Has the network mix by these weights, a draw for one, until told otherwise; None for the mean.

        What is kept must not change before None: that is read once, since reading it waits for a GPU.
        """
        if weights is None:
            self._deepest = None
        elif self._deepest is None:
            self._deepest = self.deepest()
        self._held = weights

    def weights(self) -> Tensor:
        """(*R, S) weights of the depths 0..S - 1 that are run, up to the deepest that a replicate keeps."""
        weights = self.mixing.mean() if self._held is None else self._held
        deepest = self.deepest() if self._deepest is None else self._deepest
        return weights[CHOICE].squeeze(-2)[..., : deepest + 1]

    def deepest(self) -> int:
        """The deepest depth that a replicate keeps; no block beyond it is run."""
        return int(self.mixing.masks[CHOICE].reshape(-1, self.max_depth + 1).any(0).nonzero().max())


@dataclass(frozen=True)
class Mixing(Architect, Method):
    """Base of the architects that search depth too.

    Attributes:
        mix: "features" or "logits", see `DepthSpace`.
    """

    mix: str = "features"
    depthwise: ClassVar[bool] = False

    @property
    def second_derivatives(self) -> bool:
        return self.order == "exact"

    def posterior(self, max_depth: int) -> MixtureDepth:
        return MixtureDepth(self.mixing({CHOICE: (1, max_depth + 1)}))

    def objective(self, log_likelihoods: Tensor, depth: DepthPosterior, n_train: int) -> Tensor:
        return log_likelihoods[0]

    def outputs(self, network: DepthNetwork, depth: DepthPosterior, x: Tensor) -> Tensor:
        assert isinstance(depth, MixtureDepth)
        return mix_depths(network, x, depth.weights(), self.mix)

    def log_predictive(self, outputs: Tensor, depth: DepthPosterior) -> Tensor:
        return outputs[0].log_softmax(-1)

    def chosen_depth(self, probs: Tensor) -> int:
        """The depth of the largest weight, the shallower one of equals."""
        return largest(probs)

    def run_epoch(self, replicates: Replicates, data: Split, generators: Sequence[torch.Generator]) -> Tensor:
        """One pass over both halves; the objective per datum of the network's half (R,)."""
        n = data.y_train.shape[1] // 2
        rows = [slice(half, 2 * n, 2) for half in (0, 1)]
        halves = [replace(data, x_train=data.x_train[:, rows], y_train=data.y_train[:, rows]) for rows in rows]
        depth, learning = mixture_of(replicates), self.learns_at(replicates.epoch, replicates.training.epochs)
        total = torch.zeros(len(generators), device=data.y_train.device)
        for own, other in zip(*(replicates.batches(half, generators) for half in halves), strict=True):
            if learning:
                self.learn(problem(replicates, own, other, generators), self._ahead(replicates))
            depth.hold(depth.mixing.draw(generators))
            total += replicates.step(*own, n_train=n) * own[1].shape[1]
        depth.hold(None)
        return total / n

    def learns_at(self, epoch: int, epochs: int) -> bool:
        """Whether alpha is learnt in an epoch, counted from 1, of a search of so many."""
        return self.learns_in(epoch, epochs)

    def block_evaluations(self, depth: DepthPosterior, n_train: int, epochs: int, limit: int) -> float:
        return depth.max_depth * n_train * self.passes_in(range(1, epochs + 1), limit)

    def passes_in(self, epochs: range, limit: int) -> float:
        """How often these epochs, of a search of at most `limit`, run the network forward over the training points, of
        which each half is one of two."""
        return (len(epochs) + sum(self.learns_at(epoch, limit) for epoch in epochs) * PASSES[self.order]) / 2

    def _ahead(self, replicates: Replicates) -> LookAhead:
        named = dict(replicates.network.named_parameters())
        rows = len(replicates.velocity)  # uphill: that of what is maximised
        parts = replicates.velocity.split([p.numel() // rows for p in named.values()], dim=1)
        velocity = {name: -part.reshape(p.shape) for (name, p), part in zip(named.items(), parts, strict=True)}
        momentum = replicates.training.momentum
        return LookAhead(replicates.learning_rate, momentum, velocity=velocity, faithful=self.faithful)


def mixture_of(replicates: Replicates) -> MixtureDepth:
    """The posterior of replicates that mix."""
    assert isinstance(replicates.depth, MixtureDepth)
    return replicates.depth


def problem(replicates: Replicates, own: Batch, other: Batch, generators: Sequence[torch.Generator]) -> Bilevel:
    """What a step of alpha sees; `own` is the batch that the network trains on next."""
    depth = mixture_of(replicates)

    def loss_on(batch: Batch) -> Loss:
        def loss(weights: Weights) -> Tensor:
            depth.hold(weights)
            value = -replicates.value(*batch, n_train=1)
            return value if replicates.has_axis else value.squeeze(0)  # of a network without replicate axis

        return loss

    return Bilevel(replicates.network, depth.mixing, loss_on(own), loss_on(other), generators)
