"""The network of a convolutional genotype, as DARTS trains it (arXiv 1806.09055, section 3.2, appendix A.2.1).

A stem, a chain of cells of which each reads the outputs of the two before it, a mean over all pixels, a linear
classifier. The cells number layers // 3 and 2 layers // 3 are reduction cells: they double the channels and halve the
picture.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthsearch.cells.genotype import CellGenotype, genotype
from depthsearch.cells.operations import FactorizedReduce, PointwiseConv, drop_path, operation


class Place(NamedTuple):
    """Where a cell stands: its channels, those of the two cells before it, and what of them halves the picture."""

    before_last: int
    last: int
    channels: int
    reduction: bool
    after_reduction: bool


def places(channels: int, layers: int, stem: int, concat: tuple[int, int], halved: bool) -> Iterator[Place]:
    """The places of all cells.

    Args:
        channels: of a node in the first cells.
        stem: channels of the stem.
        concat: how many nodes make up the output of a normal and of a reduction cell.
        halved: the last of the stem's two outputs is half as large as the other.
    """
    before_last, last, after_reduction = stem, stem, halved
    for layer in range(layers):
        reduction = layer in (layers // 3, 2 * layers // 3)
        channels *= 1 + reduction
        yield Place(before_last, last, channels, reduction, after_reduction)
        before_last, last, after_reduction = last, concat[reduction] * channels, reduction


class Stem(nn.Module):
    """Picture -> the two states that the first cell reads.

    For small pictures a 3x3 convolution, twice the same state; for ImageNet's two and one convolutions of stride 2,
    so that the states have a quarter and an eighth of the picture's height and width.
    """

    def __init__(self, in_channels: int, channels: int, imagenet: bool) -> None:
        super().__init__()
        self.imagenet = imagenet
        if imagenet:
            half = channels // 2
            self.quarter = nn.Sequential(
                *_conv_norm(in_channels, half, 3, 2), nn.ReLU(), *_conv_norm(half, channels, 3, 2)
            )
            self.eighth = nn.Sequential(nn.ReLU(), *_conv_norm(channels, channels, 3, 2))
        else:
            self.whole = nn.Sequential(*_conv_norm(in_channels, channels, 3, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.device.type == "cpu":  # depthwise convolutions and pools run several times faster there with channels last
            x = x.contiguous(memory_format=torch.channels_last)
        if self.imagenet:
            quarter = self.quarter(x)
            return quarter, self.eighth(quarter)
        whole = self.whole(x)
        return whole, whole


def preprocessing(place: Place, affine: bool = True) -> tuple[nn.Module, nn.Module]:
    """What brings the two inputs of a cell to its number of channels and to one height and width."""
    first = FactorizedReduce if place.after_reduction else PointwiseConv
    return first(place.before_last, place.channels, affine), PointwiseConv(place.last, place.channels, affine)


class Cell(nn.Module):
    """A cell of a genotype: two states (B, C, H, W) -> the concatenated nodes."""

    def __init__(self, g: CellGenotype, place: Place, pool_norm: bool) -> None:
        super().__init__()
        edges = g.reduce if place.reduction else g.normal
        self.concat = g.reduce_concat if place.reduction else g.normal_concat
        self.reads = [state for _, state in edges]
        self.first, self.second = preprocessing(place)
        strides = [2 if place.reduction and state < 2 else 1 for state in self.reads]
        self.edges = nn.ModuleList(
            operation(name, place.channels, stride, pool_norm=pool_norm)
            for (name, _), stride in zip(edges, strides, strict=True)
        )

    def forward(self, before_last: Tensor, last: Tensor, drop: float) -> Tensor:
        states = [self.first(before_last), self.second(last)]
        for i in range(0, len(self.edges), 2):
            states.append(self._edge(i, states, drop) + self._edge(i + 1, states, drop))
        return torch.cat([states[i] for i in self.concat], dim=1)

    def _edge(self, i: int, states: list[Tensor], drop: float) -> Tensor:
        edge = self.edges[i]
        out = edge(states[self.reads[i]])
        return out if drop == 0 or isinstance(edge, nn.Identity) else drop_path(out, drop)


class AuxiliaryHead(nn.Module):
    """A second classifier on an inner state, used in training only: it carries the loss to the lower cells.

    Takes 8x8 pixels (ImageNet's form: 7x7). That form has no batch norm after its second convolution, as the
    published networks had none.
    """

    def __init__(self, channels: int, n_classes: int, imagenet: bool) -> None:
        super().__init__()
        self.stride = 2 if imagenet else 3
        second = _conv_norm(128, 768, 2)[: 1 if imagenet else 2]
        self.features = nn.Sequential(*_conv_norm(channels, 128, 1), nn.ReLU(), *second, nn.ReLU())
        self.classifier = nn.Linear(768, n_classes)

    def forward(self, state: Tensor) -> Tensor:
        pixels = 5 + self.stride
        if min(state.shape[-2:]) < pixels:
            got = "x".join(map(str, state.shape[-2:]))
            raise ValueError(
                f"the auxiliary head needs {pixels}x{pixels} pixels after the last reduction, got {got}: "
                "take larger pictures or leave the head out"
            )
        pooled = F.avg_pool2d(F.relu(state), 5, self.stride)
        return self.classifier(self.features(pooled).mean((2, 3)))


class DartsNetwork(nn.Module):
    """What `darts_network` makes.

    Attributes:
        drop_path: the probability with which, in training, an image loses an edge that is no identity (DARTS raises it
            linearly from 0 to 0.2 over the epochs).
    """

    def __init__(
        self,
        g: CellGenotype,
        channels: int,
        layers: int,
        n_classes: int,
        *,
        auxiliary: bool,
        imagenet: bool,
        pool_norm: bool,
        in_channels: int,
    ) -> None:
        super().__init__()
        self.genotype, self.drop_path = g, 0.0
        stem = channels if imagenet else 3 * channels
        self.stem = Stem(in_channels, stem, imagenet)
        concat = (len(g.normal_concat), len(g.reduce_concat))
        cells = list(places(channels, layers, stem, concat, imagenet))
        self.cells = nn.ModuleList(Cell(g, place, pool_norm) for place in cells)
        widths = [concat[place.reduction] * place.channels for place in cells]
        self.auxiliary_after = 2 * layers // 3
        self.auxiliary = AuxiliaryHead(widths[self.auxiliary_after], n_classes, imagenet) if auxiliary else None
        self.classifier = nn.Linear(widths[-1], n_classes)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Logits (B, n_classes) of pictures x (B, in_channels, H, W); with an auxiliary head, in training, both heads'.

        Raises:
            ValueError: the pictures are too small for the auxiliary head.
        """
        before_last, last = self.stem(x)
        auxiliary = None
        for i, cell in enumerate(self.cells):
            before_last, last = last, cell(before_last, last, self.drop_path if self.training else 0.0)
            if self.auxiliary is not None and self.training and i == self.auxiliary_after:
                auxiliary = self.auxiliary(last)
        logits = self.classifier(last.mean((2, 3)))
        return logits if auxiliary is None else (logits, auxiliary)

    @property
    def n_parameters(self) -> int:
        """Numbers that are learnt, without those of an auxiliary head, as the papers count them."""
        learnt = ((name, p) for name, p in self.named_parameters() if not name.startswith("auxiliary."))
        return sum(p.numel() for _, p in learnt)


def darts_network(
    g: object,
    channels: int = 36,
    layers: int = 20,
    n_classes: int = 10,
    auxiliary: bool = False,
    *,
    imagenet: bool = False,
    pool_norm: bool = False,
    in_channels: int = 3,
) -> DartsNetwork:
    """The network of a genotype, to be trained from scratch.

    Args:
        g: a `CellGenotype`, or what `genotype` makes one of.
        channels: of a node in the first cells; even.
        auxiliary: a second head, whose logits come with the others in training.
        imagenet: the form for ImageNet (there: 48 channels, 14 layers): a stem that divides height and width by 8.
        pool_norm: a batch norm without scale and shift after every pool, as DrNAS trains its genotypes.

    Raises:
        ValueError: g is no genotype of a convolutional cell, or a size is not possible.
    """
    check_sizes(channels, layers=layers, n_classes=n_classes, in_channels=in_channels)
    g = genotype(g, CellGenotype)
    return DartsNetwork(
        g,
        channels,
        layers,
        n_classes,
        auxiliary=auxiliary,
        imagenet=imagenet,
        pool_norm=pool_norm,
        in_channels=in_channels,
    )


def check_sizes(channels: int, **sizes: int) -> None:
    """Raises ValueError unless channels is a positive even number and the other sizes are positive."""
    if channels < 2 or channels % 2:
        raise ValueError(
            f"channels must be a positive even number (a skip connection of stride 2 halves it), got {channels}"
        )
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")


def _conv_norm(in_channels: int, channels: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    padding = 1 if kernel == 3 else 0
    return [nn.Conv2d(in_channels, channels, kernel, stride, padding, bias=False), nn.BatchNorm2d(channels)]
