"""Settings of the neural predictor chosen within its training graphs, and the paper's two stages (Wen et al. 2020).

No graph beyond those handed in plays a part in any choice made here.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from depthsearch.data.graphs import Graphs, Values
from depthsearch.strategies.ensembles import fit
from depthsearch.strategies.graph_predictor import Setting

FOLDS = 5


def cross_validated(
    graphs: Graphs,
    labels: Values,
    rows: Sequence[Tensor],
    setting: Setting,
    folds: int = FOLDS,
    repeats: int = 1,
    seed: int = 0,
) -> list[float]:
    """Mean squared error on graphs that were held out, in the squared unit of the labels, a number a set of graphs.

    All folds of all repeats (fresh permutations) of all sets train side by side, a network each; of a graph the mean
    over repeats is scored.

    Args:
        rows: of each set its rows of the graphs, of all equally many.

    Raises:
        ValueError: a set has fewer graphs than twice the folds, or folds is below 2.
    """
    y, n = torch.as_tensor(labels).cpu().double(), len(rows[0])
    if folds < 2 or n < 2 * folds:
        raise ValueError(f"{n} graphs are too few for {folds} folds: 2 folds or more, of 2 graphs or more")
    generator, everything = torch.Generator().manual_seed(seed), torch.arange(n)
    held = [part for _ in range(repeats) for part in torch.randperm(n, generator=generator).tensor_split(folds)]
    rest = [everything[~torch.isin(everything, part)] for part in held]
    seeds = [*range(seed, seed + len(held))] * len(rows)
    fitted = fit(graphs, y, seeds, setting, [own[part] for own in rows for part in rest])
    predicted = fitted.members(*graphs).unflatten(0, (len(rows), len(held)))
    errors = []
    for own, members in zip(rows, predicted, strict=True):
        total = torch.zeros(n, dtype=torch.float64)
        for member, part in zip(members, held, strict=True):
            total[part] += member[own[part]]
        errors.append(float((total / repeats - y[own]).square().mean()))
    return errors


def in_two_stages(probability: Tensor, above: Tensor, everything: Tensor, threshold: Tensor) -> Tensor:
    """The paper's predictor with a classifier in front (section 3.1): what it says (B,) of graphs.

    Args:
        probability: (B,) that a graph is above the threshold, by the classifier.
        above: what networks say that have learnt from graphs above it alone (B,); it stands where that is likely.
        everything: what networks of all graphs say (B,); it stands elsewhere, at most the threshold.
        threshold: in the unit of the labels.
    """
    return torch.where(probability > 0.5, above, torch.minimum(everything, threshold))
