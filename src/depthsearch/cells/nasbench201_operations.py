"""The cells of NAS-Bench-201 with one operation an edge or with all of them mixed, and the block between two stages.

Activations are (B, C, H, W), stored channels last.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthsearch.cells.nasbench201_strings import EDGES, N_STATES, OPERATIONS

CONVOLUTIONS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}  # name -> pixels a side


def average_pool(x: Tensor) -> Tensor:
    """The mean over 3 x 3 pixels; those outside of the image do not count."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class ReluConvNorm(nn.Module):
    """ReLU, a convolution without bias, affine batch norm."""

    def __init__(self, channels: int, out_channels: int, size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, size, stride, padding=size // 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(F.relu(x)))


class ReducingBlock(nn.Module):
    """The residual block that halves the image and widens it (B, C, H, W) -> (B, C', H / 2, W / 2)."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv_a = ReluConvNorm(channels, out_channels, 3, stride=2)
        self.conv_b = ReluConvNorm(out_channels, out_channels, 3)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(channels, out_channels, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.conv_b(self.conv_a(x))


class FixedCell(nn.Module):
    """A cell with one operation on each edge: its output is state 3, state i the sum over what its edges give.

    Args:
        operations: six names in the order of `EDGES`.
        channels: C, of the input and of every state.
    """

    def __init__(self, operations: Sequence[str], channels: int) -> None:
        super().__init__()
        self.operations = tuple(operations)
        self.layers = nn.ModuleDict(
            {
                str(edge): ReluConvNorm(channels, channels, CONVOLUTIONS[name])
                for edge, name in enumerate(self.operations)
                if name in CONVOLUTIONS
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        states = [x]
        for to in range(1, N_STATES):
            edges = [e for e, (state, _) in enumerate(EDGES) if state == to and self.operations[e] != "none"]
            terms = [self._edge(e, states[EDGES[e][1]]) for e in edges]
            states.append(sum(terms[1:], terms[0]) if terms else torch.zeros_like(x))
        return states[-1]

    def _edge(self, edge: int, x: Tensor) -> Tensor:
        name = self.operations[edge]
        if name in CONVOLUTIONS:
            return self.layers[str(edge)](x)
        return average_pool(x) if name == "avg_pool_3x3" else x


class ScaledNorm(nn.Module):
    """Batch norm of the same convolution on m edges, whose scale, the mixing weights of the edges, comes with the call.

    Buffers `running_mean` and `running_var` are (m, features of an edge).
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, edges: int, features: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(edges, features))
        self.register_buffer("running_var", torch.ones(edges, features))

    def forward(self, x: Tensor, scale: Tensor, rows: Sequence[int]) -> Tensor:
        """x (B, len(rows) * features, H, W) and scale (len(rows),) of some of the edges."""
        buffers, some = (self.running_mean, self.running_var), len(rows) < len(self.running_mean)
        mean, var = (torch.cat([t[row] for row in rows]) if some else t.view(-1) for t in buffers)
        out = F.batch_norm(x, mean, var, scale.repeat_interleave(len(mean) // len(rows)), None, self.training)
        if self.training and some:
            for buffer, new in zip(buffers, (mean, var), strict=True):
                for row, values in zip(rows, new.view(len(rows), -1), strict=True):
                    buffer[row].copy_(values)
        return out


class MixedCell(nn.Module):
    """A cell with all operations on each edge, each times its mixing weight (DARTS, arXiv 1806.09055, equation 2).

    What edges that leave one state have in common is done once: ReLU, pool, and their convolutions of one size as a
    single one. Mixing is the scale of their batch norm, so that normalising, weighting and the gradient of the weights
    take one pass.

    Args:
        channels: C, of the input and of every state.
        partial: an edge works on the first C / partial channels, the others pass by it, then channels are shuffled
            (PC-DARTS, arXiv 1907.05737, section 3).

    Buffers:
        fresh (C / partial,): 1 at the channels opened by the last widening that keeps the function, else 0.
        groups: of the shuffle.
    """

    edges: Sequence[nn.ParameterDict]  # of each edge, the weight (C / partial, C / partial, size, size) of convolutions
    norms: Sequence[Mapping[str, ScaledNorm]]  # of each state, of the convolutions on the edges that leave it
    fresh: Tensor
    groups: Tensor

    def __init__(self, channels: int, partial: int = 1) -> None:
        super().__init__()
        self.channels, n = channels, channels // partial
        self.edges = nn.ModuleList(  # type: ignore[assignment]
            nn.ParameterDict({name: new_kernel(n, size) for name, size in CONVOLUTIONS.items()}) for _ in EDGES
        )
        self.norms = nn.ModuleList(  # type: ignore[assignment]
            nn.ModuleDict({name: ScaledNorm(len(leaving(source)), n) for name in CONVOLUTIONS})
            for source in range(N_STATES - 1)
        )
        self.register_buffer("fresh", torch.zeros(n))
        self.register_buffer("groups", torch.tensor(partial))
        self.settle([OPERATIONS] * len(EDGES))

    @property
    def open(self) -> int:
        """The number of channels on which the operations work."""
        return len(self.fresh)

    def settle(self, options: Sequence[Sequence[str]]) -> None:
        """Notes, on the host, which operations each edge runs and how channels are shuffled."""
        self.n_groups = int(self.groups)
        self.having = [  # of each state, the edges that leave it and run an operation
            {name: tuple(edge for edge in leaving(source) if name in options[edge]) for name in OPERATIONS}
            for source in range(N_STATES - 1)
        ]

    def forward(self, x: Tensor, weights: Tensor, blend: float = 1.0) -> Tensor:
        """x (B, C, H, W) and weights (6, 5), rows in the order of `EDGES`, columns of `OPERATIONS` -> (B, C, H, W).

        Args:
            blend: how much the fresh channels take part; at 0 they pass by.
        """
        sums: list[Tensor | None] = [None] * N_STATES
        state, passing = x, None
        for source in range(N_STATES - 1):
            opened = state
            if self.open < self.channels:
                opened = state[:, : self.open].contiguous(memory_format=torch.channels_last)
            for edge, term in self._edges(source, opened, weights).items():
                to, before = EDGES[edge][0], sums[EDGES[edge][0]]
                sums[to] = term if before is None else before + term
            if self.open < self.channels or blend < 1:
                passing = state if passing is None else passing + state
            mixed = sums[source + 1]
            state = self._state(torch.zeros_like(opened) if mixed is None else mixed, passing, blend)
        return state

    def _edges(self, source: int, x: Tensor, weights: Tensor) -> dict[int, Tensor]:
        """What each edge that leaves a state gives, (B, open, H, W)."""
        terms = self._convolutions(source, x, weights)
        for name in ("skip_connect", "avg_pool_3x3"):
            edges = self.having[source][name]
            seen = average_pool(x) if edges and name == "avg_pool_3x3" else x
            for edge in edges:
                weight = weights[edge, OPERATIONS.index(name)].to(x.dtype)  # `addcmul` takes the wider type
                terms[edge] = torch.addcmul(terms[edge], seen, weight) if edge in terms else seen * weight
        return terms

    def _convolutions(self, source: int, x: Tensor, weights: Tensor) -> dict[int, Tensor]:
        x, groups = F.relu(x), {}
        for name, size in CONVOLUTIONS.items():
            if edges := self.having[source][name]:
                out = F.conv2d(x, torch.cat([self.edges[e][name] for e in edges]), padding=size // 2)
                scale = torch.stack([weights[e, OPERATIONS.index(name)] for e in edges])
                out = self.norms[source][name](out, scale, [leaving(source).index(e) for e in edges])
                groups[edges] = groups[edges] + out if edges in groups else out
        terms: dict[int, Tensor] = {}
        for edges, out in groups.items():
            for edge, term in zip(edges, out.split(self.open, 1), strict=True):
                terms[edge] = terms[edge] + term if edge in terms else term
        return terms

    def _state(self, mixed: Tensor, passing: Tensor | None, blend: float) -> Tensor:
        if passing is not None:
            if blend < 1:
                share = (1 - blend) * self.fresh.to(mixed.dtype).view(-1, 1, 1)
                mixed = torch.lerp(mixed, passing[:, : self.open], share)
            mixed = torch.cat([mixed, passing[:, self.open :]], 1)
        return _shuffle(mixed, self.n_groups) if self.n_groups > 1 else mixed


def leaving(source: int) -> tuple[int, ...]:
    """The edges that leave a state."""
    return tuple(edge for edge, (_, state) in enumerate(EDGES) if state == source)


def new_kernel(channels: int, size: int, generator: torch.Generator | None = None) -> nn.Parameter:
    """The weight (C, C, size, size) of a convolution, from the distribution that torch draws new ones of."""
    kernel = torch.empty(channels, channels, size, size)
    return nn.Parameter(nn.init.kaiming_uniform_(kernel, a=5**0.5, generator=generator))


def _shuffle(x: Tensor, groups: int) -> Tensor:
    # Channel c of group g goes to c * groups + g. Over the last axis, so that channels stay the innermost.
    return x.permute(0, 2, 3, 1).unflatten(-1, (groups, -1)).transpose(-1, -2).flatten(-2).permute(0, 3, 1, 2)
