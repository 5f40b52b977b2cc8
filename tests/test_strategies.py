"""The rivals: each against an oracle, then all of them through the scan."""

import copy

import pytest
import torch
from torch.func import functional_call

from depthsearch import conv_resnet, mlp_resnet
from depthsearch.data import Split, spiral_split
from depthsearch.evaluation import exact_posterior, predict
from depthsearch.objectives import log_likelihood
from depthsearch.scan import seeded
from depthsearch.strategies import darts
from depthsearch.strategies.bayesian import ExactPosterior, MarginalLikelihood, Normal, Poisson
from depthsearch.strategies.darts import Darts, second_order
from depthsearch.strategies.drnas import DirichletWeights, DrNAS
from depthsearch.strategies.mixing import MixtureWeights, gradient_of_alpha
from depthsearch.training import Method, Replicates, Training, train


def batch(n=12, r=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(r, n, 2, dtype=torch.float64, generator=generator)
    return x, torch.randint(0, 2, (r, n), generator=generator)


def replicates(method, max_depth=3, r=2, width=4):
    torch.manual_seed(0)
    networks = [mlp_resnet(max_depth, width).double() for _ in range(r)]
    depths = [method.posterior(max_depth).double() for _ in range(r)]
    for depth in depths:
        depth.alpha.copy_(torch.randn(max_depth + 1))
    return Replicates(networks, depths, Training(), method=method)


def run(method, epochs=60, seeds=(0,), max_depth=5, **training):
    networks = [seeded(seed, lambda: mlp_resnet(max_depth)) for seed in seeds]
    depths = [seeded(seed, lambda: method.posterior(max_depth)) for seed in seeds]
    splits = [spiral_split(800, 360.0, 0.2, seed).hold_out(0.25, seed) for seed in seeds]
    return train(networks, depths, splits, Training(epochs, **training), seeds, method=method)


# DARTS.


def exact_second_order(held, own, other, step):
    """The gradient in alpha through one step of SGD by autograd on the whole of it, a replicate after the other."""
    rows = []
    for r in range(len(held.state)):
        views = held.views(held.state[r].clone())
        alpha = views["depth.alpha"].clone().requires_grad_()
        names = [name for name, _ in held.network.named_parameters()]
        weights = {name: views[f"network.{name}"].clone().requires_grad_() for name in names}
        network = mlp_resnet(held.network.max_depth, held.network.stem.out_features).double()

        def value(weights, batch, network=network, alpha=alpha, r=r):
            logits = functional_call(network, weights, (batch[0][r],))
            mixed = (alpha.softmax(-1)[:, None, None] * logits).sum(0)
            return log_likelihood(mixed, batch[1][r]).mean()

        uphill = torch.autograd.grad(value(weights, own), list(weights.values()), create_graph=True)
        moved = {name: w + step * g for (name, w), g in zip(weights.items(), uphill, strict=True)}
        rows.append(torch.autograd.grad(value(moved, other), alpha)[0])
    return torch.stack(rows)


# With the paper's half-width no ReLU of these two changes sides within the difference; a smaller one does for any.
@pytest.mark.parametrize(("seed", "epsilon"), [(7, darts.EPSILON), (4, darts.EPSILON), (1, 1e-5), (2, 1e-5)])
def test_second_order_of_darts_is_autograd_through_the_virtual_step(seed, epsilon, monkeypatch):
    monkeypatch.setattr(darts, "EPSILON", epsilon)
    held = replicates(Darts(order=2))
    own, other, step = batch(8, seed=seed), batch(8, seed=seed + 50), 0.5
    before = held.state.clone()
    expected = exact_second_order(held, own, other, step)
    found = second_order(held, own, other, step)
    assert torch.equal(held.state, before)
    assert ((found - expected).norm(dim=1) < 1e-3 * expected.norm(dim=1)).all()
    (first,) = gradient_of_alpha(held, lambda: held.value(*other, n_train=1))
    assert (first - expected).norm() > 0.4 * expected.norm()  # so the second order is worth a test


def test_adam_on_alpha_is_torchs():
    weights = MixtureWeights(torch.tensor([0.3, -0.2, 0.1]))
    twin = torch.nn.Parameter(weights.alpha.clone())
    optimiser = torch.optim.Adam([twin], lr=0.01, betas=(0.5, 0.999), weight_decay=1e-3)
    for i in range(5):
        gradient = torch.randn(3, generator=torch.Generator().manual_seed(i))
        twin.grad = -gradient
        optimiser.step()
        weights.ascend(gradient, 0.01, 1e-3)
        torch.testing.assert_close(weights.alpha, twin.detach())


def test_darts_starts_near_uniform_and_takes_the_shallower_of_equals():
    alpha = torch.stack([Darts().posterior(100).alpha for _ in range(100)])
    assert 0.9e-3 < alpha.std() < 1.1e-3
    assert Darts().chosen_depth(torch.tensor([0.1, 0.4, 0.4, 0.1])) == 1


def test_mixing_features_is_mixing_logits_for_a_linear_head():
    x, y = batch()
    held = {mix: replicates(Darts(mix=mix)) for mix in ("features", "logits")}
    outputs = {mix: h.outputs(x) for mix, h in held.items()}
    torch.testing.assert_close(outputs["features"], outputs["logits"])
    network, weights = held["logits"].network, held["logits"].depth.weights()
    expected = sum(weights[:, d, None, None] * logits for d, logits in enumerate(network(x)))
    torch.testing.assert_close(outputs["features"][0], expected)
    steps = [h.gradient(x, y, 1)[1] for h in held.values()]
    torch.testing.assert_close(*steps)


@pytest.mark.parametrize("mix", ["features", "logits"])
def test_mixing_through_a_head_that_is_not_linear(mix):
    torch.manual_seed(0)
    network, method = conv_resnet(3, 1, 4, 8, 4).eval(), Darts(mix=mix)
    depth = MixtureWeights(torch.tensor([0.0, 60.0, 0.0, 0.0]))  # all weight on depth 1
    for i in range(3):
        network.head.norm.running_mean[i] = network.head.norm.running_mean[3] = 0.3
    x = torch.randn(5, 1, 10, 10)
    torch.testing.assert_close(method.outputs(network, depth, x)[0], network(x)[1])


# DrNAS.


def test_dirichlet_mean_and_gradient_are_the_analytic_ones():
    """E[w] = c / sum c and the gradient of E[v . w], c = elu(beta) + 1, from 2000 samples."""
    r, beta = 2000, torch.tensor([0.5, -0.7, 1.2, 0.0], dtype=torch.float64)
    weights = DirichletWeights(beta)
    weights.alpha = beta.expand(r, -1).clone().requires_grad_()
    weights.kept = torch.ones(r, 4, dtype=torch.float64)
    generators = [torch.Generator().manual_seed(seed) for seed in range(r)]
    weights.draw(generators)
    sample, v = weights.weights(), torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    torch.testing.assert_close(sample.sum(-1), torch.ones(r, dtype=torch.float64))
    (gradient,) = torch.autograd.grad((sample * v).sum(), weights.alpha)
    concentration = torch.where(beta > 0, beta + 1, beta.exp())
    mean = concentration / concentration.sum()
    slope = torch.where(beta > 0, torch.ones_like(beta), beta.exp())
    expected = slope * (v - (v * mean).sum()) / concentration.sum()
    for found, truth in ((sample.detach(), mean), (gradient, expected)):
        assert ((found.mean(0) - truth).abs() < 4 * found.std(0) / r**0.5).all()
        assert (found.std(0) / r**0.5 < 0.05).all()
    weights.forget()
    torch.testing.assert_close(weights.weights()[0], mean)


def test_drnas_keeps_the_best_half_and_runs_no_block_beyond_it():
    weights = DirichletWeights(torch.tensor([0.0, 3.0, 2.0, 0.0, -1.0]))
    weights.keep_best_half()
    assert weights.kept.tolist() == [1, 1, 1, 0, 0] and weights.deepest() == 2  # of equals the shallower
    assert weights.weights().shape == (3,) and weights().probs[3:].sum() == 0
    network = mlp_resnet(4)
    network.blocks[2] = None  # type: ignore
    DrNAS().outputs(network, weights, torch.randn(5, 2))
    assert DrNAS(warm_up=0.2).block_evaluations(weights, 10, 30, 40) == pytest.approx(0.9 * 10 * (4 * 20 + 2 * 10))


def test_drnas_has_two_stages_with_warm_ups():
    (trained,) = run(DrNAS(learning_rate=0.05), epochs=40)
    entropy = [row["depth_entropy"] for row in trained.history]
    assert len(set(entropy[:4])) == 1 and len(set(entropy[4:20])) == 16  # frozen, then learnt
    assert entropy[20] < entropy[19] - 0.3 and len(set(entropy[20:24])) == 1 and len(set(entropy[24:])) == 16
    assert trained.best_epoch > 20 and int(trained.depth.kept.sum()) == 3


# The posterior set in closed form.


@pytest.mark.parametrize("method", [ExactPosterior(), MarginalLikelihood()])
def test_q_is_the_exact_posterior_of_the_training_data(method):
    seeds = (0, 1)
    results = run(method, seeds=seeds, max_depth=4)
    for seed, result in zip(seeds, results, strict=True):
        split = spiral_split(800, 360.0, 0.2, seed).hold_out(0.25, seed)
        logits = predict(result.network, result.depth, split.x_train)
        expected = exact_posterior(logits, split.y_train, result.depth)
        torch.testing.assert_close(result.depth().probs.double(), expected.exp(), rtol=1e-3, atol=1e-6)


# What all share.

ALL = [
    Method(select_by="log_likelihood"),
    ExactPosterior(),
    MarginalLikelihood(),
    Poisson(),
    Normal(),
    Darts(learning_rate=0.02),
    Darts(learning_rate=0.02, order=2),
    DrNAS(learning_rate=0.02),
]


@pytest.mark.parametrize("method", ALL, ids=lambda m: f"{type(m).__name__}{getattr(m, 'order', '')}")
def test_a_rival_learns_and_a_replicate_does_not_depend_on_who_trains_beside_it(method):
    together = run(method, epochs=40, seeds=(0, 1, 2))
    (alone,) = run(method, epochs=40, seeds=(1,))
    (again,) = run(method, epochs=40, seeds=(1,))
    assert alone.elbo == again.elbo and alone.history == again.history
    torch.testing.assert_close(torch.tensor(together[1].elbo), torch.tensor(alone.elbo), rtol=2e-3, atol=1e-5)
    assert alone.elbo[-1] > alone.elbo[0]
    before = method.posterior(5)
    if any(True for _ in before.parameters()) or isinstance(before, MixtureWeights):
        assert (alone.depth().probs - before().probs).abs().max() > 1e-3


@pytest.mark.parametrize("method", [ALL[2], ALL[6], ALL[7]], ids=["evidence", "darts", "drnas"])
def test_a_resumed_run_ends_with_the_same_numbers(method):
    class Stop(Exception):
        pass

    kept = []

    def stop(checkpoints):
        kept[:] = checkpoints()
        if kept[0].epoch == 25:
            raise Stop

    def go(**options):
        network, depth = seeded(0, lambda: mlp_resnet(4)), seeded(0, lambda: method.posterior(4))
        split = spiral_split(400, 360.0, 0.2, 0).hold_out(0.25, 0)
        return train([network], [depth], [split], Training(40, batch_size=16), [0], method=method, **options)[0]

    whole = go()
    with pytest.raises(Stop):
        go(on_epoch=stop)
    resumed = go(resume=kept)
    assert resumed.elbo == whole.elbo and resumed.history == whole.history
    assert torch.equal(resumed.depth().probs, whole.depth().probs)


def test_validation_points_decide_only_when_they_are_looked_at():
    (trained,) = run(Method(select_by="log_likelihood", validate_every=7), epochs=30)
    assert [row["epoch"] for row in trained.history] == [7, 14, 21, 28, 30]
    best = max(trained.history, key=lambda row: row["valid_log_likelihood"])
    assert trained.best_epoch == best["epoch"]


def test_a_method_of_images_trains_through_the_same_loop():
    x = torch.randn(24, 1, 8, 8)
    split = Split(x, torch.arange(24) % 3, x, torch.arange(24) % 3).hold_out(0.25, 0)
    for method in ALL:
        network = seeded(0, lambda: conv_resnet(2, 1, 3, 8, 4, stem_kernel=3))
        twin = copy.deepcopy(network)
        (trained,) = train([network], [method.posterior(2)], [split], Training(4, batch_size=6), [0], method=method)
        assert len(trained.elbo) == 4 and all(map(torch.isfinite, torch.tensor(trained.elbo)))
        assert not torch.equal(trained.network.stem.conv.weight, twin.stem.conv.weight)
