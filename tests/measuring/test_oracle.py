"""The exact distribution of the true accuracy over all cells, against draws."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import betainc
from torch.distributions import Categorical, Dirichlet
from torch.nn.functional import elu

from depthsearch.data.nasbench import SETS, NASBench201, read_nasbench201
from depthsearch.learning.mixing import DirichletWeights, SoftmaxWeights
from depthsearch.measuring.cells import believed_accuracies, choice_probabilities
from depthsearch.measuring.oracle import (
    cell_probabilities,
    drawn_accuracies,
    largest_probabilities,
    true_accuracy,
)

N = 100_000


def made_up():
    """All cells and a made-up accuracy of each: operations (15625, 6), accuracies (15625,)."""
    operations = torch.tensor(list(itertools.product(range(5), repeat=6)))
    generator = torch.Generator().manual_seed(0)
    operations = operations[torch.randperm(len(operations), generator=generator)]
    worth = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    noise = torch.randn(len(operations), generator=generator, dtype=torch.float64)
    return operations, 90 + 2 * worth.gather(1, operations.T).sum(0) / 6 + 0.3 * noise


def real():
    table = read_nasbench201(Path(os.environ["DEPTHSEARCH_DATA"]))
    return table.operations, table.test_accuracy()


NEEDS_TABLE = pytest.mark.skipif("DEPTHSEARCH_DATA" not in os.environ, reason="needs the real table")


def favouring_the_best(operations, accuracies, strength):
    """Scores (6, 5), larger by `strength` at what the best cell has."""
    scores = 0.3 * torch.randn(6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return scores.scatter_add(1, operations[accuracies.argmax()].unsqueeze(1), torch.full((6, 1), strength).double())


def assert_draws_agree(exact, cells, operations, accuracies, within):
    """Each number lies within five standard errors of that of the drawn cells (N, 6)."""
    powers = 5 ** torch.arange(5, -1, -1)
    rows = torch.empty(5**6, dtype=torch.long)
    rows[(operations * powers).sum(1)] = torch.arange(5**6)
    drawn = accuracies[rows[(cells * powers).sum(1)]]

    def close(ours, sample):
        return abs(ours - float(sample.mean())) < 5 * float(sample.std()) / N**0.5 + 1e-12

    assert close(exact.mean, drawn)
    assert close(exact.sd**2, (drawn - exact.mean).square())
    near = (drawn >= accuracies.max() - within).double()
    assert close(exact.near_best, near) and close(exact.best, (drawn == accuracies.max()).double())
    for level, value in exact.quantiles.items():
        error = 5 * (level * (1 - level) / N) ** 0.5
        assert float((drawn < value).double().mean()) < level + error
        assert float((drawn <= value).double().mean()) > level - error


@pytest.mark.parametrize("table", [made_up, pytest.param(real, marks=NEEDS_TABLE)])
@pytest.mark.parametrize("family", ["softmax", "Dirichlet"])
def test_the_exact_distribution_is_that_of_draws(table, family):
    operations, accuracies = table()
    torch.manual_seed(3)
    for strength in torch.linspace(0.5, 12, 116).tolist():  # the least at which P(best) is near 0.3
        scores = favouring_the_best(operations, accuracies, strength)
        q = scores.softmax(1) if family == "softmax" else largest_probabilities(elu(scores) + 1)
        exact = true_accuracy(q, operations, accuracies)
        if exact.best > 0.28:
            break
    assert 0.28 < exact.best < 0.32 and exact.best < exact.near_best
    softmax = family == "softmax"
    cells = Categorical(q).sample((N,)) if softmax else Dirichlet(elu(scores) + 1).sample((N,)).argmax(-1)
    assert_draws_agree(exact, cells, operations, accuracies, within=0.5)
    assert exact.mode_index == int((operations == scores.argmax(1)).all(1).nonzero())


def test_a_point_mass_gives_that_cell():
    operations, accuracies = made_up()
    for cell in (0, 777, int(accuracies.argmax())):
        q = torch.nn.functional.one_hot(operations[cell], 5).double()
        exact, value = true_accuracy(q, operations, accuracies), float(accuracies[cell])
        assert (exact.mean, exact.mode, exact.mode_index, exact.sd) == (value, value, cell, 0)
        assert set(exact.quantiles.values()) == {value}
        assert exact.near_best == float(value >= accuracies.max() - 0.5)
        assert exact.best == float(value == accuracies.max())


def test_probabilities_of_cells_are_the_products():
    operations, _ = made_up()
    q = torch.randn(6, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64).softmax(1)
    p = cell_probabilities(q, operations)
    assert abs(float(p.sum()) - 1) < 1e-12
    for cell in (3, 400):
        product = 1.0
        for edge in range(6):
            product *= float(q[edge, operations[cell, edge]])
        assert abs(float(p[cell]) - product) < 1e-15


@pytest.mark.parametrize("q", [torch.ones(6, 5), torch.full((5, 6), 1 / 6), torch.eye(6)[:, :5], -torch.ones(6, 5)])
def test_what_is_not_a_distribution_is_refused(q):
    operations, _ = made_up()
    with pytest.raises(ValueError):
        cell_probabilities(q, operations)


@pytest.mark.parametrize("a", [[1.0, 1.0], [0.3, 2.0], [80.0, 90.0], [0.02, 0.05], [2000.0, 1950.0], [1e-3, 300.0]])
def test_the_larger_of_two_is_an_incomplete_beta_function(a):
    # x_0 / (x_0 + x_1) has a Beta(a_0, a_1) distribution.
    p = largest_probabilities(torch.tensor(a, dtype=torch.float64))
    expected = betainc(a[1], a[0], 0.5)
    np.testing.assert_allclose(p.numpy(), [expected, betainc(a[0], a[1], 0.5)], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("a", [1e-3, 0.5, 1.0, 30.0, 5000.0])
def test_equal_concentrations_are_equally_likely(a):
    torch.testing.assert_close(largest_probabilities(torch.full((2, 5), a)), torch.full((2, 5), 0.2).double())


@pytest.mark.parametrize("a", [[1.5, 0.7, 1.0, 1.1, 0.9], [0.05, 0.2, 0.1, 0.4, 0.01], [40.0, 30.0, 35.0, 20.0, 38.0]])
def test_the_largest_of_five_is_that_of_draws(a):
    torch.manual_seed(0)
    concentration = torch.tensor(a, dtype=torch.float64)
    counts = Dirichlet(concentration).sample((N,)).argmax(-1).bincount(minlength=5) / N
    p = largest_probabilities(concentration)
    assert ((p - counts).abs() < 5 * (p * (1 - p) / N).sqrt() + 1e-6).all()
    assert (p - concentration / concentration.sum()).abs().max() > 0.01  # it is not the mean


def test_a_closed_option_is_never_the_largest():
    p = largest_probabilities(torch.tensor([[2.0, 0.0, 1.0], [0.0, 0.0, 0.4]]))
    assert p[0, 1] == 0 and p[1].tolist() == [0, 0, 1]
    torch.testing.assert_close(p[0, [0, 2]], largest_probabilities(torch.tensor([2.0, 1.0])))
    for bad in ([0.0, 0.0], [-1.0, 2.0], [float("nan"), 1.0], [float("inf"), 1.0]):
        with pytest.raises(ValueError, match="a concentration must be a positive number"):
            largest_probabilities(torch.tensor(bad))


def test_the_accuracies_of_drawn_cells():
    operations, accuracies = made_up()
    q = torch.full((6, 5), 0.2)
    drawn, again = (
        drawn_accuracies(q, operations, accuracies, 100, torch.Generator().manual_seed(4)) for _ in range(2)
    )
    assert drawn.shape == (100,) and drawn.equal(again) and torch.isin(drawn, accuracies).all()


# What a search believes.


def mixing_of(kind, *alphas):
    mixing = kind({"cell": (len(alphas), len(alphas[0]))}).double()
    mixing.alphas["cell"].copy_(torch.tensor(alphas))
    return mixing


def test_an_edge_ends_with_the_largest_component_of_a_draw():
    """Gamma variables x of shapes 1, 1, 2: the third is the largest with probability the mean of (1 - e^-x)^2."""
    mixing = mixing_of(DirichletWeights, [0.0, 0.0, 1.0], [1.0, 0.0, -1.0])
    probabilities = choice_probabilities(mixing)["cell"]
    expected = torch.tensor([7 / 36, 7 / 36, 1 - 2 / 4 + 1 / 9]).double()  # the mean weights are 1/4, 1/4, 1/2
    torch.testing.assert_close(probabilities[0], expected, rtol=0, atol=1e-7)
    mixing.keep_best(2)
    torch.testing.assert_close(
        choice_probabilities(mixing)["cell"][1], torch.tensor([3 / 4, 1 / 4, 0]).double(), rtol=0, atol=1e-7
    )


def test_an_edge_ends_with_an_option_as_likely_as_its_softmax_weight():
    mixing = mixing_of(SoftmaxWeights, np.log([1.0, 2.0, 5.0]).tolist())
    found = choice_probabilities(mixing)["cell"]
    torch.testing.assert_close(found, torch.tensor([[1 / 8, 2 / 8, 5 / 8]]).double(), rtol=0, atol=1e-7)
    mixing.keep_best(2)
    found = choice_probabilities(mixing)["cell"]
    torch.testing.assert_close(found, torch.tensor([[0, 2 / 7, 5 / 7]]).double(), rtol=0, atol=1e-7)


def test_accuracies_that_are_believed_of_two_cells_by_hand():
    """One edge is open, between two options of probabilities 1/4 and 3/4; the others are closed."""
    operations, _ = made_up()
    q = torch.zeros(6, 5)
    q[:, 1], q[0, 1], q[0, 3] = 1, 1 / 4, 3 / 4
    two = [int((operations == torch.tensor([first, *[1] * 5])).all(1).nonzero()) for first in (1, 3)]
    columns = {}
    for number, short in enumerate(SETS.values()):
        columns[f"{short}_test_200_mean"] = torch.full((len(operations),), 50.0 + number, dtype=torch.float64)
        columns[f"{short}_test_200_mean"][two] = torch.tensor([80.0, 84.0]).double() + number
    row = believed_accuracies(NASBench201((), operations, columns), q)
    quantiles = {"q05": 80, "q25": 80, "q50": 84, "q75": 84, "q95": 84}
    accuracies = {"mean": 83, "mode": 84, "drawn_min": 80, "drawn_max": 84, **quantiles}
    expected = {f"{s}_{name}": value + n for n, s in enumerate(SETS.values()) for name, value in accuracies.items()}
    for short in SETS.values():
        expected |= {f"{short}_sd": 3**0.5, f"{short}_near_best": 3 / 4, f"{short}_best": 3 / 4}
    assert row == pytest.approx(expected, abs=1e-9)
