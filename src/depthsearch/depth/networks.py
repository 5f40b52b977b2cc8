"""Residual networks that return the logits of every depth in one pass.

A chain of residual blocks a_0 = stem(x), a_i = block_i(a_{i-1}) and one head shared by all depths: the network
of depth d predicts head(a_d) (section 2 of the paper).

`mlp_resnet` accepts a *replicate axis*: `stack_modules` puts R networks of one architecture into a single
module whose parameters and buffers have a leading axis R, and x of shape (R, B, features) then gives logits of
shape (D + 1, R, B, C). Nothing couples the replicates.
"""

import copy
from collections.abc import Iterable, Sequence
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthsearch.depth.chain import Chain, Sizes, chain_gradient, chain_logits
from depthsearch.depth.posteriors import DepthPosterior
from depthsearch.native import library

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class DepthHead(nn.Module):
    """A head that takes several depths at once.

    `DepthNetwork` calls it as `head(seen, min_depth)` with what `activations` returned of the S depths min_depth,
    min_depth + 1, ...; it returns logits (S, B, C). Any other module is used as an ordinary head: the depths are folded
    into its batch.
    """

    def truncate(self, max_depth: int) -> None:
        """Forgets whatever the head stores about depths beyond max_depth."""


class DepthNetwork(nn.Module):
    """A stem, a chain of shape-preserving residual blocks, and one head shared by all depths.

    Args:
        stem: maps the input to the first activation a_0.
        blocks: each maps an activation to the next one, of the same shape, and leaves its input as it is (no
            `ReLU(inplace=True)` in front): the head still reads that. The batch comes first.
        head: maps an activation to logits (B, C), or is a `DepthHead`, which takes activations of any shapes.
    """

    def __init__(self, stem: nn.Module, blocks: Iterable[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.ModuleList(blocks)
        self.head = head

    @property
    def max_depth(self) -> int:
        """D, the number of blocks."""
        return len(self.blocks)

    def forward(self, x: Tensor, max_depth: int | None = None, min_depth: int = 0) -> Tensor:
        """Logits of the depths min_depth..max_depth (default 0..D).

        Args:
            x: a batch of inputs (B, ...).
            max_depth: run the first max_depth blocks only.
            min_depth: apply the head from this depth on; a deterministic network sets both to D.

        Returns:
            logits (max_depth - min_depth + 1, B, C), shallowest first.

        Raises:
            ValueError: unless 0 <= min_depth <= max_depth <= D; a block changes in place what a head is yet to see
                (not noticed under `torch.inference_mode`, which does not count what is written); an ordinary head is
                given activations of several shapes.
        """
        return self.read_out(self.activations(x, max_depth, min_depth), min_depth)

    def activations(self, x: Tensor, max_depth: int | None = None, min_depth: int = 0) -> list[Tensor]:
        """What the head sees of the depths min_depth..max_depth; arguments and errors are those of a call."""
        max_depth = self._checked(max_depth, min_depth)
        a, seen, version = self.stem(x), [], 0
        for depth in range(max_depth + 1):
            if depth > 0:
                a = self.blocks[depth - 1](a)
                if seen and _version(seen[-1]) != version:
                    raise ValueError(
                        f"block {depth - 1} (of 0 to {self.max_depth - 1}) changes its input in place, which the head "
                        f"of depth {depth - 1} is yet to see; give its layers inplace=False"
                    )
            if depth >= min_depth:
                seen.append(a)
                version = _version(a)
        return seen

    def read_out(self, seen: Sequence[Tensor], min_depth: int = 0) -> Tensor:
        """Logits (S, B, C) of what the head sees of the depths min_depth, min_depth + 1, ..."""
        if isinstance(self.head, DepthHead):
            return self.head(seen, min_depth)
        if not torch.jit.is_tracing() and any(a.shape != seen[0].shape for a in seen):  # type: ignore[reportPrivateImportUsage]
            shapes = " and ".join(str(list(shape)) for shape in dict.fromkeys(a.shape for a in seen))
            raise ValueError(f"one head for activations of shapes {shapes}: keep the shape, or give a DepthHead")
        return self.head(torch.cat(list(seen))).unflatten(0, (len(seen), -1))

    def _checked(self, max_depth: int | None, min_depth: int) -> int:
        max_depth = self.max_depth if max_depth is None else max_depth
        if not 0 <= min_depth <= max_depth <= self.max_depth:
            raise ValueError(f"need 0 <= min_depth <= max_depth <= {self.max_depth}, got {min_depth} and {max_depth}")
        return max_depth


def _version(a: Tensor) -> int:
    """How often a tensor was written to; 0 where that is not counted."""
    counted = isinstance(a, Tensor) and not torch.compiler.is_compiling() and not a.is_inference()
    return a._version if counted else 0


# Fully connected. Activations are (..., width, B), features first: the batch statistics and all elementwise work
# then run along contiguous memory, which is what makes small networks fast on a CPU.


class _Stem(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:  # (..., B, features) -> (..., width, B)
        return self.weight @ input.mT + self.bias.unsqueeze(-1)


class _LinearHead(nn.Linear, DepthHead):
    def forward(self, activations: Sequence[Tensor], min_depth: int = 0) -> Tensor:  # type: ignore[override]
        stacked = torch.stack(list(activations), dim=-2)  # (..., width, S, B): one matrix product for all depths
        logits = self.weight @ stacked.flatten(-2) + self.bias.unsqueeze(-1)
        return logits.unflatten(-1, stacked.shape[-2:]).movedim(-2, 0).mT  # (S, ..., B, C)


@torch.no_grad()
def _track(running_mean: Tensor, running_var: Tensor, mean: Tensor, var: Tensor, n: int, momentum: float) -> None:
    # The rule of torch's batch norm for the biased statistics of a batch of n: exponential average, unbiased variance.
    running_mean.lerp_(mean, momentum)
    running_var.lerp_(var * (n / max(n - 1, 1)), momentum)


EPS, MOMENTUM = 1e-5, 0.1  # of batch norm, as torch has them


class _Norm(nn.BatchNorm1d):
    """Batch norm over the last axis, with replicate axes: input (..., features, B)."""

    running_mean: Tensor
    running_var: Tensor
    momentum: float

    def forward(self, input: Tensor) -> Tensor:
        if self.training:
            mean = input.mean(-1)
            var = (input - mean.unsqueeze(-1)).square().mean(-1)
            _track(self.running_mean, self.running_var, mean, var, input.shape[-1], self.momentum)
        else:
            mean, var = self.running_mean, self.running_var
        gain = self.weight * torch.rsqrt(var + self.eps)
        return torch.addcmul((self.bias - mean * gain).unsqueeze(-1), input, gain.unsqueeze(-1))


class MLPBlock(nn.Module):
    """x + norm(relu(linear(x))), the residual block of the spiral experiments. Activations are (..., width, B)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.norm = _Norm(width, EPS, MOMENTUM)

    def forward(self, a: Tensor) -> Tensor:
        return a + self.norm(F.relu(self.linear.weight @ a + self.linear.bias.unsqueeze(-1)))


class MLPNetwork(DepthNetwork):
    """What `mlp_resnet` makes.

    With `fused` set, R of them with a replicate axis are run on a CPU by `chain.cpp` where it can be compiled, in
    evaluation mode if no gradient is asked for; the results are the same up to rounding, but have no gradient with
    respect to x, and no second one.
    """

    stem: _Stem
    head: _LinearHead
    fused = False

    def __init__(self, max_depth: int, width: int, in_features: int, n_classes: int) -> None:
        blocks = (MLPBlock(width) for _ in range(max_depth))
        super().__init__(_Stem(in_features, width), blocks, _LinearHead(width, n_classes))

    def forward(self, x: Tensor, max_depth: int | None = None, min_depth: int = 0) -> Tensor:
        if not self.is_fused(x):
            return super().forward(x, max_depth, min_depth)
        blocks = list(self.blocks)[: self._checked(max_depth, min_depth)]
        parameters = [p for module in (self.stem, *blocks, self.head) for p in module.parameters()]
        flat = torch.cat([p.flatten(1) for p in parameters], dim=1)
        sizes, norms = self._sizes(x, len(blocks), min_depth), [cast(_Norm, block.norm) for block in blocks]
        if not self.training:
            seen = [moment for norm in norms for moment in (norm.running_mean, norm.running_var)]
            moments = torch.cat([x.new_empty(len(x), 0), *seen], dim=1).view(
                len(x), len(norms), 2, self.stem.out_features
            )
            return chain_logits(sizes, EPS, flat, x, moments).mT
        logits, moments = Chain.apply(sizes, EPS, flat, x)
        for norm, mean, var in zip(norms, *moments.permute(2, 1, 0, 3), strict=True):
            _track(norm.running_mean, norm.running_var, mean, var, x.shape[1], norm.momentum)
        return logits.mT

    def is_fused(self, x: Tensor) -> bool:
        """Whether a batch goes through `chain.cpp`: in training mode, and in evaluation mode without a gradient."""
        possible = self.fused and x.device.type == "cpu" and (self.training or not torch.is_grad_enabled())
        return possible and library("chain", x.dtype) is not None

    def gradient(
        self, parameters: Tensor, statistics: Tensor | None, x: Tensor, y: Tensor, min_depth: int, slopes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean log-likelihoods (S, R) of the depths min_depth..D, fused, with these tensors for the network's own.

        Args:
            parameters: (R, P), in the order of `named_parameters()`.
            statistics: (R, D * 2 * w or more), running mean and variance of each block in turn; updated in place.
            x, y: a batch (R, B, in_features), (R, B).
            slopes: (S, R).

        Returns:
            them, and the gradient (R, P) of the sum of slopes x log-likelihoods.
        """
        sizes = self._sizes(x, self.max_depth, min_depth)
        found, moments, gradient = chain_gradient(sizes, EPS, parameters, x, y, slopes)
        if statistics is not None:
            running_mean, running_var = statistics[:, : moments[0].numel()].view(moments.shape).unbind(2)
            _track(running_mean, running_var, moments[:, :, 0], moments[:, :, 1], x.shape[1], MOMENTUM)
        return found, gradient

    def _sizes(self, x: Tensor, max_depth: int, min_depth: int) -> Sizes:
        _, batch, features = x.shape
        return Sizes(max_depth, self.stem.out_features, features, self.head.out_features, batch, min_depth)


def mlp_resnet(max_depth: int, width: int = 20, in_features: int = 2, n_classes: int = 2) -> MLPNetwork:
    """The fully connected network of the spiral experiments: Linear, D x `MLPBlock`, Linear.

    `network(x)` maps x (B, in_features) to logits (D + 1, B, n_classes), depth 0 first.

    Raises:
        ValueError: max_depth is negative or another size is not positive.
    """
    _check_sizes(max_depth, width=width, in_features=in_features, n_classes=n_classes)
    return MLPNetwork(max_depth, width, in_features, n_classes)


def _check_sizes(max_depth: int, **sizes: int) -> None:
    if max_depth < 0:
        raise ValueError(f"max_depth must be 0 or more, got {max_depth}")
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be 1 or more, got {size}")


# Replicates.


def stack_modules(modules: Sequence[ModuleT]) -> ModuleT:
    """R modules of one architecture as a single one: parameters and buffers with a leading replicate axis R."""
    stacked = copy.deepcopy(modules[0])
    for name, child in stacked.named_modules():
        twins = [module.get_submodule(name) for module in modules]
        for key, parameter in child._parameters.items():
            if parameter is not None:
                tensors = torch.stack([getattr(t, key).detach() for t in twins])
                child._parameters[key] = nn.Parameter(tensors, requires_grad=parameter.requires_grad)
        for key, buffer in child._buffers.items():
            if buffer is not None:
                child._buffers[key] = torch.stack([getattr(t, key) for t in twins])
        if isinstance(child, DepthPosterior):
            child.read_prior()  # now that of all
    return stacked
