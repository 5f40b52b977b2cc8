"""How a search goes about the weights of its space: `Schedule`, and what changes between its parts: `Stage`."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from depthsearch.learning.mixing import MixingWeights


@dataclass(frozen=True)
class Schedule:
    """How the weights of a space are trained; the defaults are those of both papers for CIFAR-10.

    Attributes:
        learning_rate, final: of SGD in the first epoch, and what its cosine ends at; the same for a constant one.
        momentum, weight_decay: of SGD.
        clip: norm of the gradient at most.
        precision: "float32", "tf32", or "bfloat16" for mixed precision.
        clips_ahead: whether the step that the second order looks ahead by is clipped too, as for the recurrent space.
        clips_alpha: whether the gradient of alpha is within the clipped norm, as in DrNAS's code for NAS-Bench-201.
        tied: names of parameters that a faithful look ahead forgets to move: the embedding of the recurrent space.
    """

    learning_rate: float = 0.025
    final: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip: float = 5.0
    precision: str = "float32"
    clips_ahead: bool = False
    clips_alpha: bool = False
    tied: tuple[str, ...] = ()

    def rate(self, epoch: int, epochs: int) -> float:
        """The learning rate of an epoch, counted from 1: one cosine over all stages."""
        return self.final + (self.learning_rate - self.final) * (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2

    def optimiser(self, space: nn.Module) -> torch.optim.SGD:
        """That of the weights."""
        return torch.optim.SGD(
            space.parameters(), lr=self.learning_rate, momentum=self.momentum, weight_decay=self.weight_decay
        )


@dataclass(frozen=True)
class Stage:
    """A part of a search (DrNAS, arXiv 2006.10355, "progressive architecture learning").

    Attributes:
        epochs: how long it takes.
        keep: options that each edge keeps when it begins, those of the largest mean weight; None for all it has.
        partial: 1 / partial of the channels are open to operations from then on, more than before; None for as many.
    """

    epochs: int
    keep: int | None = None
    partial: int | None = None

    def drop(self, space: Any, mixing: MixingWeights) -> None:
        """Drops the options that are not kept."""
        if self.keep is not None:
            mixing.keep_best(self.keep)
            space.prune(mixing.masks)

    def widen(self, space: Any, optimiser: torch.optim.Optimizer, keep_function: bool) -> None:
        """Opens channels, and hands the parameters that there are then to the optimiser.

        Args:
            keep_function: whether the space goes on computing what it did; its `blend` is then to be raised to 1.
        """
        if self.partial is not None:
            grown = space.widen(self.partial, keep_function)
            carry_over(optimiser, space.parameters(), grown)


def carry_over(optimiser: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], grown: Mapping) -> None:
    """Hands a space's parameters to its optimiser anew after widening, with the state that they had.

    Args:
        optimiser: of one group. State of the shape of a parameter (momentum) grows as the parameter did.
        parameters: all of the space now.
        grown: what `widen` returned: by parameter that was replaced, the new one, and what makes a tensor of the old
            shape one of the new shape.
    """
    optimiser.param_groups[0]["params"] = list(parameters)
    for old, (new, grow) in grown.items():
        if old in optimiser.state:
            state = optimiser.state.pop(old)
            shaped = {key for key, value in state.items() if isinstance(value, Tensor) and value.shape == old.shape}
            optimiser.state[new] = {key: grow(value) if key in shaped else value for key, value in state.items()}
