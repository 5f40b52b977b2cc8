"""The rivals: each against an oracle, then all of them through the scan."""

import copy
import json
import shutil
from argparse import Namespace
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import scan_script
from scipy.stats import kendalltau
from torch.func import functional_call

from depthsearch import conv_resnet, mlp_resnet
from depthsearch.data.graphs import encode
from depthsearch.data.spirals import spiral_split
from depthsearch.data.split import Split
from depthsearch.depth.networks import stack_modules
from depthsearch.depth.objectives import log_likelihood
from depthsearch.learning import bilevel
from depthsearch.learning.loop import DepthLearner, train
from depthsearch.learning.method import Method, Selection, Training
from depthsearch.learning.replicates import Replicates
from depthsearch.measuring.choices import under_shift
from depthsearch.measuring.depths import exact_posterior, predict
from depthsearch.native import library
from depthsearch.reporting.figures import strategies as figures
from depthsearch.reporting.judging.purposes import ORDER, good_for, standing, when_to_use_which
from depthsearch.reporting.pages import strategies as page
from depthsearch.reporting.tables import comparison
from depthsearch.reporting.tables.baselines import BASELINES
from depthsearch.reporting.tables.files import known_runs, write_tables
from depthsearch.reporting.tables.schema import empty
from depthsearch.running import folders as runs
from depthsearch.running.scan import run_scan
from depthsearch.strategies import METHODS, SEARCHES, mixing, pool_search, predictor
from depthsearch.strategies.bayesian import ExactPosterior, MarginalLikelihood, Normal, Poisson
from depthsearch.strategies.darts import Darts
from depthsearch.strategies.drnas import DrNAS
from depthsearch.strategies.mixing import MixtureDepth, problem
from depthsearch.strategies.predictor import fit_predictor, predict_by_ridge, predict_labels
from depthsearch.studies.choices import ImageChoice, SpiralChoice, every_way
from depthsearch.studies.depth import seeded
from depthsearch.studies.pools import search_pools

BY_LIKELIHOOD = Selection(by="log_likelihood")


@pytest.mark.parametrize("preset", [SpiralChoice(max_depth=4), ImageChoice(max_depth=4)])
def test_everything_that_is_compared_is_selected_by_one_rule(preset):
    assert len({study.selection for study in every_way(preset, {10: range(3)})}) == 1


@pytest.mark.parametrize("preset", [SpiralChoice(kind="DDN"), ImageChoice(kind="DDN")])
def test_a_network_of_all_points_trains_on_those_that_others_hold_out(preset, tmp_path):
    part, everything = (replace(preset, points=points).split(3, tmp_path) for points in ("train", "all"))
    assert everything.x_valid is None and everything.y_valid is None and len(part.y_valid) > 0

    def points(*parts):
        return sorted((*x.flatten().tolist(), int(y)) for xs, ys in parts for x, y in zip(xs, ys, strict=True))

    both = (part.x_train, part.y_train), (part.x_valid, part.y_valid)
    assert points((everything.x_train, everything.y_train)) == points(*both)
    assert torch.equal(everything.x_test, part.x_test) and torch.equal(everything.y_test, part.y_test)


