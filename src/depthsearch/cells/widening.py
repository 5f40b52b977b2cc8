"""Opening more channels of a search network in the middle of a search (DrNAS, arXiv 2006.10355, section 3.3)."""

from collections.abc import Callable, Iterable
from functools import partial as bound

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthsearch.cells.nasbench201_operations import MixedCell, new_kernel

# What became of each parameter: the one in its place, and how a tensor of its shape grows.
Grown = dict[nn.Parameter, tuple[nn.Parameter, Callable[[Tensor], Tensor]]]


def widen_cell(cell: MixedCell, partial: int, keep_function: bool, generator: torch.Generator | None = None) -> Grown:
    """Opens the first C / partial channels of a cell, see `NASBench201SearchNetwork.widen`."""
    narrow, wide = cell.open, cell.channels // partial
    grown = _grow_around(cell, wide, generator) if keep_function else _grow_by_copies(cell, wide, generator)
    if keep_function or cell.gate is not None:
        old = cell.norms[0]["nor_conv_3x3"].running_mean.new_zeros(0) if cell.gate is None else cell.gate.detach()
        gate = nn.Parameter(F.pad(old, (0, wide - narrow), value=float(not keep_function)))
        if cell.gate is not None:
            grown[cell.gate] = gate, bound(_zeros_beyond, wide=len(gate))
        cell.gate = gate
    if not keep_function:
        cell.groups = partial
    cell.open = wide
    return grown


def _grow_by_copies(cell: MixedCell, wide: int, generator: torch.Generator | None) -> Grown:
    # The original: each new channel, in or out, is a copy of a random old one.
    grown: Grown = {}
    outs: dict[tuple[int, str], Tensor] = {}
    for edge, kernels in enumerate(cell.edges):
        for name, old in list(kernels.items()):
            ins, out = (_with_copies(cell.open, wide, generator) for _ in range(2))
            grow = bound(_copied, ins=ins, outs=out)
            kernels[name] = nn.Parameter(grow(old.detach()))
            grown[old], outs[edge, name] = (kernels[name], grow), out
    for edges, name, norm in cell.each_norm():
        norm.change(
            lambda t, _, edges=edges, name=name: torch.cat(
                [row[outs[edge, name]] for edge, row in zip(edges, t.view(-1, cell.open), strict=True)]
            )
        )
    return grown


def _grow_around(cell: MixedCell, wide: int, generator: torch.Generator | None) -> Grown:
    # What was there does not see the new channels (zeros); what is new is drawn afresh, behind a closed gate.
    grown: Grown = {}
    grow = bound(_zeros_beyond, wide=wide)
    for kernels in cell.edges:
        for name, old in list(kernels.items()):
            new = nn.Parameter(new_kernel(wide, old.shape[-1], generator).detach().to(old))
            new.data[: cell.open] = grow(old.detach())[: cell.open]
            kernels[name], grown[old] = new, (new, grow)
    for _, _, norm in cell.each_norm():
        norm.change(lambda t, start: F.pad(t.view(-1, cell.open), (0, wide - cell.open), value=start).flatten())
    return grown


def _with_copies(narrow: int, wide: int, generator: torch.Generator | None) -> Tensor:
    return torch.cat([torch.arange(narrow), torch.randint(narrow, (wide - narrow,), generator=generator)])


def _copied(tensor: Tensor, ins: Tensor, outs: Tensor) -> Tensor:
    return tensor[:, ins.to(tensor.device)][outs.to(tensor.device)]


def _zeros_beyond(tensor: Tensor, wide: int) -> Tensor:
    if tensor.dim() == 1:
        return F.pad(tensor, (0, wide - len(tensor)))
    return F.pad(tensor, (0, 0, 0, 0, 0, wide - tensor.shape[1], 0, wide - len(tensor)))


def carry_over(
    optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], grown: Grown | None = None
) -> None:
    """Hands a network's parameters to its optimiser anew, after widening or dropping, with the state that they had.

    Args:
        optimizer: of one group. State of the shape of a parameter (momentum) grows as the parameter did.
        parameters: all of the network now.
        grown: what `widen` returned; None after dropping.
    """
    group = optimizer.param_groups[0]
    group["params"] = list(parameters)
    for old, (new, grow) in (grown or {}).items():
        if old in optimizer.state:
            state = optimizer.state[old].items()
            same = {key: isinstance(value, Tensor) and value.shape == old.shape for key, value in state}
            optimizer.state[new] = {key: grow(value) if same[key] else value for key, value in state}
    for gone in set(optimizer.state) - set(group["params"]):
        del optimizer.state[gone]
