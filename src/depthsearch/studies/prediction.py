"""What the studies of the neural predictor measure, as functions of a pool of architectures that are trained already.

The paper's table and figure (Wen et al. 2020, arXiv 1912.00848): how well accuracies are predicted from a few known
ones (`members`, `scored`), and how good an architecture is found for how many trained networks (`searches`,
`best_so_far`). R repeats with training graphs of their own are fitted side by side where they have equally many.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from depthsearch.data.graphs import Graphs
from depthsearch.measuring.yardsticks import edit_distances, scores
from depthsearch.strategies.ensembles import Ensemble, fit, fit_classifier
from depthsearch.strategies.graph_predictor import Setting
from depthsearch.strategies.predictor_choice import cross_validated, in_two_stages

POPULATION, TOURNAMENT = 50, 10  # of regularised evolution (Real et al. 2019, arXiv 1802.01548)
Rows = np.ndarray


@dataclass(frozen=True)
class Pool:
    """n trained architectures.

    Attributes:
        graphs: how they are built.
        functions: (n,) texts, the same for those that compute the same function, in one way or another.
        labels: (n,) accuracy in percent, what a search sees.
        parameters: (n,).
        known: (n,), which have a label that counts (no run that blew up); others are neither learnt from nor scored.
        score: by name (n,) what counts in the end, say test accuracy; the labels themselves where no other is known.
        codes: (n, m) integers, of which a mutation changes one; without them graphs are compared edit by edit.
        caption: what the labels are.
    """

    graphs: Graphs
    functions: np.ndarray
    labels: np.ndarray
    parameters: np.ndarray
    known: np.ndarray
    score: Mapping[str, np.ndarray]
    codes: np.ndarray | None = None
    caption: str = ""

    @cached_property
    def digest(self) -> str:
        """What tells pools apart: of graphs, labels and what these are."""
        found = hashlib.sha256(self.caption.encode())
        for part in (*map(np.asarray, self.graphs), self.labels, self.known):
            found.update(np.ascontiguousarray(part).tobytes())
        return found.hexdigest()[:8]

    def unseen(self, train: Rows) -> np.ndarray:
        """(n,): which have a label that counts and compute nothing that was learnt from."""
        return self.known & ~np.isin(self.functions, self.functions[train])

    def rows(self, rows: Rows) -> Graphs:
        return self.graphs.rows(torch.as_tensor(rows))

    def distances(self, rows: Rows) -> np.ndarray:
        """(n, m): edits from each architecture to those of m rows."""
        if self.codes is None:
            return edit_distances(self.graphs, self.rows(rows)).numpy()
        return (self.codes[:, None] != self.codes[rows]).sum(2)


# Predictions.


def chosen_settings(
    pool: Pool, trains: Sequence[Rows], candidates: Mapping[str, Setting], folds: int = 5
) -> list[dict[str, float]]:
    """Cross-validated errors of the candidates within the training rows of each repeat; no other row plays a part."""
    found: dict[bytes, dict[str, float]] = {}
    for group in _alike([len(train) for train in trains]):
        own = {trains[r].tobytes(): trains[r] for r in group if trains[r].tobytes() not in found}
        rows, places = _together(list(own.values()))
        graphs, labels = pool.rows(rows), pool.labels[rows]
        errors = {name: cross_validated(graphs, labels, places, s, folds) for name, s in candidates.items()}
        for number, key in enumerate(own):
            found[key] = {name: values[number] for name, values in errors.items()}
    return [found[train.tobytes()] for train in trains]


def members(
    pool: Pool, trains: Sequence[Rows], settings: Sequence[Setting], seeds: Sequence[Sequence[int]],
    scale: tuple[float, float] | None = None,
) -> np.ndarray:  # fmt: skip
    """(R, E, n): what each network of each repeat predicts for the whole pool.

    Args:
        trains: of each repeat the rows that it learns from, all known.
        settings: of each repeat.
        seeds: of each repeat E seeds, a network each.
        scale: by which labels are normalised, as in `fit`.
    """
    return _members(pool, trains, settings, seeds, pool.labels, partial(fit, scale=scale))


def two_stages(
    pool: Pool, trains: Sequence[Rows], settings: Sequence[Setting], seeds: Sequence[Sequence[int]],
    thresholds: Sequence[float], everything: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """(R, n): what each repeat predicts with a classifier in front, as `in_two_stages` puts it together.

    Args:
        thresholds: of each repeat; each needs two labels above it and one that is not.
        everything: (R, n), predictions of networks that were fitted to all training rows.
    """
    limits = np.array(thresholds)
    probability = np.empty((len(trains), len(pool.labels)))
    for limit in np.unique(limits).tolist():
        group = np.flatnonzero(limits == limit).tolist()
        good = (pool.labels > limit).astype(float)
        parts = [[x[r] for r in group] for x in (trains, settings, seeds)]
        probability[group] = _members(pool, *parts, good, fit_classifier).mean(1)  # type: ignore[arg-type]
    above = [train[pool.labels[train] > limit] for train, limit in zip(trains, limits, strict=True)]
    kept = members(pool, above, settings, seeds).mean(1)
    tensors = (torch.as_tensor(part) for part in (probability, kept, everything, limits[:, None]))
    return in_two_stages(*tensors).numpy()


def _members(pool: Pool, trains, settings, seeds, labels: np.ndarray, fitting) -> np.ndarray:
    found = np.empty((len(trains), len(seeds[0]), len(labels)))
    for group in _alike([(len(train), setting) for train, setting in zip(trains, settings, strict=True)]):
        rows, places = _together([trains[r] for r in group])
        own = [place for place in places for _ in seeds[0]]
        networks = [seed for r in group for seed in seeds[r]]
        fitted: Ensemble = fitting(pool.rows(rows), labels[rows], networks, settings[group[0]], own)
        found[group] = fitted.members(*pool.graphs).reshape(len(group), -1, len(labels)).numpy()
    return found


def _alike(keys: Sequence) -> Iterator[list[int]]:
    # Networks that train side by side take equally many steps, so that none depends on its company.
    for key in dict.fromkeys(keys):
        yield [place for place, other in enumerate(keys) if other == key]


def _together(trains: Sequence[Rows]) -> tuple[Rows, list[Tensor]]:
    """All rows, and where those of each stand among them."""
    rows = np.unique(np.concatenate(trains))
    return rows, [torch.as_tensor(np.searchsorted(rows, train)) for train in trains]


def scored(pool: Pool, train: Rows, predicted: np.ndarray, evaluated: Mapping[str, Rows]) -> list[dict]:
    """`scores` of predictions (n,) on sets of rows, less those that are not in `Pool.unseen`.

    Returns:
        a row for each set: `evaluated`, `n_train`, `n`, `mse` (percent squared), `kendall_tau`, `r2`.
    """
    counts, found = pool.unseen(train), []
    for name, rows in evaluated.items():
        rows = rows[counts[rows]]
        about = {"evaluated": name, "n_train": len(train), "n": len(rows)}
        found.append(about | scores(predicted[rows], pool.labels[rows]))
    return found


# Selection from end to end.


def best_so_far(pool: Pool, trained: Rows) -> dict[str, np.ndarray]:
    """Scores (m,) of what a search would choose, by its label, after each of the m rows that it trains, in order."""
    labels = np.where(pool.known[trained], pool.labels[trained], -np.inf)
    best = np.maximum.accumulate(labels)
    first = np.maximum.accumulate(np.where(np.r_[True, best[1:] > best[:-1]], np.arange(len(trained)), 0))
    return {name: score[trained[first]] for name, score in pool.score.items()}


def drawn(pool: Pool, seed: int) -> Rows:
    """The order (n,) in which random search trains; a predictor learns from the first ones."""
    return np.random.default_rng([seed, 3]).permutation(len(pool.labels))


def predicted_best(train: Rows, predicted: np.ndarray, budget: int) -> Rows:
    """The rows (budget,) that a predictor trains: those that it learnt from, then the best by its prediction (n,).

    That is what a ranking of a whole space picks where architectures that the pool does not know are passed over.
    """
    ranked = np.argsort(-predicted, kind="stable")
    return np.concatenate([train, ranked[~np.isin(ranked, train)]])[:budget]


def evolution(pool: Pool, budget: int, seed: int) -> Rows:
    """The rows (budget,) that regularised evolution trains, in order (Real et al. 2019).

    A child is one of those untrained architectures of the pool that take the fewest edits from its parent: with all of
    a space at hand these are its mutations, with a part of it the nearest that are known.
    """
    rng = np.random.default_rng([seed, 4])
    labels = np.where(pool.known, pool.labels, -np.inf)
    trained = rng.permutation(len(labels))[: min(POPULATION, budget)].tolist()
    alive, new = list(trained), np.ones(len(labels), dtype=bool)
    new[trained] = False
    while len(trained) < budget:
        parents = rng.choice(alive, min(TOURNAMENT, len(alive)), replace=False)
        parent = parents[np.argmax(labels[parents])]
        distance = np.where(new, pool.distances(np.array([parent]))[:, 0], np.inf)
        child = int(rng.choice(np.flatnonzero(distance == distance.min())))
        new[child] = False
        trained.append(child)
        alive = [*alive[1:], child]
    return np.array(trained)


def oracle(pool: Pool, budget: int) -> Rows:
    """The rows (budget,) with the largest labels."""
    return np.argsort(-np.where(pool.known, pool.labels, -np.inf), kind="stable")[:budget]
