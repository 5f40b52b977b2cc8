"""The search network of the DARTS space is the original code's: numbers to 1e-9 in float64, counts exactly."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from depthsearch.cells import darts_search_network
from depthsearch.cells.darts_search import CELLS, DRNAS_OPERATIONS
from depthsearch.cells.mixed import take_channels
from depthsearch.cells.operations import merge_grids, split_grids

PARITY = Path(__file__).parents[1] / "parity"
COUNTS = json.loads((PARITY / "counts.json").read_text())
EXACT = {"rtol": 0, "atol": 1e-9}


def numbers_of(name):
    with np.load(PARITY / f"{name}.npz", allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    return {key: json.loads(str(a)) if a.dtype.kind == "U" else torch.from_numpy(a) for key, a in arrays.items()}


def fill(network, numbers):
    parameters = list(network.parameters())
    assert len(parameters) == sum(key.startswith("param:") for key in numbers)
    with torch.no_grad():
        for i, parameter in enumerate(parameters):
            assert parameter.shape == numbers[f"param:{i:03d}"].shape
            parameter.copy_(numbers[f"param:{i:03d}"])
    return network


@pytest.fixture
def darts():
    numbers = numbers_of("darts_search")
    config = numbers["config"]
    return fill(darts_search_network(config["C"], config["layers"]).double(), numbers), numbers


@pytest.fixture
def drnas():
    numbers = numbers_of("drnas_search")
    config = numbers["config"]
    space = darts_search_network(config["C"], config["layers"], partial=config["k"], operations=DRNAS_OPERATIONS)
    return fill(space.double(), numbers), numbers


def test_darts_logits_loss_and_every_gradient(darts):
    space, numbers = darts
    assert list(space.operations) == numbers["primitives"]
    alphas = {cell: numbers[f"alphas_{cell}"].requires_grad_() for cell in CELLS}
    logits = space(numbers["x"], {cell: alpha.softmax(1) for cell, alpha in alphas.items()})
    torch.testing.assert_close(logits, numbers["logits"], **EXACT)
    loss = F.cross_entropy(logits, numbers["y"])
    torch.testing.assert_close(loss, numbers["loss"], **EXACT)
    loss.backward()
    for cell, alpha in alphas.items():
        torch.testing.assert_close(alpha.grad, numbers[f"grad_alphas_{cell}"], **EXACT)
    for i, parameter in enumerate(space.parameters()):
        torch.testing.assert_close(parameter.grad, numbers[f"grad:{i:03d}"], **EXACT, msg=str(i))


def test_darts_evaluation_and_genotype(darts):
    space, numbers = darts
    weights = {cell: numbers[f"alphas_{cell}"].softmax(1) for cell in CELLS}
    with torch.no_grad():
        space(numbers["x"], weights)
        logits = space.eval()(numbers["x"], weights)
    torch.testing.assert_close(logits, numbers["eval_logits"], **EXACT)
    assert json.loads(space.derive(weights).to_json()) == numbers["genotype"]


def test_drnas_logits_and_every_gradient(drnas):
    space, numbers = drnas
    assert list(space.operations) == numbers["primitives"]
    mix = {cell: numbers[f"mix_{cell}"].requires_grad_() for cell in CELLS}
    logits = space(numbers["x"], space.restrict(mix))
    torch.testing.assert_close(logits, numbers["logits"], **EXACT)
    loss = F.cross_entropy(logits, numbers["y"])
    torch.testing.assert_close(loss, numbers["loss"], **EXACT)
    loss.backward()
    for cell in CELLS:
        torch.testing.assert_close(mix[cell].grad, numbers[f"grad_mix_{cell}"], **EXACT)
    for i, parameter in enumerate(space.parameters()):
        torch.testing.assert_close(parameter.grad, numbers[f"grad:{i:03d}"], **EXACT, msg=str(i))
    weights = {cell: numbers[f"alphas_{cell}"].softmax(1) for cell in CELLS}
    assert json.loads(space.derive(weights).to_json()) == numbers["genotype"]


def test_drnas_pruned(drnas):
    space, numbers = drnas
    pruned = {key.removeprefix("pruned:"): value for key, value in numbers.items() if key.startswith("pruned:")}
    space.prune({cell: pruned[f"mask_{cell}"] for cell in CELLS})
    draws = space.restrict({cell: pruned[f"draw_{cell}"] for cell in CELLS})
    mix = {cell: pruned[f"mix_{cell}"].requires_grad_() for cell in CELLS}
    for cell in CELLS:
        torch.testing.assert_close(draws[cell], mix[cell], **EXACT)
    logits = space(numbers["x"], mix)
    torch.testing.assert_close(logits, pruned["logits"], **EXACT)
    loss = F.cross_entropy(logits, numbers["y"])
    torch.testing.assert_close(loss, pruned["loss"], **EXACT)
    loss.backward()
    for cell in CELLS:
        torch.testing.assert_close(mix[cell].grad, pruned[f"grad_mix_{cell}"], **EXACT)
    weights = {cell: pruned[f"alphas_{cell}"].softmax(1) for cell in CELLS}
    assert json.loads(space.derive(weights).to_json()) == pruned["genotype"] != numbers["genotype"]


@pytest.mark.slow
def test_the_second_derivatives_of_the_bilevel_step():
    """The mixed Hessian-vector product of the original's step, by double differentiation of our network."""
    numbers = numbers_of("darts_second_order")
    config = numbers["config"]
    space = fill(darts_search_network(config["C"], config["layers"]).double(), numbers)
    alphas = {cell: numbers[f"alphas_{cell}"].requires_grad_() for cell in CELLS}
    named = dict(space.named_parameters())

    def loss(half, parameters):
        weights = {cell: alpha.softmax(1) for cell, alpha in alphas.items()}
        logits = torch.func.functional_call(space, parameters, (numbers[f"x_{half}"], weights))
        return F.cross_entropy(logits, numbers[f"y_{half}"])

    gradient = torch.autograd.grad(loss("train", named), list(named.values()), create_graph=True)
    virtual = {
        name: (w - numbers["eta"] * (g + numbers["weight_decay"] * w)).detach().requires_grad_()
        for (name, w), g in zip(named.items(), gradient, strict=True)
    }
    held_out = loss("valid", virtual)
    torch.testing.assert_close(held_out, numbers["zero_momentum:virtual_valid_loss"], **EXACT)
    vector = torch.autograd.grad(held_out, list(virtual.values()))
    product = torch.autograd.grad(
        sum((g * v).sum() for g, v in zip(gradient, vector, strict=True)), list(alphas.values())
    )
    for cell, ours in zip(CELLS, product, strict=True):
        torch.testing.assert_close(ours, numbers[f"zero_momentum:exact_hvp_{cell}"], **EXACT)


