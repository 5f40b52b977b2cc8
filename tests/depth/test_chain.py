"""`chain.cpp` against the plain modules."""

import math
import warnings
from decimal import Decimal

import pytest
import torch

from depthsearch import mlp_resnet, native
from depthsearch.depth.chain import Sizes, chain_logits
from depthsearch.depth.choice import mix_depths
from depthsearch.depth.networks import EPS, stack_modules
from depthsearch.depth.objectives import log_likelihood


@pytest.fixture(autouse=True)
def needs_compiler():
    if native.library("chain", torch.float32) is None:
        pytest.skip("no C++ compiler")


def networks(depth, width, features=2, classes=2, dtype=torch.float64, r=3):
    """R networks side by side in training mode, plain and fused, of the same weights."""
    torch.manual_seed(0)
    made = [mlp_resnet(depth, width, features, classes).to(dtype) for _ in range(r)]
    for parameter in (p for network in made for p in network.parameters()):
        parameter.data += 0.1 * torch.randn_like(parameter)
    plain, fused = stack_modules(made), stack_modules(made)
    fused.fused = True
    return plain.train(), fused.train()


def check(plain, fused, ours, theirs, close, **tolerance):
    """Equal values, gradients of a weighted sum of them, and running statistics."""
    close(ours, theirs, **tolerance)
    weights = torch.linspace(-1, 1, ours.numel(), dtype=ours.dtype).view(ours.shape)
    gradients = [
        torch.autograd.grad((values * weights).sum(), list(network.parameters()), materialize_grads=True)
        for network, values in ((fused, ours), (plain, theirs))
    ]
    for a, b in zip(*gradients, strict=True):
        close(a, b, **tolerance)
    for a, b in zip(fused.buffers(), plain.buffers(), strict=True):
        if a.is_floating_point():
            close(a, b, **tolerance)


# Widths and batches that fill tiles and vectors, and that leave a rest of every kind.
SIZES = [(0, 5, 1, 2, 1), (1, 1, 2, 2, 3), (3, 7, 3, 4, 9), (4, 12, 2, 3, 33), (2, 20, 2, 10, 200), (1, 5, 2, 2, 64)]


