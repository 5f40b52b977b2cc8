"""The neural predictor: the original's numbers, networks side by side, ensembles, choices within known graphs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from depthsearch.cells.nasbench101 import enumerate_cells, one_hot
from depthsearch.data.graphs import Graphs, as_graphs, chains, graph_features, relations, vertex_features
from depthsearch.strategies.ensembles import FARTHEST, _inputs, _masks, fit, fit_classifier, train
from depthsearch.strategies.graph_predictor import CANDIDATES, PAPER, RECOMMENDED, GraphPredictor
from depthsearch.strategies.predictor import fit_ensemble
from depthsearch.strategies.predictor_choice import cross_validated, in_two_stages

PARITY = Path(__file__).parents[1] / "parity"
SMALL = replace(PAPER, width=8, hidden=8, epochs=3)
QUICK = replace(RECOMMENDED, width=16, hidden=16, epochs=40)


@pytest.fixture(scope="module")
def original() -> dict[str, Tensor]:
    with np.load(PARITY / "predictor.npz", allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files if file[name].dtype.kind in "if"}


@pytest.fixture(scope="module")
def space() -> tuple[Graphs, Tensor]:
    """The 2,532 cells of at most 5 vertices, and a label in percent: grows with 3x3 convolutions, saturating."""
    cells, _ = enumerate_cells(5)
    graphs = as_graphs(cells.adjacency, one_hot(cells), cells.vertices)
    counts, edges = graphs.operations.sum(1), graphs.adjacency.sum((1, 2))
    return graphs, (94 - 6 * torch.exp(-counts[:, 2]) - counts[:, 4] + 0.2 * edges).double()


def some(space: tuple[Graphs, Tensor], n: int, seed: int = 0) -> tuple[Graphs, Tensor]:
    rows = torch.randperm(len(space[1]), generator=torch.Generator().manual_seed(seed))[:n]
    return space[0].rows(rows), space[1][rows]


def loaded(original: dict[str, Tensor], **options) -> GraphPredictor:
    network = GraphPredictor(n_operations=5, width=12, layers=3, hidden=8, dropout=0.1, **options).double().eval()
    for place, parameter in enumerate(network.parameters()):
        assert parameter.shape == original[f"param:{place:03d}"].shape
        parameter.data = original[f"param:{place:03d}"].clone()
    return network


def test_the_original_s_numbers(original) -> None:
    network, adjacency = loaded(original), original["adjacency"]
    relation = relations(adjacency)
    close = {"rtol": 0, "atol": 1e-9}
    torch.testing.assert_close(relation[:, 0], original["normalised_adjacency"], **close)
    torch.testing.assert_close(relation[:, 1], original["normalised_transpose"], **close)
    nodes = original["operations"]
    for number, layer in enumerate(network.layers):
        nodes = layer(relation, nodes)
        torch.testing.assert_close(nodes, original[f"layer:{number}"], **close)
    prediction = network(adjacency, original["operations"], original["num_vertices"])
    torch.testing.assert_close(prediction, original["prediction"], **close)
    loss = (prediction - original["target"]).square().mean()
    torch.testing.assert_close(loss, original["loss"], **close)
    loss.backward()
    for place, parameter in enumerate(network.parameters()):
        torch.testing.assert_close(parameter.grad, original[f"grad:{place:03d}"], **close)


def test_normalising_the_transpose_once_is_another_network(original) -> None:
    adjacency, operations, n = (original[name] for name in ("adjacency", "operations", "num_vertices"))
    once = relations(adjacency, twice_normalised=False)[:, 1]
    with_self = adjacency + torch.eye(7)
    torch.testing.assert_close(once, with_self.mT / with_self.sum(1).unsqueeze(-1), rtol=0, atol=1e-12)
    assert 0.2 < (once - original["normalised_transpose"]).abs().max() < 0.22
    assert (
        loaded(original, twice_normalised=False)(adjacency, operations, n) - original["prediction"]
    ).abs().max() > 1e-3


def test_published_size() -> None:
    counts = json.loads((PARITY / "counts.json").read_text())["neural_predictor"]
    network = GraphPredictor()
    assert sum(p.numel() for p in network.parameters()) == counts["parameters"] == 102_944
    assert len(list(network.parameters())) == len(counts["by_tensor"])
    for parameter, (_, shape) in zip(network.parameters(), counts["by_tensor"], strict=True):
        assert list(parameter.shape) == shape
    with pytest.raises(ValueError, match="1 or more"):
        GraphPredictor(n_operations=0)


@pytest.mark.parametrize("setting", [SMALL, replace(QUICK, epochs=3)])
def test_side_by_side_is_one_after_the_other(space, setting) -> None:
    graphs, labels = some(space, 45)
    targets = ((labels - labels.mean()) / labels.std()).repeat(3, 1)
    rows = [torch.arange(45), torch.arange(5, 45), torch.arange(40)]
    together = train(graphs, targets, rows, [3, 1, 2], setting).state_dict()
    # The second sees as many steps alone as in company, since both take those of 40 graphs.
    alone = train(graphs, targets[:1], rows[1:2], [1], setting).state_dict()
    for name, value in alone.items():
        torch.testing.assert_close(together[name][1], value[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("setting", "used"), [(SMALL, 20), (replace(SMALL, drop_last=False), 25)])
def test_training_is_the_original_s_loop_written_out(space, setting, used) -> None:
    """One network, ten graphs a batch, masks of the same generator, torch's layers and a plain loop."""
    graphs, labels = some(space, 25)
    targets = ((labels - labels.mean()) / labels.std()).float()
    mine = train(graphs, targets[None], [torch.arange(25)], [7], setting).state_dict()
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = SMALL.network(5)
    generator = torch.Generator().manual_seed(7)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 3)
    relation = relations(graphs.adjacency)
    for _ in range(3):
        order = torch.randperm(25, generator=generator)[:used]  # the original drops the short last batch
        for batch in order.split(10):
            masks = [mask[0] for mask in _masks(network, len(batch), 7, [generator])]
            predicted = network.predict(
                relation[batch], graphs.operations[batch], graphs.n_vertices[batch], None, masks
            )
            optimiser.zero_grad()
            torch.nn.functional.mse_loss(predicted, targets[batch]).backward()
            optimiser.step()
        schedule.step()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(mine[name][0], value, rtol=1e-4, atol=1e-5)