def one_at_a_time(space, x, weights):
    """The logits by the definition: every operation of every edge on its own."""
    before = last = space.stem(x)[0]
    for cell in space.cells:
        w, k = weights["reduce" if cell.reduction else "normal"], space.partial
        states, row = [cell.first(before), cell.second(last)], 0
        for _ in range(4):
            total = 0
            for number, state in enumerate(states):
                stride = 2 if cell.reduction and number < 2 else 1
                n = state.shape[1] // k
                mixed, others = 0, state[:, n:]
                for column, name in enumerate(space.operations):
                    edge = cell.pools[number] if "pool" in name else cell.edges[row]
                    if name in edge:
                        mixed = mixed + w[row, column] * edge[name](state[:, :n])
                    elif name == "skip_connect":
                        mixed = mixed + w[row, column] * state[:, :n]
                if stride == 2 and k > 1:
                    others = F.max_pool2d(others, 2, ceil_mode=True)
                out = torch.cat([mixed, others], 1) if k > 1 else mixed
                total = total + out.reshape(len(out), k, n, *out.shape[2:]).transpose(1, 2).reshape(out.shape)
                row += 1
            states.append(total)
        before, last = last, torch.cat(states[2:], 1)
    return space.classifier(last.mean((2, 3)))


def random_weights(space, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        cell: torch.randn(shape, generator=generator, dtype=torch.float64).softmax(1)
        for cell, shape in space.choices.items()
    }


@pytest.mark.parametrize(
    "size, partial, training", [(8, 1, True), (9, 1, True), (12, 2, True), (10, 4, False), (11, 2, False)]
)
def test_what_is_shared_changes_nothing(size, partial, training):
    torch.manual_seed(0)
    space = darts_search_network(4, 3, partial=partial).double()
    x = torch.randn(3, 3, size, size, dtype=torch.float64)
    weights = random_weights(space)
    with torch.no_grad():
        space(x, weights)
        space.train(training)
        torch.testing.assert_close(space(x, weights), one_at_a_time(space, x, weights), **EXACT)


def test_odd_sizes_and_every_parameter_gets_a_gradient():
    space = darts_search_network(4, 3, 5, imagenet=True, in_channels=1)
    weights = {cell: torch.full(shape, 1 / 8, requires_grad=True) for cell, shape in space.choices.items()}
    logits = space(torch.randn(2, 1, 49, 50), weights)
    assert logits.shape == (2, 5)
    logits.square().sum().backward()
    for p in (*space.parameters(), *weights.values()):
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.any()
    assert all((w.grad[:, 0] == 0).all() for w in weights.values())  # "none"


def test_the_memory_layout_changes_nothing():
    x = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    index = torch.tensor([2, 0, 1])
    for layout in (torch.contiguous_format, torch.channels_last):
        y = x.contiguous(memory_format=layout)
        grids = split_grids(y)
        assert grids.is_contiguous(memory_format=layout) and take_channels(y, index).is_contiguous(memory_format=layout)
        assert torch.equal(grids[:2], x[..., ::2, ::2]) and torch.equal(grids[4:6], x[..., 1::2, ::2])
        assert torch.equal(merge_grids(grids), x) and merge_grids(grids).is_contiguous(memory_format=layout)
        assert torch.equal(take_channels(y, index), x[:, index])


