"""The convolutional network of the image experiments (section 4.2 of the paper)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthsearch.depth.fused import Pointwise, norm_relu
from depthsearch.depth.networks import DepthHead, DepthNetwork, _check_sizes, _track


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

    def truncate(self, max_depth: int) -> None:
        """Forgets the statistics of the depths beyond max_depth."""
        self.running_mean = self.running_mean[: max_depth + 1].clone()
        self.running_var = self.running_var[: max_depth + 1].clone()


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


def mean_over_pixels(a: Tensor, dtype: torch.dtype) -> Tensor:
    """a (B, C, H, W) -> (B, C) in `dtype`."""
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
        return a.view_as(a), mean_over_pixels(a, dtype)

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
        self.norm.truncate(max_depth)


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
            return a, mean_over_pixels(a, self.head.linear1.weight.dtype)
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
