"""A step of networks side by side, of modules or in C++, against autograd on the modules, tested in test_networks."""

import copy

import pytest
import torch

from depthsearch import CategoricalDepth, FixedDepth, elbo, geometric_prior, mlp_resnet
from depthsearch.depth.networks import stack_modules
from depthsearch.depth.objectives import marginal_likelihood
from depthsearch.learning.method import Training
from depthsearch.learning.replicates import Replicates
from depthsearch.native import library
from depthsearch.strategies.bayesian import MarginalLikelihood


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
        (7, 1, 1),
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


@pytest.mark.parametrize("compiled", [False, True])
def test_the_marginal_likelihood_goes_the_same_way(compiled):
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
