"""CIFAR-10 and CIFAR-100 from their official binary format, ImageNet16-120 from an npz: nothing is unpickled.

The official page, https://www.cs.toronto.edu/~kriz/cifar.html, calls it "binary version (suitable for C programs)":
records of labels (a byte; two in CIFAR-100, coarse and fine) and 3,072 bytes of pixels. `imagenet16` makes the npz.
"""

import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from depthsearch.data.files import DataError
from depthsearch.data.split import Split

PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class BinarySet:
    """A data set in the binary format.

    Attributes:
        folder, archive: of the official distribution.
        train, test: names of the files.
        train_images, test_images: how many a file has.
        labels: bytes of labels in a record; the last one is used.
        mean, std: per channel, of pixels in [0, 1].
    """

    folder: str
    archive: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    train_images: int
    test_images: int
    labels: int
    n_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def _of_bytes(*channels: float) -> tuple[float, ...]:
    return tuple(channel / 255 for channel in channels)


# The constants of NAS-Bench-201's code.
BINARY_SETS = {
    "CIFAR-10": BinarySet(
        "cifar-10-batches-bin",
        "cifar-10-binary.tar.gz",
        tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        ("test_batch.bin",),
        train_images=10_000,
        test_images=10_000,
        labels=1,
        n_classes=10,
        mean=_of_bytes(125.3, 123.0, 113.9),
        std=_of_bytes(63.0, 62.1, 66.7),
    ),
    "CIFAR-100": BinarySet(
        "cifar-100-binary",
        "cifar-100-binary.tar.gz",
        ("train.bin",),
        ("test.bin",),
        train_images=50_000,
        test_images=10_000,
        labels=2,
        n_classes=100,
        mean=_of_bytes(129.3, 124.1, 112.4),
        std=_of_bytes(68.2, 65.4, 70.4),
    ),
}
IMAGENET16 = "ImageNet16-120"
IMAGENET16_MEAN, IMAGENET16_STD = _of_bytes(122.68, 116.66, 104.01), _of_bytes(63.22, 61.26, 65.09)


def cell_split(name: str, root: Path) -> Split:
    """CIFAR-10, CIFAR-100 or ImageNet16-120 as uint8 images (N, 3, H, W) and targets (N,), with their own test points.

    The files lie in `root`, in `root/<official folder>` or in `root/<name>/<official folder>`; `ImageNet16-120.npz` in
    `root` or `root/ImageNet16-120`. Nothing is downloaded.

    Raises:
        DataError: the name is unknown, or files are missing or damaged, in one line.
    """
    if name == IMAGENET16:
        return _read_npz(root)
    if name not in BINARY_SETS:
        raise DataError(f"no data set {name!r} for cells; there are {', '.join((*BINARY_SETS, IMAGENET16))}")
    known = BINARY_SETS[name]
    train = [_records(path, known, known.train_images) for path in _find(name, root, known.train)]
    test = [_records(path, known, known.test_images) for path in _find(name, root, known.test)]
    (x_train, y_train), (x_test, y_test) = (map(torch.cat, zip(*records, strict=True)) for records in (train, test))
    return Split(x_train, y_train, x_test, y_test, mean=known.mean, std=known.std)


def _find(name: str, root: Path, files: tuple[str, ...]) -> list[Path]:
    known = BINARY_SETS[name]
    places = (root / known.folder, root / name / known.folder, root)
    found = max(([place / f for f in files if (place / f).is_file()] for place in places), key=len)
    if len(found) < len(files):
        lacking = next(f for f in files if f not in {path.name for path in found})
        raise DataError(
            f"{name}: no {lacking} in {root / known.folder}; get {known.archive} (binary version) from "
            f"https://www.cs.toronto.edu/~kriz/cifar.html and unpack it in {root}"
        )
    return found


def _records(path: Path, known: BinarySet, images: int) -> tuple[Tensor, Tensor]:
    again = f"delete it and unpack {known.archive} again"
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    size = known.labels + PIXELS
    if len(data) != images * size:
        raise DataError(f"{path} has {len(data):,} bytes, {images:,} images have {images * size:,}; {again}")
    records = torch.from_numpy(data).view(-1, size)
    labels = records[:, known.labels - 1].long()
    if int(labels.max()) >= known.n_classes:
        raise DataError(f"{path} has the label {int(labels.max())}, the largest is {known.n_classes - 1}; {again}")
    return records[:, known.labels :].reshape(-1, 3, 32, 32), labels


def _read_npz(root: Path) -> Split:
    names = [place / f"{IMAGENET16}.npz" for place in (root, root / IMAGENET16)]
    path = next((path for path in names if path.is_file()), None)
    how = f"make it with python -m depthsearch.data.imagenet16 --from OFFICIAL_FOLDER --trust --out {names[0]}"
    if path is None:
        raise DataError(f"no {names[0]}; {how}")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in ("x_train", "y_train", "x_test", "y_test")}
    except (OSError, EOFError, ValueError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error}); {how}") from None
    for kind in ("train", "test"):
        x, y = arrays[f"x_{kind}"], arrays[f"y_{kind}"]
        fits = x.dtype == np.uint8 and x.shape == (len(y), 3, 16, 16) and y.ndim == 1 and len(y) > 0
        if not fits or y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= 120:
            raise DataError(f"{path}: x_{kind} and y_{kind} are not bytes (N, 3, 16, 16) and labels 0..119; {how}")
    x_train, y_train, x_test, y_test = (torch.from_numpy(array) for array in arrays.values())
    return Split(x_train, y_train.long(), x_test, y_test.long(), mean=IMAGENET16_MEAN, std=IMAGENET16_STD)


def search_halves(split: Split, seed: int | None) -> Split:
    """Half of the training points for the weights, the other half as validation points for the choices.

    Args:
        seed: of the halves, the same on every machine; None takes the first half for the weights, as DARTS does.
    """
    if seed is not None:
        return split.hold_out(0.5, seed)
    n = len(split.y_train) // 2
    x, y = split.x_train, split.y_train
    return replace(split, x_train=x[:n], y_train=y[:n], x_valid=x[n:], y_valid=y[n:])


def reduced(split: Split, n_train: int | None, n_test: int | None, pixels: int | None) -> Split:
    """The first training and test points, their images as means over squares: `pixels` a side, uint8; None for all.

    Raises:
        ValueError: the side is not divided by `pixels`, or there are not as many points.
    """
    side = split.x_train.shape[-1]
    n_train = len(split.y_train) if n_train is None else n_train
    n_test = len(split.y_test) if n_test is None else n_test
    pixels = side if pixels is None else pixels
    if pixels < 1 or side % pixels:
        raise ValueError(f"pixels must divide the {side} of a side, got {pixels}")
    for kind, wanted, y in (("training", n_train, split.y_train), ("test", n_test, split.y_test)):
        if not 1 <= wanted <= len(y):
            raise ValueError(f"need 1 to {len(y):,} {kind} points, got {wanted:,}")

    def small(x: Tensor) -> Tensor:
        return x if pixels == side else F.avg_pool2d(x.float(), side // pixels).round().to(torch.uint8)

    x_train, x_test = small(split.x_train[:n_train]), small(split.x_test[:n_test])
    return replace(split, x_train=x_train, y_train=split.y_train[:n_train], x_test=x_test, y_test=split.y_test[:n_test])
