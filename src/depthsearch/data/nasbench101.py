"""The table of NAS-Bench-101 (Ying et al. 2019, arXiv 1902.09635): trained cells and their accuracies, no training.

An npz with the columns of `Table`, made from the official files by `nasbench101_convert`; of the benchmark's three runs
of a cell, `label` says which one a number is. Splits and labels are those of the neural predictor's reproduction
(ultmaster/neuralpredictor.pytorch), from which the names are too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from depthsearch.data.files import written_whole

EPOCHS = (4, 12, 36, 108)
INPUT, OUTPUT, NO_VERTEX = 3, 4, -1  # ids of operations; 0 conv3x3, 1 conv1x1, 2 maxpool3x3
MEAN, STD = 0.908192, 0.023961  # by which the original normalises a label
BLOWN = 0.2  # accuracy below which a run blew up
UNSAID = "run not said"
SIZES = (172, 334, 860)


@dataclass(frozen=True)
class Table:
    """n trained cells.

    Attributes:
        adjacency: (n, 7, 7) of 0 and 1, entry (i, j) the edge i -> j, i < j.
        operations: (n, 7) ids: 0 conv3x3, 1 conv1x1, 2 maxpool3x3, 3 input, 4 output, -1 no vertex.
        vertices, parameters, hash: (n,).
        validation_accuracy: (n, 4) after 4, 12, 36 and 108 epochs, of 1; nan where not known.
        label: which of the three runs that is, in words.
        validation_runs, test_runs: (n, 4, 3) of the three runs, or None.
    """

    adjacency: np.ndarray
    operations: np.ndarray
    vertices: np.ndarray
    parameters: np.ndarray
    hash: np.ndarray
    validation_accuracy: np.ndarray
    label: str = UNSAID
    validation_runs: np.ndarray | None = None
    test_runs: np.ndarray | None = None

    def __len__(self) -> int:
        return self.hash.size


COLUMNS = tuple(f.name for f in fields(Table))[:6]


def read_table(path: str | Path, label: str | None = None) -> Table:
    """The table of an npz, or of `nasbench101.npz` in a folder or in its folder `nasbench`.

    Args:
        label: which run the accuracies are of, for a file that does not say.

    Raises:
        ValueError: the file is missing or damaged, lacks a column, or holds something that is no cell.
    """
    path = Path(path)
    if path.is_dir():
        places = (path / "nasbench101.npz", path / "nasbench" / "nasbench101.npz")
        path = next((place for place in places if place.is_file()), places[0])
    if not path.is_file():
        raise ValueError(f"{path} is missing: make it with python -m depthsearch.data.nasbench101_convert from "
                         "nasbench_only108.tfrecord (https://github.com/google-research/nasbench)")  # fmt: skip
    try:
        with np.load(path, allow_pickle=False) as file:
            read = {name: file[name] for name in [f.name for f in fields(Table)] if name in file.files}
    except Exception as error:
        said = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path} cannot be read as an npz: {said}") from error
    missing = [name for name in COLUMNS if name not in read]
    if missing:
        raise ValueError(f"{path} is no table of NAS-Bench-101: it lacks {', '.join(missing)}")
    said = str(read.pop("label", UNSAID))
    table = Table(**read, label=said if said != UNSAID else label or UNSAID)
    wrong = problem(table)
    if wrong:
        raise ValueError(f"{path}: {wrong}")
    return table


def save_table(path: str | Path, table: Table) -> None:
    """Writes the npz that `read_table` reads, whole or not at all.

    Raises:
        DataError: it cannot be written.
    """
    path = Path(path)
    with written_whole(path) as part:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:  # a name without .npz stays as it is
            np.savez_compressed(file, **{name: value for name, value in vars(table).items() if value is not None})


def problem(table: Table) -> str | None:
    """What is wrong with a table, in a line; None if nothing is."""
    n = len(table)
    shapes = {"hash": (n,), "adjacency": (n, 7, 7), "operations": (n, 7), "vertices": (n,), "parameters": (n,),
              "validation_accuracy": (n, 4), "validation_runs": (n, 4, 3), "test_runs": (n, 4, 3)}  # fmt: skip
    for name, shape in shapes.items():
        column = getattr(table, name)
        if column is not None and column.shape != shape:
            return f"column {name} has shape {column.shape}, not {shape}"
    for name in ("validation_accuracy", "validation_runs", "test_runs"):
        column = getattr(table, name)
        if column is not None and ((column < 0) | (column > 1)).any():
            return f"column {name} holds numbers below 0 or above 1: accuracies are shares, not percent"
    places, vertices = np.arange(7), table.vertices.astype(int)[:, None]
    edges, operations = table.adjacency, table.operations
    inner = (places > 0) & (places < vertices - 1)
    sound = (vertices[:, 0] >= 2) & (vertices[:, 0] <= 7) & (operations[:, 0] == INPUT)
    sound &= np.where(inner, (operations >= 0) & (operations <= 2), True).all(1)
    sound &= np.where(places == vertices - 1, operations == OUTPUT, True).all(1)
    sound &= np.where(places >= vertices, operations == NO_VERTEX, True).all(1)
    sound &= np.isin(edges, (0, 1)).all((1, 2)) & ~np.tril(edges).any((1, 2))
    sound &= ~(edges.astype(bool) & ((places[:, None] >= vertices[:, :, None]) | (places >= vertices[:, :, None]))).any(
        (1, 2)
    )
    if not sound.all():
        row = int(sound.argmin())
        return f"row {row} ({table.hash[row]}) is no cell: edges must go to later vertices, input first, output last"
    return None


@dataclass(frozen=True)
class Labels:
    """What a predictor is to learn: percent (n,), which cells have one (n,), and what it is, for captions."""

    percent: np.ndarray
    known: np.ndarray
    caption: str


def labels_of(table: Table, which: str = "table") -> Labels:
    """Validation accuracies after 108 epochs as labels; runs that blew up (below 20 %) are treated by a rule.

    Args:
        which: "seed 0", "seed 1", "seed 2", "mean" or "best" of the three runs, or "table": the column
            `validation_accuracy`, whatever run that is.

    Means leave such runs out. The original's rule, for one seed: a run below 20 % is replaced by the cell's first one
    that is not, and by 90.8192 % (the mean by which it normalises) where none is. A cell whose run of that seed is
    unknown is left out.

    Raises:
        ValueError: the table does not have the three runs, or there is no such label.
    """
    if which == "table":
        accuracy = table.validation_accuracy[:, -1].astype(float)
        known = accuracy >= BLOWN
        caption = f"{table.label}; {int((~known).sum())} cells below 20 % or unknown left out"
        return Labels(100 * accuracy, known, f"validation accuracy after 108 epochs, {caption}")
    if table.validation_runs is None:
        raise ValueError(f"this table does not have the three runs of a cell: its one label is {table.label!r}")
    runs = table.validation_runs[:, -1].astype(float)
    if which in ("mean", "best"):
        sound = runs >= BLOWN
        known = np.any(sound, axis=1)
        mean = np.where(sound, runs, 0).sum(1) / np.maximum(sound.sum(1), 1)
        accuracy = mean if which == "mean" else np.where(np.isnan(runs), 0, runs).max(1)
        of = "those of three seeds that are not below 20 %" if which == "mean" else "three seeds"
        caption = f"{which} of {of}; {int((~known).sum())} cells below 20 % left out"
    elif which in ("seed 0", "seed 1", "seed 2"):
        accuracy, replaced = _resampled(runs, int(which[-1]))
        known = ~np.isnan(accuracy)
        caption = f"{which}, {replaced} runs below 20 % replaced by another seed's"
    else:
        raise ValueError(f"a label is table, seed 0, seed 1, seed 2, mean or best, not {which!r}")
    return Labels(100 * accuracy, known, f"validation accuracy after 108 epochs, {caption}")


def _resampled(runs: np.ndarray, seed: int) -> tuple[np.ndarray, int]:
    sound = runs >= BLOWN
    first = np.where(sound.any(1), runs[np.arange(len(runs)), sound.argmax(1)], MEAN)
    blown = runs[:, seed] < BLOWN
    return np.where(blown, first, runs[:, seed]), int(blown.sum())


def splits(accuracy: np.ndarray, sizes: Sequence[int] = SIZES) -> dict[str, np.ndarray]:
    """Rows of a table by the original's names, as the original draws them.

    "172", "334", "860" are the beginnings of three permutations, one after the other from RandomState(0), so they are
    not nested; "91-172" are those of "172" above 91 %, in order of the table; "denoise-91" and "denoise-80" all above.
    They are permutations of the rows at hand: of a part of the table they are other cells than the original's.

    Args:
        accuracy: (n,) validation accuracy, of 1 or in percent, as it is in the table (of seed 0 in the original).
    """
    percent = accuracy * 100 if np.nanmax(accuracy) <= 1 else accuracy
    state, found = np.random.RandomState(0), {}
    for size in sizes:
        found[str(size)] = state.permutation(len(percent))[:size]
    above = {limit: np.flatnonzero(percent > limit) for limit in (91, 80)}
    for size in sizes:
        found[f"91-{size}"] = np.intersect1d(found[str(size)], above[91])
    found.update({"denoise-91": above[91], "denoise-80": above[80], "all": np.arange(len(percent))})
    return found


def nested_splits(n: int, sizes: Sequence[int] = SIZES, seed: int = 0) -> dict[str, np.ndarray]:
    """Rows of nested splits of our own: the beginnings of one permutation, a seed a permutation."""
    order = np.random.default_rng([seed, 101]).permutation(n)
    return {f"nested-{size}": order[:size] for size in sizes}
