import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from depthsearch.learning.single import Recipe, SingleLearner, predict
from depthsearch.studies.genotypes import PRESETS

EPOCHS = 7


class Small(nn.Module):
    """Two heads in training; says which drop path it was given."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.body, self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3), nn.Linear(5, 3)
        self.dropout, self.norm = nn.Dropout(dropout), nn.BatchNorm1d(5)
        self.drop_path, self.seen = 0.0, []

    def forward(self, x):
        self.seen.append(self.drop_path)
        state = self.dropout(self.norm(self.body(x)).relu())
        return (self.first(state), self.second(state)) if self.training else self.first(state)


def small(**options):
    torch.manual_seed(0)
    return Small(**options).double()


def points():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(20, 4, dtype=torch.float64, generator=generator)
    return x, torch.randint(0, 3, (20,), generator=generator)


def batches(generator):
    x, y = points()
    for rows in torch.randperm(20, generator=generator).split(8):
        yield x[rows] + 0.1 * torch.randn(len(rows), 4, dtype=torch.float64, generator=generator), y[rows]


def run(learner, until=EPOCHS):
    for epoch in learner.epochs():
        if epoch == until:
            break
    return learner


def schedulers(optimiser):
    lr = torch.optim.lr_scheduler
    return {
        "cosine": lr.CosineAnnealingLR(optimiser, EPOCHS),
        "exponential": lr.ExponentialLR(optimiser, 0.9),
    }


@pytest.mark.parametrize("schedule", ["cosine", "exponential"])
def test_schedules_are_those_of_torch(schedule):
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = schedulers(optimiser)[schedule]
    optimiser.param_groups[0]["lr"] = 0.3
    recipe = Recipe(epochs=EPOCHS, learning_rate=0.3, schedule=schedule, factor=0.9)
    for epoch in range(1, EPOCHS + 1):
        assert recipe.rate(epoch) == pytest.approx(optimiser.param_groups[0]["lr"], abs=1e-12), epoch
        optimiser.step()
        scheduler.step()
    warm = Recipe(epochs=EPOCHS, learning_rate=0.3, schedule=schedule, factor=0.9, warm_up=4)
    rates = [warm.rate(epoch) for epoch in range(1, EPOCHS + 1)]
    assert rates == pytest.approx([0.075, 0.15, 0.225, 0.3, *(recipe.rate(epoch) for epoch in range(5, EPOCHS + 1))])


def test_the_large_batches_of_imagenet_have_the_rates_of_drnas():
    """Its code: full rate times (e + 1) / 5 for the first five epochs e = 0.., then (245 - e) / 245, then a tail."""
    recipe = PRESETS["DrNAS-ImageNet"].recipe
    assert recipe.epochs == 250 and recipe.learning_rate == 0.5
    shares = [recipe.rate(e + 1) / 0.5 for e in (0, 4, 5, 200, 244, 245, 246, 249)]
    assert shares == pytest.approx([0.2, 1, 240 / 245, 45 / 245, 1 / 245, 1 / 245, 0.8 / 245, 0.2 / 245])
    few = [[Recipe(epochs=n, schedule="linear", learning_rate=1).rate(e + 1) for e in range(n)] for n in (1, 3)]
    assert few == [[1], [1, 1, 0.5]]


def test_drop_path_grows_linearly_and_is_set_before_each_epoch():
    network = small()
    run(SingleLearner(network, batches, Recipe(epochs=4, drop_path=0.2)), 4)
    assert network.seen == pytest.approx([p for p in (0, 0.05, 0.1, 0.15) for _ in range(3)])  # three batches each
    with pytest.raises(ValueError, match="Linear has no drop path; take a recipe with drop_path=0"):
        SingleLearner(nn.Linear(2, 2), batches)


def test_the_loss_is_that_of_a_double_sum():
    generator = torch.Generator().manual_seed(0)
    heads = [torch.randn(6, 4, dtype=torch.float64, generator=generator) for _ in range(2)]
    y = torch.randint(0, 4, (6,), generator=generator)
    by_hand = []
    for logits in heads:
        total = 0.0
        for i in range(6):
            normaliser = math.log(sum(math.exp(v) for v in logits[i].tolist()))
            for k in range(4):
                target = (1 - 0.1) * (k == y[i].item()) + 0.1 / 4
                total -= target * (logits[i, k].item() - normaliser)
        by_hand.append(total / 6)
    recipe = Recipe(label_smoothing=0.1, auxiliary_weight=0.4)
    assert recipe.loss((heads[0], heads[1]), y).item() == pytest.approx(by_hand[0] + 0.4 * by_hand[1], abs=1e-12)
    assert recipe.loss(heads[0], y).item() == pytest.approx(by_hand[0], abs=1e-12)
    assert Recipe().loss(heads[0], y).item() == pytest.approx(F.cross_entropy(heads[0], y).item(), abs=1e-12)


@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_an_epoch_is_that_of_a_loop_by_hand(clip):
    recipe = Recipe(epochs=3, learning_rate=0.2, momentum=0.7, weight_decay=0.01, clip=clip, drop_path=0.0)
    learner = run(SingleLearner(small(), batches, recipe, seed=5), 3)
    network, generator = small(), torch.Generator().manual_seed(5)
    parameters, velocity, norms = list(network.parameters()), None, []
    for epoch in range(3):
        rate, losses = 0.2 * (1 + math.cos(math.pi * epoch / 3)) / 2, []
        for x, y in batches(generator):
            first, second = network(x)
            loss = F.cross_entropy(first, y) + 0.4 * F.cross_entropy(second, y)
            gradients = torch.autograd.grad(loss, parameters)
            norms.append(math.sqrt(sum(g.square().sum().item() for g in gradients)))
            scale = min(1.0, clip / (norms[-1] + 1e-6)) if clip else 1.0
            changes = [scale * g + 0.01 * p.detach() for g, p in zip(gradients, parameters, strict=True)]
            velocity = changes if velocity is None else [0.7 * v + c for v, c in zip(velocity, changes, strict=True)]
            with torch.no_grad():
                for p, v in zip(parameters, velocity, strict=True):
                    p -= rate * v
            losses.append(loss.item() * len(y))
        assert learner.history[epoch]["train_loss"] == pytest.approx(sum(losses) / 20, abs=1e-6)
    assert max(norms) > 0.05  # so that the clipping is one
    for ours, theirs in zip(learner.network.parameters(), parameters, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


@pytest.mark.parametrize("until", [1, 4, EPOCHS])
def test_resumed_bit_for_bit(until, tmp_path):
    recipe = Recipe(epochs=EPOCHS, eval_every=3)

    def watch(network):
        return {"likely": predict(network, [points()])[0].sum().item()}

    whole = run(SingleLearner(small(dropout=0.3), batches, recipe, 2, watch))
    first = run(SingleLearner(small(dropout=0.3), batches, recipe, 2, watch), until)
    torch.save(first.checkpoint(), tmp_path / "c.pt")
    torch.rand(100)  # what others draw is nothing to it
    saved = torch.load(tmp_path / "c.pt", weights_only=True)
    second = run(SingleLearner(small(dropout=0.3), batches, recipe, 2, watch, resume=saved))
    assert second.history == whole.history and len(whole.history) == EPOCHS
    assert ["likely" in row for row in whole.history] == [epoch in (3, 6, 7) for epoch in range(1, 8)]
    for name, value in whole.network.state_dict().items():
        assert torch.equal(second.network.state_dict()[name], value), name
    other = run(SingleLearner(small(dropout=0.3), batches, recipe, 3, watch))
    assert other.history != whole.history


def test_it_draws_from_its_own_stream():
    torch.manual_seed(7)
    expected = torch.rand(3)
    network = small(dropout=0.3)
    torch.manual_seed(7)
    run(SingleLearner(network, batches, Recipe(epochs=1)), 1)
    assert torch.equal(torch.rand(3), expected)


def test_a_loss_that_is_no_number_ends_the_run():
    recipe = Recipe(epochs=5, learning_rate=1e200, clip=0, drop_path=0)
    learner = SingleLearner(small(), batches, recipe, watch=lambda network: {"watched": 1})
    epochs = list(learner.epochs())
    (fitted,) = learner.learned()
    assert fitted.diverged_epoch == epochs[-1] <= 2 and "watched" not in fitted.history[-1]
    assert list(SingleLearner(small(), batches, recipe, resume=learner.checkpoint()).epochs()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"schedule": "step"}, "no schedule 'step'; there are cosine, exponential, linear"),
        ({"batch_size": 1}, "batch_size must be 2 or more, got 1"),
        ({"drop_path": 1.0}, "drop_path must be below 1"),
        ({"label_smoothing": -0.1}, "label_smoothing must be 0 or more"),
        ({"weight_decay": float("nan")}, "weight_decay must be 0 or more, got nan"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
    ],
)
def test_recipes_that_make_no_sense(options, said):
    with pytest.raises(ValueError, match=said):
        Recipe(**options)