def test_counts_of_the_darts_search_network():
    counts, space = COUNTS["darts_search_C16_L8"], darts_search_network()
    assert sum(p.numel() for p in space.parameters()) == counts["weights"]
    assert len(list(space.parameters())) == counts["tensors"]
    assert sum(rows * columns for rows, columns in space.choices.values()) == counts["architecture_parameters"]
    multiply_adds = 0

    def count(module, inputs, output):
        nonlocal multiply_adds
        multiply_adds += output.numel() * module.weight[0].numel()

    for module in space.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        space.eval()(torch.zeros(1, 3, 32, 32), {cell: torch.ones(shape) / 8 for cell, shape in space.choices.items()})
    assert multiply_adds == counts["multiply_adds_32x32"]


@pytest.mark.slow
@pytest.mark.parametrize("partial", [6, 4, 1])
def test_counts_of_the_drnas_search_network(partial):
    counts = COUNTS["drnas_search_C36_L20"][f"k{partial}"]
    space = darts_search_network(36, 20, partial=partial, operations=DRNAS_OPERATIONS)
    assert sum(p.numel() for p in space.parameters()) == counts["weights"]
    assert len(list(space.parameters())) == counts["tensors"]
    assert sum(rows * columns for rows, columns in space.choices.values()) == counts["architecture_parameters"]


def test_genotype_by_brute_force():
    space = darts_search_network(2, 1)
    for seed in range(20):
        weights = random_weights(space, seed)
        derived = space.derive(weights)
        for cell, edges in (("normal", derived.normal), ("reduce", derived.reduce)):
            row = 0
            for node in range(4):
                options = [
                    (weights[cell][row + state, column].item(), name, state)
                    for state in range(node + 2)
                    for column, name in enumerate(space.operations)
                    if name != "none"
                ]
                first = max(options)
                second = max(option for option in options if option[2] != first[2])
                assert edges[2 * node : 2 * node + 2] == (first[1:], second[1:])
                row += node + 2


def test_equal_weights_give_the_first_edges_and_operations():
    space = darts_search_network(2, 1)
    derived = space.derive({cell: torch.full(shape, 1 / 8) for cell, shape in space.choices.items()})
    assert derived.normal == derived.reduce == (("max_pool_3x3", 0), ("max_pool_3x3", 1)) * 4


def test_closed_options_are_not_run_and_stay_closed():
    torch.manual_seed(0)
    space = darts_search_network(4, 3)
    one, two = ({cell: torch.ones(shape, dtype=torch.bool) for cell, shape in space.choices.items()} for _ in range(2))
    for cell in CELLS:
        one[cell][:, 4:6], two[cell][:, 1] = False, False  # separable convolutions; max pool
    space.prune(one)
    space.prune(two)
    assert all(mask.sum() == 14 * 5 for mask in space.masks.values())
    x, weights = torch.randn(2, 3, 8, 8), {cell: w.float() for cell, w in random_weights(space).items()}
    restricted = space.restrict(weights)
    for cell, w in restricted.items():
        torch.testing.assert_close(w.sum(1), torch.ones(14))
        assert (w[~space.masks[cell]] == 0).all()
    space(x, restricted).sum().backward()
    reached = {name for name, p in space.named_parameters() if p.grad is not None}
    assert any("dil_conv" in name for name in reached) and not any("sep_conv" in name for name in reached)
    other = darts_search_network(4, 3)
    other.load_state_dict(space.state_dict())
    assert torch.equal(other.eval()(x, weights), space.eval()(x, weights))
    assert all(name not in ("sep_conv_3x3", "sep_conv_5x5", "max_pool_3x3") for name, _ in space.derive(weights).normal)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"channels": 5}, "positive even number"),
        ({"layers": 0}, "layers must be at least 1"),
        ({"partial": 3}, "partial must be at least 1 and divide the 16 channels, got 3"),
        ({"partial": 0}, "partial must be at least 1"),
        ({"operations": ("none", "conv")}, "different ones of none, max_pool_3x3"),
        ({"operations": ()}, "different ones of"),
        ({"operations": ("none", "none")}, "different ones of"),
        ({"operations": ("none",)}, "more than none alone"),
    ],
)
def test_what_cannot_be_built(arguments, message):
    with pytest.raises(ValueError, match=message):
        darts_search_network(**arguments)


def test_wrong_weights_and_masks():
    space = darts_search_network(2, 1)
    good = random_weights(space)
    for bad in ({"normal": good["normal"]}, good | {"cell": good["normal"]}, good | {"reduce": good["reduce"][:, :7]}):
        for use in (lambda w: space(torch.zeros(1, 3, 8, 8), w), space.derive, space.restrict, space.prune):
            with pytest.raises(ValueError, match="must have the shapes"):
                use(bad)
    with pytest.raises(ValueError, match="an edge must keep at least one operation"):
        space.prune({cell: torch.zeros(shape, dtype=torch.bool) for cell, shape in space.choices.items()})
