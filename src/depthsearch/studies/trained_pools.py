"""Pools of architectures that are trained already, by name: what the studies of the neural predictor look into."""

from functools import cache
from pathlib import Path

import numpy as np
import torch

from depthsearch.cells.nasbench101 import Cells, enumerate_cells, one_hot
from depthsearch.cells.nasbench101_size import count_parameters
from depthsearch.cells.nasbench201_graphs import cell_function, nasbench201_graphs
from depthsearch.data.graphs import as_graphs
from depthsearch.data.nasbench import SETS, NASBench201, read_nasbench201
from depthsearch.data.nasbench101 import labels_of, read_table
from depthsearch.data.nasbench_official import PARAMETERS
from depthsearch.studies.prediction import Pool

MADE_UP, NB101, NB201 = "made-up", "NAS-Bench-101", "NAS-Bench-201"
ON = {f"{NB201}-{name}": name for name in SETS}  # tables of one data set each
POOLS = (NB101, *ON, NB201, MADE_UP)
SEEN = "c10_val_200_single"  # what a search sees of a cell of NAS-Bench-201


@cache
def pool_of(name: str, path: Path, label: str = "table", run_is: str | None = None) -> Pool:
    """A name of `POOLS`.

    - NAS-Bench-101: validation accuracy after 108 epochs; scored by the mean test accuracy where the table has it.
    - NAS-Bench-201-CIFAR-10 and so on: test accuracy there after 200 epochs, the mean over seeds, both seen and scored.
    - NAS-Bench-201: what a search on CIFAR-10 sees, one validation accuracy after 200 epochs; scored on all three sets.
    - made-up: cells of at most 5 vertices with accuracies that a formula makes up, for trials.

    Args:
        path: file of the table, or a folder with it in it.
        label: which run an accuracy of NAS-Bench-101 is of, as in `labels_of`.
        run_is: which run those of the table are, if the file does not say so.

    Raises:
        ValueError, DataError: the table is missing or damaged, or has no such label; in one line.
    """
    if name == MADE_UP:
        return _made_up()
    if name == NB101:
        return _nasbench101(path, label, run_is)
    table = _nasbench201(path)
    scores = {data: table.test_accuracy(data).numpy() for data in SETS}
    if name == NB201:
        seen = table.columns[SEEN].numpy()
        return _pool201(table, seen, scores, "validation accuracy on CIFAR-10 after 200 epochs, one run")
    accuracy = scores[ON[name]]
    what = f"test accuracy on {ON[name]} after 200 epochs, mean over seeds"
    return _pool201(table, accuracy, {ON[name]: accuracy}, what)


def _nasbench101(path: Path, label: str, run_is: str | None) -> Pool:
    table = read_table(path, run_is)
    labels, cells = labels_of(table, label), Cells(table.adjacency, table.operations, table.vertices)
    graphs = as_graphs(table.adjacency, one_hot(cells), table.vertices)
    score = {"validation": labels.percent}
    if table.test_runs is not None:
        score = {"test": 100 * table.test_runs[:, -1].mean(1)}
    return Pool(graphs, table.hash, labels.percent, table.parameters, labels.known, score, caption=labels.caption)


@cache
def _nasbench201(path: Path) -> NASBench201:
    return read_nasbench201(path)


@cache
def _functions201(cells: tuple[str, ...]) -> np.ndarray:
    return np.array([cell_function(cell) for cell in cells])


def _pool201(table: NASBench201, labels: np.ndarray, scores: dict[str, np.ndarray], caption: str) -> Pool:
    graphs, known = as_graphs(*nasbench201_graphs(table.strings)), np.ones(len(labels), dtype=bool)
    functions, parameters = _functions201(table.strings), 1e6 * table.columns[PARAMETERS].numpy()
    return Pool(graphs, functions, labels, parameters, known, scores, table.operations.numpy(), caption)


def _made_up() -> Pool:
    cells, hashes = enumerate_cells(5)
    cells, hashes = cells[::6], hashes[::6]
    graphs = as_graphs(cells.adjacency[:, :5, :5], one_hot(cells)[:, :5], cells.vertices)
    counts, rng = graphs.operations.sum(1).numpy(), np.random.default_rng(0)
    truth = 94 - 6 * np.exp(-counts[:, 2]) - counts[:, 4] + 0.2 * torch.sum(graphs.adjacency, (1, 2)).numpy()
    labels, known = truth + rng.normal(0, 0.2, len(truth)), np.ones(len(truth), dtype=bool)
    known[::50], labels[::50] = False, 10.0
    caption = f"made up by a formula; {int((~known).sum())} cells left out"
    return Pool(graphs, hashes, labels, count_parameters(cells), known, {"made up": truth}, caption=caption)
