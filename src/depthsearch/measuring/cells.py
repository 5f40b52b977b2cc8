"""What a search of a cell believes, and on NAS-Bench-201 what that is worth; what one gets there without a search."""

from collections.abc import Callable, Sequence

import torch
from torch.distributions import Categorical, Dirichlet

from depthsearch.data.nasbench import OPERATIONS, SETS, NASBench201
from depthsearch.data.nasbench_official import PARAMETERS
from depthsearch.learning.mixing import MixingWeights, Weights
from depthsearch.measuring.oracle import QUANTILES, drawn_accuracies, largest_probabilities, true_accuracy

DRAWN = 100  # cells of the range that DrNAS's figure shows at every epoch
EARLY = "c10_val_12"  # what a search by the table may look at


def choice_probabilities(mixing: MixingWeights) -> Weights:
    """How likely each edge ends with each option {name: (edges, options)} float64.

    Of softmax weights these are the weights; of a Dirichlet, the probability that an option has the largest of a draw.
    """
    found = {}
    for name, q in mixing().items():
        if isinstance(q, Dirichlet):
            found[name] = largest_probabilities(q.concentration * mixing.masks[name])
        else:
            assert isinstance(q, Categorical)
            found[name] = q.probs.detach().double().cpu()
    return found


def believed_accuracies(table: NASBench201, q: torch.Tensor) -> dict[str, float]:
    """The true accuracies, in percent, under q (6, 5), exactly; by data set, as `c10_mean`, `c100_mean`, `in16_mean`.

    Mean, sd, quantiles (`q05` for 5 %), `near_best` and `best` (probabilities), `mode`, all as in `TrueAccuracy`; and
    of `DRAWN` drawn cells, always by the same random numbers, the least and the greatest.
    """
    row: dict[str, float] = {}
    for data, short in SETS.items():
        accuracy = table.test_accuracy(data)
        exact = true_accuracy(q, table.operations, accuracy)
        drawn = drawn_accuracies(q, table.operations, accuracy, DRAWN, torch.Generator().manual_seed(0))
        row |= {f"{short}_{name}": getattr(exact, name) for name in ("mode", "mean", "sd", "near_best", "best")}
        row |= {f"{short}_q{round(100 * level):02d}": exact.quantiles[level] for level in QUANTILES}
        row |= {f"{short}_drawn_min": float(drawn.min()), f"{short}_drawn_max": float(drawn.max())}
    return row


def accuracies_of(table: NASBench201, string: str) -> dict[str, float]:
    """The true accuracies of a cell in percent, as `c10`, `c100`, `in16`; its `parameters`, and its `index`."""
    index = table.index(string)
    row = {short: float(table.test_accuracy(data)[index]) for data, short in SETS.items()}
    return row | {"parameters": 1e6 * float(table.columns[PARAMETERS][index]), "index": index}


def only_skips(operations: Sequence[str]) -> bool:
    """Whether an architecture has come to nothing but skip connections."""
    return set(operations) == {"skip_connect"}


# Without a search.


def _random(looks: int) -> Callable[[NASBench201, torch.Generator], int]:
    """Of so many random cells, all different, the one that is best on validation points after 12 epochs."""

    def choose(table: NASBench201, generator: torch.Generator) -> int:
        seen = torch.randperm(len(table.strings), generator=generator)[:looks]
        return int(seen[table.columns[EARLY][seen].argmax()])

    return choose


def _all_of(operation: str) -> Callable[[NASBench201, torch.Generator], int]:
    wanted = OPERATIONS.index(operation)
    return lambda table, generator: int((table.operations == wanted).all(1).nonzero()[0, 0])


YARDSTICKS: dict[str, Callable[[NASBench201, torch.Generator], int]] = {
    "random cell": _random(1),
    "random search, 10 looks": _random(10),
    "random search, 100 looks": _random(100),
    "random search, 500 looks": _random(500),
    "most parameters": lambda table, generator: int(table.columns[PARAMETERS].argmax()),
    "all 3x3": _all_of("nor_conv_3x3"),
    "best on CIFAR-10": lambda table, generator: int(table.test_accuracy().argmax()),
}
ALWAYS_THE_SAME = ("most parameters", "all 3x3", "best on CIFAR-10")  # whatever the seed


def yardstick(name: str, table: NASBench201, seed: int) -> str:
    """The cell that one of the `YARDSTICKS` takes; nothing is trained for it here."""
    return table.strings[YARDSTICKS[name](table, torch.Generator().manual_seed(seed))]
