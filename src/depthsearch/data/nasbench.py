"""NAS-Bench-201 as a table: what each of its 15,625 cells reaches when it is trained (Dong & Yang 2020, 2001.00326).

A CSV file, gzipped or not, with a row a cell in the order of the official index. It is made once from the official
file, for which the authors' package is needed (`pip install -e ".[nasbench]"`):

    python -m depthsearch.data.nasbench --from NATS-tss-v1_0-3ffb9-simple --trust --out nasbench201.csv.gz
"""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from depthsearch.data.files import DataError, convert_trusted
from depthsearch.data.nasbench_official import COLUMNS, N_CELLS, NUMBERS, convert

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
CELL = re.compile(r"\|(\w+)~0\|\+\|(\w+)~0\|(\w+)~1\|\+\|(\w+)~0\|(\w+)~1\|(\w+)~2\|")
SETS = {"CIFAR-10": "c10", "CIFAR-100": "c100", "ImageNet16-120": "in16"}  # name -> how its columns begin
HOW = "make it with python -m depthsearch.data.nasbench --from OFFICIAL_FILE --trust --out nasbench201.csv.gz"


@dataclass(frozen=True)
class NASBench201:
    """The table in memory.

    Attributes:
        strings: the cells in the order of the official index.
        operations: the position in `OPERATIONS` of what stands on each edge (15,625, 6), in the order of the string.
        columns: (15,625,) float64, by name: accuracies in percent after 200 epochs (`test`, `val`; the `mean` over
            runs or a `single` one) and after 12, on CIFAR-10, CIFAR-100 and ImageNet16-120; `params_M_c10` in millions.
    """

    strings: tuple[str, ...]
    operations: Tensor
    columns: dict[str, Tensor]

    def test_accuracy(self, data: str = "CIFAR-10") -> Tensor:
        """What counts as the truth (15,625,), in percent: on test points after 200 epochs, the mean over runs."""
        return self.columns[f"{SETS[data]}_test_200_mean"]

    def index(self, string: str) -> int:
        """The official index of a cell.

        Raises:
            ValueError: there is no such cell.
        """
        if string not in self._positions:
            raise ValueError(f"NAS-Bench-201 has no cell {string!r}")
        return self._positions[string]

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {string: position for position, string in enumerate(self.strings)}


def read_nasbench201(path: Path) -> NASBench201:
    """The table in a file, or in `nasbench201.csv.gz` or `nasbench201.csv` of a folder or of its folder `nasbench`.

    Raises:
        DataError: the table is missing or damaged, in one line.
    """
    path = _find(path)
    header, *rows = _lines(path)
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}; {HOW}")
    if len(rows) != N_CELLS:
        raise DataError(f"{path} has {len(rows):,} cells, NAS-Bench-201 has {N_CELLS:,}; {HOW}")
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise DataError(f"{path}: cell {number} has {len(row)} values for {len(header)} columns; {HOW}")
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    numbers = {name: _numbers(path, name, columns[name]) for name in ("index", *NUMBERS)}
    if not torch.equal(numbers.pop("index"), torch.arange(N_CELLS, dtype=torch.float64)):
        raise DataError(f"{path} is not in the order of the official index, from 0 to {N_CELLS - 1:,}; {HOW}")
    operations = torch.tensor([_operations(path, string) for string in columns["arch_str"]])
    if len(set(columns["arch_str"])) != N_CELLS:
        raise DataError(f"{path} has a cell twice; {HOW}")
    return NASBench201(columns["arch_str"], operations, numbers)


def _find(path: Path) -> Path:
    names = [folder / f"nasbench201.csv{end}" for folder in (path, path / "nasbench") for end in (".gz", "")]
    found = next((file for file in (path, *names) if file.is_file()), None)
    if found is None:
        raise DataError(f"no table of NAS-Bench-201 at {path}; {HOW}")
    return found


def _lines(path: Path) -> list[list[str]]:
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
        lines = [line for line in csv.reader(io.StringIO(text, newline="")) if line]
    except PermissionError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is damaged ({error}); {HOW}") from None
    if not lines:
        raise DataError(f"{path} is empty; {HOW}")
    return lines


def _numbers(path: Path, name: str, values: Sequence[str]) -> Tensor:
    try:
        numbers = torch.tensor([float(value) for value in values], dtype=torch.float64)
    except ValueError as error:
        raise DataError(f"{path}: column {name}: {error}; {HOW}") from None
    if not bool(numbers.isfinite().all()):
        raise DataError(f"{path}: column {name} is not of finite numbers; {HOW}")
    return numbers


def _operations(path: Path, string: str) -> list[int]:
    match = CELL.fullmatch(string)
    if match is None or not set(match.groups()) <= set(OPERATIONS):
        raise DataError(f"{path}: {string!r} is not a cell of NAS-Bench-201; {HOW}")
    return [OPERATIONS.index(name) for name in match.groups()]


def main(arguments: Sequence[str] | None = None) -> None:
    out = Path("nasbench201.csv.gz")  # or .csv
    convert_trusted("depthsearch.data.nasbench", "file or folder", out, _convert_and_read, arguments)


def _convert_and_read(source: Path, out: Path) -> None:
    convert(source, out)
    print(f"{out}: {len(read_nasbench201(out).strings):,} cells")


if __name__ == "__main__":
    main()
