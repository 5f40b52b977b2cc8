"""Residual networks that return the logits of every depth in one pass.

A chain of residual blocks a_0 = stem(x), a_i = block_i(a_{i-1}) and one head shared by all depths: the network
of depth d predicts head(a_d) (section 2 of the paper).

`mlp_resnet` accepts a *replicate axis*: `stack_modules` puts R networks of one architecture into a single
module whose parameters and buffers have a leading axis R, and x of shape (R, B, features) then gives logits of
shape (D + 1, R, B, C). Nothing couples the replicates.
"""

import copy
from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthsearch.fused import Pointwise, norm_relu

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
        blocks: each maps an activation to the next one, of the same shape.
        head: maps an activation to logits (B, C), or is a `DepthHead`.
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
            ValueError: unless 0 <= min_depth <= max_depth <= D.
        """
        return self.read_out(self.activations(x, max_depth, min_depth), min_depth)

    def activations(self, x: Tensor, max_depth: int | None = None, min_depth: int = 0) -> list[Tensor]:
        """What the head sees of the depths min_depth..max_depth; arguments and errors are those of a call."""
        max_depth = self._checked(max_depth, min_depth)
        a, seen = self.stem(x), []
        for depth in range(max_depth + 1):
            if depth > 0:
                a = self.blocks[depth - 1](a)
            if depth >= min_depth:
                seen.append(a)
        return seen

    def read_out(self, seen: Sequence[Tensor], min_depth: int = 0) -> Tensor:
        """Logits (S, B, C) of what the head sees of the depths min_depth, min_depth + 1, ..."""
        if isinstance(self.head, DepthHead):
            return self.head(seen, min_depth)
        return self.head(torch.cat(list(seen))).unflatten(0, (len(seen), -1))

    def _checked(self, max_depth: int | None, min_depth: int) -> int:
        max_depth = self.max_depth if max_depth is None else max_depth
        if not 0 <= min_depth <= max_depth <= self.max_depth:
            raise ValueError(f"need 0 <= min_depth <= max_depth <= {self.max_depth}, got {min_depth} and {max_depth}")
        return max_depth


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
        self.norm = _Norm(width)

    def forward(self, a: Tensor) -> Tensor:
        return a + self.norm(F.relu(self.linear.weight @ a + self.linear.bias.unsqueeze(-1)))


class MLPNetwork(DepthNetwork):
    """What `mlp_resnet` makes. `chain.py` has its training gradient written out by hand."""

    stem: _Stem
    head: _LinearHead

    def __init__(self, max_depth: int, width: int, in_features: int, n_classes: int) -> None:
        blocks = (MLPBlock(width) for _ in range(max_depth))
        super().__init__(_Stem(in_features, width), blocks, _LinearHead(width, n_classes))


def mlp_resnet(max_depth: int, width: int = 20, in_features: int = 2, n_classes: int = 2) -> MLPNetwork:
    """The fully connected network of the spiral experiments: Linear, D x `MLPBlock`, Linear.

    `network(x)` maps x (B, in_features) to logits (D + 1, B, n_classes), depth 0 first.

    Raises:
        ValueError: max_depth is negative or another size is not positive.
    """
    _check_sizes(max_depth, width=width, in_features=in_features, n_classes=n_classes)
    return MLPNetwork(max_depth, width, in_features, n_classes)


# Convolutional.


class DepthBatchNorm(nn.Module):
    """Batch norm of a head that is shared by all depths: statistics per depth, scale and shift shared.

    In training each depth's batch is normalised on its own, as the original does; the running statistics are
    kept per depth too (the original mixed all depths into one, so that evaluation differed from training).

    Input (S, B, features) of depths min_depth, min_depth + 1, ...; buffers `running_mean` and `running_var` are
    (n_depths, features).
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int, n_depths: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(n_depths, features))
        self.register_buffer("running_var", torch.ones(n_depths, features))

    def forward(self, x: Tensor, min_depth: int = 0) -> Tensor:
        depths = slice(min_depth, min_depth + x.shape[0])
        if self.training:
            mean = x.mean(1)
            var = (x - mean.unsqueeze(1)).square().mean(1)
            _track(self.running_mean[depths], self.running_var[depths], mean, var, x.shape[1], self.momentum)
        else:
            mean, var = self.running_mean[depths], self.running_var[depths]
        gain = self.weight * torch.rsqrt(var + self.eps)
        return torch.addcmul((self.bias - mean * gain).unsqueeze(1), x, gain.unsqueeze(1))


