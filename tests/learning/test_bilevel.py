"""Gradients of the validation loss in alpha: numeric derivatives, autograd by hand, and the originals' numbers."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import HERE, load
from torch import nn

from depthsearch.cells import darts_search_network, recurrent_search_network
from depthsearch.depth.networks import stack_modules
from depthsearch.learning import bilevel
from depthsearch.learning.architect import Architect
from depthsearch.learning.bilevel import Bilevel, LookAhead, exact_second_order, first_order, second_order
from depthsearch.learning.mixing import DirichletWeights, SoftmaxWeights


class Smooth(nn.Module):
    """A space with two choices and smooth operations, with dropout and a batch norm."""

    choices = {"first": (1, 3), "second": (2, 2)}  # noqa: RUF012

    def __init__(self, dropout=0.0):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.norm, self.dropout = nn.BatchNorm1d(4), nn.Dropout(dropout)

    def forward(self, x, weights):
        first, second = weights["first"][0], weights["second"]
        h = self.layers[0](x)
        h = first[0] * h.tanh() + first[1] * h.sigmoid() + first[2] * h
        h = self.dropout(self.norm(h))
        h = sum(row[0] * layer(h).tanh() + row[1] * h for row, layer in zip(second, self.layers[1:], strict=True))
        return h


def batch(seed, n=16):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 4, generator=generator, dtype=torch.float64), torch.randint(4, (n,), generator=generator)


def smooth_problem(kind=SoftmaxWeights, dropout=0.0, seed=0):
    torch.manual_seed(seed)
    network, mixing = Smooth(dropout).double(), kind(Smooth.choices).double()
    for alpha in mixing.alphas.values():
        alpha.copy_(torch.randn(alpha.shape))

    def loss_on(number):
        x, y = batch(number)
        return lambda weights: F.cross_entropy(network(x, weights), y)

    return Bilevel(network, mixing, loss_on(1), loss_on(2))


def look_ahead(network, clip=None, faithful=False, scale=0.1):
    generator = torch.Generator().manual_seed(9)
    velocity = {n: scale * torch.randn(p.shape, generator=generator).double() for n, p in network.named_parameters()}
    return LookAhead(0.3, 0.9, 0.01, velocity, clip, faithful)


def numeric(problem, value, h=1e-5):
    """Central differences of value() in every entry of alpha."""
    found = {}
    for name, alpha in problem.mixing.alphas.items():
        found[name] = torch.zeros_like(alpha)
        for index in np.ndindex(*alpha.shape):
            before, sides = alpha[index].item(), []
            for sign in (1, -1):
                alpha[index] = before + sign * h
                sides.append(value())
            alpha[index] = before
            found[name][index] = (sides[0] - sides[1]) / (2 * h)
    return found


def after_the_step(problem, ahead, seed=None):
    """The validation loss after a real step of SGD on a copy, written anew."""

    def value():
        if seed is not None:
            torch.manual_seed(seed)
        before = {k: v.clone() for k, v in problem.network.state_dict().items()}
        parameters = dict(problem.network.named_parameters())
        gradients = torch.autograd.grad(problem.train_loss(problem.mixing.draw()), list(parameters.values()))
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        c = 1.0 if ahead.clip is None else min(1.0, ahead.clip / (norm + 1e-6))
        with torch.no_grad():
            for (name, w), g in zip(parameters.items(), gradients, strict=True):
                w -= ahead.rate * (ahead.momentum * ahead.velocity[name] + c * g + ahead.weight_decay * w)
            result = problem.valid_loss(problem.mixing.draw()).item()
        problem.network.load_state_dict(before)
        return result

    return value


def assert_all_close(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], **tolerance)


def distance(found, expected):
    difference, size = (
        torch.cat([t.flatten() for t in x]).norm()
        for x in ([found[k] - expected[k] for k in found], list(expected.values()))
    )
    return (difference / size).item()


@pytest.mark.parametrize("clip", [None, 0.05, 50.0])
@pytest.mark.parametrize("kind", [SoftmaxWeights, DirichletWeights])
def test_exact_is_the_numeric_derivative_of_the_loss_after_the_step(kind, clip):
    problem = smooth_problem(kind)
    ahead = look_ahead(problem.network, clip)
    if kind is DirichletWeights:  # its mean is smooth in alpha; draws are not continuous functions of a seed
        problem.mixing.draw = lambda generators=(): problem.mixing.mean()
    value, found = exact_second_order(problem, ahead)
    ask = after_the_step(problem, ahead)
    assert value.item() == pytest.approx(ask(), abs=1e-12)
    assert_all_close(found, numeric(problem, ask), rtol=1e-6, atol=1e-8)


def test_finite_difference_equals_double_differentiation_with_smooth_activations(monkeypatch):
    problem = smooth_problem()
    ahead = look_ahead(problem.network)
    _, exact = exact_second_order(problem, ahead)
    value, found = second_order(problem, ahead)
    _, first = first_order(problem)
    assert value.item() == pytest.approx(after_the_step(problem, ahead)(), abs=1e-12)
    assert distance(found, exact) < 1e-4, "at the published half-width"
    assert distance(first, exact) > 0.05, "so the second order is worth a test"
    monkeypatch.setattr(bilevel, "HALF_WIDTH", 1e-6)
    assert_all_close(second_order(problem, ahead)[1], exact, rtol=0, atol=1e-9)


def test_what_the_benchmark_sets_beside_the_gradients():
    benchmark = load("second_order", "", HERE.parent / "benchmarks")
    problem = smooth_problem()
    ahead = look_ahead(problem.network)
    ask = after_the_step(problem, ahead)
    for reach in (1e-5, 0.3):
        assert_all_close(benchmark.slopes(problem, ahead, reach), numeric(problem, ask, reach), rtol=0, atol=1e-9)
    still = LookAhead(0.0)  # a step of no length: nothing to correct
    assert_all_close(benchmark.without_correction(problem, still), first_order(problem)[1], rtol=0, atol=1e-12)
    _, exact = exact_second_order(problem, ahead)
    rest = benchmark.without_correction(problem, ahead)
    rows = {row["way"]: row for row in benchmark.compared(problem, ahead, reach=1e-5)}
    assert rows["exact"]["share"] == pytest.approx(distance(exact, rest))
    assert rows["exact"]["to the slope"] == pytest.approx(1, abs=1e-7)
    assert rows["0.01 / |v|"]["size"] == pytest.approx(1, abs=1e-3)  # its activations are smooth
    assert rows["no correction"]["to the slope"] < 0.9995


def test_first_order_is_the_numeric_derivative_at_the_present_weights():
    problem = smooth_problem()
    value, found = first_order(problem)
    assert value.item() == problem.valid_loss(problem.mixing.mean()).item()
    assert_all_close(
        found, numeric(problem, lambda: problem.valid_loss(problem.mixing.mean()).item()), atol=1e-8, rtol=0
    )


def test_clipping_caps_the_coefficient_and_the_original_does_not(monkeypatch):
    """Clipped or not, as its c g is; the finite difference is along a clipped direction, so is its product."""
    monkeypatch.setattr(bilevel, "HALF_WIDTH", 1e-6)
    problem = smooth_problem()
    loose, none = look_ahead(problem.network, clip=50.0), look_ahead(problem.network)
    assert_all_close(second_order(problem, loose)[1], second_order(problem, none)[1], rtol=0, atol=1e-9)
    w = list(problem.network.parameters())
    gradients = torch.autograd.grad(problem.train_loss(problem.mixing.mean()), w)
    c = 50.0 / (torch.cat([g.flatten() for g in gradients]).norm() + 1e-6)
    _, capped = second_order(problem, loose)
    _, wrong = second_order(problem, look_ahead(problem.network, clip=50.0, faithful=True))
    direct = direct_part(problem, none)
    for name, total in capped.items():
        torch.testing.assert_close(wrong[name] - direct[name], c * (total - direct[name]), rtol=1e-6, atol=1e-7)


def direct_part(problem, ahead):
    """The gradient in alpha alone at w'."""
    parameters = dict(problem.network.named_parameters())
    gradients = torch.autograd.grad(problem.train_loss(problem.mixing.mean()), list(parameters.values()))
    before = {k: v.clone() for k, v in problem.network.state_dict().items()}
    with torch.no_grad():
        for (name, w), g in zip(parameters.items(), gradients, strict=True):
            w -= ahead.rate * (ahead.momentum * ahead.velocity[name] + g + ahead.weight_decay * w)
    _, found = first_order(problem)
    problem.network.load_state_dict(before)
    return found


