"""The operations of the DARTS space, and of NASNet's and AmoebaNet's cells (arXiv 1806.09055, section 3.1.1).

Activations are (B, C, H, W). An operation of stride 2 halves H and W, rounding up. What convolves starts with ReLU and
ends with batch norm: such a module is norm(features(relu(x))), and a search network, in which many operations read one
state, calls `features` with the state rectified once.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Rectified(nn.Module):
    """norm(features(relu(x))); subclasses define `features` and, as the last of their layers, `norm`."""

    norm: nn.BatchNorm2d

    def features(self, rectified: Tensor) -> Tensor:
        """The operation without its first ReLU and its last batch norm."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.features(F.relu(x)))


class PointwiseConv(Rectified):
    """A 1x1 convolution: what brings the outputs of the two cells before to the width of this one."""

    def __init__(self, in_channels: int, channels: int, affine: bool = True) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=affine)

    def features(self, rectified: Tensor) -> Tensor:
        return self.pointwise(rectified)


class FactorizedReduce(Rectified):
    """A skip connection of stride 2: half of the channels see the even pixels, half those one to the right and down.

    The pixels are taken first and convolved then: with few channels, last in memory, oneDNN's gradient of a 1x1
    convolution of stride 2 writes past its memory on CPUs without AVX-512 (oneDNN, issue 6035).
    """

    def __init__(self, in_channels: int, channels: int, affine: bool = True) -> None:
        super().__init__()
        self.even = nn.Conv2d(in_channels, channels // 2, 1, bias=False)
        self.odd = nn.Conv2d(in_channels, channels - channels // 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=affine)

    def features(self, rectified: Tensor) -> Tensor:
        height, width = rectified.shape[-2:]
        if not can_split(rectified):  # so that odd sizes round up in both halves
            rectified = F.pad(rectified, (0, width % 2, 0, height % 2))
        return torch.cat([self.even(rectified[..., ::2, ::2]), self.odd(rectified[..., 1::2, 1::2])], dim=1)


class SeparableConv(Rectified):
    """Depthwise and pointwise convolution, twice; the first has the stride."""

    def __init__(self, channels: int, kernel: int, stride: int, affine: bool = True) -> None:
        super().__init__()
        self.depthwise1 = _depthwise(channels, kernel, stride)
        self.pointwise1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels, affine=affine)
        self.depthwise2 = _depthwise(channels, kernel)
        self.pointwise2 = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=affine)

    def features(self, rectified: Tensor) -> Tensor:
        x = self.norm1(self.pointwise1(self.depthwise1(rectified)))
        return self.pointwise2(self.depthwise2(F.relu(x)))


class DilatedConv(Rectified):
    """Depthwise convolution of dilation 2, then a pointwise one.

    A convolution of dilation 2 does not mix the four grids of every second pixel, so it is an ordinary one on each of
    them, whose gradient takes a CPU a fraction of the time; training goes that way where the sizes are even.
    """

    def __init__(self, channels: int, kernel: int, stride: int, affine: bool = True) -> None:
        super().__init__()
        self.depthwise = _depthwise(channels, kernel, stride, dilation=2)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=affine)

    def features(self, rectified: Tensor) -> Tensor:
        if not self.training or not can_split(rectified):
            return self.pointwise(self.depthwise(rectified))
        if self.depthwise.stride == (2, 2):  # all that is read and all that is computed lies on one grid
            return self.on_grids(rectified[..., ::2, ::2])
        return merge_grids(self.on_grids(split_grids(rectified)))

    def on_grids(self, grids: Tensor) -> Tensor:
        """The same on grids of every second pixel, which a batch norm and a sum may as well see one by one."""
        weight = self.depthwise.weight
        return self.pointwise(F.conv2d(grids, weight, padding=weight.shape[-1] // 2, groups=len(weight)))


def can_split(x: Tensor) -> bool:
    """Height and width are even."""
    return x.shape[-2] % 2 == 0 and x.shape[-1] % 2 == 0


def split_grids(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (4 B, C, H/2, W/2), the four grids of every second pixel; the memory layout stays."""
    pixels = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
    if x.is_contiguous():
        return pixels.permute(3, 5, 0, 1, 2, 4).flatten(0, 2)
    return pixels.permute(3, 5, 0, 2, 4, 1).flatten(0, 2).movedim(-1, 1)


def merge_grids(grids: Tensor) -> Tensor:
    """The inverse of `split_grids`."""
    parts = grids.unflatten(0, (2, 2, -1))
    if grids.is_contiguous():
        return parts.permute(2, 3, 4, 0, 5, 1).flatten(4, 5).flatten(2, 3)
    return parts.permute(2, 4, 0, 5, 1, 3).flatten(3, 4).flatten(1, 2).movedim(-1, 1)


class Conv7x1(Rectified):
    """A convolution along the rows, then one along the columns, each over 7 pixels."""

    def __init__(self, channels: int, stride: int, affine: bool = True) -> None:
        super().__init__()
        self.rows = nn.Conv2d(channels, channels, (1, 7), (1, stride), (0, 3), bias=False)
        self.columns = nn.Conv2d(channels, channels, (7, 1), (stride, 1), (3, 0), bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=affine)

    def features(self, rectified: Tensor) -> Tensor:
        return self.columns(self.rows(rectified))


class Zero(nn.Module):
    """No connection: zeros in the shape that the other operations have."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[..., :: self.stride, :: self.stride])


class Pool(nn.Module):
    """3x3 pooling, "max" or "avg" (the mean leaves the padding out); `norm` adds a batch norm, not affine."""

    def __init__(self, kind: str, channels: int, stride: int, norm: bool = False) -> None:
        super().__init__()
        self.kind, self.stride = kind, stride
        self.norm = nn.BatchNorm2d(channels, affine=False) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "max":
            return self.norm(F.max_pool2d(x, 3, self.stride, padding=1))
        return self.norm(F.avg_pool2d(x, 3, self.stride, padding=1, count_include_pad=False))


def operation(name: str, channels: int, stride: int, affine: bool = True, pool_norm: bool = False) -> nn.Module:
    """The operation of that name, which keeps the number of channels.

    Args:
        name: one of `CELL_OPERATIONS`.
        stride: 1, or 2 for an edge of a reduction cell that reads one of the cell's inputs.
        affine: batch norms have a scale and a shift (not in a search network).
        pool_norm: a batch norm without scale and shift follows the pools: in every search network, and where DrNAS
            trains a genotype.

    Raises:
        ValueError: there is no operation of that name.
    """
    match name:
        case "none":
            return Zero(stride)
        case "max_pool_3x3" | "avg_pool_3x3":
            return Pool(name[:3], channels, stride, pool_norm)
        case "skip_connect":
            return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)
        case "sep_conv_3x3" | "sep_conv_5x5" | "sep_conv_7x7":
            return SeparableConv(channels, int(name[-1]), stride, affine)
        case "dil_conv_3x3" | "dil_conv_5x5":
            return DilatedConv(channels, int(name[-1]), stride, affine)
        case "conv_7x1_1x7":
            return Conv7x1(channels, stride, affine)
    raise ValueError(f"unknown operation {name!r}")


def drop_path(x: Tensor, probability: float) -> Tensor:
    """x (B, ...) with each image's part zero with that probability, the others divided by 1 - probability.

    Larsson et al., arXiv 1605.07648; torch's generator draws, as for dropout.
    """
    kept = torch.rand(x.shape[0], *[1] * (x.dim() - 1), device=x.device) >= probability
    return x * (kept.to(x.dtype) / (1 - probability))


def _depthwise(channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    padding = dilation * (kernel // 2)
    return nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)
