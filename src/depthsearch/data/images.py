"""Image data sets: MNIST and its relatives from their official files, digits from scikit-learn."""

import gzip
import math
import tempfile
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from depthsearch.data.files import DataError
from depthsearch.data.split import Split


@dataclass(frozen=True)
class ImageSet:
    """What is known of an image data set before it is read.

    Attributes:
        folder: where torchvision puts its files.
        size: pixels a side.
        mean, std: per channel, of pixels in [0, 1].
        files: their names.
        n_train: training images.
    """

    folder: str
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    files: tuple[str, ...]
    n_train: int = 60_000

    @property
    def channels(self) -> int:
        return len(self.mean)

    @property
    def stem_kernel(self) -> int:
        """Pixels a side of the kernel of `conv_resnet`'s first convolution: the paper's 5, less for small images."""
        return 5 if self.size >= 16 else 3


IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
MAT_FILES = ("train_32x32.mat", "test_32x32.mat")

# Constants of the original code; those of digits are of its training part.
IMAGE_SETS = {
    "MNIST": ImageSet("MNIST", 28, (0.1307,), (0.3081,), IDX_FILES),
    "Fashion-MNIST": ImageSet("FashionMNIST", 28, (0.2860,), (0.3530,), IDX_FILES),
    "KMNIST": ImageSet("KMNIST", 28, (0.1918,), (0.3483,), IDX_FILES),
    "SVHN": ImageSet("SVHN", 32, (0.431, 0.430, 0.446), (0.197, 0.198, 0.199), MAT_FILES, 73_257),
    "digits": ImageSet("digits", 8, (0.3053,), (0.3762,), (), 1437),
}


def image_split(name: str, root: Path) -> Split:
    """An image data set as uint8 tensors (N, C, H, W) and targets (N,), with the sets' own training and test parts.

    MNIST, Fashion-MNIST and KMNIST are read from `root/<folder>` or `root/<folder>/raw`, where `<folder>` is the name
    without the hyphen, their IDX files as they are or gzipped; SVHN from `root/SVHN` or `root`. Missing files are
    downloaded by torchvision into `root`, which must be there. `digits` are scikit-learn's 8 x 8 images, 1437 of them
    for training and 360 for testing, always the same; they need no files.

    Raises:
        DataError: the name is unknown, there is no folder `root`, a file is damaged, or the files are missing and
            cannot be downloaded.
    """
    if name not in IMAGE_SETS:
        raise DataError(f"no image data set {name!r}; there are {', '.join(IMAGE_SETS)}")
    known = IMAGE_SETS[name]
    if name == "digits":
        parts = _digits()
    else:
        files = _find(root, known)
        if files is None:
            if not root.is_dir():
                raise DataError(f"no folder {root}: make it, or give the one that holds the data as --data")
            _download(name, root)
            files = _find(root, known)
            if files is None:
                raise DataError(f"{name} is not complete in {root} after its download")
        parts = _read_svhn(files) if known.files == MAT_FILES else _read_idx(files)
    return Split(*parts, mean=known.mean, std=known.std)


def where(name: str, root: Path) -> str:
    """Where the files of a set of `IMAGE_SETS` are, or where they are looked for, in a line."""
    known = IMAGE_SETS[name]
    if not known.files:
        return f"{name}: scikit-learn has it"
    if files := _find(root, known):
        return f"{name}: in {files[0].parent}"
    then = "will be downloaded" if root.is_dir() else f"make the folder {root} first, if they are to be downloaded"
    return f"{name}: not in {root / known.folder}, where {', '.join(known.files)} are looked for; {then}"


def _find(root: Path, known: ImageSet) -> list[Path] | None:
    # The IDX files of all sets have the same names: only their folder tells them apart.
    own, svhn = root / known.folder, known.files == MAT_FILES
    for place in (own, root) if svhn else (own / "raw", own):
        endings = ("",) if svhn else ("", ".gz")
        files = [next((p for p in (place / f"{n}{e}" for e in endings) if p.is_file()), None) for n in known.files]
        if all(files):
            return [f for f in files if f]
    return None