def batch(n=12, r=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(r, n, 2, dtype=torch.float64, generator=generator)
    return x, torch.randint(0, 2, (r, n), generator=generator)


def replicates(method, max_depth=3, r=2, width=4, compiled=False):
    torch.manual_seed(0)
    networks = [mlp_resnet(max_depth, width).double() for _ in range(r)]
    depths = [method.posterior(max_depth).double() for _ in range(r)]
    for depth in depths:
        depth.mixing.alphas["depth"].copy_(torch.randn(1, max_depth + 1))
    return Replicates(networks, depths, Training(), compiled, method)


def run(method, epochs=60, seeds=(0,), max_depth=5, selection=BY_LIKELIHOOD):
    networks = [seeded(seed, lambda: mlp_resnet(max_depth)) for seed in seeds]
    depths = [seeded(seed, lambda: method.posterior(max_depth)) for seed in seeds]
    splits = [spiral_split(800, 360.0, 0.2, seed).hold_out(0.25, seed) for seed in seeds]
    return train(networks, depths, splits, Training(epochs), seeds, method=method, selection=selection)


# DARTS.


def exact_second_order(held, own, other, step, momentum):
    """The gradient in alpha through one step of SGD by autograd on the whole of it, a replicate after the other."""
    rows = []
    for r in range(len(held.state)):
        views = held.views(held.state[r].clone())
        alpha = views["depth.mixing._of.depth.alpha"][0].clone().requires_grad_()
        names = [name for name, _ in held.network.named_parameters()]
        weights = {name: views[f"network.{name}"].clone().requires_grad_() for name in names}
        network = mlp_resnet(held.network.max_depth, held.network.stem.out_features).double()

        def value(weights, batch, network=network, alpha=alpha, r=r):
            logits = functional_call(network, weights, (batch[0][r],))
            mixed = (alpha.softmax(-1)[:, None, None] * logits).sum(0)
            return log_likelihood(mixed, batch[1][r]).mean()

        uphill = torch.autograd.grad(value(weights, own), list(weights.values()), create_graph=True)
        before = held.velocity[r].split([w.numel() for w in weights.values()])
        moved = {
            name: w + step * (momentum * b.view(w.shape) + g)
            for (name, w), g, b in zip(weights.items(), uphill, before, strict=True)
        }
        rows.append(torch.autograd.grad(-value(moved, other), alpha)[0])
    return torch.stack(rows).unsqueeze(1)


# With the paper's half-width no ReLU of the first changes sides within the difference; a smaller one does for any.
@pytest.mark.parametrize(("seed", "half_width"), [(46, bilevel.HALF_WIDTH), (4, 1e-5), (1, 1e-5), (2, 1e-5)])
def test_second_order_of_darts_is_autograd_through_the_virtual_step(seed, half_width, monkeypatch):
    monkeypatch.setattr(bilevel, "HALF_WIDTH", half_width)
    method = Darts(order=2)
    held = replicates(method)
    held.velocity.copy_(torch.randn(held.velocity.shape, generator=torch.Generator().manual_seed(seed)) / 10)
    own, other, held.learning_rate = batch(8, seed=seed), batch(8, seed=seed + 50), 0.5
    before = held.state.clone()
    expected = exact_second_order(held, own, other, 0.5, held.training.momentum)
    asked = problem(held, own, other, ())
    found = method.gradients(asked, method._ahead(held))[1]["depth"]
    assert torch.equal(held.state, before)
    assert ((found - expected).flatten(1).norm(dim=1) < 1e-3 * expected.flatten(1).norm(dim=1)).all()
    exact = Darts(order="exact").gradients(asked, method._ahead(held))[1]["depth"]
    torch.testing.assert_close(exact, expected, rtol=0, atol=1e-12)
    first = Darts().gradients(asked, method._ahead(held))[1]["depth"]
    assert (first - expected).norm() > 0.3 * expected.norm()  # so the second order is worth a test


def test_what_is_compiled_is_not_differentiated_twice():
    """Neither by a method that asks for compiled networks, nor, silently wrong, by one that has them all the same."""
    if library("chain", torch.float64) is None:
        pytest.skip("no C++ compiler")
    own, other, method, found = batch(8), batch(8, seed=1), Darts(order="exact"), []
    for compiled in (False, True):
        held = replicates(method, compiled=compiled)
        found.append(method.gradients(problem(held, own, other, ()), method._ahead(held))[1]["depth"])
    assert torch.equal(*found)
    held.network.fused = True
    with pytest.raises(RuntimeError, match="no second derivative: train with compiled=False"):
        method.gradients(problem(held, own, other, ()), method._ahead(held))
    assert replicates(Darts(order=2), compiled=True).network.fused
    split = Split(own[0][0], own[1][0], other[0][0], other[1][0])
    said = DepthLearner([mlp_resnet(3)], [method.posterior(3)], [split], Training(2), [0], compiled=True, method=method)
    assert said.about() == {"compiled": False}


def test_darts_starts_near_uniform_and_takes_the_shallower_of_equals():
    alpha = torch.stack([Darts().posterior(100).mixing.alphas["depth"] for _ in range(100)])
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
    depth = method.posterior(3)
    depth.mixing.alphas["depth"].copy_(torch.tensor([[0.0, 60.0, 0.0, 0.0]]))  # all weight on depth 1
    for i in range(3):
        network.head.norm.running_mean[i] = network.head.norm.running_mean[3] = 0.3
    x = torch.randn(5, 1, 10, 10)
    torch.testing.assert_close(method.outputs(network, depth, x)[0], network(x)[1])


# DrNAS.


@pytest.mark.parametrize("method", [Darts(order=2), DrNAS(weight_decay=0.0)])
def test_what_is_kept_is_read_once_an_epoch(method, monkeypatch):
    """Reading it waits for a GPU."""
    reads, read = [], MixtureDepth.deepest
    monkeypatch.setattr(MixtureDepth, "deepest", lambda depth: reads.append(1) or read(depth))
    split = spiral_split(400, 360.0, 0.1, 0)
    network, depth = mlp_resnet(4, 6), method.posterior(4)
    replicates = Replicates([network], [depth], Training(epochs=4, batch_size=8), method=method)
    data, generators = Split.stack([split]), [torch.Generator().manual_seed(0)]
    deepest = []
    for replicates.epoch in range(1, 5):
        method.run_epoch(replicates, data, generators)
        method.end_epoch(replicates, data)
        deepest.append(len(reads))
    assert deepest == [1, 2, 3, 4]
    assert mixing.mixture_of(replicates).weights().shape[-1] - 1 == read(mixing.mixture_of(replicates))


def test_drnas_keeps_the_best_half_and_runs_no_block_beyond_it():
    weights = DrNAS().posterior(4)
    weights.mixing.alphas["depth"].copy_(torch.tensor([[0.0, 3.0, 2.0, 0.0, -1.0]]))
    weights.mixing.keep_best(3)
    assert weights.mixing.masks["depth"].tolist() == [[1, 1, 1, 0, 0]] and weights.deepest() == 2  # the shallower
    assert weights.weights().shape == (3,) and weights().probs[3:].sum() == 0
    network = mlp_resnet(4)
    network.blocks[2] = None  # type: ignore
    DrNAS().outputs(network, weights, torch.randn(5, 2))
    # Of 40 epochs alpha is learnt in 5 to 20 and 25 to 40, each time on the half that the network does not see.
    halves = 4 * (20 + 16) + 2 * (10 + 6)
    assert DrNAS(warm_up=0.2).block_evaluations(weights, 10, 30, 40) == pytest.approx(10 * halves / 2)
    assert DrNAS(warm_up=0.2, order=2).block_evaluations(weights, 10, 10, 40) == 10 * 4 * (10 + 6 * 4) / 2


def test_what_bayesian_rivals_pay_for():
    """Blocks run forward x points in 3 epochs of 10 points at D = 4, twice where q is in closed form."""
    paid = {"LDN": 120, "Poisson": 120, "normal": 120, "exact posterior": 240, "marginal likelihood": 240}
    for name, evaluations in paid.items():
        assert METHODS[name].block_evaluations(METHODS[name].posterior(4), 10, 3, 3) == evaluations, name


def test_blocks_are_run_up_to_the_deepest_that_any_replicate_keeps():
    depths = [DrNAS().posterior(3) for _ in range(2)]
    for depth, alpha in zip(depths, ([2.0, 2.0, 0.0, 0.0], [0.0, 0.0, 2.0, 2.0]), strict=True):
        depth.mixing.alphas["depth"].copy_(torch.tensor([alpha]))
        depth.mixing.keep_best(2)
    stacked = stack_modules(depths)
    assert stacked.deepest() == 3
    torch.testing.assert_close(stacked.weights(), torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]))


