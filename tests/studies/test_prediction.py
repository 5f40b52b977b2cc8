"""The tables and curves of the predictor's study, on the cells of at most 4 vertices with made-up labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from depthsearch.cells.nasbench101 import enumerate_cells, one_hot
from depthsearch.cells.nasbench101_size import count_parameters
from depthsearch.data.graphs import as_graphs
from depthsearch.data.nasbench101 import splits
from depthsearch.measuring.yardsticks import edit_distances, scores
from depthsearch.strategies.ensembles import fit
from depthsearch.strategies.graph_predictor import RECOMMENDED
from depthsearch.studies.prediction import Pool, best_so_far, evolution, results_of_split, selection

QUICK = replace(RECOMMENDED, width=16, hidden=16, epochs=40)


@pytest.fixture(scope="module")
def pool() -> Pool:
    cells, _ = enumerate_cells(5)
    cells = cells[np.arange(0, len(cells), 5)]
    graphs = as_graphs(cells.adjacency[:, :5, :5], one_hot(cells)[:, :5], cells.vertices)
    counts = graphs.operations.sum(1).numpy()
    labels = 94 - 6 * np.exp(-counts[:, 2]) - counts[:, 4] + np.random.default_rng(0).normal(0, 0.2, len(counts))
    known = np.ones(len(labels), dtype=bool)
    known[::50] = False
    return Pool(graphs, np.where(known, labels, 10.0), count_parameters(cells), known, labels - 0.5)


@pytest.mark.slow
def test_table_of_a_split(pool) -> None:
    drawn = splits(pool.labels, sizes=(100,))
    evaluated = {name: drawn[name] for name in ("all", "denoise-91")}
    rows = results_of_split(pool, drawn["100"], evaluated, {"quick": QUICK}, range(4), ensemble=2)
    train = drawn["100"][pool.known[drawn["100"]]]
    scored = np.setdiff1d(np.flatnonzero(pool.known), train)
    assert {row["evaluated"] for row in rows} == {"all", "denoise-91"} and {row["n_train"] for row in rows} == {
        len(train)
    }
    everything = [row for row in rows if row["evaluated"] == "all"]
    assert {row["n"] for row in everything} == {len(scored)}
    assert [r["seed"] for r in everything if r["predictor"] == "quick"] == [0, 1, 2, 3]
    assert [r["seed"] for r in everything if r["predictor"] == "quick, ensemble"] == [0, 2]
    assert sum(r["predictor"] == "random forest" for r in everything) == 4
    assert sum(r["predictor"] == "mean" for r in everything) == 1
    fitted = fit(pool.rows(train), pool.labels[train], range(4), QUICK)
    values = scores(fitted.members(*pool.rows(scored))[2].numpy(), pool.labels[scored])
    row = next(r for r in everything if (r["predictor"], r["seed"]) == ("quick", 2))
    assert row["mse"] == pytest.approx(values["mse"]) and row["kendall_tau"] == pytest.approx(values["kendall_tau"])
    above = next(r for r in rows if (r["predictor"], r["evaluated"]) == ("mean", "denoise-91"))
    kept = scored[pool.labels[scored] > 91]
    assert above["mse"] == pytest.approx(np.mean((pool.labels[kept] - pool.labels[train].mean()) ** 2))
    again = results_of_split(pool, drawn["100"], evaluated, {}, range(1), trained_too=True)
    assert again[0]["n"] == pool.known.sum()


def test_what_is_chosen_is_the_best_by_its_label_and_scored_by_its_score() -> None:
    graphs = as_graphs(np.zeros((4, 2, 2)), np.ones((4, 2, 1)), np.full(4, 2))
    labels, score = np.array([1.0, 3.0, 2.0, 9.0]), np.array([10.0, 20.0, 30.0, 40.0])
    small = Pool(graphs, labels, np.ones(4), np.array([True, True, True, False]), score)
    assert best_so_far(small, np.array([0, 2, 1, 3])).tolist() == [10, 30, 20, 20]
    assert best_so_far(small, np.array([1, 0, 2])).tolist() == [20, 20, 20]


def test_curves_of_selection(pool) -> None:
    curves = selection(pool, budget=110, n_train=60, seed=1, setting=QUICK, ensemble=2)
    names = {"random search", "regularised evolution", "predictor", "predictor with classifier", "oracle"}
    assert set(curves) == names and all(curve.shape == (110,) for curve in curves.values())
    best = np.where(pool.known, pool.labels, -np.inf).argmax()
    assert (curves["oracle"] == pool.score[best]).all()
    np.testing.assert_array_equal(curves["predictor"][:60], curves["random search"][:60])
    assert curves["predictor"][-1] >= curves["random search"][-1]
    again = selection(pool, budget=110, n_train=60, seed=1, setting=QUICK, ensemble=2)
    assert all(np.array_equal(curves[name], again[name]) for name in names)
    with pytest.raises(ValueError, match="the budget must be"):
        selection(pool, budget=60, n_train=60)


@pytest.mark.slow
def test_the_whole_space_is_ranked_and_what_is_unknown_passed_over(pool) -> None:
    part = np.arange(0, len(pool.labels), 2)
    half = Pool(pool.rows(part), pool.labels[part], pool.parameters[part], pool.known[part], pool.score[part])
    places = np.full(len(pool.labels), -1)
    places[part] = np.arange(len(part))
    options = {"budget": 100, "n_train": 60, "setting": QUICK, "ensemble": 2}
    whole, alone = selection(half, **options, space=pool.graphs, row_in_pool=places), selection(half, **options)
    np.testing.assert_array_equal(whole["predictor"], alone["predictor"])


def test_evolution_trains_each_network_once_and_goes_up(pool) -> None:
    trained = evolution(pool, 150, np.random.default_rng(0))
    assert len(set(trained.tolist())) == 150 == len(trained)
    labels = np.where(pool.known, pool.labels, np.nan)
    assert np.nanmean(labels[trained[50:]]) > np.nanmean(labels[trained[:50]]) + 0.5
    first = edit_distances(pool.graphs, pool.rows(trained[:50]))
    new = torch.ones(len(pool.labels), dtype=torch.bool)
    new[trained[:50]] = False
    assert (first[trained[50]] == first[new].amin(0)).any()  # the nearest untrained of one of the first fifty
