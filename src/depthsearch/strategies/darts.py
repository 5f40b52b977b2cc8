"""DARTS over depth (Liu, Simonyan & Yang 2019, arXiv 1806.09055): softmax weights, first or second order."""

from dataclasses import dataclass

import torch
from torch import Tensor

from depthsearch.learning.replicates import Replicates
from depthsearch.strategies.mixing import Batch, Mixing, MixtureWeights, gradient_of_alpha, weights_of

EPSILON = 0.01  # of the finite difference, over the norm of the direction (section 2.3)


@dataclass(frozen=True)
class Darts(Mixing):
    """Weights softmax(alpha) of the depths, alpha started at 0.001 N(0, 1); the choice is the largest.

    Attributes:
        order: 1 takes the gradient of the other half at the present weights of the network; 2 at the weights after a
            virtual step of SGD on their own half, and through that step (equations 6 to 8).
    """

    order: int = 1

    @property
    def passes(self) -> float:
        # Over halves: one for the network, and one or four for alpha.
        return 1.0 if self.order == 1 else 2.5

    def posterior(self, max_depth: int) -> MixtureWeights:
        return MixtureWeights(1e-3 * torch.randn(max_depth + 1))

    def before_step(self, replicates: Replicates, own: Batch, other: Batch, generators) -> None:
        if self.order == 1:
            (gradient,) = gradient_of_alpha(replicates, lambda: replicates.value(*other, n_train=1))
        else:
            gradient = second_order(replicates, own, other, replicates.learning_rate)
        weights_of(replicates).ascend(gradient, self.learning_rate, self.weight_decay)


def second_order(replicates: Replicates, own: Batch, other: Batch, step: float) -> Tensor:
    """Gradient (R, D + 1) in alpha of F_other(w + step grad_w F_own(w, alpha), alpha), F being the objective.

    The product with the second derivative is a central difference along v = grad_w F_other at the moved weights, of
    half-width 0.01 / |v|. The replicates are left as they were, running statistics included.
    """
    before, n = replicates.state.clone(), replicates.velocity.shape[1]
    parameters = list(replicates.network.parameters())
    _, uphill = replicates.gradient(*own, n_train=1)

    def at(direction: Tensor, *others: Tensor, batch: Batch) -> list[Tensor]:
        replicates.state.copy_(before)
        replicates.state[:, :n] += direction
        return gradient_of_alpha(replicates, lambda: replicates.value(*batch, n_train=1), *others)

    direct, *v = at(step * uphill, *parameters, batch=other)
    v = torch.cat([g.reshape(len(before), -1) for g in v], 1)
    epsilon = EPSILON / v.norm(dim=1, keepdim=True)
    (plus,), (minus,) = at(epsilon * v, batch=own), at(-epsilon * v, batch=own)
    replicates.state.copy_(before)
    return direct + step * (plus - minus) / (2 * epsilon)
