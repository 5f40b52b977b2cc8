"""Seeded tensors of one data set: training, validation and test points."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Split:
    """Training and test points of one data set: inputs (N, ...), targets (N,) int64.

    Inputs are float32, or uint8 images (N, C, H, W) that `inputs` normalises batch by batch.

    Attributes:
        x_valid, y_valid: points held out of training for the selection of a model; None if there are none.
        mean, std: per channel, of images scaled to [0, 1].
    """

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    x_valid: Tensor | None = None
    y_valid: Tensor | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def to(self, device: torch.device | str) -> "Split":
        return self._each(lambda t: t.to(device))

    @staticmethod
    def stack(splits: Sequence["Split"]) -> "Split":
        """Data sets of equal sizes as one, with a leading replicate axis."""
        if len(splits) == 1:  # not copied
            return splits[0]._each(lambda t: t.unsqueeze(0))
        twins = {
            name: [getattr(s, name) for s in splits] for name, t in vars(splits[0]).items() if isinstance(t, Tensor)
        }
        return replace(splits[0], **{name: torch.stack(tensors) for name, tensors in twins.items()})

    def rows(self, rows: list[int]) -> "Split":
        """Some replicates of a stacked data set."""
        return self._each(lambda t: t[rows])

    def _each(self, function: Callable[[Tensor], Tensor]) -> "Split":
        return replace(self, **{k: function(t) for k, t in vars(self).items() if isinstance(t, Tensor)})

    def inputs(self, x: Tensor) -> Tensor:
        """A batch (..., C, H, W) of images as the network sees it; other inputs as they are."""
        if x.dtype != torch.uint8:
            return x
        return (x - _of_bytes(self.mean, x.device)) / _of_bytes(self.std, x.device)

    def select_on_test(self) -> "Split":
        """The test points as validation points, which is what the original code does with images."""
        return replace(self, x_valid=self.x_test, y_valid=self.y_test)

    def hold_out(self, fraction: float, seed: int) -> "Split":
        """Moves a seeded share of the training points to the validation points.

        Raises:
            ValueError: that leaves no point on one of the two sides.
        """
        n = len(self.y_train)
        if not 0 < round(n * fraction) < n:
            raise ValueError(
                f"of {n} training points a share of {fraction:g} held out leaves none on one side; take more"
            )
        order = torch.from_numpy(np.random.default_rng(seed).permutation(n)).to(self.y_train.device)
        valid, train = order[: round(n * fraction)], order[round(n * fraction) :].sort().values
        return replace(
            self,
            x_train=self.x_train[train],
            y_train=self.y_train[train],
            x_valid=self.x_train[valid],
            y_valid=self.y_train[valid],
        )


@cache
def _of_bytes(channels: tuple[float, ...], device: torch.device) -> Tensor:
    # (C, 1, 1), made once: a GPU is waited for when a tensor is made of numbers.
    return 255 * torch.tensor(channels, device=device).view(-1, 1, 1)
