"""What a space is searched on: pairs of batches, one that its weights are fitted to and one for the mixing weights."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthsearch.data.split import Split
from depthsearch.learning.bilevel import Loss
from depthsearch.learning.mixing import Weights

Augment = Callable[[Split, Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Pair:
    """Two batches, as losses of mixing weights that run a space on them.

    Attributes:
        train: on points that the weights of the space are fitted to.
        valid: on points that they are not.
        scale: of the learning rate of the weights for this batch (texts: its length over the usual one).
    """

    train: Loss
    valid: Loss
    scale: float = 1.0


class Task(Protocol):
    """Anything that has pairs."""

    def pairs(self, space: nn.Module, generator: torch.Generator) -> Iterator[Pair]:
        """Those of an epoch, in an order of its own; all that is random is drawn from the generator, on the CPU."""
        ...


@dataclass(frozen=True)
class Halves:
    """Labelled points: the training points of a split for the weights, its validation points for the mixing weights.

    Attributes:
        split: on the device of the space.
        batch_size: of both. A last one of a single point is left out, which batch norm cannot take.
        augment: makes of the split, images of a batch and a generator what the space sees; by default it is only
            normalised.

    Raises:
        ValueError: the split has fewer than two points of one of the kinds.
    """

    split: Split
    batch_size: int = 64
    augment: Augment = lambda split, x, generator: split.inputs(x)

    def __post_init__(self) -> None:
        if self.split.y_valid is None or len(self.split.y_valid) == 0:
            raise ValueError("a search needs validation points to learn its mixing weights on; hold some out")
        if min(len(self.split.y_train), len(self.split.y_valid)) < 2:
            raise ValueError("a search needs two training and two validation points or more")

    def to(self, device: torch.device) -> "Halves":
        """The same points on a device."""
        return replace(self, split=self.split.to(device))

    def pairs(self, space: nn.Module, generator: torch.Generator) -> Iterator[Pair]:
        """One pass over the training points; where there are fewer validation points, these come round again."""
        split = self.split
        assert split.x_valid is not None and split.y_valid is not None
        valid = self._batches(split.x_valid, split.y_valid, generator)
        for train in self._batches(split.x_train, split.y_train, generator):
            other = next(valid, None)
            if other is None:
                valid = self._batches(split.x_valid, split.y_valid, generator)
                other = next(valid)
            yield Pair(self._loss(space, *train, generator), self._loss(space, *other, generator))

    def _batches(self, x: Tensor, y: Tensor, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(y), generator=generator).to(y.device)
        for rows in order.split(self.batch_size):
            if len(rows) > 1 or self.batch_size == 1:
                yield x[rows], y[rows]

    def _loss(self, space: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Loss:
        inputs = self.augment(self.split, x, generator)

        def loss(weights: Weights) -> Tensor:
            return F.cross_entropy(space(inputs, weights).float(), y)

        return loss
