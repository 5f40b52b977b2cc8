"""How a search goes about the weights of its space: `Schedule`, and what changes between its parts: `Stage`."""

import math
from collections.abc import Callable, Mapping, Sequence
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
    """A part of a search (DrNAS, arXiv 2006.10355, section 3.3).

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
            before = list(space.parameters())
            hand_over(optimiser, before, space, space.widen(self.partial, keep_function=keep_function))


def hand_over(
    optimiser: torch.optim.Optimizer, before: Sequence[nn.Parameter], space: nn.Module, grown: Mapping | Sequence
) -> None:
    """Gives an optimiser of one group the parameters of a widened space, with the state that they had.

    Args:
        before: the parameters before, in order.
        grown: what `widen` returned: for each parameter, in order, what makes a tensor of its old shape (momentum) one
            of its new shape; or the same by parameter, for those that were replaced, with the new parameter.
    """
    after = list(space.parameters())
    if isinstance(grown, Mapping):
        grows: list[Callable[[Tensor], Tensor]] = [grown[p][1] if p in grown else torch.clone for p in before]
    else:
        grows = list(grown)
    state = {}
    for old, new, grow in zip(before, after, grows, strict=True):
        if old in optimiser.state:
            shaped = {k: isinstance(v, Tensor) and v.shape == old.shape for k, v in optimiser.state[old].items()}
            state[new] = {k: grow(v) if shaped[k] else v for k, v in optimiser.state[old].items()}
    optimiser.param_groups[0]["params"] = after
    optimiser.state.clear()
    optimiser.state.update(state)
