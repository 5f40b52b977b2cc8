import copy
import math
from dataclasses import replace

import pytest
import torch
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

from depthsearch import CategoricalDepth, FixedDepth, conv_resnet, geometric_prior, mlp_resnet
from depthsearch.data.spirals import spiral_split
from depthsearch.data.split import Split
from depthsearch.depth.networks import MLPNetwork
from depthsearch.learning.loop import train
from depthsearch.learning.method import PAPER, Method, Training
from depthsearch.measuring import depths, timing
from depthsearch.measuring.choices import evaluate_choice, step_bytes, under_shift
from depthsearch.measuring.depths import evaluate
from depthsearch.measuring.metrics import METRICS, metrics, reliability
from depthsearch.strategies.darts import Darts
from depthsearch.strategies.mixing import Mixing


@pytest.fixture(params=[2, 10])
def predictions(request):
    generator = torch.Generator().manual_seed(request.param)
    logits = 3 * torch.randn(500, request.param, generator=generator, dtype=torch.float64)
    y = torch.where(
        torch.rand(500, generator=generator) < 0.6,
        logits.argmax(-1),
        torch.randint(0, request.param, (500,), generator=generator),
    )
    return logits.log_softmax(-1), y


def test_against_a_second_library(predictions):
    log_probs, y = predictions
    ours, n_classes = metrics(log_probs, y), log_probs.shape[-1]
    theirs = multiclass_calibration_error(log_probs.exp(), y, num_classes=n_classes, n_bins=15, norm="l1")
    assert ours["ece"] == pytest.approx(theirs.item(), abs=1e-6)
    accuracy = multiclass_accuracy(log_probs, y, num_classes=n_classes, average="micro")
    assert ours["error"] == pytest.approx(1 - accuracy.item(), abs=1e-6)
    nll = torch.nn.functional.nll_loss(log_probs, y).item()
    assert ours["log_likelihood"] == pytest.approx(-nll, abs=1e-12)


def test_a_worked_example():
    probs = torch.tensor([[0.88, 0.12], [0.63, 0.37], [0.21, 0.79], [0.28, 0.72]], dtype=torch.float64)
    y = torch.tensor([0, 1, 1, 1])
    ours = metrics(probs.log(), y)
    assert ours["error"] == 0.25
    assert ours["mean_true_class_probability"] == pytest.approx((0.88 + 0.37 + 0.79 + 0.72) / 4)
    assert ours["brier"] == pytest.approx(2 * (0.12**2 + 0.63**2 + 0.21**2 + 0.28**2) / 4)
    # each point alone in its bin of 15
    assert ours["ece"] == pytest.approx((0.12 + 0.63 + 0.21 + 0.28) / 4)
    # ten bins, against the upper edge how often a class is true and the likeliest: .88, .12, .63, .37 (true, not the
    # likeliest), .21 with .28 (neither), .79 with .72 (both)
    gaps = [1 - 0.9, 0.2, 0.7, 0.4, 2 * 0.3, 2 * (1 - 0.8)]
    assert ours["paper_ece"] == pytest.approx(sum(gaps) / 8)


def test_paper_ece_has_a_floor_of_nine_points_on_ten_classes():
    y = torch.arange(1000) % 10
    perfect = torch.nn.functional.one_hot(y, 10) * 40.0
    assert metrics(perfect.log_softmax(-1), y)["paper_ece"] == pytest.approx(0.09, abs=1e-6)
    assert metrics(perfect.log_softmax(-1), y)["ece"] < 1e-6


def test_reliability_bins_account_for_every_point(predictions):
    log_probs, y = predictions
    bins = reliability(log_probs, y)
    assert sum(bins["count"]) == len(y) and len(bins["count"]) == 15
    hits = sum(n * a for n, a in zip(bins["count"], bins["accuracy"], strict=True))
    assert hits == pytest.approx((1 - metrics(log_probs, y)["error"]) * len(y))
    for i, (count, confidence) in enumerate(zip(bins["count"], bins["confidence"], strict=True)):
        assert not count or i / 15 - 1e-9 <= confidence <= (i + 1) / 15 + 1e-9


