"""Recurrent networks: the original code's numbers to 1e-9 in float64, its counts exactly, and oracles for the rest."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from depthsearch.cells import (
    GENOTYPES,
    RecurrentGenotype,
    genotype,
    lstm_network,
    random_recurrent_genotype,
    recurrent_network,
    recurrent_search_network,
)
from depthsearch.cells.lstm import lstm_width
from depthsearch.cells.mixture import Mixture, mixture, plain_mixture
from depthsearch.cells.recurrent import N_NODES, OPERATIONS
from depthsearch.learning.text import activation_penalty, temporal_penalty
from depthsearch.native import library

PARITY = Path(__file__).parents[1] / "parity"
COUNTS = json.loads((PARITY / "counts.json").read_text())["darts_rnn"]
EXACT = {"rtol": 0, "atol": 1e-9}


def numbers_of(name):
    with np.load(PARITY / f"{name}.npz", allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    return {key: json.loads(str(a)) if a.dtype.kind == "U" else torch.from_numpy(a) for key, a in arrays.items()}


def fill(network, numbers):
    parameters = list(network.double().parameters())
    assert len(parameters) == sum(key.startswith("param:") for key in numbers)
    with torch.no_grad():
        for i, parameter in enumerate(parameters):
            assert parameter.shape == numbers[f"param:{i:03d}"].shape
            parameter.copy_(numbers[f"param:{i:03d}"])
    return network


def losses(numbers, log_probs, outputs):
    """The original's loss, and the same with its two regularisers."""
    loss = F.nll_loss(log_probs.flatten(0, 1), numbers["y"].flatten())
    penalties = numbers["activation_reg_alpha"] * activation_penalty(outputs)
    return loss, loss + penalties + numbers["activation_reg_beta"] * temporal_penalty(outputs)


@pytest.fixture(params=["darts_rnn", "darts_rnn_search"])
def case(request):
    """The original's numbers, our network with its parameters, what follows x and hidden, and weights if any."""
    numbers = numbers_of(request.param)
    size = numbers["config"]["vocabulary"], numbers["config"]["width"]
    if request.param == "darts_rnn":
        return numbers, fill(recurrent_network(numbers["genotype"], *size), numbers), (), None
    alphas = numbers["weights"].requires_grad_()
    return numbers, fill(recurrent_search_network(*size), numbers), ({"recurrent": alphas.softmax(-1)},), alphas


def test_forward_pass_is_the_original(case):
    numbers, network, weights, _ = case
    log_probs, hidden, outputs = network(numbers["x"], numbers["hidden0"], *weights)
    for name, value in (("log_prob", log_probs), ("hidden", hidden), ("outputs", outputs)):
        torch.testing.assert_close(value, numbers[name], **EXACT)
    for name, value in zip(("loss", "regularised_loss"), losses(numbers, log_probs, outputs), strict=True):
        torch.testing.assert_close(value, numbers[name], **EXACT)


@pytest.mark.parametrize("which", ["", "_regularised"])
@pytest.mark.parametrize("create_graph", [False, True])
def test_every_gradient_is_the_original(case, which, create_graph):
    numbers, network, weights, alphas = case
    log_probs, _, outputs = network(numbers["x"], numbers["hidden0"], *weights)
    loss = losses(numbers, log_probs, outputs)[which != ""]
    wanted = {f"grad{which}:{i:03d}": p for i, p in enumerate(network.parameters())}
    if alphas is not None:
        wanted[f"grad{which}_weights"] = alphas
    gradients = torch.autograd.grad(loss, list(wanted.values()), create_graph=create_graph)
    for name, gradient in zip(wanted, gradients, strict=True):
        torch.testing.assert_close(gradient, numbers[name], **EXACT, msg=lambda m, n=name: f"{n}: {m}")


def test_evaluation_is_the_original(case):
    numbers, network, weights, _ = case
    network(numbers["x"], numbers["hidden0"], *weights)
    if weights:
        norm = network.cell.norm
        torch.testing.assert_close(norm.running_mean, numbers["running_mean"], **EXACT)
        torch.testing.assert_close(norm.running_var, numbers["running_var"], **EXACT)
        assert int(norm.num_batches_tracked) == int(numbers["batches_tracked"])
    log_probs, hidden, _ = network.eval()(numbers["x"], numbers["hidden0"], *weights)
    torch.testing.assert_close(log_probs, numbers["eval_log_prob"], **EXACT)
    torch.testing.assert_close(hidden, numbers["eval_hidden"], **EXACT)


