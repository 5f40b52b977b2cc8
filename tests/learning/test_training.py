import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from depthsearch import CategoricalDepth, FixedDepth, conv_resnet, elbo, geometric_prior, mlp_resnet
from depthsearch.data.spirals import spiral_split
from depthsearch.data.split import Split
from depthsearch.hardware import can_compile, products_in
from depthsearch.learning.loop import train
from depthsearch.learning.method import Method, Selection, Training
from depthsearch.learning.replicates import Replicates
from depthsearch.measuring.depths import evaluate
from depthsearch.native import library
from depthsearch.studies.depth import seeded


def run(seeds, epochs, kind="LDN", max_depth=10, n=2000, held_out=0.0, options=(), **training):
    networks = [seeded(seed, lambda: mlp_resnet(max_depth)) for seed in seeds]
    depths = [CategoricalDepth(geometric_prior(max_depth)) if kind == "LDN" else FixedDepth(max_depth) for _ in seeds]
    splits = [spiral_split(n, 720.0, 0.2, seed) for seed in seeds]
    if held_out:
        splits = [split.hold_out(held_out, seed) for split, seed in zip(splits, seeds, strict=True)]
    return train(networks, depths, splits, Training(epochs=epochs, **training), seeds, **dict(options))


@pytest.mark.parametrize("kind", ["LDN", "DDN"])
def test_a_replicate_does_not_depend_on_who_trains_beside_it(kind):
    """But for the last digit of a sum over depths, whose order torch chooses, and which grows from step to step."""
    if library("chain", torch.float32) is None:
        pytest.skip("no C++ compiler")
    options = {"compiled": True}
    for how in ({"epochs": 60}, {"epochs": 4, "batch_size": 64}):
        together = run(range(8), kind=kind, max_depth=20, options=options, **how)
        for seed in (0, 5):
            (alone,) = run([seed], kind=kind, max_depth=20, options=options, **how)
            if kind == "DDN":  # there is no such sum
                assert together[seed].objective == alone.objective
            assert together[seed].objective == pytest.approx(alone.objective, rel=1e-4)


@pytest.mark.parametrize(("compiled", "held_out"), [(False, 0.0), (True, 0.0), (True, 0.25)])
def test_networks_that_stop_leave_the_others_as_they_are_and_so_does_an_interruption(compiled, held_out):
    if compiled and library("chain", torch.float32) is None:
        pytest.skip("no C++ compiler")
    saved = {}

    def keep(learner):
        saved[learner.epoch] = learner.checkpoint()

    seeds, how, options = range(4), {"max_depth": 6, "patience": 4, "held_out": held_out}, {"compiled": compiled}
    whole = run(seeds, 80, options=options | {"on_epoch": keep}, **how)
    stops = sorted({len(one.objective) for one in whole})
    assert len(stops) > 1 and stops[0] < 80
    between = saved[stops[0] + 1]  # one has stopped, another has not
    rows = [i for i, row in enumerate(between) if row["epoch"] == stops[0] + 1]
    saved_rows = {"resume": [between[i] for i in rows]}
    resumed = run([seeds[i] for i in rows], 80, options=options | saved_rows, **how)
    for i, one in zip(rows, resumed, strict=True):
        if compiled:
            assert one.objective == whole[i].objective and one.history == whole[i].history
        torch.testing.assert_close(torch.tensor(one.objective), torch.tensor(whole[i].objective), rtol=1e-3, atol=1e-5)


def test_the_same_seed_gives_the_same_numbers():
    (a,), (b,) = run([3], 60), run([3], 60)
    assert a.objective == b.objective and a.history == b.history