def _download(name: str, root: Path) -> None:
    from torchvision import datasets

    known = IMAGE_SETS[name]
    try:
        print(f"downloading {name} into {root}")
        with tempfile.TemporaryDirectory(dir=root, prefix="download") as folder:
            if name == "SVHN":
                for split in ("train", "test"):
                    datasets.SVHN(folder, split=split, download=True)
            else:
                getattr(datasets, known.folder)(folder, download=True)
            # Each file comes whole or not at all: another process may be looking for them, or getting them, too.
            for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
                place = root / path.relative_to(folder)
                place.parent.mkdir(parents=True, exist_ok=True)
                path.replace(place)
    except (OSError, HTTPException, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        packed = "" if known.files == MAT_FILES else " (.gz or not)"
        raise DataError(
            f"{name} cannot be downloaded ({reason}); put {', '.join(known.files)}{packed} "
            f"into {root / known.folder}, or use --datasets digits, which needs no files"
        ) from None


def _read_idx(files: list[Path]) -> list[Tensor]:
    tensors = [_idx(path) for path in files]
    for (images, labels), paths in zip((tensors[:2], tensors[2:]), (files[:2], files[2:]), strict=True):
        if images.shape[1:] != (28, 28) or labels.dim() != 1 or (len(labels) and labels.max() > 9):
            raise DataError(f"{paths[0]} and {paths[1]} are not 28 x 28 images and labels 0..9; get them again")
        if len(images) != len(labels):
            raise DataError(f"{paths[1]} has {len(labels)} labels for the {len(images)} images of {paths[0]}")
        if not len(images):
            raise DataError(f"{paths[0]} holds no images; get it again")
    x_train, y_train, x_test, y_test = tensors
    return [x_train.unsqueeze(1), y_train.long(), x_test.unsqueeze(1), y_test.long()]


def _idx(path: Path) -> Tensor:
    """The unsigned bytes of an IDX file: magic (0, 0, 8, n), n big-endian sizes, the data."""
    try:
        data = (gzip.open if path.suffix == ".gz" else open)(path, "rb").read()
    except PermissionError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error}); delete it and get it again") from None
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise DataError(f"{path} is no IDX file of bytes; delete it and get it again")
    start = 4 + 4 * data[3]
    shape = np.frombuffer(data[4:start].ljust(start - 4, b"\0"), ">u4").tolist()
    if len(data) < start or len(data) - start != math.prod(shape):
        raise DataError(f"{path} is {len(data)} bytes, which is not what its header says; delete it and get it again")
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy())


def _read_svhn(files: list[Path]) -> list[Tensor]:
    from scipy.io import loadmat

    tensors = []
    for path in files:
        try:
            content = loadmat(path)
            images, labels = content["X"], content["y"].reshape(-1).astype(np.int64)
        except Exception as error:  # scipy raises whatever the damage leads to
            raise DataError(f"{path} is no SVHN file ({error}); delete it and get it again") from None
        if images.dtype != np.uint8 or images.shape != (32, 32, 3, len(labels)) or not set(labels) <= set(range(11)):
            raise DataError(
                f"{path} holds {images.dtype} {images.shape} and {len(labels)} labels, not bytes (32, 32, 3, N) and N "
                "labels of 1..10; delete it and get it again"
            )
        labels[labels == 10] = 0  # the file calls the digit 0 ten
        tensors += [torch.from_numpy(images.transpose(3, 2, 0, 1).copy()), torch.from_numpy(labels)]
    return tensors


def _digits() -> list[Tensor]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = torch.from_numpy(np.round(x * (255 / 16)).astype(np.uint8)).view(-1, 1, 8, 8)  # 16 grey levels
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(y)))
    test, train = order[: len(y) // 5 + 1], order[len(y) // 5 + 1 :]
    y = torch.from_numpy(y).long()
    return [x[train], y[train], x[test], y[test]]
