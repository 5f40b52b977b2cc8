"""The state of R modules side by side in one tensor, of which the tensors of the modules are views."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

ALIGNED = 32  # numbers: a kernel of cuDNN may read four of a batch norm's at once, from addresses that allow it alone


class FlatState:
    """Parameters, then buffers of their type, of modules whose tensors have a leading replicate axis R.

    An optimiser step, and keeping the best state of each replicate, are then a few operations whatever the depth.
    Between the two lie unused numbers, so that buffers of modules without that axis start where kernels want it.

    Args:
        modules: by name; from now on their tensors are views.
        single: the names of those that have no replicate axis; then R = 1.

    Raises:
        ValueError: a tensor has no axis beside that.

    Attributes:
        state: (R, P + gap + Q), a row for each replicate.
        parameters: of all modules, in order.
        n_parameters: P.
    """

    def __init__(self, modules: Mapping[str, nn.Module], single: Collection[str] = ()) -> None:
        self._modules, self._single = nn.ModuleDict(dict(modules)), single
        self._parameters = dict(self._modules.named_parameters())
        dtype = next(iter(self._parameters.values())).dtype
        buffers = {name: b for name, b in self._modules.named_buffers() if b.dtype == dtype}
        tensors = {name: t.detach() for name, t in (self._parameters | buffers).items()}
        tensors = {name: t.unsqueeze(0) if self._is_single(name) else t for name, t in tensors.items()}
        if flat := [name for name, t in tensors.items() if t.dim() < 2]:
            raise ValueError(f"{flat[0]} is a single number: give it the shape (1,); replicates stand in front of that")
        self._shapes = {name: t.shape[1:] for name, t in tensors.items()}
        self.parameters = list(self._parameters.values())
        self.n_parameters = sum(self._shapes[name].numel() for name in self._parameters)
        self._gap = -self.n_parameters % ALIGNED if single and buffers else 0
        self._hold(self.spread(torch.cat([t.flatten(1) for t in tensors.values()], dim=1)))

    def spread(self, rows: Tensor) -> Tensor:
        """Rows (..., P + Q) as those of the state (..., P + gap + Q)."""
        parameters, buffers = rows[..., : self.n_parameters], rows[..., self.n_parameters :]
        return torch.cat([parameters, rows.new_zeros(*rows.shape[:-1], self._gap), buffers], dim=-1)

    def packed(self, state: Tensor) -> Tensor:
        """Rows (..., P + gap + Q) without the gap."""
        return torch.cat([state[..., : self.n_parameters], state[..., self.n_parameters + self._gap :]], dim=-1)

    def views(self, state: Tensor) -> dict[str, Tensor]:
        """The named tensors that lie in rows (..., P + gap + Q)."""
        sizes = [shape.numel() for shape in self._shapes.values()]
        sizes.insert(len(self._parameters), self._gap)
        parts = list(state.split(sizes, dim=-1))
        parts.pop(len(self._parameters))
        named = zip(self._shapes.items(), parts, strict=True)
        return {name: part.view(*part.shape[:-1], *shape) for (name, shape), part in named}

    def keep(self, rows: list[int]) -> None:
        """Drops all other rows, of constants too."""
        for name, constant in list(self._modules.named_buffers()):
            if name not in self._shapes:
                self._set_buffer(name, constant[rows])
        self._hold(self.state[rows])

    def _hold(self, state: Tensor) -> None:
        self.state = state
        for name, view in self.views(state).items():
            own = view.squeeze(0) if self._is_single(name) else view
            if name in self._parameters:
                self._parameters[name].data = own
            else:
                self._set_buffer(name, own.data)  # its own version counter, or autograd takes one update for all

    def _is_single(self, name: str) -> bool:
        return name.partition(".")[0] in self._single

    def _set_buffer(self, name: str, value: Tensor) -> None:
        owner, _, leaf = name.rpartition(".")
        self._modules.get_submodule(owner)._buffers[leaf] = value
