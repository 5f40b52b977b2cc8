"""The images that cells are searched on."""

from functools import cache
from pathlib import Path

from depthsearch.data.augment import Augmentation
from depthsearch.data.cifar import BINARY_SETS, IMAGENET16, reduced
from depthsearch.data.split import Split
from depthsearch.studies.pictures import PICTURES, read_pictures

CLASSES = {name: PICTURES[name].classes for name in (*BINARY_SETS, IMAGENET16, "digits")}


def colours(name: str) -> int:
    """Channels of the images of a set."""
    return PICTURES[name].channels


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