def test_derived_cell_is_the_original():
    numbers = numbers_of("darts_rnn_search")
    space = recurrent_search_network(11, 6)
    assert space.choices == {"recurrent": (36, 5)} and tuple(numbers["primitives"]) == OPERATIONS
    derived = space.derive({"recurrent": numbers["weights"].softmax(-1)})
    assert derived == genotype(numbers["genotype"])


def test_the_space_that_has_chosen_is_the_network_of_the_genotype():
    torch.manual_seed(0)
    chosen = random_recurrent_genotype(3)
    network, space = recurrent_network(chosen, 7, 5).double(), recurrent_search_network(7, 5).double()
    space.cell.norm = torch.nn.Identity()
    space.load_state_dict(network.state_dict())
    weights = torch.zeros(36, 5, dtype=torch.float64)
    for node, (name, state) in enumerate(chosen.recurrent, start=1):
        weights[node * (node - 1) // 2 + state, OPERATIONS.index(name)] = 1
    assert space.derive({"recurrent": weights}) == chosen
    x, hidden = torch.randint(7, (4, 3)), torch.randn(1, 3, 5, dtype=torch.float64)
    for ours, theirs in zip(space(x, hidden, {"recurrent": weights}), network(x, hidden), strict=True):
        torch.testing.assert_close(ours, theirs, **EXACT)


@pytest.fixture
def needs_compiler():
    if library("mixture", torch.float64) is None:
        pytest.skip("no C++ compiler")


def test_shapes_that_do_not_belong_together_are_refused_natively_too():
    fitting = [(4, 2), (4, 2, 3, 2), (3, 5), (4, 3, 2)]
    mixture(*map(torch.randn, fitting))
    for wrong, shape in ((1, (3, 2, 3, 2)), (2, (3, 4))):
        with pytest.raises((RuntimeError, ValueError)):
            mixture(*map(torch.randn, [*fitting[:wrong], shape, *fitting[wrong + 1 :]]))


@pytest.mark.usefixtures("needs_compiler")
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("wanted", [(True,) * 4, (True, True, False, True), (False, False, True, False)])
def test_mixture_is_the_plain_one_with_both_derivatives(k, wanted):
    torch.manual_seed(k)
    shapes = (4, 2), (4, 2, k, 2), (k, 5), (4, k, 2)
    inputs = [torch.randn(s, dtype=torch.float64).requires_grad_(w) for s, w in zip(shapes, wanted, strict=True)]
    for ours, plain in zip(Mixture.apply(*inputs), plain_mixture(*inputs), strict=True):
        torch.testing.assert_close(ours, plain, **EXACT)
    assert gradcheck(Mixture.apply, inputs) and gradgradcheck(Mixture.apply, inputs)
    outputs = [
        torch.cat([node.unsqueeze(1), rest], 1) for node, rest in (Mixture.apply(*inputs), plain_mixture(*inputs))
    ]
    grad = torch.randn_like(outputs[0])
    own = [x for x, w in zip(inputs, wanted, strict=True) if w]
    for ours, plain in zip(*(torch.autograd.grad(o, own, grad) for o in outputs), strict=True):
        torch.testing.assert_close(ours, plain, **EXACT)


@pytest.mark.usefixtures("needs_compiler")
def test_mixture_of_inputs_that_are_not_contiguous():
    torch.manual_seed(0)
    shapes = (2, 4), (2, 2, 3, 4), (5, 3), (2, 3, 4)  # each the transpose of what comes in
    wide = [torch.randn(s, dtype=torch.float64).requires_grad_() for s in shapes]

    def turned(*inputs):
        return Mixture.apply(*(x.transpose(0, -1) for x in inputs))

    for ours, plain in zip(turned(*wide), plain_mixture(*(x.transpose(0, -1) for x in wide)), strict=True):
        torch.testing.assert_close(ours, plain, **EXACT)
    assert gradcheck(turned, wide) and gradgradcheck(turned, wide)


@pytest.mark.usefixtures("needs_compiler")
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("width", [32, 37])  # whole vectors, and a rest
def test_mixture_of_wide_states_on_any_number_of_threads(width, dtype, close):
    torch.manual_seed(0)
    shapes = (9, width), (9, 2, 4, width), (4, 5), (9, 4, width)
    inputs = [(3 * torch.randn(s)).to(dtype).requires_grad_() for s in shapes]
    plain, found = plain_mixture(*inputs), []
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        outputs = Mixture.apply(*inputs)
        found.append([*outputs, *torch.autograd.grad(outputs, inputs, [o.detach() for o in plain])])
    torch.set_num_threads(before)
    theirs = [*plain, *torch.autograd.grad(plain, inputs, [o.detach() for o in plain])]
    for one, two, other in zip(*found, theirs, strict=True):
        assert torch.equal(one, two)
        torch.testing.assert_close(one, other, rtol=close, atol=close * max(1, other.detach().abs().max().item()))


@pytest.mark.parametrize(("size", "words", "width"), [("ptb_850", 10000, 850), ("wt2_700", 33278, 700)])
def test_networks_have_the_published_numbers_of_parameters(size, words, width):
    for name in ("DARTS_V1", "DARTS_V2", "ENAS"):
        with torch.device("meta"):
            network = recurrent_network(f"{name}_RNN", words, width)
        assert sum(p.numel() for p in network.parameters()) == COUNTS[size][name]
    assert COUNTS["ptb_850"]["DARTS_V2"] == 22_960_000 and COUNTS["wt2_700"]["DARTS_V2"] == 33_127_878


def test_search_network_has_the_originals_number_of_weights():
    with torch.device("meta"):
        space = recurrent_search_network(10000, 300)
    assert sum(p.numel() for p in space.parameters()) == COUNTS["search_ptb_300"]["weights"]
    assert COUNTS["search_ptb_300"]["architecture_parameters"] == 36 * 5


@pytest.mark.parametrize("make", [recurrent_search_network, lambda *a: recurrent_network("ENAS_RNN", *a), lstm_network])
def test_every_parameter_learns_and_one_call_is_two_that_hand_on_the_state(make):
    torch.manual_seed(0)
    network = make(9, 5).double()
    weights = [{"recurrent": torch.rand(36, 5, dtype=torch.float64).softmax(-1)}] if hasattr(network, "choices") else []
    x = torch.randint(9, (6, 4))
    log_probs, hidden, outputs = network(x, network.initial_hidden(4), *weights)
    assert (
        log_probs.shape == (6, 4, 9) and outputs.shape == (6, 4, 5) and hidden.shape == network.initial_hidden(4).shape
    )
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(6, 4, dtype=torch.float64))
    F.nll_loss(log_probs.flatten(0, 1), x.roll(-1, 0).flatten()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    first, between, _ = network(x[:2], network.initial_hidden(4), *weights)
    second, after, _ = network(x[2:], between, *weights)
    torch.testing.assert_close(torch.cat([first, second]), log_probs, **EXACT)
    torch.testing.assert_close(after, hidden, **EXACT)
    copy = make(9, 5).double()
    copy.load_state_dict(network.state_dict())
    both = [n.eval()(x, n.initial_hidden(4), *weights)[0] for n in (network, copy)]
    torch.testing.assert_close(*both, rtol=0, atol=0)


def test_lstm_is_that_of_torch():
    torch.manual_seed(0)
    network = lstm_network(9, 5).double()
    theirs = torch.nn.LSTM(5, 5).double()
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(network.cell.of_x)
        theirs.weight_hh_l0.copy_(network.cell.of_h)
        theirs.bias_ih_l0.copy_(network.cell.bias)
        theirs.bias_hh_l0.zero_()
    x, hidden = torch.randint(9, (6, 3)), torch.randn(2, 3, 5, dtype=torch.float64)
    log_probs, after, outputs = network(x, hidden)
    expected, (h, c) = theirs(network.embedding[x], (hidden[:1], hidden[1:]))
    torch.testing.assert_close(outputs, expected, **EXACT)
    torch.testing.assert_close(after, torch.cat([h, c]), **EXACT)
    torch.testing.assert_close(
        log_probs, (expected @ network.embedding.T + network.decoder.bias).log_softmax(-1), **EXACT
    )


@pytest.mark.parametrize("n_parameters", [22_960_000, 33_127_878, 20])
def test_lstm_of_a_number_of_parameters(n_parameters):
    words = 10000 if n_parameters > 20 else 3
    sizes = []
    for width in (lstm_width(words, n_parameters) + d for d in (-1, 0, 1)):
        with torch.device("meta"):
            sizes.append(sum(p.numel() for p in lstm_network(words, max(width, 1)).parameters()))
    off = [abs(size - n_parameters) for size in sizes]
    assert min(off) == off[1]


def test_random_cells_are_seeded_and_cover_the_space():
    cells = [random_recurrent_genotype(seed) for seed in range(200)]
    assert cells == [random_recurrent_genotype(seed) for seed in range(200)] and len(set(cells)) > 195
    assert all(len(cell.recurrent) == N_NODES and cell.concat == tuple(range(1, 9)) for cell in cells)
    for node in range(N_NODES):
        chosen = {cell.recurrent[node] for cell in cells}
        assert {state for _, state in chosen} == set(range(node + 1)) and len({name for name, _ in chosen}) == 4


def test_penalties():
    outputs = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    squares = [float(v) ** 2 for v in outputs.flatten()]
    steps = [float(outputs[t + 1, b, i] - outputs[t, b, i]) ** 2 for t in range(2) for b in range(2) for i in range(4)]
    assert float(activation_penalty(outputs)) == pytest.approx(sum(squares) / 24, abs=1e-12)
    assert float(temporal_penalty(outputs)) == pytest.approx(sum(steps) / 16, abs=1e-12)
    assert float(temporal_penalty(outputs[:1])) == 0


def test_what_is_wrong_is_said():
    network, space = recurrent_network("DARTS_V2_RNN", 9, 5), recurrent_search_network(9, 5)
    with pytest.raises(ValueError, match="a recurrent cell is needed"):
        recurrent_network("DARTS_V2", 9, 5)
    with pytest.raises(ValueError, match="unknown activation 'swish'"):
        recurrent_network({"recurrent": [["swish", 0]], "concat": [1]}, 9, 5)
    for sizes in ((0, 5), (9, 0), (9, -1)):
        for make in (recurrent_search_network, lstm_network, lambda *a: recurrent_network("ENAS_RNN", *a)):
            with pytest.raises(ValueError, match="must be positive"):
                make(*sizes)
    for p in (-0.1, 1, float("nan")):
        with pytest.raises(ValueError, match="dropouti is the probability of dropping"):
            recurrent_search_network(9, 5, dropouti=p)
    with pytest.raises(TypeError, match="dropuot"):
        recurrent_search_network(9, 5, dropuot=0.1)
    for x, hidden in (
        (torch.zeros(3, 2, dtype=torch.long), torch.zeros(1, 3, 5)),
        (torch.zeros(0, 2), torch.zeros(1, 2, 5)),
    ):
        with pytest.raises(ValueError, match="need words"):
            network(x, hidden)
    for weights in ({}, {"recurrent": torch.zeros(36, 4)}, {"cell": torch.zeros(36, 5)}):
        with pytest.raises(ValueError, match="mixing weights of the shapes"):
            space(torch.zeros(3, 2, dtype=torch.long), torch.zeros(1, 2, 5), weights)
        with pytest.raises(ValueError, match="mixing weights of the shapes"):
            space.derive(weights)
    with pytest.raises(ValueError, match="or more cannot have 3"):
        lstm_width(10, 3)


def test_concat_chooses_the_nodes_of_the_output():
    torch.manual_seed(0)
    edges = (("tanh", 0), ("relu", 1), ("sigmoid", 1), ("identity", 0))
    networks = [recurrent_network(RecurrentGenotype(edges, concat), 9, 5).double() for concat in ((1, 3), (1,), (3,))]
    for network in networks[1:]:
        network.load_state_dict(networks[0].state_dict())
    x, hidden = torch.randint(9, (1, 4)), torch.randn(1, 4, 5, dtype=torch.float64)
    both, one, three = (network(x, hidden)[2] for network in networks)
    torch.testing.assert_close(both, (one + three) / 2, **EXACT)
    assert {name for name, g in GENOTYPES.items() if isinstance(g, RecurrentGenotype)} >= {"ENAS_RNN"}