def test_matches_a_plain_loop():
    """The same steps by torch.optim.SGD on one plain network, in float64 since training is chaotic.

    ELBO curve, best epoch and best state.
    """
    epochs = 40
    split = spiral_split(2000, 720.0, 0.2, 0)
    split = Split(split.x_train.double(), split.y_train, split.x_test.double(), split.y_test)
    network = seeded(0, lambda: mlp_resnet(4)).double()
    depth = CategoricalDepth(geometric_prior(4)).double()
    twins = copy.deepcopy(network), copy.deepcopy(depth)
    (ours,) = train([twins[0]], [twins[1]], [split], Training(epochs), [0])
    optimiser = torch.optim.SGD([*network.parameters(), *depth.parameters()], lr=0.1, momentum=0.5)
    curve, states = [], []
    for _ in range(epochs):
        optimiser.zero_grad()
        value = elbo(network(split.x_train), split.y_train, depth, len(split.y_train))
        (-value).backward()
        optimiser.step()
        curve.append(value.item())
        states.append({k: v.clone() for k, v in network.state_dict().items()})
    torch.testing.assert_close(torch.tensor(ours.objective), torch.tensor(curve), rtol=1e-6, atol=1e-8)
    best = max(range(epochs), key=lambda i: ours.objective[i])
    assert ours.best_epoch == best + 1
    for name, value in ours.network.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(
                value, states[best][name], rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
            )


class Scripted(Method):
    """Trains nothing: the objective is a row of `curves`, the state 100 times the number of that row and the epoch."""

    curves = torch.tensor(
        [
            [1, 2, 1, 1, 1, 9, 9, 9, 9],
            [1, 2, 1, 2, 3, 1, 3, 2, 9],  # as good is not better
            [1, 2, 3, 4, 5, 6, 7, 8, 9],
            [1, 0, 0, 2, 0, 1, 1, 9, 9],
        ]
    ).float()

    def run_epoch(self, replicates, data, generators):
        row, epoch = data.x_train[:, 0, :1], replicates.epoch
        if epoch > 1:  # all have kept what is theirs
            assert (replicates.velocity == row).all() and (replicates.state == 100 * row + epoch - 1).all()
        assert [g.initial_seed() for g in generators] == row[:, 0].tolist()
        replicates.velocity[:], replicates.state[:] = row, 100 * row + epoch
        return self.curves[row[:, 0].long(), epoch - 1]


def test_early_stop_is_per_replicate():
    """Each stops 3 epochs after its own best, in the state of that, and keeps its own numbers."""
    y = torch.zeros(4, dtype=torch.int64)
    splits = [Split(torch.full((4, 2), float(row)), y, torch.zeros(4, 2), y) for row in range(4)]
    networks, depths = [mlp_resnet(1, 2) for _ in splits], [CategoricalDepth(geometric_prior(1)) for _ in splits]
    found = train(networks, depths, splits, Training(9, patience=3), range(4), method=Scripted())
    assert [len(one.objective) for one in found] == [5, 8, 9, 7]
    assert [one.best_epoch for one in found] == [2, 5, 9, 4]
    for row, (one, curve) in enumerate(zip(found, Scripted.curves.tolist(), strict=True)):
        assert one.objective == curve[: len(one.objective)]
        tensors = *one.network.parameters(), one.depth.q_logits
        assert all((tensor == 100 * row + one.best_epoch).all() for tensor in tensors)


def test_the_learning_rate_is_a_tenth_after_the_decay(monkeypatch):
    rates, run_epoch = [], Replicates.run_epoch

    def recorded(self, *args):
        rates.append(self.learning_rate)
        return run_epoch(self, *args)

    monkeypatch.setattr(Replicates, "run_epoch", recorded)
    run([0], 5, max_depth=1, decay_epoch=3)
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.01])


