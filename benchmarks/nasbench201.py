"""Seconds of a search step on NAS-Bench-201: ours against one operation at a time with a DataLoader of PIL images.

    python benchmarks/nasbench201.py [--quick] [--rounds 5] [--device 0]

A first-order step at 16 channels, 5 cells a stage, batches of 64: the gradient of the mixing weights on one batch, then
a step of the weights on another, images changed and normalised included. Both networks start with the same weights,
which is checked, and take turns in one process. An epoch has 391 steps (25,000 images for the weights).
"""

import argparse
import statistics
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from original_nasbench201 import OriginalSearchNetwork, batches
from steps import in_turns, in_words, search_step
from torch import Tensor, nn

from depthsearch.cells import nasbench201_search_network
from depthsearch.data.augment import Augmentation
from depthsearch.data.cifar import BINARY_SETS
from depthsearch.data.split import Split
from depthsearch.hardware import benchmark_header, keep_freed_memory

STEPS_AN_EPOCH = 391


def step_of(
    network: nn.Module, data: Iterator[tuple[Tensor, Tensor]], device: torch.device, original: bool
) -> Callable[[], None]:
    """A function that makes one first-order step."""
    alphas = {"cell": torch.zeros(6, 5, device=device, requires_grad=True)}
    adam = torch.optim.Adam(alphas.values(), lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
    sgd = torch.optim.SGD(network.parameters(), lr=0.025, momentum=0.9, weight_decay=3e-4)

    def loss(weights: dict[str, Tensor]) -> Tensor:
        x, y = (tensor.to(device, non_blocking=True) for tensor in next(data))
        return F.cross_entropy(network(x, weights), y)

    return search_step((loss, loss), alphas, adam, sgd, 5, original)


def on_the_device(split: Split, batch: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Changed, normalised batches without end, made where the images lie."""
    while True:
        order = torch.randperm(len(split.y_train), generator=generator).to(split.y_train.device)
        for rows in order.split(batch)[: len(order) // batch]:
            yield Augmentation()(split, split.x_train[rows], generator), split.y_train[rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small network, to see that it runs")
    parser.add_argument("--rounds", type=int, default=5, help="steps of each that are timed")
    parser.add_argument("--workers", type=int, default=2, help="processes of the original's DataLoader")
    parser.add_argument("--device", type=int, help="index of a GPU; the CPU if not given")
    options = parser.parse_args()
    device = torch.device("cpu" if options.device is None else f"cuda:{options.device}")
    channels, cells, batch, pixels = (4, 1, 8, 16) if options.quick else (16, 5, 64, 32)
    print(benchmark_header(device))
    keep_freed_memory()

    torch.manual_seed(0)
    known, n = BINARY_SETS["CIFAR-10"], 16 * batch
    x, y = torch.randint(256, (n, 3, pixels, pixels), dtype=torch.uint8), torch.randint(10, (n,))
    split = Split(x, y, x, y, mean=known.mean, std=known.std).to(device)
    ours = nasbench201_search_network(channels, cells).to(device)
    original = OriginalSearchNetwork(channels, cells).to(device)
    original.load_state_dict(dict(zip(original.state_dict(), _as_original(original, ours), strict=True)))
    inputs, even = split.inputs(split.x_train[:batch]), {"cell": torch.full((6, 5), 0.2, device=device)}
    torch.testing.assert_close(ours(inputs, even), original(inputs, even), rtol=1e-2, atol=1e-2)

    loader = batches(x, y, known.mean, known.std, batch, 0 if options.quick else options.workers)
    generator = torch.Generator().manual_seed(0)
    steps = {
        "original": step_of(original, loader, device, original=True),
        "ours": step_of(ours, on_the_device(split, batch, generator), device, original=False),
    }
    times = in_turns(steps, options.rounds, device)
    for name, spent in times.items():
        print(f"{name:9s} {in_words(spent)}, {statistics.median(spent) * STEPS_AN_EPOCH:.0f} s an epoch")
    print(f"ours is {statistics.median(times['original']) / statistics.median(times['ours']):.2f} times as fast")


def _as_original(original: nn.Module, ours: nn.Module) -> Iterator[Tensor]:
    # Parameters come in the same order in both; the buffers of the original stay as they are.
    weights = ours.parameters()
    names = {name for name, _ in original.named_parameters()}
    for name, value in original.state_dict().items():
        yield next(weights).detach() if name in names else value


if __name__ == "__main__":
    main()
