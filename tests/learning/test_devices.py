"""CUDA as far as a machine without one can show it.

On torch's `meta` device a tensor that was made on the CPU, or a number that is read back (which makes a GPU wait), is
an error. Compiled CUDA code cannot be shown without a GPU.
"""

import contextlib
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from depthsearch.cells.darts_search import darts_search_network
from depthsearch.cells.nasbench201 import nasbench201_search_network
from depthsearch.data.split import Split
from depthsearch.depth.convolutional import conv_resnet
from depthsearch.depth.networks import mlp_resnet
from depthsearch.depth.objectives import log_predictive
from depthsearch.depth.posteriors import CategoricalDepth, FixedDepth, geometric_prior
from depthsearch.hardware import precision_of, products_in
from depthsearch.learning.method import PAPER, Training
from depthsearch.learning.replicates import Replicates
from depthsearch.measuring.depths import predict

D, CLASSES = 4, 3


@pytest.fixture
def on_meta(monkeypatch):
    """The meta device, which knows no autocast."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: contextlib.nullcontext())
    return torch.device("meta")


def split_of(kind: str, n: int, device: torch.device) -> Split:
    def points(n: int) -> tuple[Tensor, Tensor]:
        x = torch.rand(n, 2) if kind == "spirals" else torch.randint(256, (n, 1, 12, 12), dtype=torch.uint8)
        return x, torch.randint(CLASSES, (n,))

    scale = {} if kind == "spirals" else {"mean": (0.5,), "std": (0.3,)}
    return Split(*points(n), *points(n), *points(n), **scale).to(device)


def network_of(kind: str) -> nn.Module:
    if kind == "spirals":
        return mlp_resnet(D, width=6, n_classes=CLASSES)
    return conv_resnet(D, n_classes=CLASSES, outer_width=8, inner_width=4)


def depth_of(kind: str) -> nn.Module:
    return FixedDepth(D) if kind == "DDN" else CategoricalDepth(geometric_prior(D))


@pytest.mark.parametrize("kind", ["LDN", "DDN"])
@pytest.mark.parametrize("problem", ["spirals", "images"])
def test_an_epoch_its_norms_and_its_evaluation_stay_on_the_device(problem, kind, on_meta):
    n = 1 if problem == "images" else 3
    networks = [network_of(problem).to(on_meta) for _ in range(n)]
    depths = [depth_of(kind).to(on_meta) for _ in range(n)]
    training = Training(batch_size=16, norm_batches=2)
    replicates = Replicates(networks, depths, training, method=PAPER)
    data = Split.stack([split_of(problem, 40, on_meta) for _ in range(n)])
    generators = [torch.Generator().manual_seed(seed) for seed in range(n)]
    value = replicates.run_epoch(data, generators)  # forward, backward, update
    assert value.device == on_meta and replicates.state.device == on_meta and replicates.velocity.device == on_meta
    replicates.estimate_norms(data, generators)
    assert replicates.log_likelihoods(data, "valid").device == on_meta
    for outputs, _ in replicates._predictions(data, "test"):
        assert replicates.method.log_predictive(outputs, replicates.depth).device == on_meta


def test_the_device_tells_a_tensor_of_the_cpu(on_meta):
    network = network_of("images").to(on_meta)
    replicates = Replicates([network], [depth_of("LDN").to(on_meta)], Training(batch_size=16))
    replicates.depth = depth_of("LDN")  # left on the CPU
    with pytest.raises(RuntimeError, match="device"):
        replicates.run_epoch(Split.stack([split_of("images", 40, on_meta)]), [torch.Generator()])


@pytest.mark.parametrize("kind", ["LDN", "DDN"])
@pytest.mark.parametrize("problem", ["spirals", "images"])
def test_predictions_of_all_depths_stay_on_the_device(problem, kind, on_meta):
    network, depth = network_of(problem).to(on_meta), depth_of(kind).to(on_meta)
    split = split_of(problem, 40, on_meta)
    logits = predict(network, depth, split.x_test, batch_size=16, inputs=split.inputs)
    assert log_predictive(logits, depth).device == on_meta


def mixed(choices, device):
    return {
        name: torch.softmax(torch.zeros(shape, device=device), -1).requires_grad_() for name, shape in choices.items()
    }


SPACES = {
    "NAS-Bench-201": lambda: nasbench201_search_network(channels=8, cells=1, partial=2),
    "DARTS": lambda: darts_search_network(channels=4, layers=3, partial=2),
}


@pytest.mark.parametrize("name", SPACES)
def test_a_step_of_a_search_stays_on_the_device(name, on_meta):
    space = SPACES[name]().to(on_meta)
    weights = mixed(space.choices, on_meta)
    logits = space(torch.rand(4, 3, 16, 16, device=on_meta), weights)
    loss = nn.functional.cross_entropy(logits, torch.zeros(4, dtype=torch.long, device=on_meta))
    for gradient in torch.autograd.grad(loss, [*space.parameters(), *weights.values()], materialize_grads=True):
        assert gradient.device == on_meta


def can_fake_batch_norm():
    from torch._subclasses.fake_tensor import FakeTensorMode

    try:
        with FakeTensorMode():
            x, *others = (torch.empty(shape, device="cuda") for shape in ((2, 3, 4, 4), 3, 3, 3, 3))
            nn.functional.batch_norm(x, *others, training=True)
    except RuntimeError:
        return False
    return True


traceable = pytest.mark.skipif(not can_fake_batch_norm(), reason="this torch asks a GPU's driver for batch norm")


@traceable
@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_cells_trace_on_fake_cuda_tensors(name, precision):
    traced(SPACES[name](), precision, lambda space, x: space(x, mixed(space.choices, "cuda")))


@traceable
@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_cells_whose_channels_come_in_trace_on_fake_cuda_tensors(name, precision):
    space = SPACES[name]()
    space.widen(1, keep_function=True)
    space.blend = 0.5
    traced(space, precision, lambda space, x: space(x, mixed(space.choices, "cuda")))


@traceable
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_images_trace_on_fake_cuda_tensors(precision):
    traced(conv_resnet(D, in_channels=3, outer_width=8, inner_width=4), precision, lambda net, x: net(x))


def traced(network, precision, forward):
    """Runs a forward pass under autocast on tensors that say that they are on a GPU, and hold nothing."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    state = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    seen = []
    for module in network.modules():  # all that makes images, convolutions and whole cells
        module.register_forward_hook(lambda module, inputs, output: seen.append((type(module).__name__, output)))
    with FakeTensorMode(), cuda_autocast(precision):
        fake = {name: torch.empty(t.shape, dtype=t.dtype, device="cuda") for name, t in state.items()}
        x = torch.empty(4, 3, 16, 16, device="cuda")
        module = Called(forward, network)
        logits = torch.func.functional_call(module, {f"network.{name}": t for name, t in fake.items()}, (x,))
    images = {(name, out.dtype) for name, out in seen if isinstance(out, Tensor) and out.dim() == 4}
    assert logits.device.type == "cuda" and images and {dtype for _, dtype in images} == {precision}, images


