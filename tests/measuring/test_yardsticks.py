"""Yardsticks of the neural predictor."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from depthsearch.cells.nasbench101 import enumerate_cells, one_hot
from depthsearch.data.graphs import Graphs, as_graphs
from depthsearch.measuring.cells import YARDSTICKS
from depthsearch.measuring.yardsticks import edit_distances, nearest_neighbour, scores, yardsticks


@pytest.fixture(scope="module")
def graphs() -> Graphs:
    cells, _ = enumerate_cells(5)
    return as_graphs(cells.adjacency[:, :5, :5], one_hot(cells)[:, :5], cells.vertices)


def by_hand(one: Graphs, other: Graphs) -> int:
    """The fewest edits between two graphs, matching by matching, edge by edge."""
    (a, o, n), (b, p, m) = ((x[0].numpy() for x in g) for g in (one, other))

    def place(adjacency, operations, size, order):  # input first, output last, the inner vertices where order says
        where = [0, *[1 + k for k in order[: size - 2]], 4]
        edges = {(where[i], where[j]) for i in range(size) for j in range(size) if adjacency[i, j]}
        names = {where[v]: int(operations[v].argmax()) for v in range(size)}
        return edges, names

    edges, names = place(a, o, int(n), (0, 1, 2))
    best = 99
    for order in itertools.permutations(range(3)):
        edges2, names2 = place(b, p, int(m), order)
        best = min(best, len(edges ^ edges2) + sum(names.get(v) != names2.get(v) for v in range(5)))
    return best


def test_edit_distances_are_those_by_hand(graphs) -> None:
    rows = torch.randperm(len(graphs.n_vertices), generator=torch.Generator().manual_seed(0))[:24]
    one, other = graphs.rows(rows[:12]), graphs.rows(torch.cat([rows[12:], torch.arange(4)]))
    found = edit_distances(one, other)
    for i, j in itertools.product(range(12), range(16)):
        assert found[i, j] == by_hand(one.rows(slice(i, i + 1)), other.rows(slice(j, j + 1)))
    assert (edit_distances(one, one).diagonal() == 0).all()
    torch.testing.assert_close(edit_distances(one, other), edit_distances(other, one).mT)
    with pytest.raises(ValueError, match="at most 8"):
        edit_distances(one, Graphs(torch.zeros(1, 4, 4), torch.zeros(1, 4, 5), torch.tensor([4])))


@pytest.mark.parametrize("chunk", [2000, 7])
def test_the_nearest_neighbour_is_the_mean_of_the_nearest(graphs, chunk, monkeypatch) -> None:
    monkeypatch.setattr("depthsearch.measuring.yardsticks.CHUNK", chunk)
    known, new = graphs.rows(slice(0, 60)), graphs.rows(slice(60, 90))
    labels, distance = np.arange(60.0), edit_distances(new, known).numpy()
    expected = [labels[row == row.min()].mean() for row in distance]
    np.testing.assert_allclose(nearest_neighbour(known, labels, new), expected)
    np.testing.assert_allclose(nearest_neighbour(known, labels, new, distance), expected)
    np.testing.assert_allclose(nearest_neighbour(known, labels, known), labels)


def test_scores_are_those_of_their_formulas() -> None:
    predicted, truth = np.array([1.0, 2.0, 4.0, 3.0]), np.array([1.0, 2.0, 3.0, 5.0])
    found = scores(predicted, truth)
    assert found["mse"] == pytest.approx((1 + 4) / 4) and found["kendall_tau"] == pytest.approx((5 - 1) / 6)
    assert found["r2"] == pytest.approx(1 - 5 / np.square(truth - truth.mean()).sum())
    assert np.isnan(scores(np.ones(4), truth)["kendall_tau"]) and np.isnan(scores(predicted, np.ones(4))["r2"])


def test_yardsticks_learn_what_their_names_say(graphs) -> None:
    order = torch.randperm(len(graphs.n_vertices), generator=torch.Generator().manual_seed(1))
    known, new = graphs.rows(order[:150]), graphs.rows(order[150:450])
    counts = [g.operations.sum(1).double().numpy() for g in (known, new)]
    labels, truth = (90 + 2 * c[:, 2] - c[:, 4] for c in counts)
    parameters = [np.exp(5 + c[:, 2]) for c in counts]
    found = yardsticks(known, labels, parameters[0], new, parameters[1])
    assert set(found) == {
        "mean",
        "ridge",
        "random forest",
        "gradient boosting",
        "parameters alone",
        "nearest neighbour",
    }
    assert all(p.shape == (300,) for p in found.values())
    np.testing.assert_allclose(found["mean"], labels.mean())
    mse = {name: scores(p, truth)["mse"] for name, p in found.items()}
    assert mse["ridge"] < 0.01 * mse["mean"]  # linear in what it sees
    assert mse["ridge"] < mse["parameters alone"] < mse["mean"]
    for name in ("random forest", "gradient boosting", "nearest neighbour"):
        assert mse[name] < 0.5 * mse["mean"]
    again = yardsticks(known, labels, parameters[0], new, parameters[1])
    assert all(np.array_equal(found[name], again[name]) for name in found)


def test_random_search_sees_the_early_validation_accuracy_only():
    generator = torch.Generator().manual_seed(0)
    early, late = (torch.rand(1000, generator=generator) for _ in range(2))
    table = SimpleNamespace(strings=range(1000), columns={"c10_val_12": early, "c10_test_200_mean": late})
    seen = torch.randperm(1000, generator=torch.Generator().manual_seed(3))[:10]
    taken = YARDSTICKS["random search, 10 looks"](table, torch.Generator().manual_seed(3))
    assert taken == seen[early[seen].argmax()] != seen[late[seen].argmax()]
