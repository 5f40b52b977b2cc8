"""Neural predictor (Wen et al. 2020, arXiv 1912.00848): a graph network that predicts how good an architecture is.

`GraphPredictor` is the paper's network. `fit_ensemble` is what to use: several networks, trained side by side, that
also see what can be counted on a graph. Architectures come as graphs (`data.graphs` says how).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from sklearn.linear_model import Ridge

from depthsearch.data.graphs import Graphs, Sizes, Values, as_graphs, chains, encode
from depthsearch.strategies.ensembles import Ensemble, fit, train
from depthsearch.strategies.graph_predictor import CANDIDATES, PAPER, RECOMMENDED, GraphPredictor, Setting
from depthsearch.strategies.predictor_choice import FOLDS, cross_validated

__all__ = [
    "PAPER",
    "RECOMMENDED",
    "Ensemble",
    "GraphPredictor",
    "Graphs",
    "Setting",
    "encode",
    "fit_ensemble",
    "fit_predictor",
    "predict_by_ridge",
    "predict_labels",
]


def fit_ensemble(
    adjacency: Values, operations: Values, n_vertices: Values, labels: Values, seeds: Iterable[int] = range(5)
) -> Ensemble:
    """Fits networks of a recommended setting, one a seed; a call of what is returned predicts.

    Which of `CANDIDATES` they have, labels as they are or by how far they lie below a bound, is chosen by cross
    validation within these graphs, if there are ten or more (ten networks more are trained then): what the page of
    results calls "chosen, ensemble".

    `predict(adjacency, operations, n_vertices)` is the mean of the networks (B,) in the unit of the labels, and
    `predict.members(...)` what each of them says (S, B): their spread is the ensemble's uncertainty.

    Args:
        adjacency: (N, V, V), entry (i, j) the edge i -> j, upper triangular.
        operations: (N, V, K), one-hot, zero beyond the graph; for NAS-Bench-101 the columns are output, input, conv3x3,
            conv1x1, maxpool.
        n_vertices: (N,).
        labels: (N,), in any unit.
        seeds: of initialisation, order of the graphs and dropout.

    Raises:
        ValueError: shapes do not fit, labels are not finite, or there are fewer than two graphs or no seeds.
    """
    graphs, setting = as_graphs(adjacency, operations, n_vertices), RECOMMENDED
    seeds, n = list(seeds), len(graphs.n_vertices)
    if seeds and n >= 2 * FOLDS:
        setting = min(CANDIDATES.values(), key=lambda s: cross_validated(graphs, labels, [torch.arange(n)], s)[0])
    return fit(graphs, labels, seeds, setting)


# Depth and width.


def fit_predictor(
    sizes: Sizes,
    labels: Sequence[float],
    max_depth: int,
    widths: Sequence[int],
    seed: int = 0,
    epochs: int = 300,
    learning_rate: float = 1e-4,
    batch_size: int = 10,
) -> GraphPredictor:
    """The paper's network fitted to labels of depths and widths, taken as they are; in evaluation mode."""
    setting = replace(PAPER, epochs=epochs, learning_rate=learning_rate, batch_size=batch_size, drop_last=False)
    targets = torch.tensor([labels], dtype=torch.float32)
    stacked = train(chains(sizes, max_depth, widths), targets, [torch.arange(len(labels))], [seed], setting)
    network = setting.network(stacked.n_operations)
    network.load_state_dict({name: value[0] for name, value in stacked.state_dict().items()})
    return network.eval()


@torch.no_grad()
def predict_labels(network: GraphPredictor, sizes: Sizes, max_depth: int, widths: Sequence[int]) -> np.ndarray:
    """What the network says of these depths and widths (n,)."""
    return network(*chains(sizes, max_depth, widths)).numpy()


def predict_by_ridge(known: Sizes, labels: Sequence[float], sizes: Sizes) -> np.ndarray:
    """What ridge regression on depth and log width says: the yardstick of the predictor."""
    features = [np.array([(depth, np.log(width)) for depth, width in which]) for which in (known, sizes)]
    mean, std = features[0].mean(0), features[0].std(0) + 1e-9
    return Ridge(alpha=1.0).fit((features[0] - mean) / std, labels).predict((features[1] - mean) / std)
