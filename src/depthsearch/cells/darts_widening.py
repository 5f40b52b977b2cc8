"""Widening a cell of the DARTS search network: its operations come to work on more channels (DrNAS, arXiv 2006.10355).

Two ways. As DrNAS does: every convolution is enlarged by copies of randomly drawn channels, and the channels are
shuffled in their new groups; the network then computes something else. Or so that it computes what it did: old channels
read nothing of the new ones, stay where they were in the shuffle, and the new ones pass by until `blend` lets the
operations in.
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from depthsearch.cells.mixed import MixedCell, shuffle_order
from depthsearch.cells.operations import DilatedConv, FactorizedReduce, Pool, SeparableConv
from depthsearch.cells.progressive import Grown


class Source(NamedTuple):
    """Which old channel each new channel copies (n',), and which of the new ones are the old ones themselves (n',)."""

    index: Tensor
    old: Tensor


class Widening:
    """Widens operations and remembers, in `grown`, what became of each parameter.

    Args:
        keep_function: old channels are not to read new ones.
        generator: draws which channels are copied, on the CPU.
    """

    def __init__(self, keep_function: bool, generator: torch.Generator | None) -> None:
        self.keep_function, self.generator = keep_function, generator
        self.grown: Grown = {}

    def draw(self, before: int, after: int) -> Source:
        """The old channels where they belong and copies of random ones elsewhere."""
        old = torch.zeros(after, dtype=torch.bool)
        old[old_positions(before, after, self.keep_function)] = True
        index = torch.randint(before, (after,), generator=self.generator)
        index[old] = torch.arange(before)
        return Source(index, old)

    def operation(self, op: nn.Module, after: int) -> None:
        """Widens an operation, in place, to `after` channels."""
        match op:
            case SeparableConv():
                self._separable(op.depthwise1, op.pointwise1, op.norm1, after)
                self._separable(op.depthwise2, op.pointwise2, op.norm, after)
            case DilatedConv():
                self._separable(op.depthwise, op.pointwise, op.norm, after)
            case FactorizedReduce():
                self._reduce(op, after)
            case Pool():
                norm = cast(nn.BatchNorm2d, op.norm)
                self._norm(norm, self.draw(norm.num_features, after).index)
            case _:
                raise ValueError(f"{type(op).__name__} cannot be widened")

    def _separable(self, depthwise: nn.Conv2d, pointwise: nn.Conv2d, norm: nn.BatchNorm2d, after: int) -> None:
        inner, outer = (self.draw(norm.num_features, after) for _ in range(2))
        self._conv(depthwise, inner)
        self._conv(pointwise, outer, inner)
        self._norm(norm, outer.index)

    def _reduce(self, op: FactorizedReduce, after: int) -> None:
        before, seen = op.norm.num_features, 0
        index = []
        for conv, half in ((op.even, after // 2), (op.odd, after - after // 2)):
            rows = _first(conv.out_channels, half, self.generator)
            index.append(rows.index + seen)
            seen += conv.out_channels
            self._conv(conv, rows, self.draw(before, after))
        self._norm(op.norm, torch.cat(index))

    def _conv(self, conv: nn.Conv2d, rows: Source, columns: Source | None = None) -> None:
        def grow(tensor: Tensor) -> Tensor:
            wide = tensor[rows.index.to(tensor.device)]
            if columns is not None:
                wide = wide[:, columns.index.to(tensor.device)]
                if self.keep_function:
                    closed = rows.old[:, None] & ~columns.old
                    wide = wide.masked_fill(closed[..., None, None].to(tensor.device), 0)
            return wide

        old, new = cast(nn.Parameter, conv.weight), nn.Parameter(grow(conv.weight.detach()))
        conv.weight, self.grown[old] = new, (new, grow)
        conv.out_channels = len(rows.index)
        conv.in_channels = len(rows.index) if columns is None else len(columns.index)
        conv.groups = len(rows.index) if columns is None else 1

    @staticmethod
    def _norm(norm: nn.BatchNorm2d, index: Tensor) -> None:
        norm.num_features = len(index)
        for name in ("running_mean", "running_var"):
            statistic: Tensor = getattr(norm, name)
            setattr(norm, name, statistic[index.to(statistic.device)].clone())


def old_positions(before: int, after: int, keep_function: bool) -> Tensor:
    """Where the old channels stand among the new: first, or, to keep the function, first in either half.

    A factorised reduction computes its halves on different pixels, and an old channel must stay in its half.
    """
    if not keep_function:
        return torch.arange(before)
    half = before // 2
    return torch.cat([torch.arange(half), torch.arange(before - half) + after // 2])


def _first(before: int, after: int, generator: torch.Generator | None) -> Source:
    index = torch.cat([torch.arange(before), torch.randint(before, (after - before,), generator=generator)])
    return Source(index, torch.arange(after) < before)


def widen_cell(cell: MixedCell, partial: int, widening: Widening) -> None:
    """Has the operations of a cell work on 1/partial of its channels, a larger part than before."""
    before, channels = len(cell.fresh), len(cell.reads)
    after = channels // partial
    for edge in (*cell.edges, *cell.pools):
        for op in cast(nn.ModuleDict, edge).values():
            widening.operation(op, after)
    device = cell.reads.device
    if not widening.keep_function:
        cell.reads, cell.writes = torch.arange(channels, device=device), shuffle_order(channels, partial).to(device)
        cell.fresh = torch.zeros(after, device=device)
    else:
        old = old_positions(before, after, True)
        new = torch.tensor(sorted(set(range(after)) - set(old.tolist())), dtype=torch.long)
        moved = torch.cat([old, new, torch.arange(after, channels)]).to(device)  # old place -> new place
        cell.reads = torch.empty_like(cell.reads).index_copy_(0, moved, cell.reads)
        cell.writes = moved[cell.writes]
        cell.fresh = torch.zeros(after, device=device).index_fill_(0, new.to(device), 1.0)
    cell.settle()
