"""Opening more channels of a NAS-Bench-201 search cell, as DrNAS does and so that the function is kept."""

from functools import partial as bound

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthsearch.cells.nasbench201_operations import MixedCell, leaving, new_kernel
from depthsearch.cells.progressive import Grown


def widen_by_copies(cell: MixedCell, partial: int, generator: torch.Generator | None = None) -> Grown:
    """Opens C / partial channels: each new one of a convolution, in or out, is a copy of a random old one.

    Channels are shuffled in `partial` groups from now on.
    """
    narrow, wide = cell.open, cell.channels // partial
    grown: Grown = {}
    outs: dict[tuple[int, str], Tensor] = {}
    for edge, kernels in enumerate(cell.edges):
        for name, old in list(kernels.items()):
            ins, out = (_with_copies(narrow, wide, generator).to(old.device) for _ in range(2))
            grow = bound(_copied, ins=ins, outs=out)
            kernels[name], outs[edge, name] = nn.Parameter(grow(old.detach())), out
            grown[old] = kernels[name], grow
    for source, norms in enumerate(cell.norms):
        for name, norm in norms.items():
            order = torch.stack([outs[edge, name] for edge in leaving(source)])
            norm.running_mean, norm.running_var = norm.running_mean.gather(1, order), norm.running_var.gather(1, order)
    cell.fresh = cell.fresh.new_zeros(wide)
    cell.groups.fill_(partial)
    return grown


def widen_around(cell: MixedCell, partial: int, generator: torch.Generator | None = None) -> Grown:
    """Opens C / partial channels: old ones do not see the new (zeros), which are drawn afresh and pass by at blend 0.

    The shuffle stays what it was.
    """
    narrow, wide = cell.open, cell.channels // partial
    grown: Grown = {}
    grow = bound(_zeros_beyond, wide=wide)
    for kernels in cell.edges:
        for name, old in list(kernels.items()):
            new = nn.Parameter(new_kernel(wide, old.shape[-1], generator).detach().to(old))
            new.data[:narrow] = grow(old.detach())[:narrow]
            kernels[name], grown[old] = new, (new, grow)
    new_channels = (0, wide - narrow)
    for norms in cell.norms:
        for norm in norms.values():
            norm.running_mean = F.pad(norm.running_mean, new_channels)
            norm.running_var = F.pad(norm.running_var, new_channels, value=1.0)
    cell.fresh = F.pad(torch.zeros_like(cell.fresh), new_channels, value=1.0)
    return grown


def _with_copies(narrow: int, wide: int, generator: torch.Generator | None) -> Tensor:
    return torch.cat([torch.arange(narrow), torch.randint(narrow, (wide - narrow,), generator=generator)])


def _copied(tensor: Tensor, ins: Tensor, outs: Tensor) -> Tensor:
    return tensor[:, ins][outs]


def _zeros_beyond(tensor: Tensor, wide: int) -> Tensor:
    return F.pad(tensor, (0, 0, 0, 0, 0, wide - tensor.shape[1], 0, wide - len(tensor)))
