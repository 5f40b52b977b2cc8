"""The search of a space: against a loop by hand, interrupted and resumed, in stages, on every kind of space."""

import copy
import io
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from depthsearch import mlp_resnet
from depthsearch.cells import darts_search_network, nasbench201_search_network, recurrent_search_network
from depthsearch.cells.darts_search import DRNAS_OPERATIONS
from depthsearch.data.spirals import spiral_split
from depthsearch.data.split import Split
from depthsearch.depth.choice import DepthSpace
from depthsearch.learning.halves import Halves, Pair
from depthsearch.learning.search import Search
from depthsearch.learning.stages import Schedule, Stage
from depthsearch.strategies import ARCHITECTS
from depthsearch.strategies.darts import Darts
from depthsearch.strategies.drnas import DrNAS

FAST = Schedule(learning_rate=0.1)
RATE = 0.1  # of alpha


class Dropping(nn.Module):
    """A small space of two choices with dropout and a batch norm, for points of the plane."""

    choices = {"first": (1, 3), "second": (2, 2)}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(n, 6) for n in (2, 6, 6))
        self.norm, self.dropout, self.head = nn.BatchNorm1d(6), nn.Dropout(0.2), nn.Linear(6, 2)
        self.masks = {name: torch.ones(shape, dtype=torch.bool) for name, shape in self.choices.items()}

    def forward(self, x, weights):
        first, second = weights["first"][0], weights["second"]
        h = self.layers[0](x)
        h = self.dropout(self.norm(first[0] * h.tanh() + first[1] * h.relu() + first[2] * h))
        h = sum(row[0] * layer(h).tanh() + row[1] * h for row, layer in zip(second, self.layers[1:], strict=True))
        return self.head(h)

    def prune(self, masks):
        self.masks = {name: mask.clone() for name, mask in masks.items()}

    def derive(self, weights):
        return {name: w.argmax(-1).tolist() for name, w in weights.items()}


def made(make, seed=0):
    torch.manual_seed(seed)
    return make()


def plane(n=200):
    return spiral_split(10 * n, 360.0, 0.2, 0).hold_out(0.5, 0)


def images(n=40):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (n, 3, 8, 8), generator=generator, dtype=torch.uint8)
    y = torch.arange(n) % 4
    return Split(x, y, x[:4], y[:4], mean=(0.5,) * 3, std=(0.25,) * 3).hold_out(0.5, 0)


def cells(partial=1):
    return nasbench201_search_network(channels=4, cells=1, n_classes=4, partial=partial)


def darts_cells():
    return darts_search_network(channels=8, layers=3, n_classes=4, partial=2, operations=DRNAS_OPERATIONS)


def search(kind="Dropping", architect=None, stages=(), **options):
    space, task = {
        "Dropping": lambda: (made(Dropping), Halves(plane(), 25)),
        "cells": lambda: (made(cells), Halves(images(), 10)),
        "partial": lambda: (made(lambda: cells(4)), Halves(images(), 10)),
        "DARTS space": lambda: (made(darts_cells), Halves(images(12), 6)),
        "depth": lambda: (DepthSpace(made(lambda: mlp_resnet(3, 5))), Halves(plane(), 25)),
    }[kind]()
    options = {"schedule": FAST, "seed": 1} | options
    return Search(space, architect or Darts(learning_rate=RATE), task, stages or [Stage(4)], **options)


def run(found):
    list(found.epochs())
    return found


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


# One step after the other, by hand.