def test_dropout_drops_a_tenth_in_training_and_nothing_in_evaluation(space) -> None:
    graphs, _ = some(space, 30)
    network = GraphPredictor().train()
    masks = _masks(network, 40, 7, [torch.Generator().manual_seed(0)])
    assert [tuple(mask.shape[1:]) for mask in masks] == [(40, 7, 144)] * 3 + [(40, 128)]
    for mask in masks:
        torch.testing.assert_close(mask.unique(), torch.tensor([0.0, 1 / 0.9]))
        assert abs((mask == 0).float().mean() - 0.1) < 0.02
    assert not torch.equal(network(*graphs), network(*graphs))
    network.eval()
    assert torch.equal(network(*graphs), network(*graphs))


def test_padding_and_order_of_graphs_do_not_matter(space) -> None:
    graphs, _ = some(space, 20)
    network = GraphPredictor().double().eval()
    plain = network(*graphs)
    cut = Graphs(graphs.adjacency[:, :5, :5], graphs.operations[:, :5], graphs.n_vertices)
    torch.testing.assert_close(network(*cut), plain, rtol=0, atol=1e-10)
    torch.testing.assert_close(network(*graphs.rows(torch.arange(19, -1, -1))), plain.flip(0), rtol=0, atol=1e-10)


# What is counted on a graph.


def ways(adjacency: np.ndarray, end: int) -> list[list[int]]:
    """All ways from vertex 0 to `end`, one by one."""
    if end == 0:
        return [[0]]
    return [[*way, end] for v in range(end) if adjacency[v, end] for way in ways(adjacency, v)]


def test_counted_features_are_those_of_all_ways_one_by_one(space) -> None:
    graphs, _ = some(space, 60)
    found, nodes = graph_features(graphs).numpy(), vertex_features(graphs).numpy()
    for a, o, n, features, vertices in zip(*(part.numpy() for part in graphs), found, nodes, strict=True):
        routes = ways(a, n - 1)
        counts = np.array([o[way].sum(0) for way in routes])
        whole = [n, a.sum(), max(map(len, routes)), min(map(len, routes)), a[0, n - 1], a[:, n - 1].sum()]
        parts = [o.sum(0), counts.max(0), counts.min(0), counts.mean(0), a[:, n - 1] @ o, a[0] @ o]
        expected = np.concatenate([[*whole, np.log(len(routes))], *parts])
        np.testing.assert_allclose(features, expected, atol=1e-5)
        turned = a[:n, :n][::-1, ::-1].T
        for v in range(7):
            row = [0.0] * 4
            if v < n:
                before = max(map(len, ways(a, v))) - 1
                after = max(map(len, ways(turned, n - 1 - v))) - 1
                row = [before / 3, after / 3, a[:, v].sum() / 2, a[v].sum() / 2]
            np.testing.assert_allclose(vertices[v], row, atol=1e-6)


