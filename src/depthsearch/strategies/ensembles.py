"""Networks of the neural predictor trained side by side: the loop, and the ensemble that predicts.

S networks are one module whose parameters have a leading axis S. Each has its own seed and its own graphs to learn
from, so that the members of an ensemble, the folds of a cross validation and the repeats of a study are one training;
nothing couples them, and what a member becomes does not depend on its company (up to rounding), if all learn from as
many graphs: else all take the steps of the one with the fewest.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from depthsearch.data.graphs import (
    VERTEX_FEATURES,
    Graphs,
    Values,
    as_graphs,
    graph_features,
    relations,
    vertex_features,
)
from depthsearch.depth.networks import stack_modules
from depthsearch.strategies.graph_predictor import RECOMMENDED, GraphPredictor, Setting

CHUNK = 500  # graphs predicted at once
FARTHEST = 4.0  # standard deviations at which a feature is cut off: rare graphs lie far outside the known ones
HEADROOM = 0.5  # standard deviations between the best known label and the bound that `bounded` assumes


class _Inputs(NamedTuple):
    """What a network sees of B graphs: relation (B, 2, V, V), nodes (B, V, K), n_vertices (B,), features (S, B, F)."""

    relation: Tensor
    nodes: Tensor
    n_vertices: Tensor
    features: Tensor | None

    def rows(self, rows: Tensor) -> "_Inputs":  # (S, b), each member's own
        features = None if self.features is None else self.features.take_along_dim(rows.unsqueeze(-1), 1)
        return _Inputs(self.relation[rows], self.nodes[rows], self.n_vertices[rows], features)


def _inputs(graphs: Graphs, setting: Setting, scale: tuple[Tensor, Tensor] | None) -> _Inputs:
    relation, n_vertices = relations(graphs.adjacency, setting.twice_normalised), graphs.n_vertices.to(graphs.adjacency)
    if scale is None:
        return _Inputs(relation, graphs.operations, n_vertices, None)
    features = (graph_features(graphs) - scale[0].unsqueeze(1)) / scale[1].unsqueeze(1)
    nodes = torch.cat([graphs.operations, vertex_features(graphs)], -1)
    return _Inputs(relation, nodes, n_vertices, features.clamp(-FARTHEST, FARTHEST))


def _scale(graphs: Graphs, setting: Setting, rows: Sequence[Tensor]) -> tuple[Tensor, Tensor] | None:
    """Mean and standard deviation (S, F) of the features of each member's own graphs."""
    if not setting.counted:
        return None
    features = graph_features(graphs)
    std = torch.stack([features[r].std(0, correction=0) for r in rows])
    return torch.stack([features[r].mean(0) for r in rows]), torch.where(std < 1e-6, torch.ones_like(std), std)


def train(
    graphs: Graphs,
    targets: Tensor,
    rows: Sequence[Tensor],
    seeds: Sequence[int],
    setting: Setting,
    loss: str = "squared",
) -> GraphPredictor:
    """S networks fitted side by side, stacked, in evaluation mode.

    Args:
        graphs: N graphs.
        targets: (S, N), what each member fits.
        rows: S index tensors: the graphs that each learns from. Every epoch all take as many steps as the one with the
            fewest graphs can.
        seeds: S seeds of initialisation, order and dropout.
        loss: "squared", or "logistic" for targets 0 and 1.
    """
    inputs, targets = _inputs(graphs, setting, _scale(graphs, setting, rows)), targets.to(graphs.adjacency.dtype)
    with torch.random.fork_rng(devices=[]):
        networks = [_seeded(setting, graphs.operations.shape[-1], seed) for seed in seeds]
    network = stack_modules(networks).to(targets.dtype).train()
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    fewest = min(len(r) for r in rows)
    batch = min(setting.batch_size, fewest)
    used = fewest // batch * batch if setting.drop_last else fewest
    optimiser = torch.optim.Adam(
        network.parameters(), setting.learning_rate, weight_decay=setting.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, setting.epochs)
    for _ in range(setting.epochs):
        order = [r[torch.randperm(len(r), generator=g)[:used]] for r, g in zip(rows, generators, strict=True)]
        for chosen in torch.stack(order).split(batch, 1):
            masks = _masks(network, chosen.shape[1], graphs.adjacency.shape[1], generators, targets.dtype)
            predicted = network.predict(*inputs.rows(chosen), masks=masks)
            optimiser.zero_grad()
            _loss(predicted, targets.take_along_dim(chosen, 1), loss).backward()
            optimiser.step()
        schedule.step()
    return network.eval()


