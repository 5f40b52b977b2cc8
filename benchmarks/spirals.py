"""Model-epochs per second of training on spirals: ours against a loop in the style of the original code.

    python benchmarks/spirals.py [--depths 20 50 100] [--rounds 7]

The original-style loop trains one network at a time with torch's own modules, a DataLoader with 3 workers re-made
every epoch, the head called once per depth, and loss and error read back every step. Ours is the step of
`depthsearch.learning.loop`, the best-state bookkeeping included, eager and compiled, for 1, 4 and 16 replicates.
All are timed in this one run, in turns of a second so that a machine that slows down slows all of them, and the
medians compared; the first step, which compiles, is not counted but printed.
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
from depthsearch.hardware import benchmark_header, can_compile
from depthsearch.learning.method import Training
from depthsearch.learning.replicates import Replicates


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
    best, best_state = torch.full((n_replicates,), -torch.inf), replicates.state.clone()

    def epoch() -> None:
        nonlocal best, best_state
        value = replicates.run_epoch(data, generators)
        improved = value > best
        best = torch.where(improved, value, best)
        best_state = torch.where(improved.unsqueeze(1), replicates.state, best_state)
        value.tolist()

    return epoch


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
    modes = [False, True] if can_compile(torch.device("cpu")) else [False]
    cores = torch.get_num_threads()
    print(benchmark_header(torch.device("cpu")))
    for depth in options.depths:
        torch.compiler.reset()  # shapes of other depths count against a limit on recompilation
        original = Measured("original-style", 1, cores, original_style(depth))
        ours = []
        for compiled in modes:
            for n in (1, 4, 16):
                threads = cores if n == 16 else 1  # the best of either
                torch.set_num_threads(threads)
                way = Measured("compiled" if compiled else "eager", n, threads, side_by_side(depth, n, compiled))
                begin = time.perf_counter()
                way.step()
                print(f"D = {depth}, {n} replicates, {way.name}: first step {time.perf_counter() - begin:.1f} s")
                ours.append(way)
        for _ in range(options.rounds):
            for way in (original, *ours):
                way.measure(options.seconds)
        print(f"\nD = {depth}: original-style loop {1e3 * original.seconds:.1f} ms a model-epoch, {cores} threads")
        print("replicates  mode      threads  ms a model-epoch  model-epochs/s  times original")
        for way in ours:
            print(
                f"{way.n_replicates:10d}  {way.name:8s}  {way.threads:7d}  {1e3 * way.seconds:16.3f}  "
                f"{1 / way.seconds:14.0f}  {original.seconds / way.seconds:14.0f}"
            )
        print(flush=True)


if __name__ == "__main__":
    main()