def test_a_graph_without_a_way_has_finite_features() -> None:
    graphs = as_graphs(np.zeros((1, 3, 3)), np.eye(3)[None], [3])
    assert torch.isfinite(graph_features(graphs)).all() and torch.isfinite(vertex_features(graphs)).all()


def test_bad_graphs_are_named() -> None:
    a, o, n = np.triu(np.ones((2, 3, 3)), 1), np.ones((2, 3, 5)), np.array([3, 3])
    for graphs, says in [
        ((a[:, :2], o, n), "adjacency"),
        ((a, o[:1], n), "adjacency"),
        ((a, o, n[:1]), "n_vertices"),
        ((a, o, n + 1), "1..3"),
        ((a.transpose(0, 2, 1), o, n), "upper triangular"),
    ]:
        with pytest.raises(ValueError, match=says):
            as_graphs(*graphs)


# Ensembles.


def test_what_lies_far_outside_is_cut_off(space) -> None:
    graphs, _ = some(space, 20)
    counted = graph_features(graphs).unsqueeze(0)
    mean, narrow = counted.mean(1), torch.full_like(counted[:, 0], 1e-3)
    features = _inputs(graphs, RECOMMENDED, (mean, narrow)).features
    assert features.abs().max() == FARTHEST
    wide = _inputs(graphs, RECOMMENDED, (mean, torch.full_like(narrow, 100.0))).features
    torch.testing.assert_close(wide, (counted - mean.unsqueeze(1)) / 100)


def test_an_ensemble_learns_in_any_unit_and_says_where_it_is_unsure(space) -> None:
    (known, labels), (new, truth) = some(space, 120), some(space, 400, seed=1)
    percent = fit(known, labels, range(3), QUICK)
    predicted = percent(*new)
    assert predicted.shape == (400,) and (predicted - truth).square().mean() < 0.1 * truth.var()
    members = percent.members(*new)
    assert members.shape == (3, 400) and members.std(0).min() > 0
    torch.testing.assert_close(members.mean(0), predicted)
    fractions = fit(known, labels / 100 + 3, range(3), QUICK)
    torch.testing.assert_close(fractions(*new), predicted / 100 + 3, rtol=0, atol=1e-4)
    for setting in (QUICK, replace(QUICK, counted=False)):
        fitted = fit(known, labels, [0], replace(setting, epochs=0))
        with pytest.raises(ValueError, match="fitted to graphs with 5 columns of operations; these have 6"):
            fitted(new.adjacency, torch.nn.functional.pad(new.operations, (0, 1)), new.n_vertices)
    errors = fit(known, 100 - labels, range(3), QUICK)(*new)  # lower is better
    assert (100 - errors - truth).square().mean() < 0.3 * truth.var()


def test_labels_are_normalised_as_in_the_original_where_that_is_asked(space) -> None:
    """A network of no epochs says what its start does, in the unit that it was given."""
    (known, labels), (new, _) = some(space, 40), some(space, 50, seed=1)
    start = replace(QUICK, epochs=0)
    own, given = fit(known, labels, [0], start)(*new), fit(known, labels, [0], start, scale=(90.8192, 2.3961))(*new)
    in_own_unit = (own - labels.mean()) / labels.std(correction=0)
    torch.testing.assert_close(in_own_unit.float(), ((given - 90.8192) / 2.3961).float(), rtol=1e-4, atol=1e-4)


def test_bounded_labels_are_given_back_in_their_unit(space) -> None:
    (known, labels), (new, truth) = some(space, 120), some(space, 400, seed=1)
    bounded = replace(QUICK, bounded=True)
    predicted = fit(known, labels, range(3), bounded)(*new)
    assert (predicted - truth).square().mean() < 0.1 * truth.var()
    assert predicted.max() < labels.max() + 0.5 * labels.std(correction=0)
    torch.testing.assert_close(fit(known, labels / 100, range(3), bounded)(*new) * 100, predicted, rtol=0, atol=0.1)


@pytest.mark.slow
def test_fit_ensemble_takes_arrays_and_repeats_itself(space) -> None:
    graphs, labels = some(space, 40)
    arrays = [part.numpy() for part in graphs]
    first, second = (fit_ensemble(*arrays, labels.numpy(), seeds=[4]) for _ in range(2))
    assert torch.equal(first(*arrays), second(*arrays))
    assert not torch.equal(first(*arrays), fit_ensemble(*arrays, labels.numpy(), seeds=[5])(*arrays))
    assert (first(*arrays) - labels).square().mean() < 0.1 * labels.var()
    everything = [torch.arange(40)]
    errors = {name: cross_validated(graphs, labels, everything, s)[0] for name, s in CANDIDATES.items()}
    chosen = CANDIDATES[min(errors, key=errors.__getitem__)]
    assert first.setting == chosen and fit_ensemble(*(a[:8] for a in arrays), labels[:8], [4]).setting == RECOMMENDED


