"""Seconds a step of searching a recurrent cell: ours against the style of the original code, an activation at a time.

    python benchmarks/recurrent.py [--quick] [--rounds 5] [--device 0]

A first-order step at width 300, 256 texts side by side, 35 words, a vocabulary of 10,000, the paper's dropouts: the
gradient of the mixing weights on one batch, then a step of the weights on another. The two networks have the same
weights and take turns in one process; at the start their log probabilities are compared, without dropout. The ratio is
that of the medians; the spread is over rounds.
"""

import argparse
import statistics
from collections.abc import Callable

import torch
from original_recurrent import OriginalSearchNetwork
from steps import difference, in_turns, in_words, search_step
from torch import Tensor, nn

from depthsearch.cells import recurrent_search_network
from depthsearch.cells.language import SEARCH_DROPOUTS
from depthsearch.hardware import benchmark_header, keep_freed_memory
from depthsearch.learning.text import temporal_penalty, word_loss


def step_of(
    network: nn.Module, device: torch.device, sizes: tuple[int, int, int, int], original: bool
) -> Callable[[], None]:
    """A function that makes one first-order step."""
    n_words, width, batch, words = sizes
    text = torch.randint(n_words, (2, words + 1, batch), generator=torch.Generator().manual_seed(0)).to(device)
    hidden = torch.zeros(1, batch, width, device=device)
    alphas = {"recurrent": torch.zeros(36, 5, device=device, requires_grad=True)}
    adam = torch.optim.Adam(alphas.values(), lr=3e-3, weight_decay=1e-3)
    sgd = torch.optim.SGD(network.parameters(), lr=20, weight_decay=5e-7)

    def loss(rows: Tensor, weights: dict[str, Tensor], temporal: float = 0.0) -> Tensor:
        log_probs, _, outputs = network(rows[:-1], hidden, weights)
        return word_loss(log_probs, rows[1:]) + (temporal * temporal_penalty(outputs) if temporal else 0)

    losses = (lambda weights: loss(text[0], weights), lambda weights: loss(text[1], weights, 1e-3))
    return search_step(losses, alphas, adam, sgd, 0.25, original)


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
    ours = recurrent_search_network(n_words, width).to(device)
    original = OriginalSearchNetwork(n_words, width, nothing).to(device)
    x, hidden = (torch.arange(24).view(3, 8) % 10).to(device), torch.zeros(1, 8, width, device=device)
    even = {"recurrent": torch.full((36, 5), 0.2, device=device)}
    apart = difference(ours, original, lambda net: net(x, hidden, even)[0])
    print(f"same weights: log probabilities differ by {apart:.1e} of the largest")
    ours = recurrent_search_network(n_words, width, **SEARCH_DROPOUTS).to(device)
    original = OriginalSearchNetwork(n_words, width, SEARCH_DROPOUTS).to(device)
    steps = {
        "ours": step_of(ours, device, sizes, False),
        "original style": step_of(original, device, sizes, True),
    }
    taken = in_turns(steps, rounds, device)
    for name, times in taken.items():
        print(f"{name}: {in_words(times)}")
    ratio = statistics.median(taken["original style"]) / statistics.median(taken["ours"])
    where = f"width {width}, {batch} texts, {words} words, vocabulary {n_words}"
    print(f"recurrent search step, {where}: {ratio:.2f} times as fast as original style")


if __name__ == "__main__":
    main()
