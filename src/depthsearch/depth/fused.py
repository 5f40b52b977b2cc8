"""The residual block of `conv_resnet` in training mode, in as few passes over memory as there can be.

On activations of millions of numbers a training step is bound by the memory that it reads and writes. Batch norm and
ReLU take two passes forward (moments; scale, shift, clip and round) and two backward (two sums; the gradient), each of
which is one compiled function. Activations are (B, C, H, W) stored channels last, in any precision; sums are taken in
that of the parameters. Tested against autograd on the plain modules.
"""

import math
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from depthsearch.depth.chain import no_second_derivative

VARIANTS = 64  # of a compiled function, at most


def norm_relu(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """relu(batch_norm(x)) with the statistics of the batch.

    Args:
        x: activations (B, C, H, W), best stored channels last.
        weight, bias: (C,).
        eps: added to the variance.

    Returns:
        x, for all other uses of it: their gradient is then added in the same pass; the activations, like x; mean and
        biased variance of each channel (C,), which carry no gradient. The variance is the mean square less the squared
        mean: of a channel whose mean is a hundred deviations it is a few per mille off in float32.
    """
    pixels = x.permute(0, 2, 3, 1).flatten(1, 2)
    *activations, mean, var = _NormReLU.apply(pixels, weight, bias, eps)  # type: ignore[misc]
    again, out = (a.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2) for a in activations)
    return again, out, mean, var


class _NormReLU(torch.autograd.Function):
    """x (B, P, C) of P pixels -> x, relu(scale x + shift), where scale and shift are those of a batch norm."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        n = x.shape[0] * x.shape[1]
        total, squares = _compiled(_sums)(x, weight.dtype)
        mean = total / n
        var = (squares / n - mean.square()).clamp(min=0)
        deviation = torch.rsqrt(var + eps)
        scale = weight * deviation
        shift = bias - mean * scale
        ctx.save_for_backward(x, scale, shift, mean, deviation)
        ctx.mark_non_differentiable(mean, var)
        return x.view_as(x), _compiled(_scale_relu)(x, scale, shift), mean, var

    @staticmethod
    def backward(ctx, grad_x: Tensor | None, grad: Tensor, *_):  # type: ignore[override]
        no_second_derivative()  # mean and deviation are kept as numbers
        x, scale, shift, mean, deviation = ctx.saved_tensors
        n = x.shape[0] * x.shape[1]
        total, with_x = _compiled(_sums_where_positive)(grad, x, scale, shift)
        grad_weight = (with_x - mean * total) * deviation
        # The gradient of x is scale (g - mean of g - x_hat mean of g x_hat): linear in g and x.
        slope = -scale * deviation * grad_weight / n
        offset = -scale * total / n - slope * mean
        return _compiled(_gradient)(grad, x, scale, shift, slope, offset, grad_x), grad_weight, total, None


# One pass each: x and g (B, P, C), everything else (C,). Sums go over the pixels of an image first, then over images.


def _sums(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    x = x.to(dtype)
    return x.sum(1).sum(0), x.square().sum(1).sum(0)


def _scale_relu(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return (x.to(scale.dtype) * scale + shift).relu().to(x.dtype)


def _sums_where_positive(g: Tensor, x: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    x = x.to(scale.dtype)
    g = torch.where(x * scale + shift > 0, g.to(scale.dtype), 0)
    return g.sum(1).sum(0), (g * x).sum(1).sum(0)


def _gradient(
    g: Tensor, x: Tensor, scale: Tensor, shift: Tensor, slope: Tensor, offset: Tensor, more: Tensor | None
) -> Tensor:
    dtype, x = x.dtype, x.to(scale.dtype)
    g = torch.where(x * scale + shift > 0, g.to(scale.dtype), 0)
    out = g * scale + x * slope + offset
    return (out if more is None else out + more).to(dtype)


class Pointwise(torch.autograd.Function):
    """A 1 x 1 convolution in the precision of x: x (B, C, H, W), weight (C', C, 1, 1), bias (C',) -> (B, C', H, W).

    The sums over pixels in its gradient are matrix products, a part of the batch each: on a CPU in bfloat16 they take
    half the time of a convolution's.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.dtype, weight = weight.dtype, weight.to(x.dtype)
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias.to(x.dtype))

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[override]
        x, weight = ctx.saved_tensors
        parts = math.gcd(len(x), 64)
        rows, columns = (a.permute(0, 2, 3, 1).reshape(parts, -1, a.shape[1]) for a in (grad, x))
        ones = x.new_ones(1, rows.shape[1]).expand(parts, 1, -1)
        grad_weight = torch.bmm(rows.mT, columns).sum(0, dtype=ctx.dtype).view(weight.shape)
        grad_bias = torch.bmm(ones, rows).sum((0, 1), dtype=ctx.dtype)
        return F.conv2d(grad, weight.transpose(0, 1)), grad_weight, grad_bias


@cache
def _compiled(function):
    # Each batch size, image size and number of channels is compiled for itself, and of three data sets there are more
    # than torch compiles of a function before it runs the rest as it is, several times slower.
    from torch._dynamo import config  # which takes a second to import, and belongs to no start of a script

    config.recompile_limit = max(VARIANTS, config.recompile_limit)
    # The thresholds keep the compiler from writing out, in float32, what two sums have in common.
    options: dict[str, Any] = {"realize_reads_threshold": 100, "realize_opcount_threshold": 1000}
    return torch.compile(function, dynamic=False, options=options)
