"""Batches of a split: in a random order and changed for training, as they are for testing."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from depthsearch.data.augment import Augmentation
from depthsearch.data.split import Split


@dataclass(frozen=True)
class SplitBatches:
    """Batches (inputs, targets) of a split of images.

    Attributes:
        split: on the device of the network.
        size: images of a batch in training. A last one of a single image is left out, which batch norm cannot take.
        augmentation: what is done to the training images.
    """

    split: Split
    size: int
    augmentation: Augmentation

    def train(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Those of an epoch; order and changes are drawn from the generator, on the CPU."""
        split = self.split
        for rows in torch.randperm(len(split.y_train), generator=generator).to(split.y_train.device).split(self.size):
            if len(rows) > 1:
                yield self.augmentation(split, split.x_train[rows], generator), split.y_train[rows]

    def held_out(self, part: str, size: int = 500) -> Iterator[tuple[Tensor, Tensor]]:
        """Those of the "valid" or the "test" points, in order."""
        x, y = getattr(self.split, f"x_{part}"), getattr(self.split, f"y_{part}")
        for rows in torch.arange(len(y), device=y.device).split(size):
            yield self.split.inputs(x[rows]), y[rows]

    @property
    def parts(self) -> tuple[str, ...]:
        """Which points there are beside those of training."""
        return ("test",) if self.split.y_valid is None else ("valid", "test")
