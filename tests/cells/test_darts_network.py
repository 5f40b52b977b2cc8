"""The networks of genotypes are the original code's: numbers to 1e-9 in float64, counts exactly."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from depthsearch.cells import GENOTYPES, CellGenotype, darts_network
from depthsearch.cells.genotype import CELL_OPERATIONS
from depthsearch.cells.operations import FactorizedReduce, Pool, Zero, drop_path, operation

PARITY = Path(__file__).parents[1] / "parity"
COUNTS = json.loads((PARITY / "counts.json").read_text())
EXACT = {"rtol": 0, "atol": 1e-9}
FILES = ("darts_network", "darts_network_allops", "darts_network_nasnet", "darts_network_amoebanet")


def numbers_of(name):
    with np.load(PARITY / f"{name}.npz", allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    return {key: json.loads(str(a)) if a.dtype.kind == "U" else torch.from_numpy(a) for key, a in arrays.items()}


def gradient_of(numbers, position, shape):
    if f"grad:{position:03d}" in numbers:
        return numbers[f"grad:{position:03d}"]
    left, right = (numbers[f"grad:{position:03d}:{side}"] for side in ("left", "right"))
    return (left @ right).reshape(shape)


def fill(network, numbers):
    parameters = list(network.parameters())
    assert len(parameters) == sum(key.startswith("param:") for key in numbers)
    with torch.no_grad():
        for i, parameter in enumerate(parameters):
            assert parameter.shape == numbers[f"param:{i:03d}"].shape
            parameter.copy_(numbers[f"param:{i:03d}"])
    return parameters


@pytest.fixture(params=FILES)
def original(request):
    numbers = numbers_of(request.param)
    config = numbers["config"]
    network = darts_network(numbers["genotype"], config["C"], config["layers"], auxiliary=config["auxiliary"]).double()
    fill(network, numbers)
    return network, numbers


def test_logits_losses_and_every_gradient(original):
    network, numbers = original
    out = network(numbers["x"])
    logits, *auxiliary = out if isinstance(out, tuple) else (out,)
    torch.testing.assert_close(logits, numbers["logits"], **EXACT)
    loss = F.cross_entropy(logits, numbers["y"])
    torch.testing.assert_close(loss, numbers["loss_main"], **EXACT)
    assert bool(auxiliary) == ("aux_logits" in numbers)
    if auxiliary:
        torch.testing.assert_close(auxiliary[0], numbers["aux_logits"], **EXACT)
        loss = loss + 0.4 * F.cross_entropy(auxiliary[0], numbers["y"])
    torch.testing.assert_close(loss, numbers["loss"], **EXACT)
    loss.backward()
    for i, parameter in enumerate(network.parameters()):
        torch.testing.assert_close(parameter.grad, gradient_of(numbers, i, parameter.shape), **EXACT, msg=str(i))


def test_evaluation_after_one_pass(original):
    network, numbers = original
    network(numbers["x"])
    norm = network.stem.whole[1]
    torch.testing.assert_close(norm.running_mean, numbers["running_mean_stem"], **EXACT)
    torch.testing.assert_close(norm.running_var, numbers["running_var_stem"], **EXACT)
    logits = network.eval()(numbers["x"])
    torch.testing.assert_close(logits, numbers["eval_logits"], **EXACT)


def parameters(network, auxiliary=True):
    return [p for name, p in network.named_parameters() if auxiliary or not name.startswith("auxiliary.")]


def n_parameters(network, auxiliary=True):
    return sum(p.numel() for p in parameters(network, auxiliary))


def multiply_adds(network, x):
    """Of one picture in evaluation, convolutions and linear layers only, counted as `about` in counts.json says."""
    total = 0

    def count(module, inputs, output):
        nonlocal total
        per_value = module.weight[0].numel() if isinstance(module, nn.Conv2d) else module.in_features
        total += output.numel() * per_value

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        network.eval()(x)
    return total


PUBLISHED = {**COUNTS["darts_network_C36_L20"], **COUNTS["drnas_network_C36_L20"]}
IMAGENET = {**COUNTS["darts_imagenet_C48_L14"], **COUNTS["drnas_imagenet_C48_L14"]}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_of_the_published_networks(name):
    counts = PUBLISHED[name]
    network = darts_network(name, auxiliary=True, pool_norm="DrNAS" in name)
    assert multiply_adds(network, torch.zeros(1, 3, 32, 32)) == counts["multiply_adds_eval_32x32"]
    assert n_parameters(network) == counts["auxiliary"]["all_parameters"]
    assert n_parameters(network, auxiliary=False) == counts["auxiliary"]["without_auxiliary_head"]
    assert n_parameters(network, auxiliary=False) == counts["plain"]["all_parameters"]
    assert len(parameters(network)) == counts["auxiliary"]["tensors"]
    assert len(parameters(network, auxiliary=False)) == counts["plain"]["tensors"]


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGENET)
def test_counts_of_the_imagenet_networks(name):
    counts = IMAGENET[name]
    network = darts_network(name, 48, 14, 1000, auxiliary=True, imagenet=True)
    assert multiply_adds(network, torch.zeros(1, 3, 224, 224)) == counts["multiply_adds_eval_224x224"]
    assert n_parameters(network) == counts["all_parameters_with_auxiliary"]
    assert n_parameters(network, auxiliary=False) == counts["without_auxiliary_head"]


def test_darts_v2_by_default():
    assert n_parameters(darts_network("DARTS_V2")) == 3_349_342


def test_imagenet_network_in_training_gives_both_heads():
    network = darts_network("DARTS_V2", 4, 3, 11, auxiliary=True, imagenet=True)
    logits, auxiliary = network(torch.randn(2, 3, 224, 224))
    assert logits.shape == auxiliary.shape == (2, 11)
    with pytest.raises(ValueError, match="needs 7x7 pixels"):
        network(torch.randn(2, 3, 128, 128))


@pytest.mark.parametrize("name", CELL_OPERATIONS)
@pytest.mark.parametrize("size", [6, 7])
def test_every_operation_keeps_the_channels_and_its_stride_rounds_up(name, size):
    x = torch.randn(2, 4, size, size, generator=torch.Generator().manual_seed(0))
    assert operation(name, 4, stride=1)(x).shape == x.shape
    assert operation(name, 4, stride=2)(x).shape == (2, 4, (size + 1) // 2, (size + 1) // 2)


def test_pools_leave_the_padding_out_and_scale_only_if_asked():
    x = torch.ones(2, 4, 5, 5, dtype=torch.float64)
    assert torch.equal(Pool("avg", 4, 1)(x), x) and torch.equal(Pool("max", 4, 1)(x), x)
    pool = operation("max_pool_3x3", 4, 2, pool_norm=True).double()
    x = torch.randn(6, 4, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(pool(x).mean((0, 2, 3)), torch.zeros(4, dtype=torch.float64))
    assert not list(pool.parameters())


def test_zero_is_zero_even_where_the_input_is_infinite():
    assert torch.equal(Zero(2)(torch.full((1, 2, 4, 4), torch.inf)), torch.zeros(1, 2, 2, 2))


def test_factorised_reduce_sees_the_even_and_the_odd_pixels():
    reduce = FactorizedReduce(1, 2)
    nn.init.ones_(reduce.even.weight), nn.init.ones_(reduce.odd.weight)
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert torch.equal(reduce.features(x)[0, 0], x[0, 0, ::2, ::2])
    assert torch.equal(reduce.features(x)[0, 1], x[0, 0, 1::2, 1::2])


@pytest.mark.parametrize("size", [16, 7])
def test_factorised_reduce_of_few_channels_that_are_last_in_memory(size):
    # As a convolution of stride 2 its gradient writes where it must not; a process of its own, which that kills.
    out = subprocess.run([sys.executable, "-c", FEW_CHANNELS.format(size=size)], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr


FEW_CHANNELS = """
import torch
from depthsearch.cells.operations import FactorizedReduce