def test_drnas_has_two_stages_with_warm_ups():
    method = DrNAS(learning_rate=0.05, weight_decay=0.0, regulariser=1e-3, warm_up=0.2)
    (trained,) = run(method, epochs=40, selection=replace(BY_LIKELIHOOD, settle=0.5))
    entropy = [row["depth_entropy"] for row in trained.history]
    assert len(set(entropy[:4])) == 1 and len(set(entropy[4:20])) == 16  # frozen, then learnt
    assert entropy[20] < entropy[19] - 0.3 and len(set(entropy[20:24])) == 1 and len(set(entropy[24:])) == 16
    assert trained.best_epoch > 20 and int(trained.depth.mixing.masks["depth"].sum()) == 3


@pytest.mark.parametrize(
    ("epochs", "learnt"), [(15, [*range(3, 8), *range(10, 16)]), (40, [*range(5, 21), *range(25, 41)]), (1, [])]
)
def test_every_epoch_is_of_one_of_the_two_stages(epochs, learnt):
    assert [e for e in range(1, epochs + 1) if DrNAS(warm_up=0.2).learns_at(e, epochs)] == learnt


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
    Method(),
    ExactPosterior(),
    MarginalLikelihood(),
    Poisson(),
    Normal(),
    Darts(learning_rate=0.02),
    Darts(learning_rate=0.02, order=2),
    DrNAS(learning_rate=0.02, weight_decay=0.0, regulariser=1e-3, warm_up=0.2),
]


@pytest.mark.slow
@pytest.mark.parametrize("method", ALL, ids=lambda m: f"{type(m).__name__}{getattr(m, 'order', '')}")
def test_a_rival_learns_and_a_replicate_does_not_depend_on_who_trains_beside_it(method):
    together = run(method, epochs=40, seeds=(0, 1, 2))
    (alone,) = run(method, epochs=40, seeds=(1,))
    (again,) = run(method, epochs=40, seeds=(1,))
    assert alone.objective == again.objective and alone.history == again.history
    torch.testing.assert_close(torch.tensor(together[1].objective), torch.tensor(alone.objective), rtol=2e-3, atol=1e-5)
    assert alone.objective[-1] > alone.objective[0]
    before = method.posterior(5)
    if any(True for _ in before.parameters()) or isinstance(before, MixtureDepth):
        assert (alone.depth().probs - before().probs).abs().max() > 1e-3


@pytest.mark.parametrize("method", [ALL[2], ALL[6], ALL[7]], ids=["evidence", "darts", "drnas"])
def test_a_resumed_run_ends_with_the_same_numbers(method):
    class Stop(Exception):
        pass

    kept = []

    def stop(learner):
        kept[:] = learner.checkpoint()
        if learner.epoch == 25:
            raise Stop

    def go(**options):
        network, depth = seeded(0, lambda: mlp_resnet(4)), seeded(0, lambda: method.posterior(4))
        split = spiral_split(400, 360.0, 0.2, 0).hold_out(0.25, 0)
        training = Training(40, batch_size=16)
        return train([network], [depth], [split], training, [0], method=method, selection=BY_LIKELIHOOD, **options)[0]

    whole = go()
    with pytest.raises(Stop):
        go(on_epoch=stop)
    resumed = go(resume=kept)
    assert resumed.objective == whole.objective and resumed.history == whole.history
    assert torch.equal(resumed.depth().probs, whole.depth().probs)


