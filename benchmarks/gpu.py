"""What a training step takes on a GPU in each way that there is, and whether it waits: to be run before long runs.

    python gpu.py [--device 0] [--depth 50] [--batch 512] [--steps 20]

Of image networks, for each precision, LDN and DDN, blocks of plain modules or fused ones: the objective of the first
step, which should be about the same for all of a kind; the seconds of that step, in which functions are compiled;
milliseconds of a later one, and of one that is captured in a CUDA graph and replayed; how many kernels it launches;
peak memory. While a step waits for the GPU where it should not, that way fails. Then of both spaces of cells: how far
CUDA is from the CPU in float32, and a pass forward and back in each precision and layout of memory. A way that fails is
one line, and the others go on. On a CPU there is one way, to see that all this runs.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from itertools import product

import torch
from torch import nn

from depthsearch import CategoricalDepth, FixedDepth, conv_resnet, geometric_prior
from depthsearch.cells import darts_search_network, nasbench201_search_network
from depthsearch.hardware import benchmark_header, can_compile, products_in, synchronise
from depthsearch.learning.method import Training
from depthsearch.learning.replicates import Replicates
from depthsearch.running.options import pick_device

Step = Callable[[], object]
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


def milliseconds(step: Step, n: int, device: torch.device) -> float:
    """Of one of n steps in a row, after three that warm up."""
    for _ in range(3):
        step()
    synchronise(device)
    start = time.perf_counter()
    for _ in range(n):
        step()
    synchronise(device)
    return 1e3 * (time.perf_counter() - start) / n


def captured(step: Step) -> Step:
    """The same step as one CUDA graph: what it launches is recorded once and replayed."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def without_waiting(step: Step) -> None:
    """Raises RuntimeError where a step waits for the GPU."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def launches(step: Step) -> int:
    """How many kernels, copies and fills a step starts."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        step()
        torch.cuda.synchronize()
    return sum(event.count for event in profiled.key_averages() if event.device_type.name == "CUDA")


def of_images(kind: str, precision: str, fused: bool, options: argparse.Namespace) -> Iterator[str]:
    """What there is to say of one way to train an image network."""
    device = options.device
    torch.manual_seed(0)
    x = torch.rand(1, options.batch, 1, 28, 28).to(device)
    y = (torch.arange(options.batch) % 10).unsqueeze(0).to(device)
    depth = CategoricalDepth(geometric_prior(options.depth)) if kind == "LDN" else FixedDepth(options.depth)
    networks, training = [conv_resnet(options.depth).to(device)], Training(precision=precision)
    replicates = Replicates(networks, [depth.to(device)], training, compiled=fused)

    def step() -> torch.Tensor:
        return replicates.step(x, y, 60_000)

    with products_in(precision):
        start = time.perf_counter()
        yield f"objective {step().item():.4f}, first step {time.perf_counter() - start:.1f} s"
        yield f"{milliseconds(step, options.steps, device):.1f} ms a step"
        if device.type == "cuda":
            without_waiting(step)
            yield f"{launches(step)} launches"
            torch.cuda.reset_peak_memory_stats(device)
            yield f"{milliseconds(captured(step), options.steps, device):.1f} ms as a graph"
            yield f"peak {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB"


def of_cells(make: Callable[[], nn.Module], options: argparse.Namespace) -> Iterator[str]:
    """What there is to say of a space of cells."""
    device, batch = options.device, 64 if options.device.type == "cuda" else 2
    torch.manual_seed(0)
    space, x = make(), torch.randn(batch, 3, 32, 32)
    weights = {name: torch.full(shape, 1 / shape[1]) for name, shape in space.choices.items()}  # type: ignore[union-attr]
    with products_in("float32"):
        expected = space(x, weights)
        found = space.to(device)(x.to(device), {name: w.to(device) for name, w in weights.items()}).cpu()
    yield f"{((found - expected).abs().max() / expected.abs().max()).item():.1e} from the CPU, of the largest"
    mixing = {name: w.to(device).requires_grad_() for name, w in weights.items()}
    learnt = [*space.parameters(), *mixing.values()]
    precisions = ("float32", "tf32", "bfloat16") if device.type == "cuda" else ("float32",)
    for precision, (layout, form) in product(precisions, LAYOUTS.items()):
        inputs = x.to(device).contiguous(memory_format=form)

        def step(inputs=inputs, precision=precision) -> None:
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                logits = space(inputs, mixing)
            torch.autograd.grad(logits.float().sum(), learnt, materialize_grads=True)

        with products_in(precision):
            yield f"{precision}, {layout}: {milliseconds(step, 5 if device.type == 'cuda' else 1, device):.0f} ms"


def told(name: str, parts: Iterator[str]) -> None:
    """Prints what there is to say, piece by piece, and what ended it."""
    print(name, end=": ", flush=True)
    try:
        for part in parts:
            print(part, end="; ", flush=True)
    except Exception as error:  # the others go on
        print(f"FAILED, {type(error).__name__}: {str(error).partition(chr(10))[0][:200]}", end="")
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=pick_device, default="0", help="CUDA device index; the CPU where no GPU is")
    parser.add_argument("--depth", type=int, default=50)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    cuda = options.device.type == "cuda"
    if cuda:
        torch.cuda.set_device(options.device)
    print(benchmark_header(options.device))
    precisions = ("bfloat16", "float32", "tf32") if cuda else ("float32",)
    ways = (False, True) if cuda and can_compile(options.device) else (False,)
    for precision, fused, kind in product(precisions, ways, ("LDN", "DDN")):
        name = f"{kind}, D = {options.depth}, {precision}, {'fused' if fused else 'plain'}"
        told(name, of_images(kind, precision, fused, options))
    told("DARTS space, C = 16, 8 cells", of_cells(lambda: darts_search_network(16, 8), options))
    told("NAS-Bench-201 space, C = 16, N = 5", of_cells(lambda: nasbench201_search_network(16, 5), options))


if __name__ == "__main__":
    main()