def few_images():
    """70 images of 8 x 8 bytes, a bright square in another corner for each of four classes."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randint(0, 80, (70, 1, 8, 8), generator=generator, dtype=torch.uint8), torch.arange(70) % 4
    for image, corner in zip(x, y, strict=True):
        row, column = 4 * (corner // 2), 4 * (corner % 2)
        image[0, row : row + 4, column : column + 4] += 100
    return Split(x, y, x[:20], y[:20], x[:20], y[:20], mean=(0.3,), std=(0.3,))


def run_images(compiled, precision="float32", epochs=4, resume=(), on_epoch=lambda learner: None, device="cpu"):
    network = seeded(0, lambda: conv_resnet(2, 1, 4, 8, 4, stem_kernel=3)).to(device)
    training = Training(epochs, learning_rate=0.05, batch_size=16, precision=precision, norm_batches=2)
    depth = CategoricalDepth(geometric_prior(2)).to(device)
    options = {"compiled": compiled, "resume": resume, "on_epoch": on_epoch}
    with products_in(precision):
        (result,) = train([network], [depth], [few_images().to(device)], training, [0], **options)
    return result


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "apart"), [("float32", 1e-4), ("bfloat16", 0.03)])
def test_compiled_training_on_images_is_the_plain_one(precision, apart):
    """Fused blocks, a last batch that is smaller, norms estimated anew; resumed, it is the same bit for bit."""
    if not can_compile(torch.device("cpu")):
        pytest.skip("no C++ compiler")
    torch.compiler.reset()
    plain, saved = run_images(False), []
    fused = run_images(True, precision, on_epoch=lambda one: saved.extend(one.checkpoint() if one.epoch == 2 else ()))
    assert fused.objective == pytest.approx(plain.objective, abs=apart) and fused.objective != plain.objective
    assert fused.objective[-1] > fused.objective[0] + 0.3
    again = run_images(True, precision, resume=saved)
    assert again.objective == fused.objective and again.history == fused.history
    for ours, theirs in zip(again.network.parameters(), fused.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("precision", "apart"), [("float32", 1e-3), ("tf32", 0.03), ("bfloat16", 0.03)])
def test_training_on_images_on_a_gpu_is_that_on_a_cpu(compiled, precision, apart):
    """And it goes on from a checkpoint, and is evaluated."""
    torch.compiler.reset()
    saved = []
    ours = run_images(
        compiled,
        precision,
        device="cuda",
        on_epoch=lambda one: saved.extend(one.checkpoint() if one.epoch == 2 else ()),
    )
    assert ours.objective == pytest.approx(run_images(False).objective, abs=apart)
    assert run_images(compiled, precision, device="cuda", resume=saved).objective == pytest.approx(
        ours.objective, abs=apart
    )
    values = evaluate(ours.network, ours.depth, few_images().to("cuda"), precision)
    assert values["seconds"]["LDN-full_predict_seconds"] > 0


class Operations(TorchDispatchMode):
    """The names of all operations that ran."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["LDN", "DDN"])
def test_a_step_on_images_waits_for_no_gpu(kind, monkeypatch):
    """No number is read back and no tensor made of numbers after the first step; either halts the queue of a GPU."""
    # one_hot reads its largest label back on a CPU, not on a GPU
    monkeypatch.setattr(torch.nn.functional, "one_hot", lambda y, n: (y.unsqueeze(-1) == torch.arange(n)).long())
    depth = CategoricalDepth(geometric_prior(2)) if kind == "LDN" else FixedDepth(2)
    replicates = Replicates([conv_resnet(2, 1, 4, 8, 4, stem_kernel=3)], [depth], Training(precision="bfloat16"))
    data = Split.stack([few_images()])
    with Operations() as seen:
        torch.tensor(1.0).item()
    assert {"lift_fresh", "_local_scalar_dense"} <= seen.names  # it would be seen
    replicates.step(data.inputs(data.x_train), data.y_train, 70)
    with Operations() as seen:
        replicates.step(data.inputs(data.x_train), data.y_train, 70)
    assert "convolution" in seen.names or "convolution_backward" in seen.names
    assert not seen.names & {"lift_fresh", "_local_scalar_dense", "nonzero", "is_nonzero", "equal"}


