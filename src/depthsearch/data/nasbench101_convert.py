"""The table of NAS-Bench-101 as an npz, from the official record files or from ultmaster's HDF5; no TensorFlow.

    python -m depthsearch.data.nasbench101_convert nasbench_only108.tfrecord nasbench101.npz

A record of the official files is a JSON list: hash of the cell, epochs, adjacency as a string of 0 and 1, operations
separated by commas, and a protocol buffer in base64 with the evaluations at the start, half-way and at the end of one
run (nasbench/lib/model_metrics.proto). A cell has three runs for each number of epochs.
"""

import argparse
import base64
import binascii
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from depthsearch.data.files import DataError
from depthsearch.data.nasbench101 import EPOCHS, INPUT, NO_VERTEX, OUTPUT, Table, labels_of, problem, save_table
from depthsearch.data.tfrecords import read_fields, read_records

IDS = {"conv3x3-bn-relu": 0, "conv1x1-bn-relu": 1, "maxpool3x3": 2, "input": INPUT, "output": OUTPUT}
RUNS = 3


def from_records(path: str | Path, which: str = "seed 0") -> Table:
    """The table of an official record file, cells in the order of the file.

    Args:
        path: nasbench_full.tfrecord or nasbench_only108.tfrecord.
        which: the run that `validation_accuracy` holds: "seed 0", "seed 1", "seed 2", "mean" or "best".

    Raises:
        ValueError: the file is missing, damaged, truncated, or not one of NAS-Bench-101; says at which record.
    """
    cells: dict[str, tuple[np.ndarray, list[int], int]] = {}
    runs: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for number, record in enumerate(read_records(path), start=1):
        try:
            name, epochs, adjacency, operations, metrics = json.loads(record)
            parameters, valid, test = read_metrics(base64.b64decode(metrics, validate=True))
            if name not in cells:
                cells[name] = (*_cell(adjacency, operations), parameters)
            seen = runs.setdefault((name, EPOCHS.index(epochs)), [])
            if len(seen) == RUNS:
                raise ValueError(f"cell {name} has more than {RUNS} runs of {epochs} epochs")
            seen.append((valid, test))
        except (ValueError, TypeError, KeyError, binascii.Error) as error:
            raise ValueError(f"{path}: record {number} is none of NAS-Bench-101: {error}") from error
    if not cells:
        raise ValueError(f"{path} has no records")
    accuracies = np.full((len(cells), len(EPOCHS), RUNS, 2), np.nan, dtype=np.float32)
    row = {name: place for place, name in enumerate(cells)}
    for (name, epochs), seen in runs.items():
        accuracies[row[name], epochs, : len(seen)] = seen
    return _table(path, list(cells), list(cells.values()), accuracies, which)


def read_metrics(message: bytes) -> tuple[int, float, float]:
    """Parameters, and validation and test accuracy of the last evaluation, of a `ModelMetrics` protocol buffer.

    Raises:
        ValueError: the bytes are none, or lack one of them.
    """
    parameters, last = None, None
    for number, value in read_fields(message):
        if number == 1:
            last = value
        elif number == 2:
            parameters = value
    if not isinstance(last, bytes) or not isinstance(parameters, int):
        raise ValueError("its metrics lack evaluations or the number of parameters")
    evaluation = dict(read_fields(last))
    valid, test = evaluation.get(4), evaluation.get(5)
    if (
        not isinstance(valid, float)
        or not isinstance(test, float)
        or not 0 <= min(valid, test) <= max(valid, test) <= 1
    ):
        raise ValueError("its last evaluation lacks a validation or test accuracy in 0..1")
    return parameters, valid, test


def _cell(adjacency: str, operations: str) -> tuple[np.ndarray, list[int]]:
    ids = [IDS[name] for name in operations.split(",")]
    size = math.isqrt(len(adjacency))
    if size * size != len(adjacency) or size != len(ids) or size > 7 or not set(adjacency) <= {"0", "1"}:
        raise ValueError(f"its adjacency and its {len(ids)} operations do not make a cell of at most 7 vertices")
    return np.array(list(adjacency), dtype=np.uint8).reshape(size, size), ids


def _table(path, names: Sequence[str], cells: Sequence[tuple[np.ndarray, list[int], int]], accuracies, which) -> Table:
    n = len(cells)
    adjacency, operations = np.zeros((n, 7, 7), dtype=np.uint8), np.full((n, 7), NO_VERTEX, dtype=np.int8)
    for row, (edges, ids, _) in enumerate(cells):
        adjacency[row, : len(ids), : len(ids)], operations[row, : len(ids)] = edges, ids
    vertices = np.array([len(ids) for _, ids, _ in cells], dtype=np.uint8)
    parameters = np.array([parameters for *_, parameters in cells], dtype=np.int64)
    columns = {
        "adjacency": adjacency,
        "operations": operations,
        "vertices": vertices,
        "parameters": parameters,
        "hash": np.array(names, dtype="U32"),
    }
    return _with_label(path, columns, accuracies[..., 0], accuracies[..., 1], which)


