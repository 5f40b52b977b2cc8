"""The NAS-Bench-201 space against a loop over one operation at a time; dropping, widening, bad input."""

import copy

import pytest
import torch
import torch.nn.functional as F

from depthsearch.cells import NASBench201Block, nasbench201_network, nasbench201_search_network
from depthsearch.cells.nasbench201_operations import MixedCell
from depthsearch.cells.nasbench201_strings import EDGES, OPERATIONS, cell_string
from depthsearch.learning.mixing import strongest
from depthsearch.learning.stages import carry_over

CELL = "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"
NONE, SKIP, CONV1, CONV3, POOL = range(5)


def drawn(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def mixing(seed=0):
    return drawn(6, 5, seed=seed).softmax(-1)


def one_at_a_time(cell, x, weights, mask=None):
    """The cell as DrNAS computes it: an operation after the other, an edge after the other."""
    if mask is not None:
        weights = weights * mask / (weights * mask).sum(-1, keepdim=True)

    def apply(edge, column, x):
        if column in (CONV1, CONV3):
            kernel = cell.edges[edge][OPERATIONS[column]]
            return F.batch_norm(F.conv2d(F.relu(x), kernel, padding=kernel.shape[-1] // 2), None, None, training=True)
        if column == POOL:
            return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return x if column == SKIP else x * 0

    def mixed(edge, x):
        kept = [column for column in range(5) if mask is None or mask[edge, column]]
        n = cell.open
        first = sum(weights[edge, column] * apply(edge, column, x[:, :n]) for column in kept)
        out = torch.cat([first, x[:, n:]], 1)
        batch, channels, height, width = out.shape
        k = int(cell.groups)
        return out.view(batch, k, channels // k, height, width).transpose(1, 2).reshape(out.shape)

    states = [x]
    for to in (1, 2, 3):
        states.append(sum(mixed(e, states[source]) for e, (state, source) in enumerate(EDGES) if state == to))
    return states[-1]


@pytest.mark.parametrize("partial", [1, 2, 4])
def test_mixed_cell_is_the_sum_of_single_operations(partial):
    cell, x = MixedCell(8, partial).double(), drawn(3, 8, 5, 5)
    weights = mixing().requires_grad_()
    ours, loop = cell(x, weights), one_at_a_time(cell, x, weights)
    torch.testing.assert_close(ours, loop, rtol=0, atol=1e-12)
    wanted = [weights, *cell.parameters()]
    grads = (torch.autograd.grad((out * drawn(3, 8, 5, 5, seed=1)).sum(), wanted) for out in (ours, loop))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_running_statistics_are_those_of_each_operation():
    cell, x = MixedCell(4).double(), drawn(3, 4, 5, 5)
    cell(x, mixing())
    out = F.conv2d(F.relu(x), cell.edges[3]["nor_conv_3x3"], padding=1).transpose(0, 1).flatten(1)  # 3 <- 0
    norm = cell.norms[0]["nor_conv_3x3"]
    torch.testing.assert_close(norm.running_mean[2], 0.1 * out.mean(1))
    torch.testing.assert_close(norm.running_var[2], 0.9 + 0.1 * out.var(1))


def test_a_row_of_one_operation_is_the_stand_alone_cell():
    space = nasbench201_search_network(channels=4, cells=1).double()
    one_hot = F.one_hot(torch.tensor([CONV3, CONV1, POOL, SKIP, NONE, CONV3]), 5).double()
    assert space.derive({"cell": one_hot}) == CELL
    network = nasbench201_network(CELL, channels=4, cells=1).double()
    network.stem, network.norm, network.classifier = space.stem, space.norm, space.classifier
    for fixed, mixed in zip(network.stages, space.stages, strict=True):
        if not isinstance(mixed, MixedCell):
            fixed.load_state_dict(mixed.state_dict())
            continue
        for edge, layer in fixed.layers.items():
            layer.conv.weight = mixed.edges[int(edge)][fixed.operations[int(edge)]]
    x = drawn(3, 3, 8, 8)
    torch.testing.assert_close(network(x), space(x, {"cell": one_hot}), rtol=0, atol=1e-12)


def test_second_derivatives_are_right():
    cell, x = MixedCell(2, 2).double(), drawn(2, 2, 3, 3)

    def smooth(weights, kernel):
        return torch.func.functional_call(cell, {"edges.1.nor_conv_3x3": kernel}, (x, weights)).square().mean()

    inputs = mixing().requires_grad_(), drawn(1, 1, 3, 3, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(smooth, inputs)
    assert torch.autograd.gradgradcheck(smooth, inputs)


@pytest.mark.parametrize("partial", [1, 2])
def test_closed_options_are_neither_run_nor_weighted(partial):
    space, x = nasbench201_search_network(channels=4, cells=1, partial=partial).double(), drawn(2, 3, 8, 8)
    weights, scores = mixing().requires_grad_(), mixing(seed=5)
    kept = strongest({"cell": scores}, space.masks, keep=3)
    mask = kept["cell"]
    assert mask.sum(-1).eq(3).all() and mask.gather(-1, scores.argsort(-1)[:, 2:]).all()
    space.prune(kept)
    restricted = space.restrict({"cell": weights})
    torch.testing.assert_close(restricted["cell"].sum(-1), torch.ones(6).double())
    before = {name: buffer.clone() for name, buffer in space.stages[0].named_buffers()}
    (grad,) = torch.autograd.grad(space(x, restricted)[:, 0].sum(), weights, retain_graph=True)
    assert grad[~mask].eq(0).all() and grad[mask].ne(0).any()
    assert space(x, {"cell": weights}).equal(space(x, {"cell": weights * mask}))
    cell, z = space.stages[2], drawn(3, 8, 5, 5)
    loop = one_at_a_time(cell, z, weights, mask)
    torch.testing.assert_close(cell(z, restricted["cell"]), loop, rtol=0, atol=1e-12)
    for edge, (_, source) in enumerate(EDGES):  # statistics and gradients of the open ones alone
        for name in ("nor_conv_1x1", "nor_conv_3x3"):
            row = [e for e, (_, s) in enumerate(EDGES) if s == source].index(edge)
            key, is_open = f"norms.{source}.{name}.running_mean", bool(mask[edge, OPERATIONS.index(name)])
            assert before[key][row].equal(space.stages[0].get_buffer(key)[row]) != is_open
    space.prune({"cell": torch.ones(6, 5)})  # what is closed stays closed
    assert space.masks["cell"].equal(mask)
    space.prune(strongest({"cell": -scores}, space.masks, keep=1))
    assert (space.masks["cell"] & ~mask).sum() == 0
    best = cell_string([OPERATIONS[i] for i in scores.masked_fill(~mask, 9).argmin(-1).tolist()])
    assert space.derive({"cell": scores}) == best


def test_weights_are_the_same_where_nothing_is_closed():
    space, weights = nasbench201_search_network(channels=4, cells=1), mixing()
    assert space.restrict({"cell": weights})["cell"] is weights


def test_an_edge_with_nothing_but_none_gives_zero():
    space = nasbench201_search_network(channels=4, cells=1).double()
    space.prune({"cell": F.one_hot(torch.zeros(6, dtype=torch.long), 5).bool()})
    weights = mixing().requires_grad_()
    logits = space(drawn(2, 3, 8, 8), {"cell": weights})
    torch.testing.assert_close(logits[0], logits[1])
    logits.sum().backward()
    assert weights.grad is None or weights.grad.eq(0).all()


def test_widening_by_copies():
    space = nasbench201_search_network(channels=8, cells=1, partial=4).double()
    x, weights = drawn(2, 3, 8, 8), {"cell": mixing()}
    space(x, weights)
    before, count = copy.deepcopy(space), sum(p.numel() for p in space.parameters())
    grown = space.widen(2, generator=torch.Generator().manual_seed(1))
    twin = copy.deepcopy(before)
    twin.widen(2, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(space(x, weights), twin(x, weights), rtol=0, atol=0)
    assert len(grown) == 3 * 12 and sum(p.numel() for p in space.parameters()) > count
    old, new = before.stages[0].edges[4]["nor_conv_3x3"], space.stages[0].edges[4]["nor_conv_3x3"]
    assert new.shape == (4, 4, 3, 3) and new[:2, :2].equal(old)
    rows = [next(i for i in range(2) if new[j, :2].equal(old[i])) for j in range(4)]  # each is a copy
    columns = [next(i for i in range(2) if new[:2, j].equal(old[:, i])) for j in range(4)]
    assert new.equal(old[:, columns][rows])
    cell, z = space.stages[0], drawn(3, 8, 5, 5)
    assert (cell.open, int(cell.groups), space.blend) == (4, 2, 1)
    torch.testing.assert_close(cell(z, weights["cell"]), one_at_a_time(cell, z, weights["cell"]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [(2,), (1,), (2, 1)])
@pytest.mark.parametrize("pruned", [False, True])
def test_widening_that_keeps_the_function(steps, pruned):
    space, x, weights = nasbench201_search_network(channels=8, cells=1, partial=4).double(), drawn(4, 3, 8, 8), mixing()
    if pruned:
        space.prune(strongest({"cell": mixing(seed=2)}, space.masks, keep=2))
    space(x, {"cell": weights})
    for partial in steps:
        trained, evaluated = space(x, {"cell": weights}), space.eval()(x, {"cell": weights})
        space.train().widen(partial, keep_function=True)
        assert space.blend == 0 and space.stages[0].open == 8 // partial
        norm, narrow = space.stages[0].norms[0]["nor_conv_3x3"], 8 // partial - int(space.stages[0].fresh.sum())
        assert norm.running_var[:, narrow:].eq(1).all() and norm.running_mean[:, narrow:].eq(0).all()
        torch.testing.assert_close(space.eval()(x, {"cell": weights}), evaluated, rtol=0, atol=1e-12)
        torch.testing.assert_close(space.train()(x, {"cell": weights}), trained, rtol=0, atol=1e-12)
        space.blend = 0.5
        half = space(x, {"cell": weights})
        assert not torch.allclose(half, trained)
        half[:, 0].sum().backward()
        if not pruned:
            kernel = space.stages[0].edges[0]["nor_conv_3x3"].grad
            assert kernel.flatten(1).ne(0).any(1).all()  # the new channels learn, both ways
            assert kernel.transpose(0, 1).flatten(1).ne(0).any(1).all()
        space.blend = 1.0
        assert not torch.allclose(space(x, {"cell": weights}), half)


@pytest.mark.parametrize("keep_function", [False, True])
def test_momentum_grows_with_its_weight(keep_function):
    space = nasbench201_search_network(channels=4, cells=1, partial=2)
    optimizer = torch.optim.SGD(space.parameters(), lr=0.1, momentum=0.9)
    x, weights = drawn(2, 3, 8, 8).float(), {"cell": mixing().float()}
    space(x, weights)[:, 0].sum().backward()
    optimizer.step()
    old = space.stages[0].edges[2]["nor_conv_1x1"]
    buffer = optimizer.state[old]["momentum_buffer"].clone()
    grown = space.widen(1, keep_function, torch.Generator().manual_seed(0))
    carry_over(optimizer, space.parameters(), grown)
    new = space.stages[0].edges[2]["nor_conv_1x1"]
    momentum = optimizer.state[new]["momentum_buffer"]
    assert momentum.shape == new.shape and momentum[:2, :2].equal(buffer)
    if keep_function:
        assert momentum[2:].eq(0).all() and momentum[:, 2:].eq(0).all()
    else:
        assert momentum.equal(grown[old][1](buffer)) and new.equal(grown[old][1](old))
    assert set(optimizer.state) == set(space.parameters()) == set(optimizer.param_groups[0]["params"])
    space(x, weights)[:, 0].sum().backward()
    optimizer.step()


@pytest.mark.parametrize("keep_function", [False, True])
def test_a_saved_state_is_loaded_into_a_new_network(keep_function):
    space, x, weights = nasbench201_search_network(channels=8, cells=1, partial=4), drawn(2, 3, 8, 8).float(), mixing()
    space.prune(strongest({"cell": mixing()}, space.masks, keep=3))
    space.widen(2, keep_function)
    space(x, {"cell": weights.float()})
    other = nasbench201_search_network(channels=8, cells=1, partial=2)
    other.load_state_dict(space.state_dict())
    other.blend = space.blend
    ours, theirs = (n.eval()(x, {"cell": weights.float()}) for n in (space, other))
    assert ours.equal(theirs)


@pytest.mark.parametrize("residual", [False, True])
def test_a_cell_as_a_block_of_a_chain(residual):
    block, x = NASBench201Block(CELL, 4, residual), drawn(2, 4, 6, 6).float()
    expected = block.eval().cell(x) + (x if residual else 0)
    assert block(x).shape == x.shape and block(x).equal(expected)


@pytest.mark.parametrize("size", [8, 16, 32])
def test_images_of_other_sizes_and_channels(size):
    space = nasbench201_search_network(channels=2, cells=1, in_channels=1, n_classes=7)
    assert space(torch.randn(2, 1, size, size), {"cell": mixing().float()}).shape == (2, 7)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: nasbench201_search_network(channels=6, partial=4),
            "partial must be at least 1 and divide the 6 channels, got 4",
        ),
        (lambda: nasbench201_search_network(partial=0), "partial must be at least 1 and divide"),
        (lambda: nasbench201_search_network(channels=0), "channels must be 1 or more, got 0"),
        (lambda: nasbench201_network(CELL, cells=0), "cells must be 1 or more"),
        (lambda: nasbench201_network(CELL, in_channels=0), "in_channels must be 1 or more"),
        (lambda: nasbench201_network("conv"), "is not a NAS-Bench-201 cell"),
        (lambda: NASBench201Block("|none~0|", 4), "is not a NAS-Bench-201 cell"),
    ],
)
def test_bad_sizes_are_refused_in_one_line(make, said):
    with pytest.raises(ValueError, match=said) as error:
        make()
    assert "\n" not in str(error.value)


def test_bad_calls_are_refused():
    space = nasbench201_search_network(channels=4, cells=1, partial=2)
    x = torch.zeros(1, 3, 8, 8)
    for weights in ({"cell": torch.ones(5, 6)}, {"normal": torch.ones(6, 5)}, {}):
        with pytest.raises(ValueError, match="mixing weights must have the shapes"):
            space(x, weights)
    with pytest.raises(ValueError, match="partial must be less than the 2 of now"):
        space.widen(2)
    with pytest.raises(ValueError, match="keep must be from 1 to the 5"):
        strongest({"cell": mixing()}, space.masks, 6)
    with pytest.raises(ValueError, match="an edge must keep at least one operation"):
        space.prune({"cell": torch.zeros(6, 5)})
    space.widen(1, keep_function=True)
    with pytest.raises(ValueError, match="partial must be less than the 1 of now"):
        space.widen(1)