@pytest.fixture
def trained():
    torch.manual_seed(0)
    network = mlp_resnet(5, 8)
    depth = CategoricalDepth(geometric_prior(5), q_logits=torch.tensor([0.0, 1.0, 3.0, 2.99, 0.0, -1.0]))
    split = Split(torch.randn(30, 2), torch.randint(0, 2, (30,)), torch.randn(50, 2), torch.randint(0, 2, (50,)))
    network(split.x_train)
    return network, depth, split


def test_summary(trained):
    network, depth, split = trained
    summary = evaluate(network, depth, split)
    assert summary["pruned_depth"] == 2 and summary["variants"]["LDN-95"]["depth"] == 2
    assert summary["variants"]["LDN-E"]["depth"] == round(summary["expected_depth"])
    assert [row["depth"] for row in summary["depths"]] == list(range(6))
    for column in ("q", "prior", "exact_posterior"):
        assert sum(row[column] for row in summary["depths"]) == pytest.approx(1, abs=1e-5)
    assert summary["parameters"] - summary["pruned_parameters"] == 3 * (64 + 8 + 16)
    assert {f"{s}_{m}" for s in ("train", "test") for m in METRICS} < set(summary["variants"]["LDN-full"])
    # a depth's row is the metric set of that depth's own logits
    with torch.no_grad():
        log_probs = network(split.x_test)[3].log_softmax(-1)
    expected = metrics(log_probs, split.y_test)
    assert {m: summary["depths"][3][f"test_{m}"] for m in METRICS} == pytest.approx(expected)


def test_exact_posterior_by_a_plain_loop(trained):
    network, depth, split = trained
    summary = evaluate(network, depth, split)
    x, y = split.x_train, split.y_train
    with torch.no_grad():
        log_probs = network(x).double().log_softmax(-1)
    joint = [depth.prior.probs[d].item() * log_probs[d, range(30), y].sum().exp().item() for d in range(6)]
    exact = [j / sum(joint) for j in joint]
    assert [row["exact_posterior"] for row in summary["depths"]] == pytest.approx(exact, rel=1e-6)
    q = depth().probs.detach().double().tolist()
    kl = sum(a * (torch.tensor(a).log() - torch.tensor(b).log()).item() for a, b in zip(q, exact, strict=True))
    assert summary["kl_to_exact"] == pytest.approx(kl, rel=1e-4)


def test_deterministic_summary_has_one_row(trained):
    network, _, split = trained
    summary = evaluate(network, FixedDepth(5), split)
    assert [row["depth"] for row in summary["depths"]] == [5] and list(summary["variants"]) == ["DDN"]
    assert summary["kl_to_exact"] == 0
    assert summary["variants"]["DDN"]["test_error"] == summary["depths"][0]["test_error"]


@pytest.fixture
def learnt():
    """A network that has seen its training points, a q whose first depth within 95 % is 2 and whose mean is not."""
    torch.manual_seed(0)
    network = mlp_resnet(5, 8)
    depth = CategoricalDepth(geometric_prior(5), q_logits=torch.tensor([0.0, 1.0, 3.0, 2.99, 2.0, 2.0]))
    split = Split(torch.randn(30, 2), torch.randint(0, 2, (30,)), torch.randn(50, 2), torch.randint(0, 2, (50,)))
    network(split.x_train)
    return network, depth, split


