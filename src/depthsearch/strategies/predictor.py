"""Neural predictor (Wen et al. 2020, arXiv 1912.00848): a graph network that predicts how well a depth and width do."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import Ridge
from torch import Tensor, nn

Sizes = Sequence[tuple[int, int]]  # depth and width of networks
OPERATIONS = 4  # of a node, one-hot: input, block, identity, output


def encode(sizes: Sizes, max_depth: int, widths: Sequence[int]) -> Tensor:
    """Node features (n, max_depth + 2, 4 + len(widths)) of chains: input, max_depth slots, output.

    A slot is a block or the identity, so that all graphs have one size: mean pooling over chains of their own length
    would forget how long they are. Every node carries the one-hot width.
    """
    operations = torch.full((len(sizes), max_depth + 2), 2)
    operations[:, 0], operations[:, -1] = 0, 3
    for row, (depth, _) in zip(operations, sizes, strict=True):
        row[1 : depth + 1] = 1
    width = torch.tensor([list(widths).index(width) for _, width in sizes], dtype=torch.long)
    width = F.one_hot(width, len(widths)).unsqueeze(1).expand(-1, max_depth + 2, -1)
    return torch.cat([F.one_hot(operations, OPERATIONS), width], -1).float()


class _GraphConvolution(nn.Module):
    """(relu(A V W) + relu(A' V W')) / 2, along the chain and against it; A: a node and its neighbour, rows sum to 1."""

    forward_edges: Tensor

    def __init__(self, in_features: int, out_features: int, n_nodes: int) -> None:
        super().__init__()
        self.along, self.against = (nn.Linear(in_features, out_features, bias=False) for _ in range(2))
        edges = torch.eye(n_nodes) + torch.diag(torch.ones(n_nodes - 1), -1)
        self.register_buffer("forward_edges", edges)

    def forward(self, nodes: Tensor) -> Tensor:
        out = 0.5 * F.relu(_rows_to_one(self.forward_edges) @ self.along(nodes))
        return out + 0.5 * F.relu(_rows_to_one(self.forward_edges.mT) @ self.against(nodes))


def _rows_to_one(edges: Tensor) -> Tensor:
    return edges / edges.sum(-1, keepdim=True)


class GraphPredictor(nn.Module):
    """Three bidirectional graph convolutions of 144, mean over nodes, fully connected 128, dropout, one number."""

    def __init__(self, in_features: int, n_nodes: int, dropout: float = 0.1) -> None:
        super().__init__()
        sizes = [in_features, 144, 144, 144]
        self.layers = nn.ModuleList(_GraphConvolution(a, b, n_nodes) for a, b in pairwise(sizes))
        self.head = nn.Sequential(nn.Linear(144, 128), nn.ReLU(), nn.Dropout(dropout), nn.Linear(128, 1))

    def forward(self, nodes: Tensor) -> Tensor:
        """nodes (n, max_depth + 2, features) -> (n,)."""
        for layer in self.layers:
            nodes = layer(nodes)
        return self.head(nodes.mean(1)).squeeze(-1)


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
    """Fits labels, by squared error; Adam, weight decay 1e-3, cosine schedule. In evaluation mode when returned."""
    nodes, y = encode(sizes, max_depth, widths), torch.tensor(labels, dtype=torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = GraphPredictor(nodes.shape[-1], nodes.shape[1])
        optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate, weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
        for _ in range(epochs):
            for batch in torch.randperm(len(y)).split(batch_size):
                optimiser.zero_grad()
                F.mse_loss(network(nodes[batch]), y[batch]).backward()
                optimiser.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def predict_labels(network: GraphPredictor, sizes: Sizes, max_depth: int, widths: Sequence[int]) -> np.ndarray:
    return network(encode(sizes, max_depth, widths)).numpy()


def predict_by_ridge(known: Sizes, labels: Sequence[float], sizes: Sizes) -> np.ndarray:
    """What ridge regression on depth and log width says: the yardstick of the predictor."""
    features = [np.array([(depth, np.log(width)) for depth, width in which]) for which in (known, sizes)]
    mean, std = features[0].mean(0), features[0].std(0) + 1e-9
    return Ridge(alpha=1.0).fit((features[0] - mean) / std, labels).predict((features[1] - mean) / std)
