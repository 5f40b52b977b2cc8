"""Depth as a mixture of outputs, its weights learnt by Adam on the other half of the training data.

What DARTS and DrNAS over depth share. The weights of the network take a step of SGD on one half of the training points
for every step of the architecture parameters on the other half, which therefore serves as their validation set.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Categorical

from depthsearch.data.split import Split
from depthsearch.depth.networks import DepthNetwork
from depthsearch.depth.posteriors import DepthPosterior
from depthsearch.learning.method import Method
from depthsearch.learning.replicates import Replicates

BETAS, EPS = (0.5, 0.999), 1e-8  # of Adam (Liu et al. 2019, appendix A.1.1)
Batch = tuple[Tensor, Tensor]


class MixtureWeights(DepthPosterior):
    """Weights w = softmax(alpha) of the outputs of each depth; alpha and its Adam moments are buffers.

    So SGD leaves them alone, and replicates, best states and checkpoints carry them. The prior, uniform, plays no part.

    Args:
        alpha: (D + 1,) to start from.
    """

    alpha: Tensor
    moment: Tensor
    square: Tensor
    steps: Tensor

    def __init__(self, alpha: Tensor) -> None:
        super().__init__(torch.ones(len(alpha)))
        self.register_buffer("alpha", alpha.clone())
        self.register_buffer("moment", torch.zeros_like(alpha))
        self.register_buffer("square", torch.zeros_like(alpha))
        self.register_buffer("steps", alpha.new_zeros(1))

    def forward(self) -> Categorical:
        return Categorical(logits=self.alpha, validate_args=False)

    def weights(self) -> Tensor:
        """(*R, S) weights of the depths 0..S - 1 that are run; differentiable in alpha."""
        return self.alpha.softmax(-1)

    @torch.no_grad()
    def ascend(self, gradient: Tensor, learning_rate: float, weight_decay: float) -> None:
        """A step of Adam up the gradient (*R, D + 1) of what alpha maximises, with L2 weight decay."""
        descent = weight_decay * self.alpha - gradient
        self.steps += 1
        self.moment.lerp_(descent, 1 - BETAS[0])
        self.square.lerp_(descent.square(), 1 - BETAS[1])
        moment, square = self.moment / (1 - BETAS[0] ** self.steps), self.square / (1 - BETAS[1] ** self.steps)
        self.alpha -= learning_rate * moment / (square.sqrt() + EPS)


@dataclass(frozen=True)
class Mixing(Method):
    """Base of the methods that predict with a mixture of the depths.

    Attributes:
        mix: "features" mixes what the head sees of each depth, "logits" its logits; on a linear head they are the same.
            Batch norm in a head normalises mixed features with the statistics that it keeps for depth D.
        learning_rate, weight_decay: of Adam on alpha.
    """

    mix: str = "features"
    learning_rate: float = 3e-4
    weight_decay: float = 1e-3
    depthwise: ClassVar[bool] = False

    def objective(self, log_likelihoods: Tensor, depth: DepthPosterior, n_train: int) -> Tensor:
        return log_likelihoods[0]

    def outputs(self, network: DepthNetwork, depth: DepthPosterior, x: Tensor) -> Tensor:
        assert isinstance(depth, MixtureWeights)
        weights = depth.weights().movedim(-1, 0)  # (S, *R)
        seen = network.activations(x, max_depth=len(weights) - 1)
        stacked = torch.stack(seen) if self.mix == "features" else network.read_out(seen)
        mixed = (weights.reshape(*stacked.shape[:-2], 1, 1) * stacked).sum(0, keepdim=True)
        return network.read_out(list(mixed), network.max_depth) if self.mix == "features" else mixed

    def log_predictive(self, outputs: Tensor, depth: DepthPosterior) -> Tensor:
        return outputs[0].log_softmax(-1)

    def chosen_depth(self, probs: Tensor) -> int:
        """The depth of the largest weight, the shallower one of equals."""
        return int((probs == probs.max()).int().argmax())

    def run_epoch(self, replicates: Replicates, data: Split, generators: Sequence[torch.Generator]) -> Tensor:
        """One pass over both halves; the objective per datum of the network's half (R,)."""
        n = data.y_train.shape[1] // 2
        rows = [slice(half, 2 * n, 2) for half in (0, 1)]
        halves = [replace(data, x_train=data.x_train[:, rows], y_train=data.y_train[:, rows]) for rows in rows]
        total = torch.zeros(len(generators), device=data.y_train.device)
        for own, other in zip(*(replicates.batches(half, generators) for half in halves), strict=True):
            self.before_step(replicates, own, other, generators)
            total += replicates.step(*own, n_train=n) * own[1].shape[1]
        return total / n

    def before_step(self, replicates: Replicates, own: Batch, other: Batch, generators) -> None:
        """The step of the architecture parameters; `own` is the batch that the network trains on next."""
        raise NotImplementedError


def weights_of(replicates: Replicates) -> MixtureWeights:
    """The posterior of replicates that mix."""
    assert isinstance(replicates.depth, MixtureWeights)
    return replicates.depth


def gradient_of_alpha(replicates: Replicates, value: Callable[[], Tensor], *others: Tensor) -> list[Tensor]:
    """Gradients of sum(value()) with respect to alpha (R, D + 1), and to other tensors."""
    alpha = weights_of(replicates).alpha
    alpha.requires_grad_(True)
    try:
        return list(torch.autograd.grad(value().sum(), [alpha, *others], materialize_grads=True))
    finally:
        alpha.requires_grad_(False)
