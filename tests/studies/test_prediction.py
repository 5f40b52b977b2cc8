"""What the predictor's studies measure, on the cells of at most 5 vertices with made-up labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from depthsearch.cells.nasbench101 import enumerate_cells, one_hot
from depthsearch.cells.nasbench101_size import count_parameters
from depthsearch.data.graphs import as_graphs
from depthsearch.data.nasbench101 import splits
from depthsearch.measuring.yardsticks import NAMES, RANDOM, edit_distances, nearest_neighbour, scores, yardsticks
from depthsearch.strategies.ensembles import fit, fit_classifier
from depthsearch.strategies.graph_predictor import RECOMMENDED
from depthsearch.strategies.predictor_choice import cross_validated
from depthsearch.studies import prediction
from depthsearch.studies.prediction import (
    Pool,
    best_so_far,
    chosen_settings,
    drawn,
    evolution,
    members,
    oracle,
    predicted_best,
    scored,
    two_stages,
)

QUICK = replace(RECOMMENDED, width=16, hidden=16, epochs=40)


@pytest.fixture(scope="module")
def pool() -> Pool:
    cells, hashes = enumerate_cells(5)
    cells, hashes = cells[::5], hashes[::5]
    graphs = as_graphs(cells.adjacency[:, :5, :5], one_hot(cells)[:, :5], cells.vertices)
    counts = graphs.operations.sum(1).numpy()
    labels = 94 - 6 * np.exp(-counts[:, 2]) - counts[:, 4] + np.random.default_rng(0).normal(0, 0.2, len(counts))
    known = np.ones(len(labels), dtype=bool)
    known[::50] = False
    seen, score = np.where(known, labels, 10.0), {"test": labels - 0.5}
    return Pool(graphs, hashes, seen, count_parameters(cells), known, score, caption="made up")


@pytest.fixture(scope="module")
def trains(pool) -> list[np.ndarray]:
    """Of three repeats; the second has fewer graphs."""
    orders = [np.random.default_rng(seed).permutation(np.flatnonzero(pool.known)) for seed in range(3)]
    return [orders[0][:60], orders[1][:50], orders[2][:60]]


def test_repeats_side_by_side_are_fitted_one_by_one(pool, trains) -> None:
    settings = [QUICK, QUICK, replace(QUICK, bounded=True)]
    seeds = [[0, 1], [2, 3], [4, 5]]
    found = members(pool, trains, settings, seeds)
    assert found.shape == (3, 2, len(pool.labels))
    for train, setting, own, predicted in zip(trains, settings, seeds, found, strict=True):
        alone = fit(pool.rows(train), pool.labels[train], own, setting).members(*pool.graphs).numpy()
        np.testing.assert_allclose(predicted, alone, atol=0.02)
    company = members(pool, trains, [QUICK] * 3, seeds)  # the first and third now train together
    np.testing.assert_allclose(company[:2], found[:2], atol=0.02)


def test_settings_are_chosen_within_the_training_rows_alone(pool, trains) -> None:
    candidates = {"untrained": replace(QUICK, learning_rate=1e-9), "trained": QUICK}
    found = chosen_settings(pool, [*trains, trains[0]], candidates, folds=3)
    assert all(errors["trained"] < 0.7 * errors["untrained"] for errors in found) and found[0] == found[3]
    for train, errors in zip(trains, found, strict=False):
        everything = [torch.arange(len(train))]
        (one,) = cross_validated(pool.rows(train), pool.labels[train], everything, candidates["trained"], folds=3)
        assert errors["trained"] == pytest.approx(one, rel=0.05)
    inside = np.isin(np.arange(len(pool.labels)), np.concatenate(trains))
    blind = replace(pool, labels=np.where(inside, pool.labels, np.nan))  # no other label plays a part
    assert chosen_settings(blind, trains, candidates, folds=3) == found[:3]


def in_two_stages_alone(pool: Pool, train: np.ndarray, limit: float, seeds: list[int]) -> np.ndarray:
    """A classifier keeps what it takes to be above the limit; networks of such graphs alone rank that, and what
    networks of all graphs say of the others is at most the limit."""
    graphs, labels = pool.rows(train), torch.as_tensor(pool.labels[train])
    good = labels > limit
    classifier = fit_classifier(graphs, good.double(), seeds, QUICK)
    above = fit(graphs.rows(good.nonzero().squeeze(1)), labels[good], seeds, QUICK)
    rest = fit(graphs, labels, seeds, QUICK)(*pool.graphs).clamp(max=limit)
    return torch.where(classifier(*pool.graphs) > 0.5, above(*pool.graphs), rest).numpy()


def test_two_stages_of_repeats_are_those_of_each(pool, trains) -> None:
    seeds, limits = [[0, 1], [2, 3], [4, 5]], [91.0, 91.0, 92.0]
    everything = members(pool, trains, [QUICK] * 3, seeds).mean(1)
    found = two_stages(pool, trains, [QUICK] * 3, seeds, limits, everything)
    for train, own, limit, predicted in zip(trains, seeds, limits, found, strict=True):
        alone = in_two_stages_alone(pool, train, limit, own)
        assert np.median(np.abs(predicted - alone)) < 0.02 and np.mean(np.abs(predicted - alone) > 0.2) < 0.03


def test_what_was_learnt_from_or_is_not_known_is_not_scored(pool, trains) -> None:
    predicted = pool.labels + np.random.default_rng(1).normal(size=len(pool.labels))
    drawn_splits = splits(pool.labels, sizes=(100,))
    sets = {name: drawn_splits[name] for name in ("all", "denoise-91")}
    rows = {row["evaluated"]: row for row in scored(pool, trains[0], predicted, sets)}
    left = np.setdiff1d(np.flatnonzero(pool.known), trains[0])
    above = left[pool.labels[left] > 91]
    for name, kept in (("all", left), ("denoise-91", above)):
        assert (rows[name]["n"], rows[name]["n_train"]) == (len(kept), 60)
        expected = scores(predicted[kept], pool.labels[kept])
        assert {key: rows[name][key] for key in expected} == expected
        assert rows[name]["mse"] == pytest.approx(np.mean((predicted[kept] - pool.labels[kept]) ** 2))


def test_what_computes_the_same_as_what_was_learnt_from_is_not_scored() -> None:
    graphs = as_graphs(np.zeros((5, 2, 2)), np.ones((5, 2, 1)), np.full(5, 2))
    functions, known = np.array(["f", "g", "f", "h", "h"]), np.array([True, True, True, True, False])
    labels = np.arange(90.0, 95.0)
    pool = Pool(graphs, functions, labels, np.ones(5), known, {})
    assert pool.unseen(np.array([0])).tolist() == [False, True, False, True, False]
    assert pool.unseen(np.array([1, 3])).tolist() == [True, False, True, False, False]
    (row,) = scored(pool, np.array([0]), labels + 2, {"all": np.arange(5)})
    assert (row["n"], row["n_train"], row["mse"]) == (2, 1, pytest.approx(4))


def test_yardsticks_by_name(pool, trains) -> None:
    train = trains[0]
    known = (pool.rows(train), pool.labels[train], pool.parameters[train])
    everything = yardsticks(*known, pool.graphs, pool.parameters, seed=1)
    some = yardsticks(*known, pool.graphs, pool.parameters, seed=1, only=RANDOM)
    assert tuple(everything) == NAMES and tuple(some) == RANDOM
    for name in RANDOM:
        np.testing.assert_array_equal(some[name], everything[name])
    distances = edit_distances(pool.graphs, known[0]).numpy()
    np.testing.assert_array_equal(
        nearest_neighbour(*known[:2], pool.graphs, distances), everything["nearest neighbour"]
    )


def test_mutations_of_codes_change_one_of_them(pool) -> None:
    codes = np.array([[0, 0, 0], [0, 1, 0], [2, 1, 0], [2, 1, 1]])
    coded = replace(pool, codes=codes)
    assert coded.distances(np.array([0, 3])).tolist() == [[0, 3], [1, 2], [2, 1], [3, 0]]


def test_what_is_chosen_is_the_best_by_its_label_and_scored_by_its_score() -> None:
    graphs = as_graphs(np.zeros((4, 2, 2)), np.ones((4, 2, 1)), np.full(4, 2))
    labels, score = np.array([1.0, 3.0, 2.0, 9.0]), np.array([10.0, 20.0, 30.0, 40.0])
    small = Pool(
        graphs,
        np.arange(4).astype(str),
        labels,
        np.ones(4),
        np.array([True, True, True, False]),
        {"test": score, "other": -score},
    )
    found = best_so_far(small, np.array([0, 2, 1, 3]))
    assert found["test"].tolist() == [10, 30, 20, 20] and found["other"].tolist() == [-10, -30, -20, -20]
    assert best_so_far(small, np.array([1, 0, 2]))["test"].tolist() == [20, 20, 20]


def test_a_predictor_trains_what_it_learns_from_and_then_its_best(pool) -> None:
    order, predicted = drawn(pool, 1), np.random.default_rng(0).normal(size=len(pool.labels))
    assert sorted(order) == list(range(len(pool.labels))) and not np.array_equal(order, drawn(pool, 2))
    rows = predicted_best(order[:60], predicted, 110)
    np.testing.assert_array_equal(rows[:60], order[:60])
    rest = sorted(set(range(len(pool.labels))) - set(order[:60].tolist()), key=lambda row: -predicted[row])
    assert rows[60:].tolist() == rest[:50]
    best = np.where(pool.known, pool.labels, -np.inf).argmax()
    assert oracle(pool, 3)[0] == best and (best_so_far(pool, oracle(pool, 3))["test"] == pool.score["test"][best]).all()


def test_evolution_trains_each_network_once_and_goes_up(pool) -> None:
    trained = evolution(pool, 150, 0)
    assert len(set(trained.tolist())) == 150 == len(trained)
    np.testing.assert_array_equal(trained, evolution(pool, 150, 0))
    labels = np.where(pool.known, pool.labels, np.nan)
    assert np.nanmean(labels[trained[50:]]) > np.nanmean(labels[trained[:50]]) + 0.5
    first = edit_distances(pool.graphs, pool.rows(trained[:50]))
    new = torch.ones(len(pool.labels), dtype=torch.bool)
    new[trained[:50]] = False
    assert (first[trained[50]] == first[new].amin(0)).any()  # the nearest untrained of one of the first fifty


def test_of_a_population_the_oldest_dies(pool, monkeypatch) -> None:
    """Where all take part in the tournament, a child is a nearest one of the best of the last few that were trained."""
    size, budget = 4, 60
    monkeypatch.setattr(prediction, "POPULATION", size)
    monkeypatch.setattr(prediction, "TOURNAMENT", size)
    trained = evolution(pool, budget, 0)
    labels = np.where(pool.known, pool.labels, -np.inf)
    for step in range(size, budget):
        parent = max(trained[step - size : step], key=lambda row: labels[row])
        distance = pool.distances(np.array([parent]))[:, 0]
        distance[trained[:step]] = np.inf
        assert distance[trained[step]] == distance.min()