class Called(nn.Module):
    def __init__(self, function, network):
        super().__init__()
        self.function, self.network = function, network

    def forward(self, x):
        return self.function(self.network, x)


@contextlib.contextmanager
def cuda_autocast(precision):
    """`torch.autocast("cuda")` takes itself back where there is no GPU."""
    torch.set_autocast_enabled("cuda", precision == torch.bfloat16)
    torch.set_autocast_dtype("cuda", precision)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.set_autocast_dtype("cuda", torch.float16)


def test_products_of_cuda_are_as_asked_for_and_then_as_before():
    def flags():
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = flags()
    with products_in("tf32"):
        assert flags() == (True, True)
        with products_in("float32"):
            assert flags() == (False, False)
        assert flags() == (True, True)
    assert flags() == before
    with pytest.raises(ValueError, match="one of float32, tf32, bfloat16; got 'bf16'"), products_in("bf16"):
        pass


NEW_NAMES = """
import torch
from depthsearch.hardware import products_in
torch.backends.fp32_precision = "tf32"
def said():
    return torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
before = said()
with products_in("float32"):
    assert said() == ("ieee", "ieee"), said()
    with products_in("tf32"):
        assert said() == ("tf32", "tf32"), said()
    assert said() == ("ieee", "ieee"), said()
assert said() == before, (said(), before)
"""


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="torch 2.9 has the newer names")
def test_products_of_cuda_where_the_process_has_used_torchs_newer_names():
    out = subprocess.run([sys.executable, "-c", NEW_NAMES], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ({}, "float32"),
        ({"avx2": True, "avx512_f": True, "amx_int8": True, "amx_bf16": False, "avx512_bf16": False}, "float32"),
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True, "avx512_bf16": False}, "bfloat16"),
    ],
)
def test_auto_is_bfloat16_on_a_cpu_that_multiplies_matrices_in_it_alone(capabilities, precision, monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert precision_of("auto", cpu) == precision
    assert [precision_of(asked, cpu) for asked in ("float32", "bfloat16")] == ["float32", "bfloat16"]
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # as in older versions of torch
    assert precision_of("auto", cpu) == "float32"
    with pytest.raises(ValueError, match="tf32 needs a CUDA device"):
        precision_of("tf32", cpu)


def test_auto_is_as_the_gpu_can_which_has_to_be_here(monkeypatch):
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no GPU here"):
        precision_of("auto", gpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for capability, precision in (((8, 0), "bfloat16"), ((9, 0), "bfloat16"), ((7, 5), "float32")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, capability=capability: capability)
        assert precision_of("auto", gpu) == precision
