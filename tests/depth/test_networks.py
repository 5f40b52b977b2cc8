import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._dynamo.testing import CompileCounter

from depthsearch import CategoricalDepth, DepthHead, DepthNetwork, conv_resnet, geometric_prior, mlp_resnet, prune
from depthsearch.depth import fused
from depthsearch.depth.convolutional import Bottleneck, _MeanOverPixels
from depthsearch.depth.fused import _compiled, _scale_relu
from depthsearch.depth.networks import stack_modules
from depthsearch.hardware import can_compile


@pytest.mark.parametrize("depth", [0, 1, 7])
def test_shapes_and_partial_depths(depth):
    for network, x in (
        (mlp_resnet(depth, 8), torch.randn(5, 2)),
        (conv_resnet(depth, 1, 10, 8, 4), torch.randn(5, 1, 12, 12)),
    ):
        network.eval()
        logits = network(x)
        assert logits.shape[:2] == (depth + 1, 5)
        for d in range(depth + 1):
            torch.testing.assert_close(network(x, max_depth=d), logits[: d + 1])
            torch.testing.assert_close(network(x, max_depth=d, min_depth=d), logits[d : d + 1])


@pytest.mark.parametrize(
    "bad", [{"max_depth": -1}, {"max_depth": 3}, {"min_depth": 3}, {"max_depth": 1, "min_depth": 2}]
)
def test_depths_out_of_range(bad):
    with pytest.raises(ValueError):
        mlp_resnet(2)(torch.randn(3, 2), **bad)


@pytest.mark.parametrize("bad", [{"max_depth": -1}, {"max_depth": 2, "width": 0}, {"max_depth": 2, "n_classes": 0}])
def test_sizes_out_of_range(bad):
    with pytest.raises(ValueError):
        mlp_resnet(**bad)


def test_a_network_of_ones_own():
    """Any stem, blocks and head: the depths are folded into the batch of an ordinary head."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x):
            return x + self.conv(x)

    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    network = DepthNetwork(nn.Conv2d(1, 4, 3), [Block() for _ in range(3)], head)
    x = torch.randn(6, 1, 8, 8)
    activation, expected = network.stem(x), []
    for block in [None, *network.blocks]:
        activation = activation if block is None else block(activation)
        expected.append(head(activation))
    torch.testing.assert_close(network(x), torch.stack(expected))


class _Rectified(nn.Module):
    """x + conv(relu(x)), the relu before it in place or not."""

    def __init__(self, inplace):
        super().__init__()
        self.relu, self.conv = nn.ReLU(inplace=inplace), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return x + self.conv(self.relu(x))


@pytest.mark.parametrize("training", [True, False])
def test_a_block_that_overwrites_what_the_head_reads_is_refused(training):
    head, x = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)), torch.randn(6, 1, 8, 8)
    sound, broken = (DepthNetwork(nn.Conv2d(1, 4, 3), [_Rectified(kind) for _ in range(3)], head) for kind in (0, 1))
    with torch.set_grad_enabled(training):
        assert sound(x).shape == (4, 6, 3)
        with pytest.raises(ValueError, match=r"block 0 \(of 0 to 2\) changes its input in place"):
            broken(x)
        assert broken(x, 3, 3).shape == (1, 6, 3)  # nothing is read but the last one
    with torch.inference_mode():
        assert sound(x).shape == (4, 6, 3)


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_a_network_of_ones_own_is_traced():
    network = DepthNetwork(nn.Linear(3, 4), [nn.Linear(4, 4) for _ in range(2)], nn.Linear(4, 2))
    x = torch.randn(5, 3)
    torch.testing.assert_close(torch.jit.trace(network, x)(x), network(x))


def test_blocks_that_change_the_shape_need_a_depth_head():
    blocks, x = [nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 8, 3, 2, 1)], torch.randn(6, 1, 8, 8)

    class Heads(DepthHead):
        """A linear layer a depth."""

        def __init__(self):
            super().__init__()
            self.linear = nn.ModuleList(nn.Linear(width, 3) for width in (4, 4, 8))

        def forward(self, seen, min_depth=0):
            return torch.stack([f(a.mean((2, 3))) for f, a in zip(self.linear[min_depth:], seen)])  # noqa: B905

        def truncate(self, max_depth):
            del self.linear[max_depth + 1 :]

    network = DepthNetwork(nn.Conv2d(1, 4, 3), blocks, Heads()).eval()
    assert network(x).shape == (3, 6, 3)
    small, _ = prune(network, CategoricalDepth(geometric_prior(2)), 1)
    torch.testing.assert_close(small(x), network(x)[:2])
    network.head = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    with pytest.raises(ValueError, match=r"\[6, 4, 6, 6\] and \[6, 8, 3, 3\]: keep the shape, or give a DepthHead"):
        network(x)


def plain_mlp(network, x):
    """The network of section 4.1 written with torch's own modules, one depth after the other."""
    a = F.linear(x, network.stem.weight, network.stem.bias)
    out = [F.linear(a, network.head.weight, network.head.bias)]
    for block in network.blocks:
        norm, hidden = block.norm, F.relu(block.linear(a))
        a = a + F.batch_norm(hidden, norm.running_mean, norm.running_var, norm.weight, norm.bias, network.training, 0.1)
        out.append(F.linear(a, network.head.weight, network.head.bias))
    return torch.stack(out)


