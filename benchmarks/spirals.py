"""Model-epochs per second of training on spirals: ours against a loop in the style of the original code.

    python benchmarks/spirals.py [--depths 20 50 100] [--seconds 5]

The original-style loop trains one network at a time with torch's own modules, a DataLoader with 3 workers re-made
every epoch, the head called once per depth, and loss and error read back every step. Ours is the step of
`depthsearch.training`, the best-state bookkeeping included, eager and compiled, for 1, 4 and 16 replicates.
Both are timed in this one run, alternating, and the medians compared; compilation is not counted but printed.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from depthsearch import CategoricalDepth, geometric_prior, mlp_resnet
from depthsearch.data import spiral_split
from depthsearch.scan import can_compile, describe
from depthsearch.training import Replicates, Training


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(width, width), nn.BatchNorm1d(width)

    def forward(self, x):
        return x + self.norm(F.relu(self.linear(x)))


class OriginalStyle(nn.Module):
    """The paper's LDN as one would write it first."""

    def __init__(self, max_depth: int, width: int = 20) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(2, width), nn.Linear(width, 2)
        self.blocks = nn.ModuleList(Block(width) for _ in range(max_depth))
        self.q_logits = nn.Parameter(torch.zeros(max_depth + 1))

    def forward(self, x):
        x = self.stem(x)
        logits = [self.head(x)]
        for block in self.blocks:
            x = block(x)
            logits.append(self.head(x))
        return torch.stack(logits)


def original_style(max_depth: int) -> Callable[[], None]:
    """A function that trains one network for one epoch."""
    split = spiral_split(2000, 720.0, 0.2, seed=0)
    data = TensorDataset(split.x_train, split.y_train)
    network = OriginalStyle(max_depth)
    log_prior = geometric_prior(max_depth).logits.float()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.5)

    def epoch() -> None:
        for x, y in DataLoader(data, batch_size=512, shuffle=True, num_workers=3):
            optimiser.zero_grad()
            log_probs = network(x).log_softmax(-1)
            log_q = network.q_logits.log_softmax(0)
            likelihood = log_probs.gather(-1, y.expand(max_depth + 1, -1).unsqueeze(-1)).squeeze(-1)
            kl = (log_q.exp() * (log_q - log_prior)).sum()
            loss = kl / len(data) - (log_q.exp().unsqueeze(1) * likelihood).sum(0).mean()
            loss.backward()
            optimiser.step()
            loss.item()
            marginal = (log_q.exp()[:, None, None] * log_probs.exp()).sum(0)
            (marginal.argmax(-1) != y).float().mean().item()

    return epoch


def side_by_side(max_depth: int, n_replicates: int, compiled: bool) -> Callable[[], None]:
    """A function that trains `n_replicates` networks for one epoch."""
    splits = [spiral_split(2000, 720.0, 0.2, seed) for seed in range(n_replicates)]
    networks = [mlp_resnet(max_depth) for _ in splits]
    for network in networks:
        network.compiled = compiled  # type: ignore[assignment]
    replicates = Replicates(networks, [CategoricalDepth(geometric_prior(max_depth)) for _ in splits], Training())
    x, y = torch.stack([s.x_train for s in splits]), torch.stack([s.y_train for s in splits])
    best, best_state = torch.full((n_replicates,), -torch.inf), replicates.state.clone()

    def epoch() -> None:
        nonlocal best, best_state
        value = replicates.run_epoch(x, y, ())
        improved = value > best
        best = torch.where(improved, value, best)
        best_state = torch.where(improved[replicates.owner], replicates.state, best_state)
        value.tolist()

    return epoch


def median_seconds(step: Callable[[], None], seconds: float) -> float:
    """Median time of a step, after one to warm up."""
    step()
    times, start = [], time.perf_counter()
    while time.perf_counter() - start < seconds or len(times) < 5:
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", type=int, nargs="+", default=[20, 50, 100])
    parser.add_argument("--seconds", type=float, default=5.0, help="time spent on each measurement")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    modes = [False, True] if can_compile() else [False]
    print(describe(torch.device("cpu")))
    for depth in options.depths:
        baseline = original_style(depth)
        before = median_seconds(baseline, options.seconds)
        rows = []
        for compiled in modes:
            for n in (1, 4, 16):
                torch.compiler.reset()
                step = side_by_side(depth, n, compiled)
                start = time.perf_counter()
                step()
                first = time.perf_counter() - start
                rows.append((n, compiled, median_seconds(step, options.seconds) / n, first))
        original = statistics.mean([before, median_seconds(baseline, options.seconds)])
        print(f"\nD = {depth}: original-style loop {1e3 * original:.1f} ms a model-epoch ({1 / original:.1f} a second)")
        print("replicates  mode      ms a model-epoch  model-epochs/s  times original  first step (s)")
        for n, compiled, seconds, first in rows:
            mode = "compiled" if compiled else "eager"
            ratio = original / seconds
            print(f"{n:10d}  {mode:8s}  {1e3 * seconds:16.3f}  {1 / seconds:14.0f}  {ratio:14.0f}  {first:14.1f}")


if __name__ == "__main__":
    main()