@pytest.mark.parametrize("clips_alpha", [False, True])
def test_a_search_is_the_loop_of_the_paper(clips_alpha):
    """DARTS, first order: Adam on the validation half, then SGD with a cosine and clipping on the other half."""
    schedule = Schedule(0.1, 0.02, 0.9, 1e-2, clip=0.3, clips_alpha=clips_alpha)
    split, space = plane(), made(Dropping)
    space.dropout.p = 0.0
    twin = copy.deepcopy(space)
    found = Search(space, Darts(learning_rate=0.05), Halves(split, 30), [Stage(3)], schedule, seed=7)
    alphas = {name: nn.Parameter(alpha.clone()) for name, alpha in found.mixing.alphas.items()}
    run(found)

    generator = torch.Generator().manual_seed(7)
    for shape in twin.choices.values():
        torch.randn(shape, generator=generator)  # the start of alpha comes first
    adam = torch.optim.Adam(alphas.values(), lr=0.05, betas=(0.5, 0.999), weight_decay=1e-3)
    sgd = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, 3, eta_min=0.02)
    losses, rates = [], []

    def loss_on(rows, half):
        x, y = getattr(split, f"x_{half}")[rows], getattr(split, f"y_{half}")[rows]
        return F.cross_entropy(twin(x, {name: alpha.softmax(-1) for name, alpha in alphas.items()}), y)

    for _ in range(3):
        rates.append(cosine.get_last_lr()[0])
        orders = {}
        for half in ("train", "valid"):
            orders[half] = torch.randperm(100, generator=generator)
        for own, other in zip(orders["train"].split(30), orders["valid"].split(30), strict=True):
            adam.zero_grad()
            loss = loss_on(other, "valid")
            losses.append(loss.item())
            loss.backward()
            adam.step()
            adam.zero_grad()
            sgd.zero_grad()
            loss_on(own, "train").backward()
            clipped = [*twin.parameters(), *(alphas.values() if clips_alpha else ())]
            nn.utils.clip_grad_norm_(clipped, 0.3)
            sgd.step()
        cosine.step()
    for name, alpha in found.mixing.alphas.items():
        torch.testing.assert_close(alpha, alphas[name].detach())
    for p, q in zip(space.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q)
    assert [row["learning_rate"] for row in found.history] == pytest.approx(rates)
    assert [row["valid_loss"] for row in found.history] == pytest.approx(
        [sum(losses[i : i + 4]) / 4 for i in (0, 4, 8)]
    )


def test_second_order_looks_ahead_by_the_step_that_sgd_takes():
    """The validation loss that it reports is that after the step on the same batch, at the alpha before."""
    schedule = Schedule(0.1, clip=1e9)
    space = made(Dropping)
    space.dropout.p = 0.0
    found = Search(space, Darts(learning_rate=0.0, order=2), Halves(plane(), 30), [Stage(1)], schedule)
    pair = next(iter(found.task.pairs(space, torch.Generator().manual_seed(0))))
    for _ in range(2):
        ahead = found._learn_alpha(pair)
        found._step(pair)
        torch.testing.assert_close(pair.valid(found.mixing.draw()).detach(), ahead)


# Interrupted and resumed.

PROGRESSIVE = (Stage(1), Stage(2, keep=3, partial=2), Stage(2, keep=2, partial=1))
SEARCHES = {
    "DARTS": ("Dropping", Darts(learning_rate=RATE), (Stage(4),)),
    "DARTS 2nd order": ("Dropping", Darts(learning_rate=RATE, order=2), (Stage(4),)),
    "DARTS exact": ("Dropping", Darts(learning_rate=RATE, order="exact"), (Stage(4),)),
    "DrNAS": ("Dropping", DrNAS(learning_rate=RATE), (Stage(2), Stage(2, keep=2))),
    "DrNAS 2nd order": ("Dropping", DrNAS(learning_rate=RATE, order=2, regulariser=0.1), (Stage(3),)),
    "progressive": ("partial", DrNAS(learning_rate=RATE, warm_up=0.5), PROGRESSIVE),
    "progressive (paper)": ("partial", DrNAS(learning_rate=RATE, warm_up=0.5, faithful=True), PROGRESSIVE),
    "DARTS space": ("DARTS space", DrNAS(learning_rate=RATE), (Stage(1), Stage(1, keep=3, partial=1))),
    "depth": ("depth", DrNAS(learning_rate=RATE), (Stage(2), Stage(2, keep=2))),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name != "DARTS" else []) for name in SEARCHES]
)
def test_resumed_at_any_epoch_it_ends_bit_for_bit_like_one_left_alone(name):
    kind, architect, stages = SEARCHES[name]
    whole = search(kind, architect, stages)
    saved = [whole.checkpoint()]
    for _ in whole.epochs():
        torch.randn(3)  # others draw random numbers in between
        saved.append(whole.checkpoint())
    end = whole.checkpoint()
    assert len(saved) == 1 + sum(stage.epochs for stage in stages)
    for number, states in enumerate(saved):
        disk = io.BytesIO()
        torch.save(states, disk)
        disk.seek(0)
        torch.manual_seed(number)
        resumed = search(kind, architect, stages, resume=torch.load(disk, weights_only=True))
        assert list(resumed.epochs()) == list(range(number + 1, len(saved)))
        assert same(resumed.checkpoint(), end), f"resumed after epoch {number}"
        assert resumed.learned()[0].architecture == whole.learned()[0].architecture
        assert getattr(resumed.space, "blend", 1.0) == 1.0


