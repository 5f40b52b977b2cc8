"""Images in folders, one folder a class, as ImageNet comes: read, cropped and changed while a network trains."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from depthsearch.data.files import DataError
from depthsearch.data.split import Split

ENDINGS = (".jpeg", ".jpg", ".png")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DRAWS = 10  # uniform numbers that the changes of an image take
ORDERS = list(permutations(range(4)))  # of the changes of colour


@dataclass(frozen=True)
class FolderAugmentation:
    """What is done to each training image: a crop of random size and shape, a flip, colours changed in random order.

    Attributes:
        side: pixels of what comes out.
        least_area: share of the image that a crop has at least (Szegedy et al., arXiv 1409.4842).
        most_ratio: of the sides of a crop.
        brightness, contrast, saturation: the factors are between 1 minus and 1 plus this.
        hue: moved by at most this share of the circle.
    """

    side: int = 224
    least_area: float = 0.08
    most_ratio: float = 4 / 3
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.2

    def box(self, width: int, height: int, draws: Sequence[float]) -> tuple[float, float, float, float]:
        """Left, upper, right and lower edge of a crop, pixels; `draws` are four uniform numbers.

        A side that would be longer than the image is cut to it.
        """
        area = width * height * (self.least_area + (1 - self.least_area) * draws[0])
        ratio = self.most_ratio ** (2 * draws[1] - 1)
        w, h = min(width, math.sqrt(area * ratio)), min(height, math.sqrt(area / ratio))
        left, upper = draws[2] * (width - w), draws[3] * (height - h)
        return left, upper, left + w, upper + h

    def __call__(self, image: Any, draws: Sequence[float]) -> Any:
        """A PIL image changed; `draws` are `DRAWS` uniform numbers."""
        from PIL.Image import Resampling, Transpose
        from torchvision.transforms import functional as change

        width, height = image.size
        box = self.box(width, height, draws[:4])
        image = image.resize((self.side, self.side), Resampling.BILINEAR, box=box)
        if draws[4] < 0.5:
            image = image.transpose(Transpose.FLIP_LEFT_RIGHT)
        b, c, s, h = (2 * draw - 1 for draw in draws[5:9])
        changes = [
            lambda image: change.adjust_brightness(image, 1 + self.brightness * b),
            lambda image: change.adjust_contrast(image, 1 + self.contrast * c),
            lambda image: change.adjust_saturation(image, 1 + self.saturation * s),
            lambda image: change.adjust_hue(image, self.hue * h),
        ]
        for i in ORDERS[int(len(ORDERS) * draws[9])]:
            image = changes[i](image)
        return image


class FolderBatches:
    """Batches (inputs, targets) of the images in `root/train/<class>` and, for testing, `root/val/<class>`.

    Args:
        root: the folder.
        size: images of a batch in training. A last one of a single image is left out, which batch norm cannot take.
        augmentation: of training images. For testing the middle of an image is taken, 7/8 of its shorter side.
        device: where batches go.
        threads: that read images.

    Attributes:
        classes: their names, in order.

    Raises:
        DataError: there are no such folders, or a class has no images, or the two do not have the same classes.
    """

    parts = ("test",)

    def __init__(
        self, root: Path, size: int, augmentation: FolderAugmentation, device: torch.device | str, threads: int = 4
    ) -> None:
        self.size, self.augmentation, self._device, self._threads = size, augmentation, device, threads
        self._files = {part: _files_of(root / part) for part in ("train", "val")}
        train, val = (list(classes) for classes in self._files.values())
        if train != val:
            odd = sorted(set(train) ^ set(val))[0]
            raise DataError(f"{root / 'train'} and {root / 'val'} do not have the same classes: {odd} is in one only")
        self.classes = train
        self._split = Split(*[torch.empty(0)] * 4, mean=MEAN, std=STD)  # normalises

    def train(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Those of an epoch; order and changes are drawn from the generator, on the CPU."""
        paths, y = self._labelled("train")
        order = torch.randperm(len(y), generator=generator)
        draws = torch.rand(len(y), DRAWS, generator=generator)
        jobs = [rows for rows in order.split(self.size) if len(rows) > 1]
        read = [([(paths[i], draws[i].tolist()) for i in rows.tolist()], y[rows]) for rows in jobs]
        return self._read(read)

    def held_out(self, part: str, size: int = 100) -> Iterator[tuple[Tensor, Tensor]]:
        """Those of the "test" points, in order."""
        paths, y = self._labelled({"test": "val"}[part])
        rows = torch.arange(len(y)).split(size)
        return self._read([([(paths[i], None) for i in batch.tolist()], y[batch]) for batch in rows])

    def _labelled(self, part: str) -> tuple[list[Path], Tensor]:
        found = [(path, label) for label, name in enumerate(self.classes) for path in self._files[part][name]]
        return [path for path, _ in found], torch.tensor([label for _, label in found])

    def _read(self, batches: Sequence[tuple[list, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        # The next batch is read while a network works on one.
        with ThreadPoolExecutor(self._threads) as pool:
            ahead = None
            for images, y in [*batches, ([], None)]:
                coming = (pool.map(self._one, images), y)
                if ahead is not None:
                    pixels = torch.stack(list(ahead[0])).to(self._device)
                    yield self._split.inputs(pixels), ahead[1].to(self._device)
                ahead = coming

    def _one(self, asked: tuple[Path, Sequence[float] | None]) -> Tensor:
        """An image as bytes (3, side, side)."""
        from PIL import Image
        from torchvision.transforms.functional import pil_to_tensor

        path, draws = asked
        try:
            with Image.open(path) as file:
                image = file.convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:  # as Pillow calls it where a PNG is broken
            raise DataError(f"{path} is damaged ({error}); get it again or delete it") from None
        if draws is not None:
            return pil_to_tensor(self.augmentation(image, draws))
        (width, height), side = image.size, self.augmentation.side
        shown = min(width, height) * 7 / 8
        left, upper = (width - shown) / 2, (height - shown) / 2
        box = (left, upper, left + shown, upper + shown)
        return pil_to_tensor(image.resize((side, side), Image.Resampling.BILINEAR, box=box))


def _files_of(folder: Path) -> dict[str, list[Path]]:
    """The images of each class."""
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    if not classes:
        raise DataError(f"no classes in {folder}; put the images of each into a folder of its own there")
    found = {c.name: sorted(p for p in c.iterdir() if p.suffix.lower() in ENDINGS) for c in classes}
    empty = next((name for name, paths in found.items() if not paths), None)
    if empty is not None:
        raise DataError(f"no images ({', '.join(ENDINGS)}) in {folder / empty}; fill or delete it")
    return found