def test_mlp_is_the_plain_network():
    """Logits, gradients and running statistics, in training and in evaluation mode."""
    torch.manual_seed(0)
    ours, plain = (mlp_resnet(7, 6).double() for _ in range(2))
    plain.load_state_dict(ours.state_dict())
    x, weights = torch.randn(11, 2).double(), torch.randn(8, 11, 2).double()
    for _ in range(3):
        (ours(x) * weights).sum().backward()
        (plain_mlp(plain, x) * weights).sum().backward()
    for (name, a), b in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-9, msg=name)
    for (name, a), b in zip(ours.named_buffers(), plain.buffers(), strict=True):
        if a.is_floating_point():
            torch.testing.assert_close(a, b, msg=name)
    ours.eval(), plain.eval()
    torch.testing.assert_close(ours(x), plain_mlp(plain, x))


def test_stacked_networks_do_not_touch_each_other():
    torch.manual_seed(0)
    networks = [mlp_resnet(4, 5) for _ in range(3)]
    stacked = stack_modules(networks)
    x = torch.randn(3, 8, 2)
    for _ in range(2):
        together, alone = stacked(x), [network(x[r]) for r, network in enumerate(networks)]
    torch.testing.assert_close(together, torch.stack(alone, 1))
    stacked.eval()
    together, alone = stacked(x), [network.eval()(x[r]) for r, network in enumerate(networks)]
    torch.testing.assert_close(together, torch.stack(alone, 1))
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(stacked.train()(x)[:, 1].square().sum(), x)
    assert gradient[1].abs().sum() > 0 and gradient[[0, 2]].abs().sum() == 0


