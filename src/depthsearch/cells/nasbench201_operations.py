"""The cells of NAS-Bench-201 with one operation an edge or with all of them mixed, and the block between two stages.

Activations are (B, C, H, W), stored channels last.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

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
    """Batch norm whose scale is handed over at each call: the mixing weight of the edge that a channel belongs to."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, scale, None, self.training)

    def change(self, change: Callable[[Tensor, float], Tensor]) -> None:
        """Replaces both statistics by `change(statistic, what it is before any data)`."""
        self.running_mean, self.running_var = change(self.running_mean, 0.0), change(self.running_var, 1.0)


class MixedCell(nn.Module):
    """A cell with all operations on each edge, each times its mixing weight (DARTS, arXiv 1806.09055, equation 2).

    What edges that leave one state have in common is done once: ReLU, pool, and their convolutions of one size as a
    single one. Mixing is the scale of their batch norm, so that normalising, weighting and the gradient of the weights
    take one pass.

    Args:
        channels: C, of the input and of every state.
        partial: an edge works on the first C / partial channels, the others pass by it, then channels are shuffled
            (PC-DARTS, arXiv 1907.05737, section 3).
    """

    edges: Sequence[nn.ParameterDict]  # of each edge, the weight (open, open, size, size) of each convolution
    norms: Sequence[Mapping[str, ScaledNorm]]  # of each state, of the convolutions on the edges that leave it
    gate: nn.Parameter | None  # of the channels opened by a widening that keeps the function

    def __init__(self, channels: int, partial: int = 1) -> None:
        super().__init__()
        self.channels, self.groups, self.open = channels, partial, channels // partial
        self.kept = [frozenset(OPERATIONS) for _ in EDGES]
        self.edges = nn.ModuleList(  # type: ignore[assignment]
            nn.ParameterDict({name: new_kernel(self.open, size) for name, size in CONVOLUTIONS.items()}) for _ in EDGES
        )
        self.norms = nn.ModuleList(  # type: ignore[assignment]
            nn.ModuleDict({name: ScaledNorm(len(leaving(source)) * self.open) for name in CONVOLUTIONS})
            for source in range(N_STATES - 1)
        )
        self.register_parameter("gate", None)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """x (B, C, H, W) and weights (6, 5), rows in the order of `EDGES`, columns of `OPERATIONS` -> (B, C, H, W)."""
        sums: list[Tensor | None] = [None] * N_STATES
        state, passing = x, None
        for source in range(N_STATES - 1):
            opened = state
            if self.open < self.channels:
                opened = state[:, : self.open].contiguous(memory_format=torch.channels_last)
            for edge, term in self._edges(source, opened, weights).items():
                to, before = EDGES[edge][0], sums[EDGES[edge][0]]
                sums[to] = term if before is None else before + term
            if self.open < self.channels or self.gate is not None:
                passing = state if passing is None else passing + state
            mixed = sums[source + 1]
            state = self._state(torch.zeros_like(opened) if mixed is None else mixed, passing)
        return state

    def _edges(self, source: int, x: Tensor, weights: Tensor) -> dict[int, Tensor]:
        """What each edge that leaves a state gives, (B, open, H, W)."""
        terms = self._convolutions(source, x, weights)
        for name in ("skip_connect", "avg_pool_3x3"):
            edges = self._having(source, name)
            seen = average_pool(x) if edges and name == "avg_pool_3x3" else x
            for edge in edges:
                weight = weights[edge, OPERATIONS.index(name)]
                terms[edge] = torch.addcmul(terms[edge], seen, weight) if edge in terms else seen * weight
        return terms

    def _convolutions(self, source: int, x: Tensor, weights: Tensor) -> dict[int, Tensor]:
        x, groups = F.relu(x), {}
        for name, size in CONVOLUTIONS.items():
            if edges := self._having(source, name):
                out = F.conv2d(x, torch.cat([self.edges[e][name] for e in edges]), padding=size // 2)
                scale = torch.stack([weights[e, OPERATIONS.index(name)] for e in edges]).repeat_interleave(self.open)
                out = self.norms[source][name](out, scale)
                groups[edges] = groups[edges] + out if edges in groups else out
        terms: dict[int, Tensor] = {}
        for edges, out in groups.items():
            for edge, term in zip(edges, out.split(self.open, 1), strict=True):
                terms[edge] = terms[edge] + term if edge in terms else term
        return terms

    def _state(self, mixed: Tensor, passing: Tensor | None) -> Tensor:
        if passing is not None:
            if self.gate is not None:
                gate = F.pad(self.gate, (self.open - len(self.gate), 0), value=1.0).view(-1, 1, 1)
                mixed = torch.lerp(passing[:, : self.open], mixed, gate)
            mixed = torch.cat([mixed, passing[:, self.open :]], 1)
        return _shuffle(mixed, self.groups) if self.groups > 1 else mixed

    def restrict(self, mask: Tensor) -> None:
        """Forgets the operations where mask (6, 5) is false; those that are gone stay gone."""
        for edges, name, norm in self.each_norm():
            stays = [bool(mask[edge, OPERATIONS.index(name)]) for edge in edges]
            norm.change(lambda t, _, stays=stays: t.view(len(stays), -1)[stays].flatten())
        for edge, row in enumerate(mask.tolist()):
            self.kept[edge] &= {name for name, keep in zip(OPERATIONS, row, strict=True) if keep}
            for name in set(self.edges[edge].keys()) - self.kept[edge]:
                del self.edges[edge][name]

    def each_norm(self) -> Iterator[tuple[tuple[int, ...], str, ScaledNorm]]:
        """The edges that leave a state and have a convolution, its name, their norm; state by state."""
        for source, norms in enumerate(self.norms):
            for name in CONVOLUTIONS:
                if edges := self._having(source, name):
                    yield edges, name, norms[name]

    def _having(self, source: int, name: str) -> tuple[int, ...]:
        return tuple(edge for edge in leaving(source) if name in self.kept[edge])


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