@pytest.mark.parametrize("kind", [SoftmaxWeights, DirichletWeights])
def test_both_passes_see_the_random_numbers_of_the_step(kind, monkeypatch):
    """Under dropout and draws the finite difference is the double differentiation with the same ones."""
    monkeypatch.setattr(bilevel, "HALF_WIDTH", 1e-6)
    problem = smooth_problem(kind, dropout=0.5)
    ahead = look_ahead(problem.network)
    torch.manual_seed(3)
    _, exact = exact_second_order(problem, ahead)
    after_exact = torch.rand(4)
    torch.manual_seed(3)
    _, found = second_order(problem, ahead)
    assert torch.equal(torch.rand(4), after_exact), "what comes next is drawn anew"
    assert_all_close(found, exact, rtol=1e-6, atol=1e-8)
    torch.manual_seed(3)
    _, wrong = second_order(problem, look_ahead(problem.network, faithful=True))
    assert distance(wrong, exact) > 1, "two masks instead of one: noise over twice the half-width"
    if kind is SoftmaxWeights:
        assert_all_close(exact, numeric(problem, after_the_step(problem, ahead, seed=3)), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("gradient", [second_order, exact_second_order])
def test_the_network_is_left_as_it_was(gradient):
    problem = smooth_problem(dropout=0.2)
    problem.network(batch(5)[0], problem.mixing.mean())  # running statistics that are not the first ones
    before = {k: v.clone() for k, v in problem.network.state_dict().items()}
    pointers = [p.data_ptr() for p in problem.network.parameters()]
    gradient(problem, look_ahead(problem.network))
    assert all(torch.equal(before[k], v) for k, v in problem.network.state_dict().items())
    assert pointers == [p.data_ptr() for p in problem.network.parameters()]
    assert not any(a.requires_grad for a in problem.mixing.alphas.values())


@pytest.mark.parametrize("gradient", [first_order, second_order, exact_second_order])
def test_the_regulariser_adds_its_gradient(gradient):
    problem = smooth_problem(DirichletWeights)
    ahead = look_ahead(problem.network)
    results = []
    for regulariser in (0.0, 0.7):
        torch.manual_seed(0)
        results.append((problem, regulariser) if gradient is first_order else (problem, ahead, regulariser))
        torch.manual_seed(0)
        results[-1] = gradient(*results[-1])
    (value, plain), (same, with_kl) = results
    assert value == same
    of_kl = numeric(problem, lambda: problem.mixing.kl().item())
    assert_all_close(
        {k: with_kl[k] - plain[k] for k in plain}, {k: 0.7 * v for k, v in of_kl.items()}, rtol=0, atol=1e-7
    )


def test_networks_side_by_side_are_each_as_alone():
    """R networks, losses (R,): every gradient is that of the network alone, the norms of the difference are its own."""
    torch.manual_seed(0)
    alone = [nn.Linear(3, 2).double() for _ in range(4)]
    mixings = [SoftmaxWeights({"depth": (1, 2)}, torch.Generator().manual_seed(r)).double() for r in range(4)]
    for mixing in mixings:
        mixing.alphas["depth"].mul_(1000)
    x, t = torch.randn(2, 8, 3).double(), torch.randn(2, 8, 2).double()

    def losses(linear):
        def on(half):
            def loss(weights):
                h = x[half] @ linear.weight.mT + linear.bias.unsqueeze(-2)
                w = weights["depth"].squeeze(-2)
                out = w[..., :1, None] * h.tanh() + w[..., 1:, None] * h
                return (out - t[half]).square().mean((-1, -2))

            return loss

        return on

    together = stack_modules(alone)
    mixing = stack_modules(mixings)
    problem = Bilevel(together, mixing, losses(together)(0), losses(together)(1))
    velocity = {name: torch.randn_like(p) for name, p in together.named_parameters()}
    for gradient in (second_order, exact_second_order):
        value, found = gradient(problem, LookAhead(0.2, 0.5, 0.1, velocity, clip=0.3))
        assert value.shape == (4,)
        for r, (network, own) in enumerate(zip(alone, mixings, strict=True)):
            single = Bilevel(network, own, losses(network)(0), losses(network)(1))
            ahead = LookAhead(0.2, 0.5, 0.1, {name: v[r] for name, v in velocity.items()}, clip=0.3)
            expected_value, expected = gradient(single, ahead)
            torch.testing.assert_close(value[r], expected_value)
            torch.testing.assert_close(found["depth"][r], expected["depth"], rtol=1e-9, atol=1e-12)


def test_looking_ahead_is_the_step_that_the_optimiser_takes():
    problem = smooth_problem()
    optimiser = torch.optim.SGD(problem.network.parameters(), lr=0.2, momentum=0.9, weight_decay=0.03)
    for _ in range(3):
        ahead = LookAhead.of(optimiser, problem.network)
        value, _ = second_order(problem, ahead)
        optimiser.zero_grad()
        problem.train_loss(problem.mixing.mean()).backward()
        optimiser.step()
        assert value.item() == pytest.approx(problem.valid_loss(problem.mixing.mean()).item(), abs=1e-12)


def test_an_architect_takes_the_order_that_it_is_told():
    class Plain(Architect):
        def mixing(self, choices, generator=None):
            return SoftmaxWeights(choices, generator)

    problem = smooth_problem()
    ahead = look_ahead(problem.network)
    for order, gradient in ((1, lambda p, a: first_order(p)), (2, second_order), ("exact", exact_second_order)):
        assert_all_close(Plain(order=order).gradients(problem, ahead)[1], gradient(problem, ahead)[1], rtol=0, atol=0)
    before = {name: alpha.clone() for name, alpha in problem.mixing.alphas.items()}
    value = Plain(learning_rate=0.1).learn(problem, ahead)
    assert value.item() == problem.valid_loss(SoftmaxWeightsOf(before)).item()
    assert all(((problem.mixing.alphas[k] - before[k]).abs() > 0.09).all() for k in before)  # Adam's first step
    with pytest.raises(ValueError, match="order must be one of 1, 2, exact; got 3"):
        Plain(order=3)


def SoftmaxWeightsOf(alphas):
    return {name: alpha.softmax(-1) for name, alpha in alphas.items()}


# The originals.


def numbers(name):
    with np.load(HERE / "parity" / f"{name}.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files if file[key].dtype.kind in "fi"}


def put_into(network, z):
    with torch.no_grad():
        for i, p in enumerate(network.parameters()):
            p.copy_(z[f"param:{i:03d}"])
    return network


CLOSE = {"rtol": 0, "atol": 1e-9}


@pytest.mark.slow
@pytest.mark.parametrize("momentum", ["zero_momentum", "with_momentum"])
def test_second_order_of_darts_is_the_originals(momentum):
    z = numbers("darts_second_order")
    network = put_into(darts_search_network(channels=2, layers=4, n_classes=10).double(), z)
    mixing = SoftmaxWeights(network.choices).double()
    for name, alpha in mixing.alphas.items():
        alpha.copy_(z[f"alphas_{name}"])
    half = {h: lambda w, h=h: F.cross_entropy(network(z[f"x_{h}"], w), z[f"y_{h}"]) for h in ("train", "valid")}
    problem = Bilevel(network, mixing, half["train"], half["valid"])
    value, first = first_order(problem)
    torch.testing.assert_close(value, z["valid_loss"], **CLOSE)
    buffers = {name: z[f"momentum_buffer:{i:03d}"] for i, (name, _) in enumerate(network.named_parameters())}
    velocity = buffers if momentum == "with_momentum" else {}
    ahead = LookAhead(*(z[k].item() for k in ("eta", "momentum", "weight_decay")), velocity)
    value, second = second_order(problem, ahead)
    torch.testing.assert_close(value, z[f"{momentum}:virtual_valid_loss"], **CLOSE)
    value, exact = exact_second_order(problem, ahead)
    for name in network.choices:
        torch.testing.assert_close(first[name], z[f"first_order_{name}"], **CLOSE)
        torch.testing.assert_close(second[name], z[f"{momentum}:{name}"], **CLOSE)
        correction = z["eta"] * (z[f"{momentum}:exact_hvp_{name}"] - z[f"{momentum}:hvp_{name}"])
        torch.testing.assert_close(exact[name], z[f"{momentum}:{name}"] - correction, **CLOSE)


@pytest.mark.parametrize("clipping", ["clipped", "unclipped"])
def test_second_order_of_the_recurrent_space_is_the_originals(clipping):
    z = numbers("darts_rnn_second_order")
    space = put_into(recurrent_search_network(11, 6).double(), z)
    mixing = SoftmaxWeights(space.choices).double()
    mixing.alphas["recurrent"].copy_(z["weights"])

    def loss_on(half):
        def loss(weights):
            log_probs, hidden, _ = space(z[f"x_{half}"], z[f"hidden_{half}"], weights)
            loss.hidden = hidden
            return F.nll_loss(log_probs.flatten(0, 1), z[f"y_{half}"].flatten())

        return loss

    problem = Bilevel(space, mixing, loss_on("train"), loss_on("valid"))
    torch.testing.assert_close(first_order(problem)[1]["recurrent"], z["first_order"], **CLOSE)
    clip = z[f"{clipping}:clip"].item()
    options = {"weight_decay": z["weight_decay"].item(), "clip": clip, "tied": ("embedding",)}
    ahead = LookAhead(z["eta"].item(), faithful=True, **options)
    _, second = second_order(problem, ahead)
    torch.testing.assert_close(second["recurrent"], z[f"{clipping}:weights"], **CLOSE)
    torch.testing.assert_close(problem.valid_loss.hidden, z[f"{clipping}:hidden_valid_next"], **CLOSE)
    gradients = torch.autograd.grad(problem.train_loss(mixing.mean()), list(space.parameters()))
    norm = torch.stack([g.norm() for g in gradients]).norm()
    torch.testing.assert_close(ahead.coefficient(norm), z[f"{clipping}:clip_coef"], **CLOSE)
    moved = ahead.moved(dict(space.named_parameters()), gradients, norm)
    for i, w in enumerate(moved):
        torch.testing.assert_close(w, z[f"{clipping}:virtual:{i:03d}"], **CLOSE)
    corrected = LookAhead(z["eta"].item(), **options)
    moved = corrected.moved(dict(space.named_parameters()), gradients, norm)
    assert (moved[0] - z[f"{clipping}:virtual:000"]).abs().max() > 1e-4, "the embedding moves"
    _, ours = second_order(problem, corrected)
    assert (ours["recurrent"] - z[f"{clipping}:weights"]).abs().max() > 1e-6
    if clipping == "unclipped":
        _, exact = exact_second_order(problem, corrected)
        assert distance(ours, exact) < distance(second, exact)


def test_parity_files_say_what_is_tested():
    config = json.loads(str(np.load(HERE / "parity" / "darts_second_order.npz")["config"]))
    assert config["r"] == bilevel.HALF_WIDTH