def test_head_statistics_are_kept_per_depth():
    torch.manual_seed(0)
    network = conv_resnet(3, 1, 10, 8, 4)
    for _ in range(200):
        x = torch.randn(16, 1, 12, 12, generator=torch.Generator().manual_seed(0))
        network(x)
    with torch.no_grad():
        a = network.stem(x)
        for depth in range(4):
            a = network.blocks[depth - 1](a) if depth else a
            hidden = F.relu(network.head.linear1(a.mean((-2, -1))))
            torch.testing.assert_close(network.head.norm.running_mean[depth], hidden.mean(0))
            torch.testing.assert_close(network.head.norm.running_var[depth], hidden.var(0))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_mean_over_pixels_and_its_gradient(dtype):
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    a = torch.randn(3, 8, 5, 6, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    again, pooled = _MeanOverPixels.apply(a, wide)
    precision = {"rtol": 5e-3, "atol": 5e-4} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(pooled.double(), a.double().mean((-2, -1)), **precision, check_dtype=False)
    (ours,) = torch.autograd.grad((again * 2).sum() + (pooled * torch.arange(8)).sum(), a)
    expected = 2 + torch.arange(8).view(1, 8, 1, 1) / 30
    torch.testing.assert_close(ours.double(), expected.double().expand_as(a), rtol=5e-3, atol=1e-6)
    (only,) = torch.autograd.grad(_MeanOverPixels.apply(a, wide)[1].sum(), a)
    torch.testing.assert_close(only.double(), torch.full_like(a, 1 / 30).double(), rtol=5e-3, atol=1e-6)


class PooledFirst(DepthHead):
    """The head of a `conv_resnet` on whole activations."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, seen, min_depth=0):
        return self.head([a.mean((-2, -1)) for a in seen], min_depth)


@pytest.mark.slow
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("span", [(0, 3), (1, 2), (3, 3), (0, 0)])
def test_means_of_narrow_tensors_are_those_of_the_activations(span, fused):
    """Logits, gradients and running statistics, against blocks that run to their end and a mean over their output."""
    if fused and not can_compile(torch.device("cpu")):
        pytest.skip("no C++ compiler")
    torch.compiler.reset()
    torch.manual_seed(0)
    network = conv_resnet(3, 1, 10, 8, 4).double()
    for block in network.blocks:
        block.fused = fused
    twin = copy.deepcopy(network)
    plain = DepthNetwork(twin.stem, twin.blocks, PooledFirst(twin.head))
    x, found = torch.randn(6, 1, 12, 12).double(), []
    for net in (network, plain):
        logits = net(x, max_depth=span[1], min_depth=span[0])
        weights = torch.linspace(-1, 1, logits.numel(), dtype=torch.double).view_as(logits)
        parameters = dict(net.named_parameters())
        gradients = torch.autograd.grad((logits * weights).sum(), list(parameters.values()), materialize_grads=True)
        found.append([logits, *gradients, *(b for b in net.buffers() if b.is_floating_point())])
    assert len(found[0]) == len(found[1])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)


def of_a_block(block, x, weights, dtype):
    """Output, gradients and running statistics of one training step in the precision given."""
    block, x = copy.deepcopy(block), x.detach().to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        out = block(x)
    gradients = torch.autograd.grad((out * weights).sum(), [x, *block.parameters()])
    return [t.double() for t in (out, *gradients, *(b for b in block.buffers() if b.is_floating_point()))]


@pytest.mark.parametrize(
    "dtype", [torch.float64, *(pytest.param(d, marks=pytest.mark.slow) for d in (torch.float32, torch.bfloat16))]
)
def test_a_fused_bottleneck_is_the_plain_one(dtype):
    """In bfloat16: as close to the plain one in float64 as the plain one in bfloat16 is."""
    if not can_compile(torch.device("cpu")):
        pytest.skip("no C++ compiler")
    torch.compiler.reset()  # shapes compiled before count against a limit
    torch.manual_seed(0)
    plain = Bottleneck(8, 4)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.copy_(torch.randn_like(parameter))  # scales of both signs
    fused = copy.deepcopy(plain)
    fused.fused = True
    x, weights = torch.randn(6, 8, 5, 7), torch.randn(6, 8, 5, 7)
    if dtype == torch.float64:
        plain, fused = plain.double(), fused.double()
    ours, theirs = (of_a_block(block, x, weights, dtype) for block in (fused, plain))
    exact = of_a_block(plain.double(), x, weights, torch.float64)
    for a, b, e in zip(ours, theirs, exact, strict=True):
        scale = e.abs().max().clamp(min=1)
        allowed = {torch.float64: 1e-10, torch.float32: 1e-4}.get(dtype, 1.5 * (b - e).abs().max() / scale + 1e-10)
        assert (a - e).abs().max() / scale <= allowed


def test_a_fused_bottleneck_is_not_differentiated_twice(monkeypatch):
    """Its gradient is not a function of autograd's: better an error than a second derivative without a part."""
    monkeypatch.setattr(fused, "_compiled", lambda function: function)
    block = Bottleneck(8, 4)
    block.fused = True
    x = torch.randn(6, 8, 5, 7, requires_grad=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(block(x).square().sum(), x, create_graph=True)


def test_the_variance_of_a_constant_channel_is_not_negative(monkeypatch):
    """Far from 0 the mean square less the squared mean may be, by rounding."""
    monkeypatch.setattr(fused, "_compiled", lambda function: function)
    x = (1.2345 * torch.arange(1000.0, 1064)).view(1, 64, 1, 1).repeat(4, 1, 5, 5)
    _, out, _, var = fused.norm_relu(x, torch.ones(64), torch.zeros(64), 1e-5)
    assert out.isfinite().all() and (var >= 0).all()


def test_every_shape_is_compiled_whatever_was_compiled_before(monkeypatch):
    """Three data sets have more shapes than torch compiles of a function by itself; beyond, each runs as it is."""
    counter = CompileCounter()
    real = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda function, dynamic, options: real(function, backend=counter, dynamic=False)
    )
    torch.compiler.reset()
    _compiled.cache_clear()
    try:
        for channels in range(1, 25):
            x, scale = torch.randn(2, 3, channels), torch.ones(channels)
            torch.testing.assert_close(_compiled(_scale_relu)(x, scale, 0 * scale), x.relu())
        assert counter.frame_count == 24
    finally:
        _compiled.cache_clear()
        torch.compiler.reset()