def test_validation_points_decide_only_when_they_are_looked_at():
    (trained,) = run(Method(), epochs=30, selection=Selection(by="log_likelihood", every=7))
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
        assert len(trained.objective) == 4 and all(map(torch.isfinite, torch.tensor(trained.objective)))
        assert not torch.equal(trained.network.stem.conv.weight, twin.stem.conv.weight)


# The searches of a pool.

WIDTHS = (10, 20, 40)
SIZES = [(depth, width) for width in WIDTHS for depth in range(13)]


def pool(best=(7, 20)):
    """Every size, the validation log-likelihood falling with the distance from the best; costs that tell rows apart."""
    rows = [
        {
            "max_depth": depth,
            "width": width,
            "valid_log_likelihood": -((depth - best[0]) ** 2) / 20 - abs(width - best[1]) / 10,
            "seconds": 1.0 + depth,
            "block_evaluations": 100.0 * depth,
            "networks": 1,
        }
        for depth, width in SIZES
    ]
    return pd.DataFrame(rows).sort_values(["max_depth", "width"], ignore_index=True)


def test_a_chain_is_encoded_in_slots():
    code = encode([(2, 20), (0, 10)], max_depth=3, widths=WIDTHS)
    assert code.shape == (2, 5, 4 + 3)
    assert code[0, :, :4].argmax(-1).tolist() == [0, 1, 1, 2, 3] and code[1, :, :4].argmax(-1).tolist() == [
        0,
        2,
        2,
        2,
        3,
    ]
    assert (code[0, :, 4:] == torch.tensor([0, 1, 0])).all() and (code.sum(-1) == 2).all()


@pytest.mark.slow
def test_the_predictor_overfits_20_settings_and_ranks_the_rest():
    """A grid whose labels grow with depth and width: fitted to 20 of them."""
    truth = torch.tensor([depth / 6 + (0.5, 1.0, 1.5)[WIDTHS.index(width)] for depth, width in SIZES])
    order = torch.randperm(len(SIZES), generator=torch.Generator().manual_seed(0)).tolist()
    known, rest = order[:20], order[20:]
    labels = (truth - truth[known].mean()) / truth[known].std()
    network = fit_predictor([SIZES[i] for i in known], labels[known].tolist(), 12, WIDTHS)
    fitted, found = (predict_labels(network, [SIZES[i] for i in which], 12, WIDTHS) for which in (known, rest))
    assert ((torch.from_numpy(fitted) - labels[known]) ** 2).mean() < 0.01
    assert kendalltau(found, truth[rest]).statistic > 0.9


def test_every_label_plays_a_part_in_an_epoch_of_the_predictor():
    """Of three in batches of two; the labels are too few for one to be left out."""
    sizes = [(0, 10), (1, 20), (2, 40)]

    def predicted(labels):
        network = fit_predictor(sizes, labels, 2, WIDTHS, epochs=1, batch_size=2)
        return predict_labels(network, sizes, 2, WIDTHS)

    zero = predicted([0.0] * 3)
    for place in range(3):
        assert not np.array_equal(predicted([9.0 if i == place else 0.0 for i in range(3)]), zero)


def test_the_predictor_sees_labels_in_standard_deviations_of_its_sample(monkeypatch):
    """Labels 5, 7 and 9 have mean 7 and standard deviation 2, of a sample; errors are in that unit."""
    labels = np.array([0.0, 5.0, 7.0, 9.0, 3.0, 11.0])
    table = pool().iloc[: len(labels)].assign(valid_log_likelihood=labels)
    monkeypatch.setattr(pool_search, "_draw", lambda table, *_: table.iloc[1:4])
    seen = []
    monkeypatch.setattr(predictor, "fit_predictor", lambda _, labels, *__: seen.extend(labels))
    monkeypatch.setattr(predictor, "predict_labels", lambda _, rest, *__: np.zeros(len(rest)))
    found = pool_search.predictor(table, 20, 0)
    assert seen == pytest.approx([-1, 0, 1])
    assert found.extra["predictor_mse"] == pytest.approx((3.5**2 + 2**2 + 2**2) / 3)


def test_ridge_regression_by_hand():
    """Known features are -1 and 1 each, in their own deviations; (X'X + 1) w = X'y gives w = 2/5 each."""
    found = predict_by_ridge([(0, 10), (2, 40)], [4.0, 6.0], [(1, 20), (2, 20), (2, 40), (4, 40)])
    assert found == pytest.approx([5, 5.4, 5.8, 6.6])


