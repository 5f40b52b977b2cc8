"""NAS-Bench-201's networks are the original's, to 1e-9 in float64, and so are the published counts."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Dirichlet

from depthsearch.cells import nasbench201_network, nasbench201_search_network
from depthsearch.learning.bilevel import Bilevel, first_order
from depthsearch.learning.mixing import DirichletWeights

PARITY = Path(__file__).parent.parent / "parity"
COUNTS = json.loads((PARITY / "counts.json").read_text())
EXACT = {"rtol": 0, "atol": 1e-9}


def read(name):
    with np.load(PARITY / name, allow_pickle=False) as file:
        return {k: file[k].item() if file[k].dtype.kind == "U" else torch.from_numpy(file[k]) for k in file.files}


def load(network, numbers, prefix=""):
    """Parameters by position; all of them are given."""
    parameters = list(network.double().parameters())
    given = [numbers[key] for key in sorted(k for k in numbers if k.startswith(f"{prefix}param:"))]
    assert len(parameters) == len(given)
    for parameter, value in zip(parameters, given, strict=True):
        assert parameter.shape == value.shape
        parameter.data.copy_(value)
    return network


def assert_gradients(network, numbers, prefix=""):
    for position, parameter in enumerate(network.parameters()):
        torch.testing.assert_close(parameter.grad, numbers[f"{prefix}grad:{position:03d}"], **EXACT)


@pytest.fixture
def numbers():
    return read("nb201_search.npz")


def test_search_network(numbers):
    space = load(nasbench201_search_network(channels=4, cells=1), numbers)
    mix = numbers["mix"].clone().requires_grad_()
    logits = space(numbers["x"], {"cell": mix})
    loss = F.cross_entropy(logits, numbers["y"])
    loss.backward()
    torch.testing.assert_close(logits, numbers["logits"], **EXACT)
    torch.testing.assert_close(loss, numbers["loss"], **EXACT)
    torch.testing.assert_close(mix.grad, numbers["grad_mix"], **EXACT)
    assert_gradients(space, numbers)
    torch.testing.assert_close(space.norm.running_var, numbers["running_var_last"], **EXACT)
    torch.testing.assert_close(space.eval()(numbers["x"], {"cell": mix}), numbers["eval_logits"], **EXACT)
    assert space.derive({"cell": numbers["alpha"]}) == numbers["architecture"]


def test_the_gradient_of_alpha_and_both_regularisers_through_a_draw_held_fixed(numbers, monkeypatch):
    class Given(Dirichlet):
        def rsample(self, sample_shape=()):
            return Held.apply(numbers["mix"], self.concentration)

    monkeypatch.setattr("depthsearch.learning.mixing.Dirichlet", Given)
    space, scale = load(nasbench201_search_network(channels=4, cells=1), numbers), float(numbers["reg_scale"])
    mixing = DirichletWeights(space.choices).double()
    mixing.alphas["cell"].copy_(numbers["alpha"])

    def loss(weights):
        return F.cross_entropy(space(numbers["x"], weights), numbers["y"])

    problem = Bilevel(space, mixing, loss, loss)
    value, plain = first_order(problem)
    torch.testing.assert_close(value, numbers["loss"], **EXACT)
    torch.testing.assert_close(value + scale * mixing.kl(), numbers["loss_with_kl"], **EXACT)
    torch.testing.assert_close(plain["cell"], numbers["grad_alpha"], **EXACT)
    _, with_kl = first_order(problem, regulariser=scale)
    torch.testing.assert_close(with_kl["cell"], numbers["grad_alpha_with_kl"], **EXACT)
    mixing.descend(plain, 0.1, weight_decay=scale, betas=(0.0, 0.999))  # L2; without momentum Adam's moment is descent
    with_l2 = numbers["grad_alpha"] + numbers["grad_alpha_l2_regulariser"]
    torch.testing.assert_close(mixing.state_dict()["_of.cell.moment"], with_l2, **EXACT)


class Held(torch.autograd.Function):
    """A Dirichlet draw with torch's pathwise derivative, at a value that is given."""

    @staticmethod
    def forward(ctx, draw, concentration):
        ctx.save_for_backward(draw, concentration)
        return draw.clone()

    @staticmethod
    def backward(ctx, grad):
        draw, concentration = ctx.saved_tensors
        total = concentration.sum(-1, keepdim=True).expand_as(concentration)
        grad_of_draw = torch._dirichlet_grad(draw, concentration, total)
        return None, grad_of_draw * (grad - (draw * grad).sum(-1, keepdim=True))


@pytest.mark.parametrize("which", ["net0:", "net1:"])
def test_stand_alone_networks(which):
    numbers = read("nb201_network.npz")
    network = load(nasbench201_network(numbers[f"{which}architecture"], channels=4, cells=1), numbers, which)
    logits = network(numbers["x"])
    loss = F.cross_entropy(logits, numbers["y"])
    loss.backward()
    torch.testing.assert_close(logits, numbers[f"{which}logits"], **EXACT)
    torch.testing.assert_close(loss, numbers[f"{which}loss"], **EXACT)
    assert_gradients(network, numbers, which)
    torch.testing.assert_close(network.eval()(numbers["x"]), numbers[f"{which}eval_logits"], **EXACT)


@pytest.mark.parametrize("partial", [1, 2, 4])
def test_counts_of_the_search_network(partial):
    counts = COUNTS["drnas_201_search_C16_N5"][f"k{partial}"]
    space = nasbench201_search_network(partial=partial)
    sizes = [parameter.numel() for parameter in space.parameters()]
    rows, columns = space.choices["cell"]
    assert (sum(sizes), len(sizes), rows * columns) == (
        counts["weights"],
        counts["tensors"],
        counts["architecture_parameters"],
    ) and counts["weights"] + rows * columns == counts["parameters_method"]


@pytest.mark.parametrize("name", COUNTS["nas_bench_201_network_C16_N5"])
def test_counts_of_the_stand_alone_networks(name):
    counts = COUNTS["nas_bench_201_network_C16_N5"][name]
    with torch.device("meta"):
        networks = {n: nasbench201_network(counts["architecture"], n_classes=n) for n in (10, 100, 120)}
        for n_classes, network in networks.items():
            assert sum(p.numel() for p in network.parameters()) == counts[f"classes_{n_classes}"]
        assert multiply_adds(networks[10], torch.empty(1, 3, 32, 32)) == counts["multiply_adds_32x32"]


def multiply_adds(network, x):
    """Of convolutions and linear layers, for one image."""
    found = []

    def count(module, _, out):
        if isinstance(module, torch.nn.Conv2d):
            found.append(out[0].numel() * module.weight[0].numel())
        elif isinstance(module, torch.nn.Linear):
            found.append(module.weight.numel())

    for module in network.modules():
        module.register_forward_hook(count)
    network.eval()(x)
    return sum(found)
