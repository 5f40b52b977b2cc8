"""Random search of a budget: what it costs, what it takes, and that it goes on where it was interrupted."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from depthsearch.data.augment import Augmentation
from depthsearch.data.batches import SplitBatches
from depthsearch.data.split import Split
from depthsearch.learning.single import Recipe, SingleLearner
from depthsearch.learning.trials import RandomSearch

COSTS = {"narrow": 1.0, "middle": 2.0, "wide": 5.0}
PLAIN = Augmentation(pad=0, flip=False)
RECIPE = Recipe(epochs=3, batch_size=8, learning_rate=0.1, drop_path=0.0)


def split():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 1, 4, 4, generator=generator)
    y = (x.mean((1, 2, 3)) > 0).long()
    return Split(x[:20], y[:20], x[:1], y[:1], x_valid=x[20:], y_valid=y[20:])


def draw(generator):
    return list(COSTS)[int(torch.randint(3, (), generator=generator))]


def build(name, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        width = int(COSTS[name])
        return nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.Tanh(), nn.Linear(width, 2))


def search(make=build, budget=1500.0, **options):
    """In five shares."""
    batches = SplitBatches(split(), 8, PLAIN)
    return RandomSearch(draw, make, COSTS.__getitem__, budget, 5, batches, RECIPE, **options)


def run(searching):
    list(searching.epochs())
    return searching.learned()[0]


def test_it_spends_its_budget_and_no_more():
    """A trial costs three passes over 20 points and one over 40; the first that does not fit ends it."""
    chosen = run(search())
    generator = torch.Generator().manual_seed(0)
    left, expected = 1500.0, []
    while True:
        name = draw(generator)
        torch.randint(2**31, (), generator=generator)
        if (cost := (3 * 20 + 40) * COSTS[name]) > left:
            break
        expected.append((name, cost))
        left -= cost
    assert [(trial.name, trial.cost) for trial in chosen.trials] == expected and len(expected) > 3
    assert chosen.history[-1]["operation_evaluations"] == 1500 - left and chosen.state() == {}


def test_a_budget_that_is_too_small_for_one_network_is_refused():
    with pytest.raises(ValueError, match="budget of 99 does not last"):
        search(budget=99.0)


def test_an_epoch_is_an_equal_share_of_the_budget():
    history = run(search()).history
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5]
    for row in history[:-1]:  # gone beyond by less than an epoch of the costliest network and its validation
        assert 300 * row["epoch"] <= row["operation_evaluations"] < 300 * row["epoch"] + (20 + 40) * 5
    errors = [row["valid_error"] for row in history if "valid_error" in row]
    assert errors == sorted(errors, reverse=True)


def test_the_best_on_validation_points_is_taken_and_its_numbers_are_those_of_training_it_alone():
    chosen = run(search())
    assert chosen.best == min(chosen.trials, key=lambda trial: (trial.valid_error, trial.valid_loss))
    assert chosen.history[-1]["valid_error"] == chosen.best.valid_error
    generator = torch.Generator().manual_seed(0)
    data = split()
    for trial in chosen.trials[:3]:
        name, seed = draw(generator), int(torch.randint(2**31, (), generator=generator))
        batches = SplitBatches(data, 8, PLAIN)
        learner = SingleLearner(build(name, seed), batches.train, RECIPE, seed)
        list(learner.epochs())
        with torch.no_grad():
            logits = learner.learned()[0].network(data.x_valid)
        assert trial.valid_error == pytest.approx((logits.argmax(-1) != data.y_valid).double().mean().item())
        assert trial.valid_loss == pytest.approx(F.cross_entropy(logits, data.y_valid).item(), abs=1e-6)
    assert min(trial.valid_error for trial in chosen.trials) < 0.3 and math.isfinite(chosen.best.valid_loss)


def test_resumed_at_any_epoch_it_ends_bit_for_bit_like_one_left_alone():
    whole = search(seed=3)
    kept = [whole.checkpoint()]
    for _ in whole.epochs():
        kept.append(whole.checkpoint())
    expected = whole.learned()[0]
    for saved in kept:
        found = run(search(seed=3, resume=saved))
        assert found == expected
    assert run(search(seed=4)).trials != expected.trials


def test_what_is_measured_is_of_the_best_so_far():
    chosen = run(search(measure=lambda name: {"architecture": name}))
    assert chosen.history[-1]["architecture"] == chosen.best.name
    searching = search()
    assert searching.progress() == "0 tried"
    run(searching)
    assert searching.progress().startswith(f"{len(chosen.trials)} tried, validation error ")


def spoilt(name, seed):
    network = build(name, seed)
    if name == "wide":
        network[-1].weight.data.fill_(math.nan)
    return network


def test_a_network_that_diverges_is_the_worst():
    chosen = run(search(spoilt))
    bad = [trial for trial in chosen.trials if trial.name == "wide"]
    assert bad and all(trial.valid_error == 1 and trial.valid_loss == math.inf for trial in bad)
    assert chosen.best.name != "wide" and all(trial.cost == (20 + 40) * 5 for trial in bad)
