"""NAS-Bench-201 (Dong & Yang 2020, arXiv 2001.00326): the network in which its cell is searched, and stand-alone ones.

Both are a stem, three stages of cells with C, 2 C and 4 C channels, a residual block that halves the image between
two stages, and a linear classifier of means over pixels.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthsearch.cells.nasbench201_operations import FixedCell, MixedCell, ReducingBlock
from depthsearch.cells.nasbench201_strings import EDGES, OPERATIONS, cell_string, parse_cell
from depthsearch.cells.nasbench201_widening import widen_around, widen_by_copies
from depthsearch.cells.progressive import Grown, ProgressiveSpace, check_partial

CHOICE = "cell"  # the one name in `choices`


class _Skeleton(nn.Module):
    """All but the cells; make_cell(channels) makes one."""

    def __init__(
        self, make_cell: Callable[[int], nn.Module], channels: int, cells: int, n_classes: int, in_channels: int
    ) -> None:
        super().__init__()
        sizes = {"channels": channels, "cells": cells, "n_classes": n_classes, "in_channels": in_channels}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} must be 1 or more, got {size}")
        self.stem = nn.Sequential(nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        stages: list[nn.Module] = []
        for stage in range(3):
            width = channels * 2**stage
            stages += [ReducingBlock(width // 2, width)] if stage else []
            stages += [make_cell(width) for _ in range(cells)]
        self.stages = nn.ModuleList(stages)
        self.norm = nn.BatchNorm2d(4 * channels)
        self.classifier = nn.Linear(4 * channels, n_classes)

    def _stem(self, x: Tensor) -> Tensor:
        return self.stem(x.contiguous(memory_format=torch.channels_last))

    def _read_out(self, x: Tensor) -> Tensor:
        return self.classifier(F.relu(self.norm(x)).mean((2, 3)))


class NASBench201Network(_Skeleton):
    """What `nasbench201_network` makes: images (B, in_channels, H, W) -> logits (B, n_classes)."""

    def __init__(self, string: str, channels: int, cells: int, n_classes: int, in_channels: int) -> None:
        operations = parse_cell(string)
        super().__init__(lambda width: FixedCell(operations, width), channels, cells, n_classes, in_channels)
        self.string = string

    def forward(self, x: Tensor) -> Tensor:
        x = self._stem(x)
        for block in self.stages:
            x = block(x)
        return self._read_out(x)


class NASBench201SearchNetwork(ProgressiveSpace, _Skeleton):
    """What `nasbench201_search_network` makes: a space of one choice, `cell`, of 6 edges with 5 options each.

    Attributes:
        choices: the shape of the mixing weights of each choice; rows in the order of `EDGES`, columns of `OPERATIONS`.
        partial, blend: as of a `ProgressiveSpace`; an edge works on the first 1 / partial of the channels.
    """

    choices: Mapping[str, tuple[int, int]] = {CHOICE: (len(EDGES), len(OPERATIONS))}

    def __init__(self, channels: int, cells: int, n_classes: int, partial: int, in_channels: int) -> None:
        check_partial(channels, partial)
        super().__init__(lambda width: MixedCell(width, partial), channels, cells, n_classes, in_channels)
        self.channels, self.partial, self.blend = channels, partial, 1.0
        self.open_all()

    def forward(self, x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, n_classes) of images (B, in_channels, H, W) and mixing weights in the shapes of `choices`.

        Closed options are not run: hand over what `restrict` makes of the weights.

        Raises:
            ValueError: the weights have other names or shapes.
        """
        self.check(weights)
        x = self._stem(x)
        for block in self.stages:
            x = block(x, weights[CHOICE], self.blend) if isinstance(block, MixedCell) else block(x)
        return self._read_out(x)

    def derive(self, weights: Mapping[str, Tensor]) -> str:
        """The official string of the cell with the largest weight on each edge, `none` included, of open options."""
        self.check(weights)
        scores = weights[CHOICE].detach().masked_fill(~self.masks[CHOICE], -torch.inf)
        return cell_string([OPERATIONS[best] for best in scores.argmax(-1).tolist()])

    def widen(self, partial: int, keep_function: bool = False, generator: torch.Generator | None = None) -> Grown:
        """Opens 1 / partial of the channels to the operations, more than before.

        As DrNAS does (`keep_function` false), each new channel of a convolution, in or out, is a copy of a random old
        one, and channels are shuffled in `partial` groups from now on: the function changes. With `keep_function` it
        does not: old channels do not see the new ones (zeros); these are drawn afresh and pass by as before while
        `blend`, set to 0 here, is 0; the shuffle stays what it was.

        A state saved after it is loaded into a new network of the new `partial`.

        Args:
            partial: a divisor of the channels, less than before.
            generator: of the draws, on the CPU.

        Returns:
            What became of each parameter that was replaced, for `carry_over`.

        Raises:
            ValueError: partial is no divisor or not less than before, or `blend` is not 1.
        """
        self.check_widening(self.channels, partial)
        widen_cell, grown = (widen_around if keep_function else widen_by_copies), {}
        for block in self.stages:
            if isinstance(block, MixedCell):
                grown |= widen_cell(block, partial, generator)
        self.partial, self.blend = partial, 0.0 if keep_function else 1.0
        self.settle()
        return grown

    def settle(self) -> None:
        rows = self.masks[CHOICE].tolist()
        options = [[name for name, is_open in zip(OPERATIONS, row, strict=True) if is_open] for row in rows]
        for block in self.stages:
            if isinstance(block, MixedCell):
                block.settle(options)


class NASBench201Block(nn.Module):
    """x + cell(x), or cell(x) alone: a cell as a block of a chain at one resolution (B, C, H, W) -> (B, C, H, W).

    Args:
        string: the cell.
        channels: C.
        residual: whether x is added; without it a cell with no path from its input ends the chain.
    """

    def __init__(self, string: str, channels: int, residual: bool = True) -> None:
        super().__init__()
        self.cell = FixedCell(parse_cell(string), channels)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        return x + self.cell(x) if self.residual else self.cell(x)


def nasbench201_search_network(
    channels: int = 16, cells: int = 5, n_classes: int = 10, partial: int = 1, in_channels: int = 3
) -> NASBench201SearchNetwork:
    """The network that DARTS and DrNAS search on NAS-Bench-201: all operations on all edges.

    `network(x, {"cell": w})` mixes them by w (6, 5) in all cells; `network.derive({"cell": w})` is the cell found.

    Args:
        channels: C of the first stage.
        cells: N in each of the three stages.
        partial: an edge works on the first 1 / partial of the channels (PC-DARTS; DrNAS uses 4, then 2).
        in_channels: of the images.

    Raises:
        ValueError: a size is not positive, or partial does not divide channels.
    """
    return NASBench201SearchNetwork(channels, cells, n_classes, partial, in_channels)


def nasbench201_network(
    string: str, channels: int = 16, cells: int = 5, n_classes: int = 10, in_channels: int = 3
) -> NASBench201Network:
    """The network that NAS-Bench-201 trains for the cell of a string such as `|nor_conv_3x3~0|+|...|+|...|`.

    Raises:
        ValueError: the string is no cell, or a size is not positive.
    """
    return NASBench201Network(string, channels, cells, n_classes, in_channels)
