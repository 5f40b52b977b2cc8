"""Model-epochs per second of training on spirals: ours against a loop in the style of the original code.

    python benchmarks/spirals.py [--depths 20 50 100] [--rounds 7]

The original-style loop trains one network at a time with torch's own modules, a DataLoader with 3 workers re-made
every epoch, the head called once per depth, and loss and error read back every step. Ours is the step of
`learning/replicates.py`, the best-state bookkeeping included, on one thread, as scans run it: by torch's
operations ("eager") and by `native/chain.cpp` ("compiled"), for 1, 4 and 16 replicates. All are timed in this one run,
in turns of a second so that a machine that slows down slows all of them, and the medians compared. The floor is what
the products of a step alone would take at the speed of one large product, timed in the same turns. Beside it stand the
products at the sizes that they have, and the way forward and back without objective and update: what is left to gain.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from original import OriginalStyle, train_step
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from depthsearch import CategoricalDepth, geometric_prior, mlp_resnet
from depthsearch.data.spirals import spiral_split
from depthsearch.data.split import Split
from depthsearch.depth.chain import Sizes, chain_gradient
from depthsearch.depth.networks import EPS
from depthsearch.hardware import benchmark_header, keep_freed_memory
from depthsearch.learning.method import Training
from depthsearch.learning.replicates import Replicates
from depthsearch.learning.trained import Best
from depthsearch.native import library

WIDTH, N_TRAIN, LARGE = 20, 200, 1024
FLOPS = 6 * WIDTH**2 * N_TRAIN  # of a block in a step: one product forward and two backward
LARGE_FLOPS = 2 * LARGE**3


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(width, width), nn.BatchNorm1d(width)

    def forward(self, x):
        return x + self.norm(F.relu(self.linear(x)))


def original_style(max_depth: int) -> Callable[[], None]:
    """A function that trains one network for one epoch."""
    split = spiral_split(2000, 720.0, 0.2, seed=0)
    data = TensorDataset(split.x_train, split.y_train)
    network = OriginalStyle(nn.Linear(2, 20), [Block(20) for _ in range(max_depth)], nn.Linear(20, 2))
    log_prior = geometric_prior(max_depth).logits.float()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.5)

    def epoch() -> None:
        for x, y in DataLoader(data, batch_size=512, shuffle=True, num_workers=3):
            train_step(network, optimiser, log_prior, x, y, len(data))

    return epoch


def side_by_side(max_depth: int, n_replicates: int, compiled: bool) -> Callable[[], None]:
    """A function that trains `n_replicates` networks for one epoch."""
    splits = [spiral_split(2000, 720.0, 0.2, seed) for seed in range(n_replicates)]
    networks = [mlp_resnet(max_depth) for _ in splits]
    depths = [CategoricalDepth(geometric_prior(max_depth)) for _ in splits]
    replicates = Replicates(networks, depths, Training(), compiled)
    data = Split.stack(splits)
    generators = [torch.Generator() for _ in range(n_replicates)]
    best = Best(replicates.state)

    def epoch() -> None:
        value = replicates.run_epoch(data, generators)
        best.update(0, value, replicates.state)
        value.tolist()

    return epoch


def large_product() -> Callable[[], None]:
    """A function that multiplies two large matrices."""
    a, b, out = (torch.rand(LARGE, LARGE) for _ in range(3))

    def step() -> None:
        torch.mm(a, b, out=out)

    return step


def small_products(max_depth: int, n_replicates: int) -> Callable[[], None]:
    """A function that does the products of a step of `n_replicates` networks, by torch, and nothing else."""
    weight, a, grad = (torch.rand(n_replicates, WIDTH, n) for n in (WIDTH, N_TRAIN, N_TRAIN))

    def step() -> None:
        for _ in range(max_depth):
            for left, right in ((weight, a), (weight.mT, grad), (grad, a.mT)):
                torch.bmm(left, right)

    return step


def chain_alone(max_depth: int, n_replicates: int) -> Callable[[], None]:
    """A function that takes `n_replicates` networks forward and back, and does not update them."""
    networks, x = [mlp_resnet(max_depth) for _ in range(n_replicates)], torch.rand(n_replicates, N_TRAIN, 2)
    flat = torch.stack([torch.cat([p.detach().flatten() for p in network.parameters()]) for network in networks])
    slopes = torch.full((max_depth + 1, n_replicates), 1 / (max_depth + 1))
    y, sizes = torch.randint(2, x.shape[:2]), Sizes(max_depth, WIDTH, 2, 2, N_TRAIN, 0)

    def step() -> None:
        chain_gradient(sizes, EPS, flat, x, y, slopes)

    return step


@dataclass
class Measured:
    """A way to train, and how long its steps took."""

    name: str
    n_replicates: int
    threads: int
    step: Callable[[], None]
    times: list[float] = field(default_factory=list)

    def measure(self, seconds: float) -> None:
        torch.set_num_threads(self.threads)
        self.step()
        stop = time.perf_counter() + seconds
        while time.perf_counter() < stop:
            begin = time.perf_counter()
            self.step()
            self.times.append(time.perf_counter() - begin)

    @property
    def seconds(self) -> float:
        """Median time of a model-epoch."""
        return statistics.median(self.times) / self.n_replicates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", type=int, nargs="+", default=[20, 50, 100])
    parser.add_argument("--seconds", type=float, default=1.0, help="time spent on each way to train, each round")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    cores, begin = torch.get_num_threads(), time.perf_counter()
    modes = [False, True] if library("chain", torch.float32) is not None else [False]
    print(benchmark_header(torch.device("cpu")))
    print(f"compiling took {time.perf_counter() - begin:.1f} s")
    keep_freed_memory()
    for depth in options.depths:
        original = Measured("original-style", 1, cores, original_style(depth))
        ours = []
        for compiled in modes:
            for n in (1, 4, 16):
                torch.set_num_threads(1)
                way = Measured("compiled" if compiled else "eager", n, 1, side_by_side(depth, n, compiled))
                ours.append(way)
        product = Measured("product", 1, 1, large_product())
        parts = [Measured("products of its sizes alone, by torch", 16, 1, small_products(depth, 16))]
        if True in modes:
            parts.append(Measured("forward and back alone, compiled", 16, 1, chain_alone(depth, 16)))
        for _ in range(options.rounds):
            for way in (original, *ours, product, *parts):
                way.measure(options.seconds)
        floor = FLOPS * depth * product.seconds / LARGE_FLOPS
        print(f"\nD = {depth}: original-style loop {1e3 * original.seconds:.1f} ms a model-epoch, {cores} threads")
        print(f"floor {1e3 * floor:.3f} ms: a large product runs at {LARGE_FLOPS / product.seconds / 1e9:.0f} GFLOP/s")
        print("replicates  mode      ms a model-epoch  model-epochs/s   times as fast  times floor")
        for way in ours:
            print(
                f"{way.n_replicates:10d}  {way.name:8s}  {1e3 * way.seconds:16.3f}  {1 / way.seconds:14.0f}  "
                f"{original.seconds / way.seconds:14.0f}  {way.seconds / floor:11.1f}"
            )
        for part in parts:
            times_floor = part.seconds / floor
            print(f"{part.n_replicates:10d}  {part.name}: {1e3 * part.seconds:.3f} ms, {times_floor:.1f} times floor")
        print(flush=True)


if __name__ == "__main__":
    main()