def test_equal_seeds_give_equal_numbers_and_leave_the_global_ones_alone():
    ends = []
    for seed, noise in ((1, 0), (1, 5), (2, 0)):
        made_search = search(architect=DrNAS(learning_rate=RATE), seed=seed)
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        run(made_search)
        assert torch.equal(torch.get_rng_state(), before)
        ends.append(made_search.checkpoint())
    assert same(ends[0], ends[1]) and not same(ends[0][0]["mixing"], ends[2][0]["mixing"])


# What it learns.


@pytest.mark.parametrize("name", ["DARTS", "DARTS 2nd order", "DrNAS"])
def test_mixing_weights_leave_their_start_and_training_fits(name):
    kind, architect, _ = SEARCHES[name]
    found = run(search(kind, architect, (Stage(12),)))
    (result,) = found.learned()
    assert [row["epoch"] for row in result.history] == list(range(1, 13))
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    for choice, shape in found.space.choices.items():
        assert result.trajectory[choice].shape == (13, *shape)
        assert result.trajectory[choice][0].abs().max() < 0.01
        assert (result.trajectory[choice][-1] - result.trajectory[choice][0]).abs().max() > 10 * RATE / 2
        assert torch.equal(result.trajectory[choice][-1], found.mixing.alphas[choice])
        entropies = [row[f"entropy_{choice}"] for row in result.history]
        assert entropies[0] <= math.log(shape[1]) and entropies[-1] < entropies[0] - 0.05
    assert result.architecture == found.space.derive(found.mixing.mean())
    assert set(result.state()) == {"space", "mixing"}


def test_changes_of_the_largest_option_are_counted():
    found = search(architect=Darts(learning_rate=0.5), stages=(Stage(6),))
    run(found)
    for name, alphas in found.learned()[0].trajectory.items():
        best = alphas.argmax(-1)
        changed = [int((a != b).sum()) for a, b in zip(best[1:], best[:-1], strict=True)]
        assert [row[f"changed_{name}"] for row in found.history] == changed
    assert sum(row["changed_first"] + row["changed_second"] for row in found.history) > 0


def test_alpha_is_left_alone_in_the_warm_up_of_each_stage():
    architect = DrNAS(learning_rate=RATE, warm_up=0.5)
    found = run(search("cells", architect, (Stage(4), Stage(2, keep=3))))
    alpha = found.learned()[0].trajectory["cell"]
    moved = [not torch.equal(alpha[i + 1][alpha[i + 1] != 0], alpha[i][alpha[i + 1] != 0]) for i in range(6)]
    assert moved == [False, False, True, True, False, True]
    assert ["valid_loss" in row for row in found.history] == moved
    assert [row["stage"] for row in found.history] == [0, 0, 0, 0, 1, 1]


def test_a_draw_is_new_in_every_pass_and_has_a_gradient():
    seen = []

    class Watched(Dropping):
        def forward(self, x, weights):
            seen.append(weights["second"])
            return super().forward(x, weights)

    found = Search(made(Watched), DrNAS(learning_rate=RATE), Halves(plane(), 50), [Stage(2)], FAST)
    run(found)
    assert len(seen) == 8 and len({w.sum(-1).isclose(torch.ones(2)).all().item() for w in seen}) == 1
    assert len({tuple(w.flatten().tolist()) for w in seen}) == 8
    assert [w.requires_grad for w in seen] == [True, False] * 4, "alpha's pass and that of the weights, in turns"


# Stages.