class _ConvStem(nn.Module):
    def __init__(self, in_channels: int, width: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        # The pool of 2 x 2 pixels after a convolution is one convolution of stride 2 with the mean of the kernel moved
        # by 0 or 1 pixels each way: the tensor before the pool, four times larger than any other, is never made. On a
        # CPU the product of all patches of a channel with it takes half the time, and leaves channels last.
        kernel = self.conv.weight
        moved = [F.pad(kernel, (j, 1 - j, i, 1 - i)) for i in (0, 1) for j in (0, 1)]
        size = kernel.shape[-1] + 1
        patches = x.unfold(2, size, 2).unfold(3, size, 2).permute(0, 2, 3, 1, 4, 5).flatten(3)
        return F.linear(patches, torch.stack(moved).mean(0).flatten(1), self.conv.bias).permute(0, 3, 1, 2)


class Bottleneck(nn.Module):
    """Pre-activation bottleneck x + conv1x1(conv3x3(conv1x1(x))), batch norm and ReLU before each convolution.

    With `fused` set, training goes over each activation as seldom as it can (`fused.py`); the results are the same up
    to rounding.
    """

    fused = False

    def __init__(self, outer_width: int, inner_width: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(outer_width)
        self.conv1 = nn.Conv2d(outer_width, inner_width, kernel_size=1)
        self.norm2 = nn.BatchNorm2d(inner_width)
        self.conv2 = nn.Conv2d(inner_width, inner_width, kernel_size=3, padding=1)
        self.norm3 = nn.BatchNorm2d(inner_width)
        self.conv3 = nn.Conv2d(inner_width, outer_width, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(*self.hidden(x))

    def hidden(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x, for `join`, and what the last convolution sees (B, inner_width, H, W)."""
        x, out = self._norm_relu(self.norm1, x)
        _, out = self._norm_relu(self.norm2, self._pointwise(self.conv1, out))
        _, out = self._norm_relu(self.norm3, self.conv2(out))
        return x, out

    def join(self, x: Tensor, hidden: Tensor) -> Tensor:
        """The block's output."""
        return self._pointwise(self.conv3, hidden).add_(x)

    def join_means(self, x: Tensor, hidden: Tensor) -> Tensor:
        """The mean over pixels of the output (B, C), from those of x and of what the last convolution sees."""
        return F.linear(hidden, self.conv3.weight[:, :, 0, 0], self.conv3.bias) + x

    def _pointwise(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        if not (self.training and self.fused):
            return conv(x)
        return Pointwise.apply(x, conv.weight, conv.bias)  # type: ignore[arg-type]

    def _norm_relu(self, norm: nn.BatchNorm2d, x: Tensor) -> tuple[Tensor, Tensor]:
        if not (self.training and self.fused):
            return x, F.relu(norm(x), inplace=True)
        x, out, mean, var = norm_relu(x, norm.weight, norm.bias, norm.eps)
        _track(norm.running_mean, norm.running_var, mean, var, x.numel() // len(mean), norm.momentum)  # type: ignore[arg-type]
        return x, out


def _mean_over_pixels(a: Tensor, dtype: torch.dtype) -> Tensor:
    if a.device.type == "cpu" and a.dtype == torch.bfloat16:  # its `mean` takes six times as long
        return F.avg_pool2d(a, a.shape[-2:]).flatten(1).to(dtype)
    return a.mean((-2, -1), dtype=dtype)


class _MeanOverPixels(torch.autograd.Function):
    """a (B, C, H, W) -> a, its mean over pixels (B, C) in `dtype`.

    The gradient of the mean is the same for all pixels: handed on with that of `a` it is added to it in one pass, where
    autograd would first write it out for every pixel of every depth.
    """

    @staticmethod
    def forward(ctx, a: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.shape, ctx.dtype = a.shape, a.dtype
        return a.view_as(a), _mean_over_pixels(a, dtype)

    @staticmethod
    def backward(ctx, grad_a: Tensor | None, grad_mean: Tensor | None):  # type: ignore[override]
        if grad_mean is None:
            return grad_a, None
        height, width = ctx.shape[-2:]
        mean = (grad_mean / (height * width)).to(ctx.dtype)[..., None, None]
        if grad_a is None:
            return mean.expand(ctx.shape).contiguous(memory_format=torch.channels_last), None
        return grad_a + mean, None


class _ConvHead(DepthHead):
    """Of means over pixels (B, C): one residual fully connected block, linear; batch norm per depth."""

    def __init__(self, width: int, n_classes: int, n_depths: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, width)
        self.norm = DepthBatchNorm(width, n_depths)
        self.linear2 = nn.Linear(width, n_classes)

    def forward(self, pooled: Sequence[Tensor], min_depth: int = 0) -> Tensor:
        # In the precision of the parameters under autocast too: small, and its sums over the batch need it.
        with torch.autocast(pooled[0].device.type, enabled=False):
            stacked = torch.stack(list(pooled))  # (S, B, width)
            return self.linear2(stacked + self.norm(F.relu(self.linear1(stacked)), min_depth))

    def truncate(self, max_depth: int) -> None:
        self.norm.running_mean = self.norm.running_mean[: max_depth + 1].clone()
        self.norm.running_var = self.norm.running_var[: max_depth + 1].clone()


class ConvNetwork(DepthNetwork):
    """What `conv_resnet` makes. Its head sees the mean over pixels of an activation.

    The last convolution of a block is 1 x 1, so the mean of what it makes is what it makes of the mean. Of each block
    only the narrow tensor before that convolution is averaged, half the memory to read, and the last block's output is
    never made. For a fixed depth D that takes the mean at depth D - 1 too.
    """

    head: _ConvHead

    def activations(self, x: Tensor, max_depth: int | None = None, min_depth: int = 0) -> list[Tensor]:
        max_depth = self._checked(max_depth, min_depth)
        blocks: list[Bottleneck] = list(self.blocks[:max_depth])  # type: ignore[arg-type]
        first = min(min_depth, max(max_depth - 1, 0))
        a = self.stem(x)
        for block in blocks[:first]:
            a = block(a)
        a, mean = self._mean(a)
        seen = [mean]
        for block in blocks[first:]:
            a, hidden = block.hidden(a)
            hidden, mean = self._mean(hidden)
            with torch.autocast(x.device.type, enabled=False):
                seen.append(block.join_means(seen[-1], mean))
            if block is not blocks[-1]:
                a = block.join(a, hidden)
        return seen[min_depth - first :]

    def _mean(self, a: Tensor) -> tuple[Tensor, Tensor]:
        if not torch.is_grad_enabled():
            return a, _mean_over_pixels(a, self.head.linear1.weight.dtype)
        return _MeanOverPixels.apply(a, self.head.linear1.weight.dtype)  # type: ignore[return-value]


def conv_resnet(
    max_depth: int,
    in_channels: int = 1,
    n_classes: int = 10,
    outer_width: int = 64,
    inner_width: int = 32,
    stem_kernel: int = 5,
) -> ConvNetwork:
    """The convolutional network of the image experiments: conv 5x5 and pool, D x `Bottleneck`, pooled MLP head.

    `network(x)` maps x (B, in_channels, H, W) to logits (D + 1, B, n_classes), depth 0 first.

    Raises:
        ValueError: max_depth is negative or another size is not positive.
    """
    sizes = {"in_channels": in_channels, "n_classes": n_classes, "outer_width": outer_width, "inner_width": inner_width}
    _check_sizes(max_depth, **sizes, stem_kernel=stem_kernel)
    return ConvNetwork(
        _ConvStem(in_channels, outer_width, stem_kernel),
        (Bottleneck(outer_width, inner_width) for _ in range(max_depth)),
        _ConvHead(outer_width, n_classes, max_depth + 1),
    )


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
                child._parameters[key] = nn.Parameter(torch.stack([getattr(t, key).detach() for t in twins]))
        for key, buffer in child._buffers.items():
            if buffer is not None:
                child._buffers[key] = torch.stack([getattr(t, key) for t in twins])
    return stacked
