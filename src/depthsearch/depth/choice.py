"""A chain of blocks as a space: a network with one open choice, how deep it is, of D + 1 options."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from depthsearch.depth.networks import DepthNetwork, MLPNetwork

CHOICE = "depth"  # the one name in `choices`
MIXES = ("features", "logits")


class DepthSpace(nn.Module):
    """The named adapter: `space(x, {"depth": w})` predicts with the mixture w (1, D + 1) of the depths 0..D.

    Args:
        network: the chain, whose parameters are those of the space.
        mix: "features" mixes what the head sees of each depth, "logits" its logits; on a linear head they are the same.
            Batch norm in a head normalises mixed features with the statistics that it keeps for depth D.

    Attributes:
        choices: {"depth": (1, D + 1)}, one edge, an option a depth.

    Raises:
        ValueError: there is no such mix.
    """

    def __init__(self, network: DepthNetwork, mix: str = "features") -> None:
        super().__init__()
        if mix not in MIXES:
            raise ValueError(f"mix must be one of {', '.join(MIXES)}; got {mix}")
        self.network, self.mix = network, mix
        self.choices = {CHOICE: (1, network.max_depth + 1)}
        self._deepest = network.max_depth

    def forward(self, x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, C) of a batch (B, ...) under mixing weights {"depth": (1, D + 1)}.

        Raises:
            ValueError: the weights have another name or shape.
        """
        return mix_depths(self.network, x, self._checked(weights)[0, : self._deepest + 1], self.mix)[0]

    def derive(self, weights: Mapping[str, Tensor]) -> int:
        """The depth of the largest weight, the shallower one of equals."""
        return largest(self._checked(weights)[0])

    def prune(self, masks: Mapping[str, Tensor]) -> None:
        """Runs no block beyond the deepest depth that is open (True) in the masks, of the shapes of `choices`.

        Raises:
            ValueError: the masks have another name or shape, or close all depths.
        """
        open_ = self._checked(masks)[0].nonzero()
        if not len(open_):
            raise ValueError("depth: at least one must stay open")
        self._deepest = int(open_.max())

    def _checked(self, weights: Mapping[str, Tensor]) -> Tensor:
        shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        if shapes != self.choices:
            raise ValueError(f"mixing weights must have the shapes {self.choices}, got {shapes}")
        return weights[CHOICE]


def mix_depths(network: DepthNetwork, x: Tensor, weights: Tensor, mix: str = "features") -> Tensor:
    """Logits (1, *R, B, C) of the mixture of the depths 0..S - 1, which alone are run: weights (*R, S), x (*R, B, ...).

    `mix` is that of a `DepthSpace`.
    """
    weights, deepest = weights.movedim(-1, 0), weights.shape[-1] - 1
    if isinstance(network, MLPNetwork) and network.training and network.is_fused(x):
        # Its head is linear: for weights that sum to one, as these do in training alone, both are the same.
        mix, seen = "logits", network(x, max_depth=deepest)
    else:
        activations = network.activations(x, max_depth=deepest)
        seen = torch.stack(activations) if mix == "features" else network.read_out(activations)
    mixed = (weights.reshape(*weights.shape, *(1,) * (seen.dim() - weights.dim())) * seen).sum(0, keepdim=True)
    return network.read_out(list(mixed), network.max_depth) if mix == "features" else mixed


def largest(weights: Tensor) -> int:
    """The index of the largest of (D + 1,) weights, the first of equals."""
    return int((weights == weights.max()).int().argmax())
