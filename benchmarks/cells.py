"""Seconds a step of searching a DARTS cell: ours against one operation at a time, in the style of the original code.

    python benchmarks/cells.py [--quick] [--rounds 5] [--device 0]

A first-order step at 16 channels, 8 cells, batches of 64 pictures of 32x32: the gradient of the mixing weights on one
batch, then a step of the weights on another. The two networks have the same weights and take turns in one process; at
the start their logits are compared. The ratio is that of the medians; the spread is over rounds.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from original_cells import OriginalSearchNetwork
from torch import Tensor, nn

from depthsearch.cells import darts_search_network
from depthsearch.hardware import benchmark_header, keep_freed_memory


def search_step(network: nn.Module, device: torch.device, batch: int, original: bool) -> Callable[[], None]:
    """A function that makes one first-order step; the original's backward pass also computes what is thrown away."""
    generator = torch.Generator().manual_seed(0)
    x = [torch.randn(batch, 3, 32, 32, generator=generator).to(device) for _ in range(2)]
    y = (torch.arange(batch) % 10).to(device)
    alphas = {cell: torch.zeros(14, 8, device=device, requires_grad=True) for cell in ("normal", "reduce")}
    adam = torch.optim.Adam(alphas.values(), lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
    sgd = torch.optim.SGD(network.parameters(), lr=0.025, momentum=0.9, weight_decay=3e-4)

    def loss(x: Tensor, weights: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(network(x, weights), y)

    def step() -> None:
        held_out = loss(x[0], {cell: alpha.softmax(1) for cell, alpha in alphas.items()})
        if original:
            adam.zero_grad()
            held_out.backward()
        else:
            gradients = torch.autograd.grad(held_out, list(alphas.values()))
            for alpha, gradient in zip(alphas.values(), gradients, strict=True):
                alpha.grad = gradient
        adam.step()
        weights = {cell: alpha.softmax(1) if original else alpha.detach().softmax(1) for cell, alpha in alphas.items()}
        sgd.zero_grad()
        loss(x[1], weights).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5)
        sgd.step()

    return step


def seconds(step: Callable[[], None], device: torch.device) -> float:
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


@torch.no_grad()
def compare(ours: nn.Module, original: nn.Module, device: torch.device) -> float:
    """Gives the original our weights; the largest difference of logits, relative to the largest logit."""
    for mine, its in zip(ours.parameters(), original.parameters(), strict=True):
        its.copy_(mine)
    x = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1)).to(device)
    weights = {cell: torch.full((14, 8), 1 / 8, device=device) for cell in ("normal", "reduce")}
    one, two = ours(x, weights), original(x, weights)
    return ((one - two).abs().max() / two.abs().max()).item()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each network (default: 5)")
    parser.add_argument("--device", default="cpu", help="cpu, or the index of a GPU (default: cpu)")
    parser.add_argument("--quick", action="store_true", help="a small network, to see that it runs")
    args = parser.parse_args()
    device = torch.device("cpu" if args.device == "cpu" else f"cuda:{args.device}")
    channels, layers, batch, rounds = (4, 3, 8, 1) if args.quick else (16, 8, 64, args.rounds)
    keep_freed_memory()
    torch.manual_seed(0)
    ours = darts_search_network(channels, layers).to(device)
    original = OriginalSearchNetwork(channels, layers).to(device)
    print(benchmark_header(device))
    print(f"same weights: logits differ by {compare(ours, original, device):.1e} of the largest")
    steps = {
        "ours": search_step(ours, device, batch, False),
        "original style": search_step(original, device, batch, True),
    }
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(rounds + 1):  # the first round warms up
        for name, step in steps.items():
            taken[name].append(seconds(step, device)) if i else step()
    for name, times in taken.items():
        low, middle, high = (f(times) for f in (min, statistics.median, max))
        print(f"{name}: {middle:.3f} s a step ({low:.3f} to {high:.3f}, n = {len(times)})")
    ratio = statistics.median(taken["original style"]) / statistics.median(taken["ours"])
    print(f"DARTS search step, {channels} channels, {layers} cells, batch {batch}: {ratio:.2f} times original style")


if __name__ == "__main__":
    main()
