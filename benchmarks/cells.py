"""Seconds a step of searching a DARTS cell: ours against one operation at a time, in the style of the original code.

    python benchmarks/cells.py [--quick] [--rounds 5] [--device 0]

A first-order step at 16 channels, 8 cells, batches of 64 pictures of 32x32: the gradient of the mixing weights on one
batch, then a step of the weights on another. The two networks have the same weights and take turns in one process; at
the start their logits are compared. The ratio is that of the medians; the spread is over rounds.
"""

import argparse
import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F
from original_cells import OriginalSearchNetwork
from steps import difference, in_turns, in_words, search_step
from torch import nn

from depthsearch.cells import darts_search_network
from depthsearch.hardware import benchmark_header, keep_freed_memory


def step_of(network: nn.Module, device: torch.device, batch: int, original: bool) -> Callable[[], None]:
    """A function that makes one first-order step."""
    generator = torch.Generator().manual_seed(0)
    x = [torch.randn(batch, 3, 32, 32, generator=generator).to(device) for _ in range(2)]
    y = (torch.arange(batch) % 10).to(device)
    alphas = {cell: torch.zeros(14, 8, device=device, requires_grad=True) for cell in ("normal", "reduce")}
    adam = torch.optim.Adam(alphas.values(), lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
    sgd = torch.optim.SGD(network.parameters(), lr=0.025, momentum=0.9, weight_decay=3e-4)
    losses = (
        lambda weights: F.cross_entropy(network(x[0], weights), y),
        lambda weights: F.cross_entropy(network(x[1], weights), y),
    )
    return search_step(losses, alphas, adam, sgd, 5, original)


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
    x = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1)).to(device)
    even = {cell: torch.full((14, 8), 1 / 8, device=device) for cell in ("normal", "reduce")}
    print(f"same weights: logits differ by {difference(ours, original, lambda net: net(x, even)):.1e} of the largest")
    steps = {
        "ours": step_of(ours, device, batch, False),
        "original style": step_of(original, device, batch, True),
    }
    taken = in_turns(steps, rounds, device)
    for name, times in taken.items():
        print(f"{name}: {in_words(times)}")
    ratio = statistics.median(taken["original style"]) / statistics.median(taken["ours"])
    where = f"{channels} channels, {layers} cells, batch {batch}"
    print(f"DARTS search step, {where}: {ratio:.2f} times as fast as original style")


if __name__ == "__main__":
    main()
