"""Widening partial channels: DrNAS's way copies channels, the other leaves the function what it was."""

import pytest
import torch

from depthsearch.cells import darts_search_network
from depthsearch.cells.darts_search import DRNAS_OPERATIONS
from depthsearch.learning.stages import carry_over

EXACT = {"rtol": 0, "atol": 1e-9}
WEIGHTS = {
    cell: torch.rand(14, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).softmax(1)
    for seed, cell in enumerate(("normal", "reduce"))
}


def network(partial, channels=8):
    torch.manual_seed(0)
    return darts_search_network(channels, 3, partial=partial, operations=DRNAS_OPERATIONS).double()


@pytest.fixture(scope="module")
def x():
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(
    "steps", [(4, 2), *(pytest.param(steps, marks=pytest.mark.slow) for steps in ((4, 1), (4, 2, 1), (8, 4)))]
)
def test_the_function_is_kept(x, steps):
    space = network(steps[0])
    space(x, WEIGHTS)  # running statistics that are not those of a new network
    for partial in steps[1:]:
        assert space.blend == 1
        with torch.no_grad():
            before, evaluated = space(x, WEIGHTS), space.eval()(x, WEIGHTS)
            space.train().widen(partial, keep_function=True)
            assert space.blend == 0 and space.partial == partial
            torch.testing.assert_close(space.eval()(x, WEIGHTS), evaluated, **EXACT)
            torch.testing.assert_close(space.train()(x, WEIGHTS), before, **EXACT)
            space.blend = 1.0
            assert (space(x, WEIGHTS) - before).abs().max() > 1e-3  # the operations do work on the new channels


def test_twelve_channels_in_three_and_odd_numbers_of_them(x):
    """Cells with 36 channels in four parts have 9 that are mixed: no half of that is whole."""
    space = network(4, channels=12)
    before = space(x, WEIGHTS)
    space.widen(3, keep_function=True)
    torch.testing.assert_close(space(x, WEIGHTS), before, **EXACT)


def test_blend_goes_from_passing_by_to_mixing(x):
    space = network(4)
    space.widen(2, keep_function=True)
    logits = []
    with torch.no_grad():
        for blend in (0.0, 1e-6, 0.5, 1.0 - 1e-9, 1.0):
            space.blend = blend
            logits.append(space(x, WEIGHTS))
    torch.testing.assert_close(logits[0], logits[1], rtol=0, atol=1e-4)
    torch.testing.assert_close(logits[3], logits[4], rtol=0, atol=1e-6)
    assert (logits[2] - logits[0]).abs().max() > 1e-3


@pytest.mark.parametrize("keep_function", [False, True])
def test_a_widened_network_has_the_form_of_a_new_one(x, keep_function):
    space, new = network(4), network(2)
    space.widen(2, keep_function)
    assert [p.shape for p in space.parameters()] == [p.shape for p in new.parameters()]
    space.blend = 1.0
    logits = space(x, WEIGHTS)
    new.load_state_dict(space.state_dict())
    assert torch.equal(new(x, WEIGHTS), space(x, WEIGHTS))
    logits.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in space.parameters())


def test_drnas_copies_channels_and_shuffles_in_the_new_groups(x):
    space = network(4)
    before = space(x, WEIGHTS)
    edge = {name: p.detach().clone() for name, p in space.cells[1].edges[0].named_parameters()}
    running = space.cells[0].edges[0]["dil_conv_3x3"].norm.running_var.clone()
    space.widen(2, generator=torch.Generator().manual_seed(1))
    norm = space.cells[0].edges[0]["dil_conv_3x3"].norm
    assert torch.equal(norm.running_var[: len(running)], running)
    assert len(norm.running_var) == 2 * len(running) and set(norm.running_var.tolist()) <= set(running.tolist())
    assert space.blend == 1 and not torch.allclose(space(x, WEIGHTS), before)
    for cell in space.cells:
        order = torch.arange(len(cell.reads))
        assert torch.equal(cell.reads, order) and torch.equal(cell.writes, order.reshape(2, -1).T.flatten())
    dilated = space.cells[1].edges[0]["dil_conv_3x3"]
    depthwise, pointwise = edge["dil_conv_3x3.depthwise.weight"], edge["dil_conv_3x3.pointwise.weight"]
    n = len(depthwise)
    assert torch.equal(dilated.depthwise.weight[:n], depthwise) and len(dilated.depthwise.weight) == 2 * n
    copied = [next(j for j in range(n) if torch.equal(row, depthwise[j])) for row in dilated.depthwise.weight]
    for row in dilated.pointwise.weight:  # the copy of an output reads the copies of what it read, undivided
        assert any(torch.equal(row, pointwise[j][copied]) for j in range(n))
    even, odd = (space.cells[1].edges[0]["skip_connect"].get_submodule(half).weight for half in ("even", "odd"))
    assert even.shape == odd.shape == (n, 2 * n, 1, 1)
    assert torch.equal(even[: n // 2, :n], edge["skip_connect.even.weight"])


def test_the_draws_are_the_generators(x):
    one, two, three = network(4), network(4), network(4)
    for space, seed in ((one, 0), (two, 0), (three, 1)):
        space.widen(2, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(one(x, WEIGHTS), two(x, WEIGHTS)) and not torch.equal(one(x, WEIGHTS), three(x, WEIGHTS))


@pytest.mark.parametrize("keep_function", [False, True])
def test_momentum_grows_with_the_weights(x, keep_function):
    space = network(4)
    optimizer = torch.optim.SGD(space.parameters(), lr=0.1, momentum=0.9)
    space(x, WEIGHTS).sum().backward()
    optimizer.step()
    for parameter, state in optimizer.state.items():
        state["momentum_buffer"] = parameter.detach().clone()  # so that it must grow as the parameter does
    grown = space.widen(2, keep_function)
    carry_over(optimizer, space.parameters(), grown)
    assert list(optimizer.state) != [] and set(optimizer.state) == set(space.parameters())
    for parameter, state in optimizer.state.items():
        assert torch.equal(state["momentum_buffer"], parameter.detach())
    optimizer.zero_grad()
    space(x, WEIGHTS).sum().backward()
    optimizer.step()


def test_closed_options_stay_closed(x):
    space = network(4)
    masks = {cell: torch.rand(14, 7, generator=torch.Generator().manual_seed(3)) < 0.7 for cell in space.choices}
    for mask in masks.values():
        mask[:, 2] = True
    space.prune(masks)
    before = space(x, space.restrict(WEIGHTS))
    space.widen(2, keep_function=True)
    torch.testing.assert_close(space(x, space.restrict(WEIGHTS)), before, **EXACT)
    assert all(torch.equal(space.masks[cell], masks[cell]) for cell in masks)


def test_what_cannot_be_widened():
    space = network(4)
    for partial, message in (
        (3, "divide the 8 channels"),
        (4, "less than the 4 of now"),
        (8, "less than the 4 of now"),
    ):
        with pytest.raises(ValueError, match=message):
            space.widen(partial)
    space.widen(2, keep_function=True)
    with pytest.raises(ValueError, match="blend must be 1"):
        space.widen(1)
