"""What predicts how good an architecture is without a neural network: the yardsticks of the neural predictor.

All learn from the same labelled graphs as the predictor; those on hand-made features see what `data.graphs` counts on a
graph and the logarithm of its parameters.
"""

import itertools
from collections.abc import Callable, Collection

import numpy as np
import torch
from torch import Tensor

from depthsearch.data.graphs import Graphs, graph_features

RANDOM = ("random forest", "gradient boosting")  # these have a seed
NAMES = ("mean", "parameters alone", "ridge", *RANDOM, "nearest neighbour")
CHUNK = 2000  # graphs compared with all known ones at once


def scores(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """`mse` in the squared unit of the labels (percent squared), `kendall_tau` (tau-b), `r2`; of n >= 2 predictions.

    The rank correlation of predictions that are all equal is nan, as is R2 of labels that are.
    """
    from scipy.stats import kendalltau

    predicted, truth = np.asarray(predicted, dtype=float), np.asarray(truth, dtype=float)
    mse = float(np.mean((predicted - truth) ** 2))
    tau = float(kendalltau(predicted, truth).statistic) if np.ptp(predicted) > 0 else float("nan")
    variance = float(np.var(truth))
    return {"mse": mse, "kendall_tau": tau, "r2": 1 - mse / variance if variance > 0 else float("nan")}


def yardsticks(
    known: Graphs, labels: np.ndarray, parameters: np.ndarray, new: Graphs, new_parameters: np.ndarray, seed: int = 0,
    distances: np.ndarray | None = None, only: Collection[str] = NAMES,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Predictions (B,) of every yardstick by name, in the unit of the labels.

    Args:
        known: N graphs, with labels (N,) and trainable parameters (N,).
        new: B graphs to predict, with parameters (B,).
        seed: of the random forest and of gradient boosting.
        distances: (B, N) edits from a new graph to each known one; without them graphs are compared (`edit_distances`).
        only: names of those that are wanted.
    """
    labels, sizes = np.asarray(labels, dtype=float), (np.log(parameters)[:, None], np.log(new_parameters)[:, None])
    features = [np.concatenate([graph_features(g).numpy(), s], 1) for g, s in zip((known, new), sizes, strict=True)]
    regressors = _regressors(seed)
    predicted: dict[str, np.ndarray] = {}
    for name in only:
        if name == "mean":
            predicted[name] = np.full(len(new_parameters), labels.mean())
        elif name == "parameters alone":
            predicted[name] = regressors["ridge"]().fit(sizes[0], labels).predict(sizes[1])
        elif name == "nearest neighbour":
            predicted[name] = nearest_neighbour(known, labels, new, distances)
        else:
            predicted[name] = regressors[name]().fit(features[0], labels).predict(features[1])
    return predicted


def _regressors(seed: int) -> dict[str, Callable]:
    from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return {
        "ridge": lambda: make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 3, 11))),
        "random forest": lambda: RandomForestRegressor(200, random_state=seed),
        "gradient boosting": lambda: GradientBoostingRegressor(
            n_estimators=200, learning_rate=0.05, max_depth=3, subsample=0.7, random_state=seed
        ),
    }


def nearest_neighbour(
    known: Graphs, labels: np.ndarray, new: Graphs, distances: np.ndarray | None = None
) -> np.ndarray:
    """The mean label (B,) of those known graphs that take the fewest edits to become the new one.

    Args:
        distances: (B, N) of them, where they are known already.
    """
    labels = np.asarray(labels, dtype=float)
    predicted = np.empty(len(new.n_vertices))
    for start in range(0, len(predicted), CHUNK):
        rows = slice(start, start + CHUNK)
        distance = edit_distances(new.rows(rows), known).numpy() if distances is None else distances[rows]
        nearest = distance == distance.min(1, keepdims=True)
        predicted[rows] = nearest @ labels / nearest.sum(1)
    return predicted


def edit_distances(one: Graphs, other: Graphs) -> Tensor:
    """(B, N): edges and operations to be changed, added or removed to turn a graph into another of the same V.

    The least over all ways to match the inner vertices, a missing vertex being one with no operation and no edges: for
    the cells of NAS-Bench-101 these are 120 matrix products.

    Raises:
        ValueError: the graphs are padded to different sizes, or to more than 8 vertices.
    """
    size = one.adjacency.shape[1]
    if other.adjacency.shape[1] != size or size > 8:
        raise ValueError("edit distances are of graphs padded to one number of vertices, at most 8")
    (edges, labels), (edges2, labels2) = _with_output_last(one), _with_output_last(other)
    code, n = torch.cat([edges.flatten(1), labels.flatten(1)], 1), len(edges2)
    best = torch.full((len(code), n), float("inf"), dtype=code.dtype)
    orders = torch.tensor([[0, *order, size - 1] for order in itertools.permutations(range(1, size - 1))])
    for group in orders.split(max(1, CHUNK // max(1, n))):  # few graphs are matched in several orders at once
        rows = [edges2[:, places][:, :, places].flatten(1) for places in group]
        code2 = torch.cat([torch.cat(rows), torch.cat([labels2[:, places].flatten(1) for places in group])], 1)
        distance = code2.square().sum(1) - 2 * (code @ code2.mT)
        best = torch.minimum(best, distance.unflatten(1, (len(group), n)).amin(1))
    return (best + code.square().sum(1, keepdim=True)).round()


def _with_output_last(graphs: Graphs) -> tuple[Tensor, Tensor]:
    """Adjacency and operations with every output at V - 1; operations scaled so that two that differ are 1 apart.

    A vertex that is not there has an operation of its own, so that adding one is an edit too.
    """
    size, last = graphs.adjacency.shape[1], graphs.n_vertices - 1
    places = torch.arange(size).repeat(len(last), 1)
    places[torch.arange(len(last)), last], places[:, -1] = size - 1, last
    edges = graphs.adjacency.take_along_dim(places[:, :, None], 1).take_along_dim(places[:, None, :], 2)
    labels = graphs.operations.take_along_dim(places[:, :, None], 1)
    missing = 1 - labels.sum(-1, keepdim=True)
    return edges, torch.cat([labels, missing], -1) * 0.5**0.5