@pytest.mark.slow
def test_searches_choose_by_validation_and_pay_for_what_they_train():
    table = pool()
    found = {name: search(table, 20, seed=0) for name, search in SEARCHES.items()}
    assert (found["manual"].chosen["max_depth"], found["manual"].costs()["networks"]) == (7, 13)
    assert found["manual"].costs()["block_evaluations"] == 100 * sum(range(13))
    assert found["random"].costs()["networks"] == found["predictor"].costs()["networks"] == 20
    for name, result in found.items():
        assert result.chosen["valid_log_likelihood"] == result.trained["valid_log_likelihood"].max(), name
        assert result.costs() == SEARCHES[name](table, 20, seed=0).costs(), name  # seeded
    assert found["random"].costs() != SEARCHES["random"](table, 20, seed=1).costs()
    assert set(found["predictor"].extra) == {"predictor_tau", "predictor_mse", "ridge_tau", "ridge_mse"}


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_a_pool_of_a_few_networks_is_searched_too(n):
    table = pool().head(n)
    for name, search in SEARCHES.items():
        found = search(table, 10, seed=0)
        assert found.chosen["valid_log_likelihood"] == found.trained["valid_log_likelihood"].max(), name
    assert len(pool_search.predictor(table, 10, 0).trained) == n
    assert bool(pool_search.predictor(table, 10, 0).extra) == (n == 4)


def test_shift_leaves_unmoved_points_alone_and_moves_the_others():
    split = spiral_split(400, 360.0, 0.2, 0)
    network, depth = mlp_resnet(3), Method().posterior(3)
    rows = under_shift(Method(), network, depth, split)
    assert [row["shift"] for row in rows][:2] == [0.0, 0.25]
    assert rows[0]["auroc"] == pytest.approx(0.5)
    assert len({row["log_likelihood"] for row in rows}) == len(rows)
    images = torch.zeros(6, 1, 9, 9, dtype=torch.uint8)
    images[:, :, 1] = 255
    split = Split(images, torch.arange(6) % 3, images, torch.arange(6) % 3, mean=(0.3,), std=(0.3,))
    rows = under_shift(Method(), conv_resnet(1, 1, 3, 8, 4, stem_kernel=3), Method().posterior(1), split)
    assert [row["shift"] for row in rows] == list(range(0, 181, 15))