@pytest.mark.parametrize("faithful", [False, True])
def test_a_stage_drops_options_opens_channels_and_keeps_the_momentum(faithful):
    architect = DrNAS(learning_rate=RATE, warm_up=0.5, faithful=faithful)
    found = search("partial", architect, (Stage(2), Stage(4, keep=3, partial=2)))
    epochs = found.epochs()
    next(epochs), next(epochs)
    found.mixing.draw = lambda generators=(): found.mixing.mean()
    space, sgd, x = found.space, found._sgd, images().inputs(images().x_train)
    mass = sum(state["momentum_buffer"].square().sum() for state in sgd.state.values())
    stage = found.stages[1]
    stage.drop(space, found.mixing)
    assert (found.mixing.masks["cell"].sum(-1) == 3).all()
    assert torch.equal(space.masks["cell"], found.mixing.masks["cell"])
    pruned = space.train()(x, found.mixing.mean())
    stage.widen(space, sgd, not faithful)
    assert space.partial == 2
    opened = space(x, found.mixing.mean())
    assert torch.allclose(opened, pruned, atol=1e-5) != faithful
    space.blend = 1.0
    assert not torch.allclose(space(x, found.mixing.mean()), pruned, atol=1e-5)
    assert sgd.param_groups[0]["params"] == list(space.parameters())
    assert all(sgd.state[p]["momentum_buffer"].shape == p.shape for p in space.parameters() if p in sgd.state)
    kept = sum(state["momentum_buffer"].square().sum() for state in sgd.state.values())
    assert kept >= mass * 0.999 and (faithful or torch.isclose(kept, mass))


def test_opened_channels_are_let_in_while_alpha_waits():
    architect = DrNAS(learning_rate=RATE, warm_up=0.5)
    found = search("partial", architect, (Stage(2), Stage(4, partial=2)))
    blends = [found.space.blend for _ in found.epochs()]
    assert blends == [1.0, 1.0, 0.5, 1.0, 1.0, 1.0]
    paper = search("partial", ARCHITECTS["DrNAS progressive (paper)"], (Stage(2), Stage(4, partial=2)))
    assert [paper.space.blend for _ in paper.epochs()] == [1.0] * 6


# Other spaces and data.


def test_a_chain_is_searched_as_any_space():
    found = run(search("depth", Darts(learning_rate=0.2), (Stage(20),)))
    (result,) = found.learned()
    assert result.architecture == int(found.mixing.alphas["depth"].argmax()) and isinstance(result.architecture, int)
    assert result.trajectory["depth"].shape == (21, 1, 4)


class Texts:
    """Words read a few at a time, the hidden state carried on, as losses."""

    def __init__(self, space):
        words = torch.randint(7, (13, 8), generator=torch.Generator().manual_seed(0))
        self.halves, self.hidden = words.chunk(2, dim=1), {0: space.initial_hidden(4), 1: space.initial_hidden(4)}

    def pairs(self, space, generator):
        for start in range(0, 12, 4):
            yield Pair(*(self.loss(space, half, start) for half in (0, 1)), scale=4 / 8)

    def loss(self, space, half, start):
        text, hidden = self.halves[half], self.hidden[half]

        def loss(weights):
            log_probs, after, _ = space(text[start : start + 4], hidden, weights)
            self.hidden[half] = after.detach()
            return F.nll_loss(log_probs.flatten(0, 1), text[start + 1 : start + 5].flatten())

        return loss


@pytest.mark.parametrize("faithful", [False, True])
def test_the_recurrent_space_is_searched_too(faithful):
    schedule = Schedule(1.0, 1.0, 0.0, 5e-7, clip=0.25, clips_ahead=True, tied=("embedding",))
    assert schedule.rate(1, 9) == schedule.rate(9, 9) == 1.0
    architect = Darts(learning_rate=0.05, betas=(0.9, 0.999), order=2, faithful=faithful)
    space = made(lambda: recurrent_search_network(7, 6, dropout=0.2))
    found = run(Search(space, architect, Texts(space), [Stage(2)], schedule))
    assert found._sgd.param_groups[0]["lr"] == 0.5
    (result,) = found.learned()
    assert len(result.architecture.recurrent) == 8 and all(math.isfinite(row["valid_loss"]) for row in result.history)
    assert result.trajectory["recurrent"].diff(dim=0).abs().amax((1, 2)).min() > 0.01


def test_mixed_precision_learns_about_the_same():
    losses = {}
    for precision in ("float32", "bfloat16"):
        found = run(search("cells", stages=(Stage(2),), schedule=Schedule(0.1, precision=precision)))
        losses[precision] = [row["train_loss"] for row in found.history]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05) and losses["bfloat16"] != losses["float32"]


def test_validation_points_come_round_again_where_they_are_fewer():
    split = plane(120).hold_out(0.2, 0)
    assert split.y_valid is not None and (len(split.y_train), len(split.y_valid)) == (48, 12)
    sizes = []

    class Counting(Dropping):
        def forward(self, x, weights):
            sizes.append(len(x))
            return super().forward(x, weights)

    run(Search(made(Counting), Darts(), Halves(split, 10), [Stage(1)], FAST))
    assert sizes[1::2] == [10, 10, 10, 10, 8] and sizes[0::2] == [10, 2, 10, 2, 10]