def _seeded(setting: Setting, n_operations: int, seed: int) -> GraphPredictor:
    torch.manual_seed(seed)
    return setting.network(n_operations)


def _loss(predicted: Tensor, targets: Tensor, loss: str) -> Tensor:
    # Mean over a member's graphs, sum over members: no member's gradient depends on how many there are.
    if loss == "logistic":
        return F.binary_cross_entropy_with_logits(predicted, targets, reduction="sum") / targets.shape[1]
    return (predicted - targets).square().mean(1).sum()


def _masks(
    network: GraphPredictor,
    n: int,
    n_vertices: int,
    generators: Sequence[torch.Generator],
    dtype: torch.dtype = torch.float32,
) -> list[Tensor]:
    """Dropout masks, (S, ...) each: a member's come from its own generator, all of a step in one draw."""
    shapes = network.mask_shapes(n, n_vertices)
    if network.dropout == 0:
        return []
    sizes = [int(torch.Size(shape).numel()) for shape in shapes]
    # Four masks' worth of a 64-bit number, each a 16-bit one against a threshold: a tenth of the time of `bernoulli_`.
    numbers = torch.empty(len(generators), -(-sum(sizes) // 4), dtype=torch.int64)
    for row, generator in zip(numbers, generators, strict=True):
        row.random_(-(2**63), None, generator=generator)
    kept = numbers.view(torch.int16)[:, : sum(sizes)] >= round(2**16 * network.dropout) - 2**15
    drawn = kept.to(dtype) / (1 - network.dropout)
    return [part.unflatten(1, shape) for part, shape in zip(drawn.split(sizes, 1), shapes, strict=True)]


class _Labels:
    """Labels (N,) to what each member fits (S, N), by the mean and spread of its own graphs or given ones, and back."""

    def __init__(
        self, labels: Tensor, rows: Sequence[Tensor], bounded: bool, given: tuple[float, float] | None = None
    ) -> None:
        self.bounded = bounded
        own = [labels[r] for r in rows]
        self.unit = torch.stack([_spread(y) for y in own]).unsqueeze(1)
        self.bound = torch.stack([y.max() for y in own]).unsqueeze(1) + HEADROOM * self.unit
        warped = [self._warp(y, self.bound[i], self.unit[i]) for i, y in enumerate(own)]
        self.mean = torch.stack([z.mean() for z in warped]).unsqueeze(1)
        self.std = torch.stack([_spread(z) for z in warped]).unsqueeze(1)
        if given is not None:
            self.mean, self.std = (torch.full_like(self.mean, value) for value in given)

    def _warp(self, y: Tensor, bound: Tensor, unit: Tensor) -> Tensor:
        # Only a member's own labels are sure to lie below its bound: others, which it does not fit, are cut off.
        return -((bound - y) / unit).clamp(min=1e-3).log() if self.bounded else y

    def targets(self, labels: Tensor) -> Tensor:
        return (self._warp(labels, self.bound, self.unit) - self.mean) / self.std

    def back(self, predicted: Tensor) -> Tensor:
        z = predicted * self.std + self.mean
        return self.bound - self.unit * torch.exp(-z) if self.bounded else z


def _spread(values: Tensor) -> Tensor:
    std = values.std(correction=0)
    return std if std > 0 else torch.ones_like(std)


class Ensemble:
    """S fitted networks, made by `fit`: a call predicts their mean, `members` what each says."""

    def __init__(self, network: GraphPredictor, setting: Setting, scale, labels: _Labels | None) -> None:
        self.network, self.setting, self._scale, self._labels = network, setting, scale, labels

    def __call__(self, adjacency: Values, operations: Values, n_vertices: Values) -> Tensor:
        """The mean prediction (B,), in the unit of the labels."""
        return self.members(adjacency, operations, n_vertices).mean(0)

    @torch.no_grad()
    def members(self, adjacency: Values, operations: Values, n_vertices: Values) -> Tensor:
        """What each member predicts (S, B).

        Raises:
            ValueError: the graphs have another number of columns of operations than those that it was fitted to.
        """
        graphs = as_graphs(adjacency, operations, n_vertices)
        n, fitted = graphs.operations.shape[-1], self.network.n_operations - VERTEX_FEATURES * self.setting.counted
        if n != fitted:
            raise ValueError(f"fitted to graphs with {fitted} columns of operations; these have {n}")
        parts = [
            self._predict(graphs.rows(slice(i, i + CHUNK))) for i in range(0, max(1, len(graphs.n_vertices)), CHUNK)
        ]
        return torch.cat(parts, 1)

    def _predict(self, graphs: Graphs) -> Tensor:
        inputs = _inputs(graphs, self.setting, self._scale)
        predicted = self.network.predict(*inputs).double()
        return torch.sigmoid(predicted) if self._labels is None else self._labels.back(predicted)


def fit(
    graphs: Graphs,
    labels: Values,
    seeds: Iterable[int],
    setting: Setting = RECOMMENDED,
    rows: Sequence[Tensor] | None = None,
    scale: tuple[float, float] | None = None,
) -> Ensemble:
    """Fits one network a seed to labels (N,) in any unit.

    Args:
        rows: for each seed the graphs that it learns from; all of them if not given.
        scale: mean and standard deviation by which labels are normalised, as in the original; if not given, those of
            the graphs that a network learns from.

    Raises:
        ValueError: there are no seeds, or not two graphs with finite labels for each.
    """
    seeds, rows, y = _checked(graphs, labels, seeds, rows)
    scaled = _Labels(y, rows, setting.bounded, scale)
    network = train(graphs, scaled.targets(y), rows, seeds, setting)
    return Ensemble(network, setting, _scale(graphs, setting, rows), scaled)


def fit_classifier(
    graphs: Graphs,
    is_good: Values,
    seeds: Iterable[int],
    setting: Setting = RECOMMENDED,
    rows: Sequence[Tensor] | None = None,
) -> Ensemble:
    """The same with a logistic loss on is_good (N,), 0 or 1: what is returned predicts the probability of 1."""
    seeds, rows, y = _checked(graphs, is_good, seeds, rows)
    network = train(graphs, y.expand(len(seeds), -1), rows, seeds, setting, loss="logistic")
    return Ensemble(network, setting, _scale(graphs, setting, rows), None)


def _checked(graphs: Graphs, labels: Values, seeds: Iterable[int], rows: Sequence[Tensor] | None):
    seeds, y = list(seeds), torch.as_tensor(labels).cpu().double()
    rows = [torch.arange(len(y))] * len(seeds) if rows is None else list(rows)
    if not seeds or len(rows) != len(seeds):
        raise ValueError("one seed or more is needed, and as many rows as seeds")
    if y.shape != graphs.n_vertices.shape or not torch.isfinite(y).all():
        raise ValueError(f"labels must be {len(graphs.n_vertices)} finite numbers, got shape {tuple(y.shape)}")
    if min(len(r) for r in rows) < 2:
        raise ValueError("a predictor needs two labelled graphs or more to learn from")
    return seeds, rows, y