def test_minibatches_are_seeded_and_cover_the_data():
    """More points than a batch: the ELBO of an epoch is the mean over all points."""
    (a,), (b,) = (run([0], 30, n=2000, batch_size=64) for _ in range(2))
    assert a.objective == b.objective
    (small_steps,) = run([0], 1, n=2000, batch_size=64)
    (whole,) = run([0], 1, n=2000)
    assert small_steps.objective[0] != whole.objective[0]
    together = run([0, 1], 5, n=2000, batch_size=64)
    torch.testing.assert_close(torch.tensor(together[0].objective), torch.tensor(a.objective[:5]), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_it_learns_and_chooses_a_depth():
    """Two separable clusters need no depth; the posterior should say so, and the network fit them."""
    x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0)) * 0.1
    y = torch.arange(100) % 2
    x = x + y.unsqueeze(1) * 2 - 1
    split = Split(x, y, x, y)
    (easy,) = train(
        [seeded(0, lambda: mlp_resnet(10))], [CategoricalDepth(geometric_prior(10))], [split], Training(300), [0]
    )
    (hard,) = run([0], 300)
    assert easy.history[-1]["test_error"] == 0
    assert easy.history[-1]["expected_depth"] < hard.history[-1]["expected_depth"]


def test_patience_must_reach_the_first_evaluation():
    """Or the network would be the one that training started from."""
    for held_out, patience, least in ((0.25, 9, 10), (0.0, 0, 1)):
        with pytest.raises(ValueError, match=f"patience must be {least} epochs or more"):
            run([0], 20, held_out=held_out, patience=patience, options={"selection": Selection(every=10)})
    (one,) = run([0], 20, held_out=0.25, patience=10, options={"selection": Selection(every=10)})
    assert one.best_epoch in (10, 20)
    (one,) = run([0], 5, held_out=0.25, patience=5, options={"selection": Selection(every=10)})  # at the last epoch
    assert one.best_epoch == 5


def test_numbers_must_match():
    with pytest.raises(ValueError, match="as many"):
        train([mlp_resnet(1)], [], [], Training(1), [0])


def test_norms_estimated_anew_are_means_over_the_first_batches_of_the_epoch():
    """Against torch's cumulative average (momentum None), and of the head by hand."""
    training, seed = Training(batch_size=16, norm_batches=3), 5
    network = seeded(0, lambda: conv_resnet(2, outer_width=8, inner_width=4))
    split = Split(torch.randn(80, 1, 12, 12), torch.arange(80) % 10, torch.zeros(1), torch.zeros(1))
    replicates = Replicates([network], [CategoricalDepth(geometric_prior(2))], training)
    replicates.step(split.x_train[None, :16], split.y_train[None, :16], 80)  # the averages lag behind by now
    plain, before = copy.deepcopy(replicates.network), replicates.state.clone()
    replicates.estimate_norms(Split.stack([split]), [torch.Generator().manual_seed(seed)])

    norms = [m for m in plain.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    order, pooled = torch.randperm(80, generator=torch.Generator().manual_seed(seed)), []
    plain.head.register_forward_pre_hook(lambda head, inputs: pooled.append(torch.stack(list(inputs[0]))))
    for batch in order[:48].split(16):
        plain.train()(split.x_train[batch])
    assert [m.momentum for m in replicates.network.modules() if isinstance(m, torch.nn.BatchNorm2d)] == [0.1] * 6
    for ours, theirs in zip(replicates.network.blocks, plain.blocks, strict=True):
        for name in ("norm1", "norm2", "norm3"):
            for statistic in ("running_mean", "running_var"):
                torch.testing.assert_close(*(getattr(getattr(b, name), statistic) for b in (ours, theirs)))
    hidden = [torch.relu(plain.head.linear1(p)) for p in pooled]  # (depths, B, width) each
    norm = replicates.network.head.norm
    torch.testing.assert_close(norm.running_mean, torch.stack([h.mean(1) for h in hidden]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([h.var(1) for h in hidden]).mean(0))
    after = replicates.state
    n = replicates.velocity.shape[1]
    assert torch.equal(before[:, :n], after[:, :n]) and not torch.equal(before[:, n:], after[:, n:])