def test_variants_are_mixtures_by_hand(learnt):
    """q up to the cut, the rest of it at the cut; train and test points each on their own."""
    network, depth, split = learnt
    found, q = evaluate(network, depth, split), depth().probs.detach()
    mean = float((q * torch.arange(6)).sum())
    assert round(mean) != math.floor(mean)
    with torch.no_grad():
        probs = {part: network.eval()(getattr(split, f"x_{part}")).softmax(-1) for part in ("train", "test")}
    for name, cut in {"LDN-95": 2, "LDN-E": round(mean), "LDN-full": 5}.items():
        variant, moved = found["variants"][name], torch.cat([q[:cut], q[cut:].sum()[None]])[:, None, None]
        assert variant["depth"] == cut
        mixed = {part: (moved * p[: cut + 1]).sum(0).log() for part, p in probs.items()}
        for part, log_probs in mixed.items():
            expected = metrics(log_probs, getattr(split, f"y_{part}"))
            assert {m: variant[f"{part}_{m}"] for m in METRICS} == pytest.approx(expected, abs=1e-6)
        bins = reliability(mixed["test"], split.y_test)
        assert found["reliability"][name]["count"] == bins["count"]
        assert found["reliability"][name]["accuracy"] == pytest.approx(bins["accuracy"])


def test_what_is_timed_is_what_a_user_would_keep(learnt, monkeypatch):
    """Networks that are cut, with the heads that their predictions need."""
    timed = {}

    def note(networks, *_, **__):
        timed.update({name: (net.max_depth, q.min_depth, q.max_depth) for name, (net, q) in networks.items()})
        return {name: [1.0] for name in networks}

    monkeypatch.setattr(depths, "predict_seconds", note)
    evaluate(*learnt)
    assert timed == {"DDN": (5, 5, 5), "LDN-95": (2, 0, 2), "LDN-full": (5, 0, 5), "DDN-95": (2, 2, 2)}


def test_the_first_pass_is_not_timed_and_only_the_heads_needed_are(learnt, monkeypatch):
    network, _, split = learnt
    seen, forward = [], type(network).forward

    def noted(self, x, max_depth=None, min_depth=0):
        seen.append(min_depth)
        return forward(self, x, max_depth, min_depth)

    clock = iter([0.0, 100.0, 0.0, 1.0, 0.0, 2.0])
    monkeypatch.setattr(type(network), "forward", noted)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    assert timing.predict_seconds({"DDN": (network, FixedDepth(5))}, split, passes=2) == {"DDN": [1.0, 2.0]}
    assert seen == [5, 5, 5]


def test_a_posterior_is_cut_as_that_of_the_paper():
    """Truncated: what LDN-95 says, the heads up to the chosen depth mixed and not the last of them alone."""
    split = spiral_split(400, 360.0, 0.2, 0).hold_out(0.25, 0)
    depth = CategoricalDepth(geometric_prior(6), q_logits=torch.tensor([0.0, 1.0, 1.0, 3.0, 2.9, 0.0, 1.0]))
    training = Training(8, learning_rate=0.2)
    (trained,) = train([mlp_resnet(6, 20)], [depth], [split], training, [0])
    found, of_depths = evaluate_choice(PAPER, trained, split, training), evaluate(trained.network, trained.depth, split)
    cut, last = found["variants"]["truncated"], of_depths["depths"][found["pruned_depth"]]
    assert 0 < cut["depth"] == found["pruned_depth"] == cut["heads"] - 1 < 6
    for metric in METRICS:
        assert cut[f"test_{metric}"] == pytest.approx(of_depths["variants"]["LDN-95"][f"test_{metric}"], abs=1e-6)
    assert abs(cut["test_log_likelihood"] - last["test_log_likelihood"]) > 1e-3


