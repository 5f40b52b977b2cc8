"""What the study of the neural predictor measures, as functions of a pool of architectures that are trained already.

The paper's table and figure (Wen et al. 2020, arXiv 1912.00848): how well accuracies are predicted from a few known
ones (`results_of_split`), and how good an architecture is found for how many trained networks (`selection`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from depthsearch.data.graphs import Graphs
from depthsearch.measuring.yardsticks import edit_distances, scores, yardsticks
from depthsearch.strategies.ensembles import fit
from depthsearch.strategies.graph_predictor import RECOMMENDED, Setting
from depthsearch.strategies.predictor_choice import fit_two_stages

POPULATION, TOURNAMENT = 50, 10  # of regularised evolution (Real et al. 2019, arXiv 1802.01548)


@dataclass(frozen=True)
class Pool:
    """n trained architectures.

    Attributes:
        graphs: how they are built.
        labels: (n,) validation accuracy in percent, what a search sees.
        parameters: (n,).
        known: (n,), which have a label that counts (no run that blew up); others are neither learnt from nor scored.
        score: (n,) what counts in the end, test accuracy; the labels themselves where no other is known.
    """

    graphs: Graphs
    labels: np.ndarray
    parameters: np.ndarray
    known: np.ndarray
    score: np.ndarray

    def rows(self, rows: np.ndarray) -> Graphs:
        return self.graphs.rows(torch.as_tensor(rows))


def results_of_split(
    pool: Pool,
    train: np.ndarray,
    evaluated: Mapping[str, np.ndarray],
    settings: Mapping[str, Setting],
    seeds: range = range(20),
    ensemble: int = 5,
    trained_too: bool = False,
) -> list[dict]:
    """Rows of the paper's table: everything that predicts, fitted to the training rows, on each set of evaluated rows.

    Args:
        train: rows of the pool.
        evaluated: rows by name, say "all" and "denoise-80".
        settings: networks by name. Each counts one by one, and in ensembles of `ensemble` of them.
        seeds: the repeats.
        trained_too: score the training rows too, as the original does.

    Returns:
        A row for every predictor, seed and evaluation: `predictor`, `seed` (the first of an ensemble's), `networks`,
        `evaluated`, `n_train`, `n`, `mse` (percent squared), `kendall_tau`, `r2`. Yardsticks without chance have one.
    """
    train = train[pool.known[train]]
    apart = np.zeros(len(pool.labels), dtype=bool)
    apart[train] = not trained_too
    sets = {name: rows[pool.known[rows] & ~apart[rows]] for name, rows in evaluated.items()}
    new = np.unique(np.concatenate(list(sets.values())))
    found: list[dict] = []

    def add(name: str, seed: int, networks: int, predicted: np.ndarray) -> None:
        for evaluation, rows in sets.items():
            values = scores(predicted[np.searchsorted(new, rows)], pool.labels[rows])
            about = {"predictor": name, "seed": seed, "networks": networks, "evaluated": evaluation}
            found.append(about | {"n_train": len(train), "n": len(rows)} | values)

    for seed in seeds:
        predicted = yardsticks(
            pool.rows(train), pool.labels[train], pool.parameters[train], pool.rows(new), pool.parameters[new], seed
        )
        for name, values in predicted.items():
            if seed == seeds[0] or name in ("random forest", "gradient boosting"):
                add(name, seed, 0, values)
    for name, setting in settings.items():
        members = fit(pool.rows(train), pool.labels[train], seeds, setting).members(*pool.rows(new)).numpy()
        for place, seed in enumerate(seeds):
            add(name, seed, 1, members[place])
        for first in range(0, len(seeds) - ensemble + 1, ensemble):
            add(f"{name}, ensemble", seeds[first], ensemble, members[first : first + ensemble].mean(0))
    return found


# Selection from end to end.

Predict = Callable[..., torch.Tensor]


def best_so_far(pool: Pool, trained: np.ndarray) -> np.ndarray:
    """Score (m,) of what a search would choose, by its label, after each of the m rows that it trains in this order."""
    labels = np.where(pool.known[trained], pool.labels[trained], -np.inf)
    best = np.maximum.accumulate(labels)
    first = np.maximum.accumulate(np.where(np.r_[True, best[1:] > best[:-1]], np.arange(len(trained)), 0))
    return pool.score[trained[first]]


def selection(
    pool: Pool,
    budget: int,
    n_train: int = 172,
    threshold: float = 91.0,
    seed: int = 0,
    setting: Setting = RECOMMENDED,
    ensemble: int = 5,
    space: Graphs | None = None,
    row_in_pool: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Best score (budget,) against the number of trained networks, of each search by name.

    Args:
        n_train: networks that the predictor learns from, drawn at random, the first that it pays for.
        threshold: what the classifier keeps, in percent.
        space: what the predictor ranks, all architectures there are; the pool itself if not given.
        row_in_pool: of each of them its row, -1 where the pool does not know it: passed over, at no cost.

    Raises:
        ValueError: the budget does not exceed n_train or is larger than the pool.
    """
    if not n_train < budget <= len(pool.labels):
        raise ValueError(f"the budget must be in {n_train + 1}..{len(pool.labels)}, got {budget}")
    rng = np.random.default_rng([seed, 3])
    order = rng.permutation(len(pool.labels))
    train, seeds = order[:n_train], range(ensemble * seed, ensemble * (seed + 1))
    sound = train[pool.known[train]]
    graphs, labels = pool.rows(sound), pool.labels[sound]
    predictors: dict[str, Predict] = {"predictor": fit(graphs, labels, seeds, setting)}
    if (labels > threshold).sum() > 1 and (labels <= threshold).any():
        predictors["predictor with classifier"] = fit_two_stages(graphs, labels, threshold, seeds, setting)
    places = np.arange(len(pool.labels)) if row_in_pool is None else row_in_pool
    trained = {"random search": order, "regularised evolution": evolution(pool, budget, rng)}
    for name, predict in predictors.items():
        ranked = places[predict(*(space or pool.graphs)).neg().argsort(stable=True).numpy()]
        picked = ranked[(ranked >= 0) & ~np.isin(ranked, train)]
        trained[name] = np.concatenate([train, picked])
    trained["oracle"] = np.argsort(-np.where(pool.known, pool.labels, -np.inf), kind="stable")
    curves = {name: best_so_far(pool, rows[:budget]) for name, rows in trained.items()}
    return {name: np.pad(curve, (0, budget - len(curve)), mode="edge") for name, curve in curves.items()}


def evolution(pool: Pool, budget: int, rng: np.random.Generator) -> np.ndarray:
    """The rows (budget,) that regularised evolution trains, in order (Real et al. 2019).

    A child is one of those untrained architectures of the pool that take the fewest edits from its parent: with all of
    a space at hand these are its mutations, with a part of it the nearest that are known.
    """
    labels = np.where(pool.known, pool.labels, -np.inf)
    trained = rng.permutation(len(labels))[: min(POPULATION, budget)].tolist()
    alive, new = list(trained), np.ones(len(labels), dtype=bool)
    new[trained] = False
    while len(trained) < budget:
        parents = rng.choice(alive, min(TOURNAMENT, len(alive)), replace=False)
        parent = parents[np.argmax(labels[parents])]
        distance = edit_distances(pool.graphs, pool.rows(np.array([parent]))).numpy()[:, 0]
        distance[~new] = np.inf
        child = int(rng.choice(np.flatnonzero(distance == distance.min())))
        new[child] = False
        trained.append(child)
        alive = [*alive[1:], child]
    return np.array(trained)
