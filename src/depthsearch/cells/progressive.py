"""Spaces whose options are closed and whose channels are opened while they are searched, as DrNAS does."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

# What became of each parameter of a space that was widened, for whoever trains it: the one in its place, and how a
# tensor of its old shape (momentum, say) grows.
Grown = dict[nn.Parameter, tuple[nn.Parameter, Callable[[Tensor], Tensor]]]


class ProgressiveSpace(nn.Module):
    """Base of such spaces. A subclass sets the attributes, calls `open_all`, and defines `settle`.

    Attributes:
        choices: the shapes of the mixing weights, {name: (edges, options)}.
        partial: the operations work on 1/partial of the channels.
        blend: how much the channels that a widening which keeps the function has opened take part, from 0 (they pass
            by, as before) to 1; whoever trains raises it.
    """

    choices: Mapping[str, tuple[int, int]]
    partial: int
    blend: float

    def open_all(self) -> None:
        """Makes the masks, buffers of the state."""
        for name, shape in self.choices.items():
            self.register_buffer(f"mask_{name}", torch.ones(shape, dtype=torch.bool))
        self.register_load_state_dict_post_hook(lambda space, _: space.settle())
        self.settle()

    def settle(self) -> None:
        """Takes note on the host of what the masks say, so that no forward pass waits for a GPU to learn it."""
        raise NotImplementedError

    @property
    def masks(self) -> dict[str, Tensor]:
        """The options that are still open, True, in the shapes of `choices`."""
        return {name: getattr(self, f"mask_{name}") for name in self.choices}

    def prune(self, masks: Mapping[str, Tensor]) -> None:
        """Closes the options where a mask (as `masks`) is False: they are not run any more, whatever their weight.

        Raises:
            ValueError: the masks have other names or shapes, or leave an edge without an option.
        """
        self.check(masks)
        for name, mask in self.masks.items():
            if not (mask & masks[name].to(mask)).any(1).all():
                raise ValueError(f"{name}: an edge must keep at least one operation")
        for name, mask in self.masks.items():
            mask &= masks[name].to(mask)
        self.settle()

    def restrict(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights with zeros at closed options, each row divided by its sum; the same weights if all are open."""
        self.check(weights)
        kept = {name: weights[name] * mask for name, mask in self.masks.items()}
        return {
            name: w if self.masks[name].all() else kept[name] / kept[name].sum(1, keepdim=True)
            for name, w in weights.items()
        }

    def check(self, weights: Mapping[str, Tensor]) -> None:
        """Raises ValueError unless the weights, or masks, have the names and shapes of `choices`."""
        shapes = {name: tuple(w.shape) for name, w in weights.items()}
        if shapes != dict(self.choices):
            raise ValueError(f"mixing weights must have the shapes {dict(self.choices)}, got {shapes}")

    def check_widening(self, channels: int, partial: int) -> None:
        """Raises ValueError unless more channels than now can be opened, 1/partial of them."""
        check_partial(channels, partial)
        if partial >= self.partial:
            raise ValueError(f"partial must be less than the {self.partial} of now to widen, got {partial}")
        if self.blend != 1:
            raise ValueError(f"blend must be 1 before the network is widened again, it is {self.blend}")


def check_partial(channels: int, partial: int) -> None:
    """Raises ValueError unless `partial` divides the channels."""
    if partial < 1 or channels % partial:
        raise ValueError(f"partial must be at least 1 and divide the {channels} channels, got {partial}")