def test_a_cut_mixture_of_depths_by_hand():
    """Truncated at its largest weight, statistics of the head estimated anew, costs of both halves."""
    torch.manual_seed(0)
    x, y = torch.randn(60, 1, 8, 8), torch.arange(60) % 3
    split, method = Split(x, y, x + 0.1, y).hold_out(0.25, 0), Darts(learning_rate=0.0)
    network, depth = conv_resnet(3, 1, 3, 8, 4, stem_kernel=3), method.posterior(3)
    depth.mixing.alphas["depth"].copy_(torch.tensor([[0.0, 2.0, 0.0, 0.0]]))
    for _ in range(30):
        network(x)
    training = Training(1, batch_size=16)
    still = replace(training, learning_rate=0.0)
    (trained,) = train([network], [depth], [split], still, [0], method=method)
    found = evaluate_choice(method, trained, split, training, shift=False)
    assert found["pruned_depth"] == 1
    twin = copy.deepcopy(trained.network).eval()
    seen = []
    handle = twin.head.norm.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        for part in split.x_train.split(16):
            twin(part)
        handle.remove()
        # Of every depth the mean over batches, each in proportion to its points: 16, 16 and what is left.
        sizes = torch.tensor([float(x.shape[1]) for x in seen])
        share = (sizes / sizes.sum()).view(-1, 1, 1)
        twin.head.norm.running_mean = (share * torch.stack([x.mean(1) for x in seen])).sum(0)
        twin.head.norm.running_var = (share * torch.stack([x.var(1) for x in seen])).sum(0)
        log_probs = {p: twin.eval()(getattr(split, f"x_{p}"))[1].log_softmax(-1) for p in ("test", "valid")}
    cut, n = found["variants"]["truncated"], len(split.y_train)
    expected = metrics(log_probs["test"], split.y_test)
    assert {m: cut[f"test_{m}"] for m in METRICS} == pytest.approx(expected, abs=1e-5)
    likelihood = metrics(log_probs["valid"], split.y_valid)["log_likelihood"]
    assert cut["valid_log_likelihood"] == pytest.approx(likelihood, abs=1e-5)
    of_training, of_watching = 3 * n * method.passes, 3 * len(split.y_valid) * len(trained.history)
    assert found["costs"]["block_evaluations"] == of_training + of_watching


def test_bytes_of_a_step_by_hand():
    """Stem and head alone: parameters, gradient and momentum; for the way back points, what the head sees, logits."""
    n, features, width, classes = 30, 2, 7, 3
    split = Split(*(torch.zeros(size, dtype=dtype) for size, dtype in 2 * [((n, features), None), (n, torch.long)]))
    network = mlp_resnet(0, width, features, classes)
    parameters = width * features + width + classes * width + classes
    kept = n * features + n * width + n * classes
    assert step_bytes(PAPER, network, FixedDepth(0), split, Training()) == 4 * (3 * parameters + kept)


def test_a_step_of_a_mixture_sees_half_of_the_points(monkeypatch):
    split, seen = spiral_split(600, 360.0, 0.1, 0), []
    n = len(split.y_train)
    outputs = Method.outputs
    monkeypatch.setattr(Darts, "outputs", lambda self, f, d, x: seen.append(len(x)) or Mixing.outputs(self, f, d, x))
    monkeypatch.setattr(Method, "outputs", lambda self, f, d, x: seen.append(len(x)) or outputs(self, f, d, x))
    for method in (Darts(), PAPER):
        step_bytes(method, mlp_resnet(2, 4), method.posterior(2), split, Training())
    step_bytes(PAPER, mlp_resnet(2, 4), PAPER.posterior(2), split, Training(batch_size=16))
    assert seen == [n // 2, n, 16] and n <= 512


def test_moved_points_are_told_by_their_entropy():
    """A network that is sure near the origin only: the further a point is moved, the better it is told."""

    class SureNearby(MLPNetwork):
        def forward(self, x, max_depth=None, min_depth=0):
            return torch.stack([3 - x.norm(dim=-1), torch.zeros(len(x))], -1)[None]

    torch.manual_seed(0)
    near, labels = 0.1 * torch.randn(200, 2), torch.zeros(200, dtype=torch.long)
    rows = under_shift(Method(), SureNearby(0, 1, 2, 2), FixedDepth(0), Split(near, labels, near, labels))
    assert {row["shift"]: row["auroc"] for row in rows}[2.0] > 0.9


def test_spirals_too_few_to_train_on_are_refused():
    assert len(spiral_split(20, 360.0, 0.2, 0).y_train) == 2
    with pytest.raises(ValueError, match="leave 1 to train on"):
        spiral_split(10, 360.0, 0.2, 0)
