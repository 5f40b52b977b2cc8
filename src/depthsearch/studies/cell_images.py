"""The images that cells are searched on."""

from functools import cache
from pathlib import Path

from depthsearch.data.augment import Augmentation
from depthsearch.data.cifar import BINARY_SETS, IMAGENET16, cell_split, reduced
from depthsearch.data.images import image_split
from depthsearch.data.split import Split

CLASSES = {name: known.n_classes for name, known in BINARY_SETS.items()} | {IMAGENET16: 120, "digits": 10}
SIDES = {"digits": 8, IMAGENET16: 16}  # pixels; 32 of the others


def colours(name: str) -> int:
    """Channels of the images of a set."""
    return 1 if name == "digits" else 3


@cache
def search_images(name: str, root: Path, n_train: int | None, pixels: int | None) -> Split:
    """The first training images of a set, reduced to so many pixels a side; None for all and for theirs.

    Raises:
        DataError: they are missing or damaged.
        ValueError: there are not as many, or pixels do not divide their side.
    """
    split = image_split(name, root) if name == "digits" else cell_split(name, root)
    return reduced(split, n_train or len(split.y_train), 1, pixels or split.x_train.shape[-1])


def augmentation(name: str, pixels: int | None) -> Augmentation:
    """As in the papers, whose crops of 32 pixels move by 4; digits are not mirrored."""
    return Augmentation(pad=(pixels or SIDES.get(name, 32)) // 8, flip=name != "digits")
