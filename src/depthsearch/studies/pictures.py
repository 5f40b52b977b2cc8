"""Every set of images that networks of cells are searched and trained on, under one roof."""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from depthsearch.data.augment import Augmentation
from depthsearch.data.cifar import BINARY_SETS, IMAGENET16, cell_split, reduced
from depthsearch.data.images import IMAGE_SETS, image_split
from depthsearch.data.split import Split


@dataclass(frozen=True)
class Pictures:
    """What is known of a set before it is read.

    Attributes:
        classes: how many.
        channels: 1 or 3.
        side: pixels.
        flip: whether an image and its mirror image are of one class.
        folder: whether it is read from class folders while it is trained on.
    """

    classes: int
    channels: int
    side: int
    flip: bool
    folder: bool = False


PICTURES = {
    **{name: Pictures(known.n_classes, 3, 32, flip=True) for name, known in BINARY_SETS.items()},
    IMAGENET16: Pictures(120, 3, 16, flip=True),
    **{
        name: Pictures(10, known.channels, known.size, flip=name == "Fashion-MNIST")
        for name, known in IMAGE_SETS.items()
    },
    "ImageNet": Pictures(1000, 3, 224, flip=True, folder=True),
}
CLASSES = {name: PICTURES[name].classes for name in (*BINARY_SETS, IMAGENET16, "digits")}  # that cells are searched on


@cache
def pictures_split(
    name: str, root: Path, pixels: int | None = None, n_train: int | None = None, n_test: int | None = None
) -> Split:
    """A set of `PICTURES` that is no folder, or the first images of its training and test points.

    Args:
        pixels: a side: a divisor of what they have, for means over squares, or a multiple, for repeated pixels.

    Raises:
        DataError: files are missing or damaged.
        ValueError: there are not as many images, or `pixels` is neither.
    """
    split = read_pictures(name, root)
    side = split.x_train.shape[-1]
    factor = 1 if pixels is None or pixels % side else max(pixels // side, 1)
    shrunk = side if pixels is None or factor > 1 else pixels
    split = reduced(split, n_train, n_test, shrunk)
    if factor == 1:
        return split
    large = [x.repeat_interleave(factor, -1).repeat_interleave(factor, -2) for x in (split.x_train, split.x_test)]
    return replace(split, x_train=large[0], x_test=large[1])


@cache
def read_pictures(name: str, root: Path) -> Split:
    """A set of `PICTURES` that is no folder, whole, once in a process.

    Raises:
        DataError: files are missing or damaged.
    """
    return image_split(name, root) if name in IMAGE_SETS else cell_split(name, root)


@cache
def search_images(name: str, root: Path, n_train: int | None, pixels: int | None) -> Split:
    """The first training images of a set, reduced to so many pixels a side; None for all and for theirs.

    Raises:
        DataError: they are missing or damaged.
        ValueError: there are not as many, or pixels do not divide their side.
    """
    return reduced(read_pictures(name, root), n_train, 1, pixels)


def augmentation(name: str, pixels: int | None, cutout: int = 0) -> Augmentation:
    """As in the papers, whose crops of 32 pixels move by 4; a flip where a mirrored image is one of its class."""
    known = PICTURES[name]
    return Augmentation(pad=(pixels or known.side) // 8, flip=known.flip, cutout=cutout)
