"""From the official file of NAS-Bench-201 or NATS-Bench to the table that `nasbench` reads.

Both are pickles, which can run any code when they are opened. Nothing else in this project opens one but
`imagenet16`.
"""

import csv
import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from depthsearch.data.files import DataError, written_whole

N_CELLS = 15_625
# Of each column: epochs of training, what was trained on and tested on, whether of one run (else the mean of all).
ACCURACIES = {
    "c10_test_200_mean": ("200", "cifar10", "ori-test", False),
    "c100_test_200_mean": ("200", "cifar100", "x-test", False),
    "in16_test_200_mean": ("200", "ImageNet16-120", "x-test", False),
    "c10_val_200_single": ("200", "cifar10-valid", "x-valid", True),
    "c10_test_200_single": ("200", "cifar10", "ori-test", True),
    "c100_test_200_single": ("200", "cifar100", "x-test", True),
    "in16_test_200_single": ("200", "ImageNet16-120", "x-test", True),
    "c10_test_12": ("12", "cifar10", "ori-test", False),
    "c10_val_12": ("12", "cifar10-valid", "x-valid", False),
    "c100_test_12": ("12", "cifar100", "x-test", False),
    "c100_val_12": ("12", "cifar100", "x-valid", False),
    "in16_test_12": ("12", "ImageNet16-120", "x-test", False),
    "in16_val_12": ("12", "ImageNet16-120", "x-valid", False),
}
PARAMETERS = "params_M_c10"
NUMBERS = (*list(ACCURACIES)[:7], PARAMETERS, *list(ACCURACIES)[7:])
COLUMNS = ("index", "arch_str", *NUMBERS)


def convert(source: Path, out: Path) -> None:
    """Writes the table, gzipped where the name ends in .gz, from an official file whose pickles are trusted.

    Args:
        source: a folder of NATS-Bench (`NATS-tss-v1_0-3ffb9-simple`), its one file (`...pickle.pbz2`), or the older one
            of NAS-Bench-201 (`NAS-Bench-201-v1_1-096897.pth`).

    Raises:
        DataError: the file or the package `nats_bench` is missing, or the file does not hold all cells.
    """
    if not out.parent.is_dir():
        raise DataError(f"no folder {out.parent} to write {out.name} into")
    api = _open(source)
    if len(api) != N_CELLS:
        raise DataError(f"{source} has {len(api):,} cells, NAS-Bench-201 has {N_CELLS:,}; get the whole file")
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *_rows(source, api)])
    data = text.getvalue().encode()
    with written_whole(out) as part:
        part.write_bytes(gzip.compress(data, mtime=0) if out.suffix == ".gz" else data)


def _open(source: Path) -> Any:
    if not source.exists():
        raise DataError(f"no file {source}; get NATS-tss-v1_0-3ffb9-simple from the page of NATS-Bench")
    try:
        from nats_bench import create  # type: ignore[import-not-found]
    except ImportError:
        raise DataError("the package nats_bench is missing; pip install -e '.[nasbench]'") from None
    try:
        if source.suffix != ".pth":
            return create(str(source), "tss", fast_mode=source.is_dir(), verbose=False)
        official = torch.load(source, map_location="cpu", weights_only=False)
        epochs = {"less": "12", "full": "200"}
        cells = official["arch2infos"].items()
        renamed = {i: {epochs.get(key, key): runs for key, runs in cell.items()} for i, cell in cells}
        return create(official | {"arch2infos": renamed}, "tss", verbose=False)
    except Exception as error:  # a pickle raises whatever its damage leads to
        raise DataError(f"{source} is no file of NATS-Bench or NAS-Bench-201 ({error!r}); get it again") from None


def _rows(source: Path, api: Any) -> Iterator[list[str]]:
    for index in range(len(api)):
        try:
            runs = {epochs: api.query_meta_info_by_index(index, hp=epochs) for epochs in ("12", "200")}
            numbers = {name: f"{_accuracy(runs, *key):.4f}" for name, key in ACCURACIES.items()}
            numbers[PARAMETERS] = f"{runs['200'].get_compute_costs('cifar10')['params']:.6f}"
        except Exception as error:  # whatever is missing in what the pickle holds
            raise DataError(f"{source}: cell {index} is not complete ({error!r}); get it again") from None
        yield [str(index), api.arch(index), *(numbers[name] for name in NUMBERS)]


def _accuracy(runs: dict[str, Any], epochs: str, trained: str, tested: str, one_run: bool) -> float:
    which = runs[epochs].get_dataset_seeds(trained)[0] if one_run else False
    return runs[epochs].get_metrics(trained, tested, is_random=which)["accuracy"]