@pytest.mark.parametrize(("depth", "width", "features", "classes", "batch"), SIZES)
def test_logits_of_every_depth(depth, width, features, classes, batch):
    plain, fused = networks(depth, width, features, classes)
    x = torch.randn(3, batch, features, dtype=torch.float64)
    assert fused.is_fused(x) and not plain.is_fused(x) and not fused.eval().is_fused(x)
    fused.train()
    for first in {0, depth // 2, depth}:
        ours, theirs = (network(x, min_depth=first) for network in (fused, plain))
        check(plain, fused, ours, theirs, torch.testing.assert_close, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("depth", "width", "features", "classes", "batch"), SIZES)
def test_logits_in_evaluation_mode(depth, width, features, classes, batch):
    plain, fused = networks(depth, width, features, classes)
    generator = torch.Generator().manual_seed(1)
    for own, its in zip(plain.buffers(), fused.buffers(), strict=True):
        if own.is_floating_point():
            its.copy_(own.copy_(torch.rand(own.shape, dtype=own.dtype, generator=generator)))
    x, before = torch.randn(3, batch, features, dtype=torch.float64), [b.clone() for b in fused.buffers()]
    for own in (plain, fused):
        own.eval()
    with torch.no_grad():
        assert fused.is_fused(x)
        for last in {depth, depth // 2}:
            for first in {0, last}:
                ours, theirs = (network(x, max_depth=last, min_depth=first) for network in (fused, plain))
                torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    assert all(torch.equal(a, b) for a, b in zip(fused.buffers(), before, strict=True))
    with pytest.raises(ValueError, match="need moments"):
        chain_logits(Sizes(1, 5, 2, 2, 4, 0), EPS, torch.zeros(3, 67), torch.zeros(3, 4, 2), torch.zeros(3, 1, 2, 4))


@pytest.mark.parametrize(("depth", "width", "features", "classes", "batch"), SIZES)
def test_log_likelihoods_of_every_depth(depth, width, features, classes, batch):
    plain, fused = networks(depth, width, features, classes)
    x, y = torch.randn(3, batch, features, dtype=torch.float64), torch.randint(classes, (3, batch))
    flat = torch.cat([p.detach().flatten(1) for p in fused.parameters()], 1)
    running = [b for b in fused.buffers() if b.is_floating_point()]
    statistics = torch.cat(
        [*(b.flatten(1) for b in running), torch.full((3, 2), 7.0, dtype=x.dtype)], 1
    )  # more may come after them
    for first in {0, depth}:
        theirs = log_likelihood(plain(x, min_depth=first), y).mean(-1)
        slopes = torch.linspace(-1, 1, theirs.numel(), dtype=theirs.dtype).view(theirs.shape)
        ours, gradient = fused.gradient(flat, statistics, x, y, first, slopes)
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
        of_plain = torch.autograd.grad((theirs * slopes).sum(), list(plain.parameters()), materialize_grads=True)
        torch.testing.assert_close(gradient, torch.cat([g.flatten(1) for g in of_plain], 1), rtol=1e-9, atol=1e-10)
    expected = torch.cat([*(b.flatten(1) for b in plain.buffers() if b.is_floating_point()), statistics[:, -2:]], 1)
    torch.testing.assert_close(statistics, expected, rtol=1e-10, atol=1e-10)
    assert (statistics[:, -2:] == 7).all()


@pytest.mark.parametrize("mix", ["features", "logits"])
def test_a_mixture_of_the_first_depths(mix):
    plain, fused = networks(5, 10)
    x, start = torch.randn(3, 17, 2, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    alphas = [start.clone().requires_grad_() for _ in range(2)]  # weights that sum to one, as those of all strategies
    ours, theirs = (mix_depths(n, x, a.softmax(-1), mix) for n, a in zip((fused, plain), alphas, strict=True))
    of_weights = [
        torch.autograd.grad(v.square().sum(), a, retain_graph=True)[0]
        for v, a in zip((ours, theirs), alphas, strict=True)
    ]
    torch.testing.assert_close(of_weights[0], of_weights[1], rtol=1e-9, atol=1e-9)
    check(plain, fused, ours, theirs, torch.testing.assert_close, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mix", ["features", "logits"])
def test_a_mixture_in_evaluation_mode_is_that_of_the_modules(mix):
    """There weights need not sum to one."""
    plain, fused = networks(5, 10)
    x, weights = torch.randn(3, 17, 2, dtype=torch.float64), torch.rand(3, 4, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(*(mix_depths(network.eval(), x, weights, mix) for network in (plain, fused)))


def test_single_precision_and_each_network_on_its_own():
    plain, fused = networks(8, 20, dtype=torch.float32)
    x = torch.randn(3, 150, 2)
    ours, theirs = fused(x), plain(x)
    check(plain, fused, ours, theirs, torch.testing.assert_close, rtol=1e-3, atol=1e-4)
    _, again = networks(8, 20, dtype=torch.float32)
    for tensors in (
        again._parameters,
        *(m._parameters for m in again.modules()),
        *(m._buffers for m in again.modules()),
    ):
        for name, tensor in tensors.items():
            tensors[name] = torch.nn.Parameter(tensor[1:2]) if isinstance(tensor, torch.nn.Parameter) else tensor[1:2]
    assert torch.equal(again(x[1:2]), ours[:, 1:2])  # whatever trains beside it


def test_what_is_not_a_number_is_seen_to():
    _, fused = networks(2, 5, dtype=torch.float32)
    x, y = torch.randn(3, 8, 2), torch.zeros(3, 8, dtype=torch.int64)
    flat = torch.cat([p.detach().flatten(1) for p in fused.parameters()], 1)
    flat[1, 0], flat[2] = math.nan, flat[2] * 1e20
    found, gradient = fused.gradient(flat, torch.zeros(3, 20), x, y, 0, torch.ones(3, 3))
    assert found[:, 0].isfinite().all() and found[:, 1].isnan().all() and not found[:, 2].isfinite().all()
    assert gradient[0].isfinite().all() and gradient[1].isnan().any()  # each network on its own


def test_what_does_not_belong_together_is_refused():
    _, fused = networks(2, 5)
    x, y = torch.randn(3, 8, 2, dtype=torch.float64), torch.zeros(3, 8, dtype=torch.int64)
    flat, statistics = torch.cat([p.detach().flatten(1) for p in fused.parameters()], 1), torch.zeros(3, 20)
    slopes = torch.ones(3, 3, dtype=torch.float64)
    for bad in (
        (flat[:, 1:], x, y, slopes),
        (flat, x[..., :1], y, slopes),
        (flat, x, y[:, 1:], slopes),
        (flat.float(), x, y, slopes),
        (flat[:2], x, y, slopes),
        (flat, x, y, slopes[1:]),
        (flat, x, y, slopes.float()),
    ):
        with pytest.raises(ValueError, match="of one type, got"):
            fused.gradient(bad[0], statistics, bad[1], bad[2], 0, bad[3])
    for x_and_y, first in (((x[:, :0], y[:, :0]), 0), ((x, y), -1), ((x, y), 3)):
        with pytest.raises(ValueError, match="need points and 0 <= min_depth <= 2"):
            fused.gradient(flat, statistics, *x_and_y, first, slopes)
    for labels in (y + 2, y - 1, y.int()):
        with pytest.raises(ValueError, match="labels must be whole numbers from 0 to 1"):
            fused.gradient(flat, statistics, x, labels, 0, slopes)


@pytest.fixture
def no_compiler_that_works(monkeypatch):
    native.library.cache_clear()
    monkeypatch.setattr(native, "_compiler", lambda: "no-such-compiler")
    yield
    native.library.cache_clear()


def test_without_a_compiler_that_works_the_modules_are_trained(no_compiler_that_works):
    plain, fused = networks(2, 5)
    x, flat = torch.randn(3, 8, 2, dtype=torch.float64), torch.zeros(3, 117, dtype=torch.float64)
    with pytest.warns(UserWarning, match=r"runs uncompiled: .*no-such-compiler"):
        assert not fused.is_fused(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        assert torch.equal(fused(x), plain(x))
    with pytest.raises(RuntimeError, match=r"no C\+\+ compiler that works here"):
        fused.gradient(flat, flat, x, torch.zeros(3, 8, dtype=torch.int64), 0, torch.ones(3, 3).double())


def test_without_any_compiler_there_is_none_and_nothing_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert native.library.__wrapped__("chain", torch.float32) is None


def test_a_deep_network_in_single_precision_has_as_good_a_gradient_as_the_modules():
    exact, _ = networks(100, 20, dtype=torch.float64)
    plain, fused = networks(100, 20, dtype=torch.float32)
    for network in (plain, fused):
        for own, its in zip(network.parameters(), exact.parameters(), strict=True):
            own.data.copy_(its)
    x, y = torch.randn(3, 200, 2, dtype=torch.float64), torch.randint(2, (3, 200))
    gradients = {}
    for name, network in (("exact", exact), ("plain", plain)):
        found = log_likelihood(network(x.to(next(network.parameters()).dtype)), y).mean(-1)
        gradients[name] = torch.autograd.grad(found.sum(), list(network.parameters()))
    flat = torch.cat([p.detach().flatten(1) for p in fused.parameters()], 1)
    _, ours = fused.gradient(flat, torch.zeros(3, 4000), x.float(), y, 0, torch.ones(101, 3))
    theirs, true = (torch.cat([g.flatten(1) for g in gradients[name]], 1) for name in ("plain", "exact"))
    errors = [(g.double() - true).norm() / true.norm() for g in (ours, theirs)]
    assert errors[0] < 3 * errors[1] + 1e-6


@pytest.mark.parametrize("scale", [1, 30])
def test_log_likelihoods_in_single_precision(scale):
    """The exponential of the float library, on logits near and far apart."""
    plain, fused = networks(3, 20, classes=4, dtype=torch.float32)
    x, y = scale * torch.randn(3, 150, 2), torch.randint(4, (3, 150))
    flat = torch.cat([p.detach().flatten(1) for p in fused.parameters()], 1)
    ours, _ = fused.gradient(flat, torch.zeros(3, 120), x, y, 0, torch.ones(4, 3))
    theirs = log_likelihood(plain(x), y).mean(-1)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("dtype", "far", "bound"), [(torch.float32, 87, 1.7), (torch.float64, 700, 1.25)])
def test_the_exponential_is_good_to_the_last_digit(dtype, far, bound):
    """The softmax of logits 0 and -t, of networks that are all 0 but for that bias: 1 / (1 + e^t), in 28 digits."""
    t = torch.linspace(0, far, 1000, dtype=dtype)
    flat, labels = torch.zeros(1000, 7, dtype=dtype), torch.zeros(1000, 1, dtype=torch.int64)
    flat[:, -1] = -t
    network = stack_modules([mlp_resnet(0, 1)])
    _, gradient = network.gradient(flat, None, flat[:, None, :2], labels, 0, torch.ones(1, 1000, dtype=dtype))
    of_bias = zip(gradient[:, -1].tolist(), t.tolist(), strict=True)
    errors = [abs(float(-Decimal(found) * (1 + Decimal(at).exp()) - 1)) for found, at in of_bias]
    assert max(errors) < bound * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [33, 2000])
def test_log_likelihoods_of_networks_that_know_nothing(batch, dtype):
    """Log 1 / 10, of so many points that the product of their sums over classes is larger than any number."""
    flat = torch.zeros(2, 3 * 3 + 10 * 4, dtype=dtype)
    x, y = torch.randn(2, batch, 2).to(dtype), torch.randint(10, (2, batch))
    network = stack_modules([mlp_resnet(0, 3, n_classes=10)])
    found, _ = network.gradient(flat, None, x, y, 0, torch.ones(1, 2, dtype=dtype))
    torch.testing.assert_close(found, torch.full_like(found, -math.log(10)), rtol=1e-6, atol=0)


def test_what_is_no_number_is_seen_behind_a_relu():
    if native.library("chain", torch.float32) is None:
        pytest.skip("no C++ compiler")
    network = mlp_resnet(2, 5)
    flat = torch.cat([p.detach().flatten() for p in network.parameters()])[None]
    flat[0, 15] = math.nan  # the first weight of the first block
    x, y = torch.randn(1, 8, 2), torch.zeros(1, 8, dtype=torch.int64)
    found, _ = network.gradient(flat, torch.zeros(1, 20), x, y, 0, torch.ones(3, 1))
    assert found[0].isfinite().all() and found[1:].isnan().all()