def test_the_head_of_the_reproduction_starts_as_torch_starts_it() -> None:
    torch.manual_seed(0)
    plain, xavier = replace(PAPER, xavier_head=False).network(5), PAPER.network(5)
    for network, bounds in ((plain, (144**-0.5, 128**-0.5)), (xavier, ((6 / 272) ** 0.5, (6 / 129) ** 0.5))):
        for linear, bound in zip(network.head, bounds, strict=True):
            assert 0.98 * bound < linear.weight.abs().max() < bound
        for layer in network.layers:
            bound = (6 / sum(layer.along.shape)) ** 0.5
            assert 0.98 * bound < layer.along.abs().max() < bound
    assert "xavier_head" in PAPER.said() and "xavier_head" not in RECOMMENDED.said()


def test_bad_labels_are_named(space) -> None:
    graphs, labels = some(space, 10)
    for bad, seeds, says in [
        (labels[:5], [0], "10 finite"),
        (labels * float("nan"), [0], "10 finite"),
        (labels, [], "one seed"),
    ]:
        with pytest.raises(ValueError, match=says):
            fit(graphs, bad, seeds, SMALL)
    with pytest.raises(ValueError, match="two labelled graphs"):
        fit(graphs, labels, [0], SMALL, rows=[torch.arange(1)])


def test_equal_labels_are_predicted(space) -> None:
    graphs, _ = some(space, 20)
    predicted = fit(graphs, torch.full((20,), 3.0), [0], QUICK)(*graphs)
    torch.testing.assert_close(predicted, torch.full((20,), 3.0, dtype=torch.float64), rtol=0, atol=0.2)


def test_cross_validation_is_that_of_folds_one_by_one(space) -> None:
    graphs, labels = some(space, 40)
    (error,) = cross_validated(graphs, labels, [torch.arange(40)], QUICK, folds=4, seed=3)
    parts = torch.randperm(40, generator=torch.Generator().manual_seed(3)).tensor_split(4)
    total = 0.0
    for number, held in enumerate(parts):
        rest = torch.tensor([row for row in range(40) if row not in held.tolist()])
        fitted = fit(graphs.rows(rest), labels[rest], [3 + number], QUICK)
        total += float((fitted(*graphs.rows(held)) - labels[held]).square().sum())
    assert error == pytest.approx(total / 40, rel=0.02)
    with pytest.raises(ValueError, match="too few"):
        cross_validated(graphs, labels, [torch.arange(40)], QUICK, folds=21)


@pytest.mark.slow
def test_the_classifier_knows_what_is_above(space) -> None:
    (known, labels), (new, truth) = some(space, 150), some(space, 400, seed=1)
    good = (truth > 91).double()
    probability = fit_classifier(known, (labels > 91).double(), range(2), QUICK)(*new)
    assert probability.min() >= 0 and probability.max() <= 1
    assert ((probability > 0.5) == (good > 0)).double().mean() > 0.9


def test_the_rest_stays_below_the_threshold() -> None:
    probability, above = torch.tensor([0.9, 0.9, 0.1, 0.5]), torch.tensor([93.0, 90.0, 94.0, 95.0])
    found = in_two_stages(probability, above, torch.tensor([80.0, 80.0, 92.0, 85.0]), torch.tensor(91.0))
    assert found.tolist() == [93, 90, 91, 85]


def test_depths_and_widths_are_chains() -> None:
    graphs = chains([(2, 20), (0, 10)], 3, (10, 20, 40))
    assert graphs.adjacency.shape == (2, 5, 5) and graphs.n_vertices.tolist() == [5, 5]
    assert graphs.adjacency[0].nonzero().tolist() == [[0, 1], [1, 2], [2, 3], [3, 4]]
    assert as_graphs(*graphs).operations.shape == (2, 5, 7)


def test_errors_of_repeated_folds_are_means():
    cells, _ = enumerate_cells(4)
    graphs = as_graphs(cells.adjacency, one_hot(cells), cells.vertices)
    labels = 90 + graphs.operations[:, :, 2].sum(1).double()
    once, twice = (
        cross_validated(graphs, labels, [torch.arange(len(labels))], QUICK, folds=3, repeats=n)[0] for n in (1, 2)
    )
    assert twice < 1.5 * once
