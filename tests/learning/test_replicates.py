"""A step of networks side by side, of modules or in C++, against autograd on the modules, tested in test_networks."""

import copy
from dataclasses import dataclass

import pytest
import torch

from depthsearch import CategoricalDepth, FixedDepth, conv_resnet, elbo, geometric_prior, log_predictive, mlp_resnet
from depthsearch.data.split import Split
from depthsearch.depth.networks import MLPNetwork, stack_modules
from depthsearch.depth.objectives import log_likelihood, marginal_likelihood
from depthsearch.learning.loop import train
from depthsearch.learning.method import Method, Training
from depthsearch.learning.replicates import Replicates
from depthsearch.native import library
from depthsearch.strategies.bayesian import ExactPosterior, MarginalLikelihood, Normal, Poisson, VariedDepth


def flat(tensors):
    return torch.cat([t.detach().flatten(1) for t in tensors], 1)


@pytest.mark.parametrize(
    ("max_depth", "learnt", "compiled"),
    [
        (0, 1, 0),
        (1, 1, 0),
        (7, 1, 0),
        (0, 0, 0),
        (7, 0, 0),
        (0, 1, 1),
        (7, 1, 1),
        (0, 0, 1),
        (7, 0, 1),
    ],
)
def test_values_gradients_and_running_statistics(max_depth, learnt, compiled):
    if compiled and library("chain", torch.float64) is None:
        pytest.skip("no C++ compiler")
    torch.manual_seed(0)
    networks = [mlp_resnet(max_depth, 6, n_classes=3).double() for _ in range(3)]
    prior = geometric_prior(max_depth)
    depths = [
        CategoricalDepth(prior, torch.randn(max_depth + 1).double()) if learnt else FixedDepth(max_depth)
        for _ in networks
    ]
    for network in networks:
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    x, y = torch.randn(3, 11, 2).double(), torch.randint(0, 3, (3, 11))
    replicates = Replicates(copy.deepcopy(networks), copy.deepcopy(depths), Training(), bool(compiled))
    start = replicates.state.clone()
    values = replicates.step(x, y, n_train=40)

    network, depth = stack_modules(networks), stack_modules(depths)
    expected = elbo(network(x, min_depth=depth.min_depth), y, depth, 40)
    parameters = [*network.parameters(), *depth.parameters()]
    gradient = flat(torch.autograd.grad(expected.sum(), parameters))
    torch.testing.assert_close(values, expected.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(replicates.velocity, gradient, rtol=1e-9, atol=1e-11)
    n = gradient.shape[1]
    torch.testing.assert_close(replicates.state[:, :n], start[:, :n] + 0.1 * gradient, rtol=1e-9, atol=1e-11)
    statistics = [b for name, b in network.named_buffers() if "running" in name]
    if statistics:
        after = flat(statistics)
        torch.testing.assert_close(replicates.state[:, n:][:, : after.shape[1]], after, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("n", "even", "sizes"),
    [(64, False, [64]), (150, False, [64, 64, 22]), (150, True, [50, 50, 50]), (133, True, [45, 44, 44]),
     (129, False, [64, 65]), (129, True, [43, 43, 43]), (130, False, [64, 64, 2]), (65, True, [33, 32])],
)  # fmt: skip
def test_batches_of_an_epoch(n, even, sizes):
    """A last one of a single point joins the one before: batch norm cannot take it."""
    x, y = torch.randn(2, n, 2), torch.arange(n).expand(2, -1)
    data = Split(x, y, x[:, :0], y[:, :0])
    held = Replicates([mlp_resnet(1), mlp_resnet(1)], [FixedDepth(1)] * 2, Training(batch_size=64, even_batches=even))
    found = list(held.batches(data, [torch.Generator().manual_seed(seed) for seed in range(2)]))
    assert [len(own[0]) for _, own in found] == sizes
    assert held.training.batch_sizes(n) == sizes
    for row in range(2):
        rows = torch.cat([own[row] for _, own in found])
        assert torch.equal(rows.sort().values, torch.arange(n))
        assert torch.equal(torch.cat([points[row] for points, _ in found]), x[row, rows])


def test_even_batches_leave_no_point_alone():
    twos = Training(batch_size=2, even_batches=True)
    assert [twos.batch_sizes(n) for n in (1, 2, 3, 4, 5)] == [[1], [2], [3], [2, 2], [3, 2]]
    assert Training(batch_size=1, even_batches=True).batch_sizes(2) == [1, 1]


def test_fixed_depths_side_by_side_each_learn():
    """The shallowest says from which depth on logits are needed."""
    x, y = torch.randn(20, 2), torch.arange(20) % 2
    alone = {}
    for depths in ((4,), (1,), (4, 1), (1, 4)):
        networks = [mlp_resnet(4) for _ in depths]
        for network in networks:
            network.load_state_dict(networks[0].state_dict() if not alone else alone["start"])
        alone.setdefault("start", copy.deepcopy(networks[0].state_dict()))
        posteriors = [FixedDepth(4, depth) for depth in depths]
        found = train(networks, posteriors, [Split(x, y, x, y)] * len(depths), Training(epochs=5), [0] * len(depths))
        for depth, one in zip(depths, found, strict=True):
            assert one.objective == pytest.approx(alone.setdefault(depth, one.objective), rel=1e-4)
    assert alone[1] != alone[4]


@dataclass(frozen=True)
class Doubled(Method):
    """What somebody might write, who knows nothing of how it is differentiated."""

    def objective(self, log_likelihoods, depth, n_train):
        return 2 * super().objective(log_likelihoods, depth, n_train) + log_likelihoods[0].square()


@dataclass(frozen=True)
class Tempered(Method):
    """Logits other than the network's, which the C++ function knows nothing of."""

    def outputs(self, network, depth, x):
        return super().outputs(network, depth, x) / 2


def test_logits_of_a_methods_own_are_trained_on():
    (values, gradient), (plain, own) = (
        (replicates.gradient(x, y, n_train=40))
        for replicates, x, y in (with_rows(Tempered(), "own", compiled) for compiled in (True, False))
    )
    torch.testing.assert_close((values, gradient), (plain, own), rtol=1e-9, atol=1e-11)


def with_rows(method, depth, compiled):
    """Replicates of one beginning, double precision, a batch, and how often the chain is run forward and back."""
    torch.manual_seed(0)
    networks = [mlp_resnet(5, 6).double() for _ in range(2)]
    depths = [(FixedDepth(5, 3) if depth == "fixed" else method.posterior(5)).double() for _ in networks]
    for parameter in (p for d in depths for p in d.parameters()):
        parameter.data += torch.randn_like(parameter)
    x, y = torch.randn(2, 11, 2).double(), torch.randint(0, 2, (2, 11))
    return Replicates(networks, depths, Training(), compiled, method), x, y


ELBOS = [Method(), ExactPosterior(), Poisson(), Normal(), VariedDepth(3.0, 2.0, 0.5)]


@pytest.mark.parametrize("depth", ["own", "fixed"])
@pytest.mark.parametrize("method", [*ELBOS, MarginalLikelihood(), Doubled()], ids=lambda m: type(m).__name__)
def test_every_method_has_the_same_step_in_cpp_in_one_pass_or_two(method, depth, monkeypatch):
    if library("chain", torch.float64) is None:
        pytest.skip("no C++ compiler")
    passes, counted = [], MLPNetwork.gradient
    monkeypatch.setattr(MLPNetwork, "gradient", lambda *a: passes.append(a) or counted(*a))
    steps = []
    for compiled in (False, True):
        replicates, x, y = with_rows(method, depth, compiled)
        values = replicates.step(x, y, n_train=40)
        steps.append((values, replicates.velocity, replicates.state.nan_to_num()))
    torch.testing.assert_close(*steps, rtol=1e-9, atol=1e-11)
    one_depth = depth == "fixed" and isinstance(method, MarginalLikelihood)  # then the evidence is the ELBO
    assert len(passes) == (1 if method in ELBOS or one_depth else 2)


@pytest.mark.parametrize("method", [Method(), ExactPosterior()], ids=lambda m: type(m).__name__)
def test_what_is_observed_in_cpp_is_what_the_modules_see(method):
    if library("chain", torch.float64) is None:
        pytest.skip("no C++ compiler")
    seen = []
    for compiled in (False, True):
        replicates, x, y = with_rows(method, "own", compiled)
        data = Split(x, y, x + 1, y, x_valid=x, y_valid=y)
        replicates.step(x, y, n_train=40)
        likelihoods, rows = replicates.log_likelihoods(data, "valid"), replicates.observe(data, "test")
        seen.append((likelihoods, [row["test_log_likelihood"] for row in rows], [row["test_error"] for row in rows]))
        replicates.keep([1])
        alone = replicates.log_likelihoods(data.rows([1]), "valid")
        assert torch.equal(alone[:, 0], likelihoods[:, 1]) or not compiled
    torch.testing.assert_close(*seen, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_marginal_likelihood_is_that_of_the_objectives(compiled):
    if compiled and library("chain", torch.float64) is None:
        pytest.skip("no C++ compiler")
    networks, method = [mlp_resnet(7, 6).double() for _ in range(2)], MarginalLikelihood()
    depths = [method.posterior(7).double() for _ in networks]
    x, y = torch.randn(2, 11, 2).double(), torch.randint(0, 2, (2, 11))
    replicates = Replicates(networks, depths, Training(), compiled, method)
    values = replicates.step(x, y, n_train=40)
    network = stack_modules(networks)
    expected = marginal_likelihood(network(x), y, stack_modules(depths), 40)
    gradient = flat(torch.autograd.grad(expected.sum(), list(network.parameters())))
    torch.testing.assert_close(values, expected.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(replicates.velocity, gradient, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("parity", ["mlp"], indirect=True)
def test_parity_with_the_original(parity, compiled):
    numbers, network, depth = parity
    replicates = Replicates([network], [depth], Training(), compiled)
    x, y = numbers["x"][None], numbers["y"][None]
    value, gradient = replicates.gradient(x, y, int(numbers["n_train"]))
    torch.testing.assert_close(value[0], -numbers["objective"], rtol=0, atol=1e-10)
    names = [name for name, _ in network.named_parameters()] + ["q_logits"]
    expected = torch.cat([numbers[f"grad:{name}"].flatten() for name in names])
    torch.testing.assert_close(gradient[0], -expected, rtol=0, atol=1e-10)


def test_an_epoch_is_a_mean_over_points_and_validation_has_the_kl_of_training():
    """Batches of 8 and of 2 points; 3 validation points, whose ELBO is that of 10 to train on."""
    torch.manual_seed(0)
    network, depth = mlp_resnet(2, 4), CategoricalDepth(geometric_prior(2), torch.tensor([1.0, -1.0, 2.0]))
    x, y = torch.randn(1, 10, 2), torch.randint(2, (1, 10))
    data = Split(x, y, x, y, x_valid=x[:, :3], y_valid=y[:, :3])
    replicates = Replicates([network], [depth], Training(batch_size=8, learning_rate=0.0))
    order = torch.randperm(10, generator=torch.Generator().manual_seed(5))
    value = replicates.run_epoch(data, [torch.Generator().manual_seed(5)])
    twin = copy.deepcopy(network).train()
    of_points = [(elbo(twin(x[0, part]), y[0, part], depth, 10).item(), len(part)) for part in order.split(8)]
    assert value.item() == pytest.approx(sum(v * n for v, n in of_points) / 10, abs=1e-6)
    (row,), logits = replicates.observe(data, "valid"), twin.eval()(x[0, :3])
    assert row["valid_elbo"] == pytest.approx(elbo(logits, y[0, :3], depth, 10).item(), abs=1e-5)
    likelihood = log_likelihood(log_predictive(logits, depth), y[0, :3]).mean().item()
    assert row["valid_log_likelihood"] == pytest.approx(likelihood, abs=1e-5)


def test_points_observed_in_parts_are_those_observed_at_once(monkeypatch):
    torch.manual_seed(0)
    networks, depths = [mlp_resnet(2, 4) for _ in range(2)], [CategoricalDepth(geometric_prior(2)) for _ in range(2)]
    x, y = torch.randn(2, 50, 2), torch.randint(2, (2, 50))
    data = Split(x, y, x, y, x_valid=x[:, :20], y_valid=y[:, :20])
    replicates = Replicates(networks, depths, Training())

    def seen():
        rows = [row for which in ("valid", "test") for row in replicates.observe(data, which)]
        return [list(row.values()) for row in rows], replicates.log_likelihoods(data, "train")

    (rows, likelihoods) = seen()
    monkeypatch.setattr("depthsearch.learning.replicates.AT_ONCE", 7)
    (rows_of_parts, of_parts) = seen()
    torch.testing.assert_close(of_parts, likelihoods)
    assert [value for row in rows_of_parts for value in row] == pytest.approx(
        [v for row in rows for v in row], abs=1e-6
    )


def test_the_statistics_of_batch_norm_are_those_of_the_first_batches_of_the_epoch(monkeypatch):
    """And estimating them does not move the order of the next epoch."""
    x = torch.arange(40.0).view(40, 1, 1, 1).expand(40, 1, 8, 8).clone()
    data, seen = Split(x, torch.arange(40) % 2, x, torch.arange(40) % 2), {}
    batches = Replicates.batches

    def recorded(self, data, generators):
        for x, y in batches(self, data, generators):
            rows.append(x[0, :, 0, 0, 0].tolist())
            yield x, y

    monkeypatch.setattr(Replicates, "batches", recorded)
    for n in (0, 2):
        rows: list = []
        network, depth = conv_resnet(1, 1, n_classes=2, outer_width=2, inner_width=2), FixedDepth(1)
        train([network], [depth], [data], Training(epochs=2, batch_size=10, norm_batches=n), [3])
        seen[n] = rows
    first, second = seen[0][:4], seen[0][4:]
    assert seen[2] == [*first, *first[:2], *second, *second[:2]] and first != second


def test_the_error_observed_is_that_of_the_mixture():
    torch.manual_seed(0)
    network, depth = mlp_resnet(2, 4), CategoricalDepth(geometric_prior(2), torch.tensor([5.0, -5.0, -5.0]))
    x, y = torch.randn(1, 400, 2), torch.randint(2, (1, 400))
    for _ in range(5):
        network(x[0])
    (row,) = Replicates([network], [depth], Training()).observe(Split(x, y, x, y), "test")
    with torch.no_grad():
        logits = network.eval()(x[0])
    first, last = ((of.argmax(-1) != y[0]).double().mean().item() for of in (logits[0], logits[-1]))
    assert first != last and row["test_error"] == pytest.approx(first, abs=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_what_is_frozen_stays_as_it_is(compiled):
    torch.manual_seed(0)
    network = mlp_resnet(3, 6).double()
    network.stem.requires_grad_(False)
    replicates = Replicates([network], [CategoricalDepth(geometric_prior(3))], Training(), compiled)
    start = {name: tensor.clone() for name, tensor in replicates.views(replicates.state).items()}
    replicates.step(torch.randn(1, 11, 2).double(), torch.randint(0, 2, (1, 11)), n_train=40)
    same = {name for name, tensor in replicates.views(replicates.state).items() if torch.equal(tensor, start[name])}
    assert same - {"depth.prior_log_probs"} == {"network.stem.weight", "network.stem.bias"}


@pytest.mark.parametrize("max_depth", [3, 5, 10])
def test_batch_norms_of_images_lie_where_kernels_want_them(max_depth):
    depth = CategoricalDepth(geometric_prior(max_depth))
    held = Replicates([conv_resnet(max_depth)], [depth], Training())
    norms = [module for module in held.network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    tensors = [t for norm in norms for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var)]
    assert len(tensors) == 12 * max_depth
    assert not any(t.data_ptr() % 16 for t in tensors)  # bytes: four numbers of float32
    packed = held.flat.packed(held.state)
    assert packed.numel() == sum(t.numel() for t in held.views(held.state).values())
    torch.testing.assert_close(held.flat.spread(packed), held.state, rtol=0, atol=0)
