"""Settings of the neural predictor chosen within its training graphs, and the paper's two stages (Wen et al. 2020).

No graph beyond those handed in plays a part in any choice made here.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from depthsearch.data.graphs import Graphs, Values
from depthsearch.strategies.ensembles import Ensemble, fit, fit_classifier
from depthsearch.strategies.graph_predictor import RECOMMENDED, Setting


def cross_validate(
    graphs: Graphs, labels: Values, setting: Setting, folds: int = 5, repeats: int = 1, seed: int = 0
) -> float:
    """Mean squared error on graphs that were held out, in the squared unit of the labels.

    All folds of all repeats (fresh permutations) train side by side, a network each; of a graph the mean over repeats
    is scored.

    Raises:
        ValueError: there are fewer graphs than twice the folds, or folds is below 2.
    """
    return cross_validated(graphs, labels, [torch.arange(len(graphs.n_vertices))], setting, folds, repeats, seed)[0]


def cross_validated(
    graphs: Graphs,
    labels: Values,
    rows: Sequence[Tensor],
    setting: Setting,
    folds: int = 5,
    repeats: int = 1,
    seed: int = 0,
) -> list[float]:
    """The same within each of several sets of equally many rows of the graphs, all side by side.

    Raises:
        ValueError: as in `cross_validate`.
    """
    y, n = torch.as_tensor(labels).double(), len(rows[0])
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


def choose(
    graphs: Graphs, labels: Values, settings: Mapping[str, Setting], folds: int = 5, repeats: int = 1, seed: int = 0
) -> tuple[str, dict[str, float]]:
    """The name of the setting whose cross-validated error is least, and the errors of all."""
    errors = {name: cross_validate(graphs, labels, s, folds, repeats, seed) for name, s in settings.items()}
    return min(errors, key=errors.__getitem__), errors


class TwoStages:
    """A classifier keeps what it takes to be above the threshold, networks fitted to such graphs alone rank that.

    Everything else is what networks fitted to all graphs say, at most the threshold. Made by `fit_two_stages`.
    """

    def __init__(self, classifier: Ensemble, above: Ensemble, everything: Ensemble, threshold: float) -> None:
        self.classifier, self.above, self.everything, self.threshold = classifier, above, everything, threshold

    def keeps(self, adjacency: Values, operations: Values, n_vertices: Values) -> Tensor:
        """Which graphs (B,) the classifier takes to be above the threshold."""
        return self.classifier(adjacency, operations, n_vertices) > 0.5

    def __call__(self, adjacency: Values, operations: Values, n_vertices: Values) -> Tensor:
        """The prediction (B,), in the unit of the labels."""
        graphs = (adjacency, operations, n_vertices)
        threshold = torch.tensor(self.threshold)
        return in_two_stages(self.classifier(*graphs), self.above(*graphs), self.everything(*graphs), threshold)


def in_two_stages(probability: Tensor, above: Tensor, everything: Tensor, threshold: Tensor) -> Tensor:
    """What two stages say (B,) of graphs that are above the threshold with some probability (B,), given what networks
    of such graphs alone and networks of all graphs say of them."""
    return torch.where(probability > 0.5, above, torch.minimum(everything, threshold))


def fit_two_stages(
    graphs: Graphs, labels: Values, threshold: float, seeds: Iterable[int] = range(5), setting: Setting = RECOMMENDED
) -> TwoStages:
    """The paper's predictor with a classifier in front (section 3.1), which keeps what it expects above 91 %.

    Args:
        threshold: in the unit of the labels.

    Raises:
        ValueError: fewer than two labels are above the threshold, or none is below.
    """
    y, seeds = torch.as_tensor(labels).double(), list(seeds)
    good = y > threshold
    if good.sum() < 2 or good.all():
        raise ValueError(f"a classifier needs labels on both sides of {threshold}, two or more of them above it")
    return TwoStages(
        fit_classifier(graphs, good.double(), seeds, setting),
        fit(graphs.rows(good.nonzero().squeeze(1)), y[good], seeds, setting),
        fit(graphs, y, seeds, setting),
        threshold,
    )
