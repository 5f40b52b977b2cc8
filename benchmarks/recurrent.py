"""Seconds a step of searching a recurrent cell: ours against the style of the original code, an activation at a time.

    python benchmarks/recurrent.py [--quick] [--rounds 5] [--device 0]

A first-order step at width 300, 256 texts side by side, 35 words, a vocabulary of 10,000, the paper's dropouts: the
gradient of the mixing weights on one batch, then a step of the weights on another. The two networks have the same
weights and take turns in one process; at the start their log probabilities are compared, without dropout. The ratio is
that of the medians; the spread is over rounds.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from original_recurrent import OriginalSearchNetwork
from torch import Tensor, nn

from depthsearch.cells import recurrent_search_network
from depthsearch.cells.language import SEARCH_DROPOUTS
from depthsearch.hardware import benchmark_header, keep_freed_memory
from depthsearch.learning.text import temporal_penalty, word_loss


def search_step(
    network: nn.Module, device: torch.device, sizes: tuple[int, int, int, int], original: bool
) -> Callable[[], None]:
    """A function that makes one first-order step; the original's backward pass also computes what is thrown away."""
    n_words, width, batch, words = sizes
    text = torch.randint(n_words, (2, words + 1, batch), generator=torch.Generator().manual_seed(0)).to(device)
    hidden = torch.zeros(1, batch, width, device=device)
    alpha = torch.zeros(36, 5, device=device, requires_grad=True)
    adam = torch.optim.Adam([alpha], lr=3e-3, weight_decay=1e-3)
    sgd = torch.optim.SGD(network.parameters(), lr=20, weight_decay=5e-7)

    def loss(rows: Tensor, weights: Tensor, temporal: float = 0.0) -> Tensor:
        log_probs, _, outputs = network(rows[:-1], hidden, {"recurrent": weights})
        return word_loss(log_probs, rows[1:]) + (temporal * temporal_penalty(outputs) if temporal else 0)

    def step() -> None:
        held_out = loss(text[0], alpha.softmax(1))
        if original:
            adam.zero_grad()
            held_out.backward()
        else:
            (alpha.grad,) = torch.autograd.grad(held_out, [alpha])
        adam.step()
        sgd.zero_grad()
        loss(text[1], alpha.softmax(1) if original else alpha.detach().softmax(1), 1e-3).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 0.25)
        sgd.step()

    return step


def seconds(step: Callable[[], None], device: torch.device) -> float:
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


@torch.no_grad()
def compare(ours: nn.Module, original: nn.Module, device: torch.device, width: int) -> float:
    """Gives the original our weights; the largest difference of log probabilities, relative to the largest."""
    for mine, its in zip(ours.parameters(), original.parameters(), strict=True):
        its.copy_(mine)
    x = (torch.arange(24).view(3, 8) % 10).to(device)
    hidden, weights = torch.zeros(1, 8, width, device=device), {"recurrent": torch.full((36, 5), 0.2, device=device)}
    one, two = ours(x, hidden, weights)[0], original(x, hidden, weights)[0]
    return ((one - two).abs().max() / two.abs().max()).item()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each network (default: 5)")
    parser.add_argument("--device", default="cpu", help="cpu, or the index of a GPU (default: cpu)")
    parser.add_argument("--quick", action="store_true", help="a small network, to see that it runs")
    args = parser.parse_args()
    device = torch.device("cpu" if args.device == "cpu" else f"cuda:{args.device}")
    sizes, rounds = ((50, 8, 6, 4), 1) if args.quick else ((10_000, 300, 256, 35), args.rounds)
    n_words, width, batch, words = sizes
    keep_freed_memory()
    torch.manual_seed(0)
    nothing = dict.fromkeys(SEARCH_DROPOUTS, 0.0)
    print(benchmark_header(device))
    pair = (
        recurrent_search_network(n_words, width).to(device),
        OriginalSearchNetwork(n_words, width, nothing).to(device),
    )
    difference = compare(*pair, device, width)
    print(f"same weights: log probabilities differ by {difference:.1e} of the largest")
    ours = recurrent_search_network(n_words, width, **SEARCH_DROPOUTS).to(device)
    original = OriginalSearchNetwork(n_words, width, SEARCH_DROPOUTS).to(device)
    steps = {
        "ours": search_step(ours, device, sizes, False),
        "original style": search_step(original, device, sizes, True),
    }
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(rounds + 1):  # the first round warms up
        for name, step in steps.items():
            taken[name].append(seconds(step, device)) if i else step()
    for name, times in taken.items():
        low, middle, high = (f(times) for f in (min, statistics.median, max))
        print(f"{name}: {middle:.3f} s a step ({low:.3f} to {high:.3f}, n = {len(times)})")
    ratio = statistics.median(taken["original style"]) / statistics.median(taken["ours"])
    where = f"width {width}, {batch} texts, {words} words, vocabulary {n_words}"
    print(f"recurrent search step, {where}: {ratio:.2f} times original style")


if __name__ == "__main__":
    main()
