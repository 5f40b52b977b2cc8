"""The cell of the DARTS search network (arXiv 1806.09055, section 2; partial channels: arXiv 1907.05737, 2006.10355).

Every edge of a cell is a sum of all operations, weighted by its row of mixing weights. What the edges that leave one
state share is computed once: ReLU, pools and their batch norms, identities, and the channels that pass by. A mixing
weight is the scale of its operation's last batch norm, so that weighting costs no pass over the activations.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthsearch.cells.darts import Place, preprocessing
from depthsearch.cells.operations import DilatedConv, can_split, merge_grids, operation, split_grids

NODES = 4
EDGES = [(node, state) for node in range(NODES) for state in range(node + 2)]  # rows of the mixing weights


class View:
    """What the edges that leave one state read of it; each part is computed when it is first asked for.

    Args:
        x: the channels (B, n, H, W) on which the operations work.
        others: the channels that pass by, (B, C - n, H, W).
        pools: the pools of this state, by name.
    """

    def __init__(self, x: Tensor, others: Tensor, stride: int, pools: nn.ModuleDict) -> None:
        self.x, self.stride, self.pools = x, stride, pools
        self.others = _at_stride(others, stride)
        self.pooled: dict[str, Tensor] = {}

    def pool(self, name: str) -> Tensor:
        if name not in self.pooled:
            self.pooled[name] = self.pools[name](self.x)
        return self.pooled[name]

    @cached_property
    def rectified(self) -> Tensor:
        return F.relu(self.x)

    @cached_property
    def bypass(self) -> Tensor:
        """x as if it passed by."""
        return _at_stride(self.x, self.stride)

    @cached_property
    def grids(self) -> Tensor:
        """The rectified state for dilated convolutions: see `DilatedConv`."""
        return split_grids(self.rectified) if self.stride == 1 else self.rectified[..., ::2, ::2]


class MixedCell(nn.Module):
    """A cell in which every edge mixes all operations.

    Buffers (C = the cell's channels, n = those on which the operations work):
        reads (C,): the order in which the channels of a state are taken, the first n by the operations.
        writes (C,): which channel of (the n mixed ones, the others) each channel of a node is.
        fresh (n,): 1 where a channel passed by before the last widening that keeps the function, else 0.
    """

    reads: Tensor
    writes: Tensor
    fresh: Tensor

    def __init__(self, place: Place, operations: Sequence[str], partial: int) -> None:
        super().__init__()
        self.reduction, self.operations = place.reduction, tuple(operations)
        self.first, self.second = preprocessing(place, affine=False)
        n = place.channels // partial
        self.edges = nn.ModuleList(self._edge(n, self._stride(state)) for _, state in EDGES)
        self.pools = nn.ModuleList(self._pools(n, self._stride(state)) for state in range(NODES + 1))
        self.register_buffer("reads", torch.arange(place.channels))
        self.register_buffer("writes", shuffle_order(place.channels, partial))
        self.register_buffer("fresh", torch.zeros(n))
        self.settle()

    def settle(self) -> None:
        """Notes whether the orders of channels are trivial; to be called when they have changed."""
        order = torch.arange(len(self.reads), device=self.reads.device)
        self.in_order, self.shuffled = torch.equal(self.reads, order), not torch.equal(self.writes, order)

    def _stride(self, state: int) -> int:
        return 2 if self.reduction and state < 2 else 1

    def _edge(self, n: int, stride: int) -> nn.ModuleDict:
        named = {name: operation(name, n, stride, affine=False) for name in self.operations if "pool" not in name}
        return nn.ModuleDict({name: op for name, op in named.items() if list(op.parameters())})

    def _pools(self, n: int, stride: int) -> nn.ModuleDict:
        names = [name for name in self.operations if "pool" in name]
        return nn.ModuleDict({name: operation(name, n, stride, pool_norm=True) for name in names})

    def forward(
        self, before_last: Tensor, last: Tensor, weights: Tensor, options: Sequence[Sequence[int]], blend: float
    ) -> Tensor:
        """The four nodes, concatenated, of two states; `options` are the columns of `weights` that each edge runs."""
        scalars = weights.flatten().unbind()  # one node of the graph instead of one an operation
        views, nodes = [self._view(self.first(before_last), 0), self._view(self.second(last), 1)], []
        others, row = views[0].others, 0
        for node in range(NODES):
            others = others + views[-1].others
            total = Total()
            for view in views:
                for column in options[row]:
                    self._add(total, view, row, self.operations[column], scalars[row * len(self.operations) + column])
                row += 1
            nodes.append(self._shuffle(self._blend(total.value(views[-1]), views, blend), others))
            if node + 1 < NODES:
                views.append(self._view(nodes[-1], node + 2))
        return torch.cat(nodes, dim=1)

    def _view(self, state: Tensor, number: int) -> View:
        n = len(self.fresh)
        state = state if self.in_order else take_channels(state, self.reads)
        return View(state[:, :n], state[:, n:], self._stride(number), cast(nn.ModuleDict, self.pools[number]))

    def _add(self, total: "Total", view: View, row: int, name: str, weight: Tensor) -> None:
        edge = cast(nn.ModuleDict, self.edges[row])
        if name in view.pools:
            total.add(weight * view.pool(name))
        elif name not in edge:
            if name == "skip_connect":
                total.add(weight * view.x)
        else:
            op: Any = edge[name]
            if isinstance(op, DilatedConv) and self.training and can_split(view.x):
                out = weighted_norm(op.norm, op.on_grids(view.grids), weight)
                total.add(out, on_grids=view.stride == 1)
            else:
                total.add(weighted_norm(op.norm, op.features(view.rectified), weight))

    def _blend(self, mixed: Tensor, views: Sequence[View], blend: float) -> Tensor:
        if blend == 1:
            return mixed
        bypass = torch.stack([view.bypass for view in views]).sum(0, dtype=mixed.dtype)
        return torch.lerp(mixed, bypass, (1 - blend) * self.fresh.to(mixed.dtype).view(-1, 1, 1))

    def _shuffle(self, mixed: Tensor, others: Tensor) -> Tensor:
        node = torch.cat([mixed, others], dim=1) if others.shape[1] else mixed
        return take_channels(node, self.writes) if self.shuffled else node


class Total:
    """A sum of activations, of which some lie on the grids of every second pixel."""

    def __init__(self) -> None:
        self.plain: Tensor | None = None
        self.on_grids: Tensor | None = None

    def add(self, x: Tensor, on_grids: bool = False) -> None:
        """Adds x, whose memory the sum may take."""
        if on_grids:
            self.on_grids = x if self.on_grids is None else self.on_grids.add_(x)
        else:
            self.plain = x if self.plain is None else self.plain.add_(x)

    def value(self, view: View) -> Tensor:
        """The sum; zeros of the shape that an edge makes of the view where nothing was added."""
        if self.on_grids is not None:
            self.add(merge_grids(self.on_grids))
        return torch.zeros_like(view.bypass) if self.plain is None else self.plain


def shuffle_order(channels: int, partial: int) -> Tensor:
    """(channels,): the mixed channels and the others in turns, so that another part is mixed by the next edge."""
    return torch.arange(channels).reshape(partial, -1).T.flatten()


def weighted_norm(norm: nn.BatchNorm2d, x: Tensor, weight: Tensor) -> Tensor:
    """weight * norm(x) in one pass, for a batch norm that has no scale of its own."""
    scale = weight.expand(x.shape[1]).contiguous()
    momentum = norm.momentum if norm.momentum is not None else 0.0
    return F.batch_norm(x, norm.running_mean, norm.running_var, scale, None, norm.training, momentum, norm.eps)


def take_channels(x: Tensor, index: Tensor) -> Tensor:
    """x[:, index], in the memory layout of x."""
    if x.is_contiguous():
        return x.index_select(1, index)
    return x.movedim(1, -1).index_select(-1, index).movedim(-1, 1)


def _at_stride(x: Tensor, stride: int) -> Tensor:
    if stride == 1 or x.shape[1] == 0:  # no pool takes a picture without channels
        return x[..., ::stride, ::stride]
    return F.max_pool2d(x, 2, ceil_mode=True)  # DrNAS's choice; odd sizes round up, as they do in the operations