def _with_label(path, columns: dict[str, np.ndarray], valid: np.ndarray, test: np.ndarray, which: str) -> Table:
    """The table whose one label is that of `which`; nan where a number of epochs has no runs."""
    chosen = {"mean": valid.mean(2), "best": valid.max(2)}
    chosen.update({f"seed {run}": valid[:, :, run] for run in range(RUNS)})
    if which not in chosen:
        raise ValueError(f"a label is one of {', '.join(chosen)}, not {which!r}")
    said = f"{which} of three seeds" if which in ("mean", "best") else which
    accuracy = chosen[which].astype(np.float32)
    table = Table(**columns, validation_accuracy=accuracy, label=said, validation_runs=valid, test_runs=test)
    wrong = problem(table)
    if wrong:
        raise ValueError(f"{path}: {wrong}")
    return table


def from_hdf5(path: str | Path, which: str = "seed 0") -> Table:
    """The table of the HDF5 file of ultmaster/neuralpredictor.pytorch; needs h5py.

    Its columns are hash, adjacency, operations (-2 output, -1 input, 0, 1, 2), num_vertices, trainable_parameters and
    metrics (n, epochs, runs, evaluations, 4), of which the last two numbers are validation and test accuracy.

    Raises:
        ValueError: the file is missing or not that one, or h5py is not installed.
    """
    try:
        import h5py  # type: ignore[import-not-found]
    except ImportError as error:
        raise ValueError("reading HDF5 needs h5py: pip install h5py") from error
    wanted = ("hash", "adjacency", "operations", "num_vertices", "trainable_parameters", "metrics")
    try:
        with h5py.File(path, "r") as file:
            missing = [name for name in wanted if name not in file]
            read = {name: np.asarray(file[name]) for name in wanted if name in file}
    except OSError as error:
        raise ValueError(f"{path} cannot be read as HDF5: {str(error).splitlines()[0]}") from error
    if missing:
        raise ValueError(f"{path} is not the file of ultmaster/neuralpredictor.pytorch: it lacks {', '.join(missing)}")
    return from_arrays(path, read, which)


def from_arrays(path: str | Path, read: dict[str, np.ndarray], which: str) -> Table:
    """The table of the arrays that `from_hdf5` reads; path is for messages."""
    vertices, ids, metrics = read["num_vertices"].astype(int), read["operations"].astype(int), read["metrics"]
    if metrics.ndim != 5 or metrics.shape[1:3] != (len(EPOCHS), RUNS) or metrics.shape[4] < 4 or ids.shape[1:] != (7,):
        raise ValueError(f"{path}: metrics of shape {metrics.shape} and operations of shape {ids.shape} do not fit")
    operations = np.where(ids >= 0, ids, np.where(ids == -1, INPUT, OUTPUT))
    operations[np.arange(7) >= vertices[:, None]] = NO_VERTEX
    names = np.array([h.decode() if isinstance(h, bytes) else str(h) for h in read["hash"]], dtype="U32")
    columns = {
        "adjacency": read["adjacency"].astype(np.uint8),
        "operations": operations.astype(np.int8),
        "vertices": vertices.astype(np.uint8),
        "parameters": read["trainable_parameters"].astype(np.int64),
        "hash": names,
    }
    last = metrics[:, :, :, -1].astype(np.float32)
    return _with_label(path, columns, last[..., -2], last[..., -1], which)


def main(arguments: Sequence[str] | None = None) -> None:
    """Converts a file; anything wrong with it is one line and status 2."""
    parser = argparse.ArgumentParser(description="NAS-Bench-101 as an npz, from a .tfrecord or an .hdf5 file")
    parser.add_argument("source", type=Path, help="nasbench_full.tfrecord, nasbench_only108.tfrecord or nasbench.hdf5")
    parser.add_argument("table", type=Path, help="the npz to write")
    parser.add_argument("--label", default="seed 0", help='"seed 0" (default), "seed 1", "seed 2", "mean" or "best"')
    options = parser.parse_args(arguments)
    read = from_hdf5 if options.source.suffix in (".hdf5", ".h5") else from_records
    try:
        table = read(options.source, options.label)
        save_table(options.table, table)
    except (ValueError, OSError, DataError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    print(f"{len(table)} cells in {options.table}: {labels_of(table).caption}")


if __name__ == "__main__":
    main()