# From the scan to the page.


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A results folder with a tiny comparison in it."""
    results = tmp_path_factory.mktemp("results")
    out = scan_script("0", "--quick", "--epochs", 6, "--repeats", 2, "--results", results, name="strategies")
    assert out.returncode == 0, out.stderr
    assert "not there yet" not in out.stdout
    return results


@pytest.mark.slow
def test_the_figure_of_errors_is_in_percent(compared):
    tables = comparison.collect(compared)
    axes = figures.quality(tables, "error").axes[0]  # digits, searched first
    rows = tables["strategies"].query("data_set == 'digits'").groupby("strategy")["searched_error"].mean()
    assert axes.get_xlabel() == ("error (%), linear below 1" if axes.get_xscale() == "symlog" else "error (%)")
    drawn = np.asarray(axes.lines[0].get_xdata(), dtype=float)
    np.testing.assert_allclose(drawn, 100 * rows.reindex([*METHODS, *SEARCHES]))


@pytest.mark.slow
def test_the_scan_compares_all_strategies_in_all_modes(compared):
    tables = comparison.with_retrained(known_runs(compared, comparison.collect))
    rows = tables["strategies"]
    assert set(rows["strategy"]) == {*METHODS, *SEARCHES} and set(rows["data_set"]) == {"spirals360", "digits"}
    assert (rows.groupby(["data_set", "strategy"]).size() == 2).all()
    for column in ("searched_ece", "retrained_error", "retrained_log_likelihood", "regret", "block_evaluations"):
        assert rows[column].notna().all(), column
    at_preset = rows[rows["width"] == rows["preset_width"]]
    assert (at_preset["regret"] >= 0).all()
    best = at_preset[at_preset["depth"] == at_preset["best_depth"]]
    assert (best["regret"] == 0).all()
    manual = rows[(rows["strategy"] == "manual") & (rows["data_set"] == "spirals360")]
    mine = tables["strategies_pool"].query("data_set == 'spirals360' and points == 'train' and width == 10")
    for _, row in manual.iterrows():
        trained = mine[mine["seed"] == row["seed"]]
        assert row["networks"] == 7 and row["block_evaluations"] == trained["block_evaluations"].sum()
        assert row["depth"] == trained.loc[trained["valid_log_likelihood"].idxmax(), "max_depth"]
    assert set(tables["strategies_shift"].groupby(["data_set", "strategy", "seed"]).size()) == {10, 13}
    assert not list(compared.rglob("*.pkl"))


@pytest.mark.slow
def test_a_finished_comparison_is_left_alone_and_the_tables_survive_the_disk(compared, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in compared.rglob("summary.json")}
    out = scan_script("0", "--quick", "--epochs", 6, "--repeats", 2, "--results", compared, name="strategies")
    assert out.returncode == 0 and "are finished" in out.stdout
    assert before == {path: path.stat().st_mtime_ns for path in compared.rglob("summary.json")}
    tables = comparison.with_retrained(known_runs(compared, comparison.collect))
    write_tables(tmp_path, tables)
    again = comparison.with_retrained(known_runs(tmp_path, comparison.collect))
    for name in comparison.TABLES:
        pd.testing.assert_frame_equal(again[name], tables[name], rtol=1e-3, check_dtype=False)
    with pytest.raises(FileNotFoundError):
        comparison.read_tables(tmp_path / "nowhere")


@pytest.mark.slow
def test_the_verdict_does_not_need_the_pool(compared):
    """A scan that was stopped has its longest runs first, and those of the pool not yet."""
    tables = comparison.read_tables(compared)
    text = page.strategies_part(tables | {"strategies_pool": empty("strategies_pool")}, [])
    assert "### digits" in text and "minutes of training in all" in text


@pytest.mark.slow
def test_the_verdict_is_computed(compared):
    tables = comparison.read_tables(compared)
    text = page.strategies_part(tables, []) + page.details(tables, empty("strategies_tuning"))
    assert "### spirals" in text and "### digits" in text and "nan" not in text.lower()
    assert all(f"| {name} |" in text for name in ORDER)


@pytest.mark.slow
def test_runs_that_diverged_are_counted_and_never_chosen(compared, tmp_path):
    """The network that manual search chose, and one LDN, turned into runs that diverged."""
    shutil.copytree(compared, tmp_path, dirs_exist_ok=True)
    place = tmp_path / "runs" / "scan_strategies" / "spirals360"
    (manual,) = (path / "version_0" for path in place.glob("manual_depth6_width10_train_epochs6-*"))
    chosen = runs.read_run(manual)[1]["pruned_depth"]
    for name in (f"DDN_depth{chosen}_width10_train_epochs6", "LDN_depth6_width10_train_epochs6"):
        (path,) = place.glob(f"{name}-*/version_0/summary.json")
        whole = json.loads(path.read_text())
        left = {"diverged_epoch": 3, "epochs": 3, "best_epoch": 2, "history": [], "seconds": whole["seconds"]}
        path.write_text(json.dumps(left))
    shutil.rmtree(manual)
    options = ("0", "--quick", "--epochs", 6, "--repeats", 2, "--results", tmp_path, "--datasets", "spirals360")
    assert scan_script(*options, name="strategies").returncode == 0
    assert runs.read_run(manual)[1]["pruned_depth"] != chosen
    tables = comparison.with_retrained(known_runs(tmp_path, comparison.collect))
    rows = tables["strategies"].query("strategy == 'LDN' and data_set == 'spirals360'").set_index("seed")
    assert rows["diverged_epoch"].tolist()[0] == 3 and rows["diverged_epoch"].isna().tolist() == [False, True]
    assert page.cost_table(tables["strategies"]).set_index("strategy")["diverged"].to_dict()["LDN"] == 1
    assert page.differences(tables["strategies"].query("data_set == 'spirals360'"), "searched_ece")["DARTS"][3] == 1


def test_the_verdict_on_numbers_made_up():
    """DARTS is 0.1 nats worse than LDN at every repeat, a guess much worse, the rest as good; manual search dearer."""
    rows = []
    for seed in range(4):
        for name in ("LDN", "DARTS", "manual", "always D", "uniform guess"):
            value = -0.1 - 0.01 * seed - (0.1 if name == "DARTS" else 0)
            value -= 0.5 + 0.001 * seed**2 if name == "uniform guess" else 0
            row = {
                "data_set": "spirals720",
                "strategy": name,
                "seed": seed,
                "regret": -value - 0.1,
                "searched_ece": 0.1,
                "depth": 5 if name == "LDN" else seed,
            }
            row |= {f"{mode}_log_likelihood": value for mode in comparison.MODES}
            rows.append(row | {"block_evaluations": 100.0 if name == "manual" else 10.0})
    table = pd.DataFrame(rows)
    mean, low, high, n = page.differences(table, "retrained_log_likelihood")["DARTS"]
    assert (round(mean, 6), n) == (-0.1, 4) and high - low < 1e-6
    said = when_to_use_which(table, pd.DataFrame())
    assert "no strategy is seen to be better than always D. Least regret of a strategy: LDN" in said[0]
    assert said[0].endswith("; LDN chose 5 in all 4 runs.")
    some = table.assign(depth=table["depth"].mask((table["strategy"] == "LDN") & (table["seed"] == 0)))
    assert when_to_use_which(some, pd.DataFrame())[0].endswith("; LDN chose 5 in all 3 runs.")
    two = when_to_use_which(table.assign(depth=5 + table["seed"] % 2), pd.DataFrame())
    assert two[0].endswith("; LDN chose 5 or 6 in all 4 runs.")
    again = when_to_use_which(table.assign(depth=table["seed"]), pd.DataFrame())
    assert again[0] == said[0].replace("; LDN chose 5 in all 4 runs", "") and again[1:] == said[1:]
    assert "not seen to be worse: manual, always D" in said[1] and "DARTS" not in said[1]
    said = when_to_use_which(table[table["strategy"] != "always D"], pd.DataFrame())
    assert "each guess is beaten by a strategy" in said[0]
    said = when_to_use_which(table[~table["strategy"].isin(list(BASELINES))], pd.DataFrame())
    assert said[0].startswith("To choose a depth and retrain at it: least regret: LDN")


def test_the_best_and_what_is_not_shown_to_be_worse():
    """DrNAS is far below on average by one bad run of four, DARTS a little in all; no more than chance is no good."""
    values = {"LDN": (1.0, 1.1, 1.2, 1.3), "DARTS": (0.9, 1.01, 1.09, 1.2), "DrNAS": (1.0, 1.1, 1.2, -9.0)}
    rows = pd.DataFrame(
        [
            {"data_set": "digits", "strategy": name, "seed": seed, "x": value}
            for name, of in values.items()
            for seed, value in enumerate(of)
        ]
    )
    assert standing(rows, "x") == ("LDN", ["DrNAS"], [])
    assert standing(rows, "x", chance=0.9) == ("LDN", ["DrNAS"], ["DrNAS"])
    assert standing(rows, "x", chance=1.1) == ("LDN", ["DrNAS"], ["LDN", "DrNAS"])
    assert standing(rows[rows["seed"] < 3], "x") == ("LDN", ["DARTS", "DrNAS"], [])  # three repeats say nothing
    lucky = rows[(rows["strategy"] != "DARTS") | (rows["seed"] == 3)]  # of one repeat, and no longer the best for it
    assert standing(lucky.assign(x=lucky["x"].where(lucky["strategy"] != "DARTS", 9.0)), "x").best == "LDN"


def test_some_strategies_alone(tmp_path):
    options = ("--datasets", "digits", "--strategies", "DrNAS", "DDN", "--repeats", 1, "--dry-run")
    out = scan_script("0", *options, "--results", tmp_path, name="strategies")
    kinds = {line.split("/")[-2].partition("_")[0] for line in out.stdout.splitlines() if "version_" in line}
    assert kinds == {"DrNAS", "DDN"}


def test_what_is_best_is_named_though_it_may_be_chance():
    values = {"LDN": (0.5, 0.5, 0.5, 1.3), "normal": (0.56, 0.57, 0.56, 0.57)}
    table = [
        {"data_set": "digits", "strategy": name, "seed": seed, "shift": 1.0, "auroc": value}
        for name, of in values.items()
        for seed, value in enumerate(of)
    ]
    shift = pd.DataFrame(table).assign(log_likelihood=-1.0, ece=0.1)
    rows = shift.assign(regret=0.0, searched_ece=0.1, block_evaluations=1.0, searched_log_likelihood=-1.0)
    rows = rows.assign(truncated_log_likelihood=-1.0, depth=rows["seed"])
    said = when_to_use_which(rows, shift)[-1]
    assert said.endswith(
        "LDN (0.7 AUROC, of which 0.5 is chance); not seen to be worse: normal; of these not seen above chance: LDN."
    )
    assert good_for(rows, shift)["noticing inputs off the data (AUROC)"] == ["normal"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--datasets", "spirals123"], "no data set 'spirals123' in this grid; there are spirals180"),
        (["--epochs", "0"], "--epochs must be 1 or more"),
        (["--strategies", "LDN", "luck"], "no strategy 'luck' in this grid; there are LDN, marginal likelihood"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, said, tmp_path):
    out = scan_script("0", *arguments, "--results", tmp_path, name="strategies")
    assert out.returncode == 2 and len(out.stderr.splitlines()) == 1 and said in out.stderr


def test_dry_run_lists_the_grid(tmp_path):
    options = ("0", "--dry-run", "--repeats", 8, "--results", tmp_path, "--datasets", "spirals180")
    lines = scan_script(*options, name="strategies").stdout.splitlines()
    assert lines[-1] == f"{8 * (9 + 2 * (21 + 11 + 6))} runs missing"


def test_a_pool_that_grew_is_searched_anew(tmp_path):
    small = every_way(SpiralChoice(stop_angle=360.0, max_depth=5, width=4, epochs=2), {})
    large = every_way(SpiralChoice(stop_angle=360.0, max_depth=5, width=4, epochs=2), {6: range(6)})
    found = {}
    for name, grid in (("small", small), ("large", large), ("again", large)):
        own = [study for study in grid if study.kind in ("LDN", "DDN")]
        options = ["0", "--repeats", "1", "--epochs", "2", "--workers", "1", "--results", str(tmp_path)]
        run_scan("scan_strategies", own, "group", own, flag="datasets", argv=options, then=search_pools)
        rows = comparison.collect(tmp_path)["strategies"]
        found[name] = rows[rows["strategy"] == "random"].set_index("configuration")["networks"].to_dict()
    assert len(found["small"]) == 1 and len(found["large"]) == 2 and found["again"] == found["large"]
    assert set(found["small"].items()) < set(found["large"].items())


@pytest.mark.parametrize(("own", "needed"), [("LDN", "DDN"), ("DDN", "LDN")])
def test_searches_say_what_they_need_beside_themselves(own, needed, tmp_path, capsys):
    wanted = [(study, []) for study in every_way(SpiralChoice(), {}) if study.kind == own]
    search_pools(wanted, tmp_path)
    (line,) = capsys.readouterr().out.splitlines()
    assert "manual, random, predictor need" in line and needed in line


def test_a_network_that_diverges_is_paid_for(tmp_path):
    split = spiral_split(400, 360.0, 0.2, 0)
    study = SpiralChoice(kind="DDN", max_depth=3, width=4, epochs=9)
    broken = replace(split, x_train=split.x_train * float("nan"))
    networks, depths = [study.network()], [study.posterior()]
    (learned,) = train(networks, depths, [broken], study.training, [0], selection=study.selection)
    assert learned.diverged_epoch == 1
    summary = study.evaluate(learned, 0, torch.device("cpu"), tmp_path)
    points = len(study.split(0, tmp_path).y_train)
    assert summary["costs"]["block_evaluations"] == 3 * points and summary["costs"]["networks"] == 1


def test_the_epochs_of_a_grid_stand_unless_the_command_line_says_otherwise():
    def epochs(quick: bool, asked: int | None) -> int | None:
        (study,) = SpiralChoice.chosen([SpiralChoice(epochs=7)], Namespace(quick=quick, epochs=asked, strategies=None))
        return study.epochs

    assert epochs(False, None) == 7
    assert epochs(True, None) == SpiralChoice.quick_epochs
    assert epochs(False, 3) == epochs(True, 3) == 3


def test_where_the_weights_of_depths_end():
    curves = pd.DataFrame(
        [
            {"data_set": "digits", "strategy": "LDN", "seed": seed, "epoch": epoch}
            | {"depth_entropy": 3.0 - epoch + seed, "expected_depth": 4.0 + epoch}
            for seed in range(2)
            for epoch in (2, 1)
        ]
    )
    runs = pd.DataFrame({"strategy": ["LDN", "LDN", "LDN", "manual"], "depth": [4, 2, 4, 1]})
    (row,) = page.moved_table(curves, runs).to_dict("records")
    assert row == {
        "strategy": "LDN",
        "entropy (nats)": "1.5 ± 0.71",
        "mean depth": "6 ± 0",
        "chosen most often, in a share of runs": "4 in 67 %",
    }
    assert page.moved_table(empty("strategies_curves"), runs).empty


def test_the_starts_of_the_weights_of_depths_are_those_of_the_methods():
    said = page._starts(2)  # uniform over 3 depths; prior in proportion to 1, 0.85, 0.7225; DrNAS keeps 2
    assert "(1.10 nats, mean depth 1)" in said and "the prior (1.09 nats, 0.892)" in said
    assert "the 2 that it keeps are alike, it ends at ln 2 = 0.69 nats" in said


def test_the_predictor_trains_what_it_predicts_to_be_best(monkeypatch):
    def likelihood(depth):
        return -abs(depth - 7.0)

    costs = {"seconds": 1.0, "block_evaluations": 1.0, "networks": 1}
    rows = [
        {"max_depth": d, "width": w, "valid_log_likelihood": likelihood(d)} for d in range(13) for w in (10, 20, 40)
    ]
    pool = pd.DataFrame([row | costs for row in rows])
    monkeypatch.setattr(predictor, "fit_predictor", lambda *_: None)
    monkeypatch.setattr(predictor, "predict_labels", lambda _, rest, *__: np.array([likelihood(d) for d, _ in rest]))
    found = pool_search.predictor(pool, 20, 0)
    sample = pool_search._draw(pool, 16, 0)
    rest = pool.drop(sample.index).sort_values("valid_log_likelihood", ascending=False, kind="stable")
    assert set(found.trained.index) - set(sample.index) == set(rest.index[:4])
    assert found.extra["predictor_tau"] == pytest.approx(1.0)


def test_weights_and_mixing_weights_learn_on_different_points(monkeypatch):
    x, y = torch.arange(40.0).view(1, 20, 2), torch.arange(20).view(1, 20) % 2
    seen, held = {"own": set(), "other": set()}, []
    torch.manual_seed(0)
    method = DrNAS(learning_rate=0.1)
    replicates = Replicates([mlp_resnet(2, 4)], [method.posterior(2)], Training(epochs=2), method=method)
    replicates.epoch = 1
    step, of_choices = Replicates.step, mixing.problem

    def points(batch):
        return {tuple(row) for row in batch[0].reshape(-1, 2).tolist()}

    def noted_problem(replicates, own, other, generator):
        seen["own"] |= points(own)
        seen["other"] |= points(other)
        return of_choices(replicates, own, other, generator)

    def noted_step(self, x, y, n_train):
        held.append(self.depth.weights().clone())
        return step(self, x, y, n_train)

    monkeypatch.setattr(mixing, "problem", noted_problem)
    monkeypatch.setattr(Replicates, "step", noted_step)
    method.run_epoch(replicates, Split(x, y, x, y), [torch.Generator().manual_seed(0)])
    assert len(seen["own"]) == len(seen["other"]) == 10 and not seen["own"] & seen["other"]
    means = replicates.depth.mixing.mean()["depth"].squeeze(-2)
    assert not torch.allclose(held[0], means, atol=1e-3)  # a draw, in training
    assert torch.equal(replicates.depth.weights(), means)  # and the means after it
