"""One architect for all spaces: how mixing weights are learnt (DARTS, arXiv 1806.09055; DrNAS, arXiv 2006.10355)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from depthsearch.learning.bilevel import Bilevel, LookAhead, exact_second_order, first_order, second_order
from depthsearch.learning.mixing import MixingWeights, Weights

PASSES = {1: 1, 2: 4, "exact": 2}  # forward passes of a step of alpha, by the order of its gradient


@dataclass(frozen=True)
class Architect:
    """How mixing weights are learnt: by Adam on the gradient of the validation loss.

    Attributes:
        learning_rate: of Adam; the default is the paper's for images.
        weight_decay: L2 on alpha, added to its gradient within Adam.
        betas: of Adam; those of the papers for images (the recurrent space has torch's default).
        regulariser: weight of the KL to flat mixing weights in what alpha minimises, summed over edges and choices.
        order: 1 takes the gradient at the present weights of the network; 2 at the weights after the step that SGD
            takes next (that its gradient is clipped first is left out, unless `Schedule.clips_ahead`), and through that
            step by a finite difference as published; "exact" through it by double differentiation.
        warm_up: share of each stage of a search for which alpha is left alone.
        faithful: does as the original does where that is wrong or an accident: see `LookAhead` and `Search`; what a
            task does (`TextParts.temporal`) is not its business.

    Raises:
        ValueError: there is no such order, or warm_up is no share.
    """

    learning_rate: float = 3e-4
    weight_decay: float = 1e-3
    betas: tuple[float, float] = (0.5, 0.999)
    regulariser: float = 0.0
    order: int | str = 1
    warm_up: float = 0.0
    faithful: bool = False

    def __post_init__(self) -> None:
        if self.order not in PASSES:
            raise ValueError(f"order must be one of {', '.join(map(str, PASSES))}; got {self.order}")
        if not 0 <= self.warm_up <= 1:
            raise ValueError(f"warm_up is a share, from 0 to 1; got {self.warm_up}")

    @property
    def passes(self) -> float:
        """How often an epoch runs the network forward over the training points, of which each half is one of two."""
        return (1 + (1 - self.warm_up) * PASSES[self.order]) / 2

    def learns_in(self, epoch: int, epochs: int) -> bool:
        """Whether alpha is learnt in an epoch, counted from 1, of a stage of so many."""
        return epoch - 1 >= self.warm_up * epochs

    def mixing(self, choices: Mapping[str, tuple[int, int]], generator: torch.Generator | None = None) -> MixingWeights:
        """The mixing weights of a space to start from."""
        raise NotImplementedError

    def ranking(self, mixing: MixingWeights) -> Weights:
        """By which weights a space derives what is found: the expected ones."""
        return mixing.mean()

    def learn(self, problem: Bilevel, ahead: LookAhead) -> Tensor:
        """A step of alpha; the validation loss before it (*R,)."""
        value, gradients = self.gradients(problem, ahead)
        problem.mixing.descend(gradients, self.learning_rate, self.weight_decay, self.betas)
        return value

    def gradients(self, problem: Bilevel, ahead: LookAhead) -> tuple[Tensor, Weights]:
        """The validation loss (*R,), without the regulariser, and the gradient {name: (*R, edges, options)}."""
        if self.order == 1:
            return first_order(problem, self.regulariser)
        return (second_order if self.order == 2 else exact_second_order)(problem, ahead, self.regulariser)