for channels in (2, 4, 6) * 4:
    reduce = FactorizedReduce(channels, channels).float()
    x = torch.randn(64, channels, {size}, {size})
    shifted = torch.nn.functional.pad(x[..., 1:, 1:], (0, {size} % 2, 0, {size} % 2))
    plain = [conv.weight.detach().clone().requires_grad_() for conv in (reduce.even, reduce.odd)]
    sums = [torch.nn.functional.conv2d(v, w, stride=2) for v, w in zip((x, shifted), plain)]  # not channels last
    torch.cat(sums, 1).square().sum().backward()
    reduce.features(x.contiguous(memory_format=torch.channels_last)).square().sum().backward()
    for conv, weight in zip((reduce.even, reduce.odd), plain):
        torch.testing.assert_close(conv.weight.grad, weight.grad, rtol=1e-4, atol=1e-2)
"""


def test_unknown_operation():
    with pytest.raises(ValueError, match="unknown operation 'sep_conv_9x9'"):
        operation("sep_conv_9x9", 4, 1)


def test_drop_path_drops_whole_images_and_keeps_the_mean():
    torch.manual_seed(0)
    x = torch.rand(4000, 3, 2, 2) + 1
    out = drop_path(x, 0.25)
    kept = out.flatten(1).any(1)
    torch.testing.assert_close(out[kept], x[kept] / 0.75)
    assert (out[~kept] == 0).all() and abs(kept.float().mean() - 0.75) < 0.03


SKIPS = (("skip_connect", 0), ("skip_connect", 1))


def test_drop_path_acts_in_training_on_all_but_identities():
    skips = CellGenotype(SKIPS, (2,), SKIPS, (2,))
    torch.manual_seed(0)
    x = torch.randn(8, 3, 8, 8)
    network = darts_network("DARTS_V2", 4, 3)
    before = network(x)
    network.drop_path = 0.5
    assert not torch.equal(network(x), before)
    network.eval()
    assert torch.equal(network(x), network(x))
    # a cell all of whose edges are identities is untouched; its reduction, which convolves, is not
    normal, reduction = darts_network(skips, 4, 3).cells[:2]
    s = torch.randn(8, 12, 8, 8)
    assert torch.equal(normal(s, s, 0.9), normal(s, s, 0.0))
    s = torch.randn(8, 4, 8, 8)
    assert not torch.equal(reduction(torch.randn(8, 12, 8, 8), s, 0.9), reduction(torch.randn(8, 12, 8, 8), s, 0.0))


def test_auxiliary_head_serves_training_only():
    network = darts_network("DARTS_V2", 4, 3, n_classes=7, auxiliary=True)
    x = torch.randn(2, 3, 32, 32)
    logits, auxiliary = network(x)
    assert logits.shape == auxiliary.shape == (2, 7)
    auxiliary.sum().backward()
    reached = {name for name, p in network.named_parameters() if p.grad is not None}
    assert any(name.startswith("cells.2.") for name in reached) and not any(n.startswith("classifier") for n in reached)
    assert network.eval()(x).shape == (2, 7)
    with pytest.raises(ValueError, match="needs 8x8 pixels after the last reduction, got 4x4"):
        network.train()(torch.randn(2, 3, 16, 16))


def test_it_can_be_saved_and_loaded():
    torch.manual_seed(0)
    one, two = (darts_network("PC_DARTS_cifar", 4, 3) for _ in range(2))
    x = torch.randn(4, 3, 8, 8)
    one(x)
    two.load_state_dict(one.state_dict())
    assert torch.equal(one.eval()(x), two.eval()(x))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"g": "DARTS_V2_RNN"}, "a convolutional cell is needed"),
        ({"g": "DARTS_V9"}, "no genotype 'DARTS_V9'"),
        ({"channels": 7}, "channels must be a positive even number"),
        ({"channels": 0}, "channels must be a positive even number"),
        ({"layers": 0}, "layers must be at least 1"),
        ({"n_classes": 0}, "n_classes must be at least 1"),
    ],
)
def test_what_cannot_be_built(arguments, message):
    with pytest.raises(ValueError, match=message):
        darts_network(**{"g": GENOTYPES["DARTS_V2"], **arguments})


def test_pools_are_normed_where_they_are_asked_to_be():
    cell = (("max_pool_3x3", 0), ("max_pool_3x3", 1)), (2,)
    networks = (darts_network(CellGenotype(*cell, *cell), 4, 3, pool_norm=asked) for asked in (False, True))
    without, with_norms = (sum(isinstance(m, nn.BatchNorm2d) for m in net.cells.modules()) for net in networks)
    assert with_norms == without + 6  # two pools in each of three cells