def test_images_are_augmented_once_a_batch_from_the_generator():
    calls = []

    def augment(split, x, generator):
        calls.append(torch.rand(1, generator=generator).item())
        return split.inputs(x)

    space = made(cells)
    run(Search(space, Darts(order=2), Halves(images(), 10, augment), [Stage(1)], FAST))
    assert len(calls) == len(set(calls)) == 4


def test_what_is_measured_is_logged_and_progress_is_said():
    found = search("cells", stages=(Stage(2),), measure=lambda mixing: {"top": mixing.mean()["cell"].max().item()})
    assert found.progress().startswith("cell 1.61 nats ")
    run(found)
    assert all(0.2 < row["top"] < 1 for row in found.history)
    assert found.progress() == (
        f"cell {found.history[-1]['entropy_cell']:.2f} nats "
        f"{''.join(str(int(i)) for i in found.mixing.alphas['cell'].argmax(-1))}, "
        f"validation loss {found.history[-1]['valid_loss']:.3f}"
    )
    assert found.histories() == [found.history] and found.learned()[0].architecture.startswith("|")


def test_a_search_that_diverges_ends():
    found = run(search(schedule=Schedule(1e30, clip=1e30), stages=(Stage(50),)))
    assert found.diverged_epoch == found.epoch < 50 and found.learned()[0].diverged_epoch == found.epoch
    resumed = search(schedule=Schedule(1e30, clip=1e30), stages=(Stage(50),), resume=found.checkpoint())
    assert list(resumed.epochs()) == []


def test_what_the_original_finds_is_ranked_by_softmax():
    """Node 2 has two inputs whichever way; of node 3's three edges mean Dirichlet weights keep others than softmax."""
    beta = torch.zeros(14, 7)
    beta[2:5, 0] = torch.tensor([2.0, 0.0, 0.0])
    beta[3, 1:], beta[4, 1:] = -1.1, -1.2
    states = {}
    for faithful in (False, True):
        architect = DrNAS(faithful=faithful)
        space = made(darts_cells)
        mixing = architect.mixing(space.choices)
        for alpha in mixing.alphas.values():
            alpha.copy_(beta)
        found = space.derive(architect.ranking(mixing))
        states[faithful] = {state for _, state in found.normal[2:4]}
    assert states == {False: {1, 2}, True: {0, 2}}


def test_bad_input_is_one_line():
    with pytest.raises(ValueError, match="stages of one epoch or more"):
        Search(made(Dropping), Darts(), Halves(plane()), [])
    with pytest.raises(ValueError, match="stages of one epoch or more"):
        search(stages=(Stage(0),))
    with pytest.raises(ValueError, match="needs validation points"):
        Halves(spiral_split(100, 360.0, 0.2, 0))
    with pytest.raises(ValueError, match="warm_up is a share"):
        DrNAS(warm_up=10)


def test_presets_are_what_the_papers_say():
    for name, architect in ARCHITECTS.items():
        assert (architect.learning_rate, architect.weight_decay, architect.betas) == (3e-4, 1e-3, (0.5, 0.999)), name
        assert architect.faithful == name.endswith("(paper)") and architect.regulariser == 0
    assert ARCHITECTS["DARTS 2nd order"].order == 2 and ARCHITECTS["DrNAS progressive"].learns_in(11, 50)
    assert not ARCHITECTS["DrNAS progressive"].learns_in(10, 50) and ARCHITECTS["DrNAS"].learns_in(1, 50)
    assert [ARCHITECTS[n].passes for n in ("DARTS", "DARTS 2nd order", "DARTS exact")] == [1.0, 2.5, 1.5]


def test_halves_leave_a_last_point_out():
    """Batch norm cannot take it. A search on one point there cannot be."""
    split = plane()
    n = len(split.y_train)
    sizes = [len(x) for x, _ in Halves(split, n - 1)._batches(split.x_train, split.y_train, torch.Generator())]
    assert sizes == [n - 1]
    with pytest.raises(ValueError, match="two training and two validation points"):
        Halves(replace(split, x_train=split.x_train[:1], y_train=split.y_train[:1]))
