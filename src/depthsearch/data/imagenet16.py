"""ImageNet16-120 as an npz, from the official files of ImageNet at 16 x 16 pixels (Chrabaszcz et al. 2017, 1707.08819).

    python -m depthsearch.data.imagenet16 --from FOLDER --trust --out ImageNet16-120.npz

The folder holds `train_data_batch_1` to `_10` and `val_data`. They are pickles, which can run any code when they are
opened, so this opens them only with `--trust`. The images of the first 120 classes are kept, as NAS-Bench-201 does.
"""

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from depthsearch.data.files import DataError, convert_trusted, written_whole

CLASSES = 120
TRAIN, TEST = tuple(f"train_data_batch_{i}" for i in range(1, 11)), ("val_data",)


def convert(source: Path, out: Path) -> None:
    """Writes the npz: `x_train`, `x_test` (N, 3, 16, 16) uint8 and `y_train`, `y_test` (N,) in 0..119.

    Raises:
        DataError: a file is missing or is not what it should be, or `out` cannot be written.
    """
    if not out.parent.is_dir():
        raise DataError(f"no folder {out.parent} to write {out.name} into")
    arrays = {}
    for kind, names in (("train", TRAIN), ("test", TEST)):
        images, labels = zip(*(_read(source / name) for name in names), strict=True)
        arrays |= {f"x_{kind}": np.concatenate(images), f"y_{kind}": np.concatenate(labels)}
    with written_whole(out) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if not path.is_file():
        raise DataError(f"no file {path}; get ImageNet at 16 x 16 pixels from https://image-net.org")
    try:
        with path.open("rb") as file:
            content = pickle.load(file, encoding="latin1")
        images = np.asarray(content["data"], np.uint8).reshape(-1, 3, 16, 16)
        labels = np.asarray(content["labels"], np.int64) - 1  # the files count from 1
        kept = labels < CLASSES
        return images[kept], labels[kept]
    except Exception as error:  # a pickle raises whatever its damage leads to
        raise DataError(f"{path} is no file of ImageNet at 16 x 16 pixels ({error!r}); get it again") from None


def main(arguments: Sequence[str] | None = None) -> None:
    print(convert_trusted("depthsearch.data.imagenet16", "folder", Path("ImageNet16-120.npz"), convert, arguments))


if __name__ == "__main__":
    main()
