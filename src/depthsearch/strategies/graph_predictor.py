"""The neural predictor's network (Wen et al. 2020, arXiv 1912.00848, section 3.2), and how one is built and trained."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthsearch.data.graphs import VERTEX_FEATURES, relations


class _GraphConvolution(nn.Module):
    """(relu(R H W1) + relu(T H W2)) / 2, along the edges' matrix and against it (section 3.2); no biases."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.along, self.against = (nn.Parameter(torch.empty(in_features, out_features)) for _ in range(2))
        for weight in (self.along, self.against):
            nn.init.xavier_uniform_(weight)

    def forward(self, relation: Tensor, nodes: Tensor) -> Tensor:
        """relation (*S, B, 2, V, V), nodes (*S, B, V, in) -> (*S, B, V, out)."""
        sides = [(relation.select(-3, side) @ nodes).flatten(-3, -2) for side in (0, 1)]
        out = F.relu(sides[0] @ self.along) + F.relu(sides[1] @ self.against)
        return (0.5 * out).unflatten(-2, nodes.shape[-3:-1])


class GraphPredictor(nn.Module):
    """Graph convolutions, mean over vertices, two linear layers without biases and nothing between them (section 3.2).

    Dropout follows every layer but the last. `parameters()` are the two weights (inputs, outputs) of each convolution,
    then the linear weights (outputs, inputs): 102,944 numbers in the published size. All may have a leading axis S of
    networks trained side by side (`stack_modules`); inputs then have it too.

    Args:
        n_operations: K, columns of `operations`.
        width, layers: of the graph convolutions.
        hidden: width of the first linear layer.
        dropout: probability.
        twice_normalised: the transpose's rows are divided by their sums after R's were, as in the original.
        n_features: numbers known of a whole graph that join the mean over vertices.
        nonlinear: SiLU, one more hidden layer and biases after the mean over vertices; the paper has none of them.
        xavier_head: the head starts Xavier uniform, as the convolutions do; else a linear one as torch starts it.

    Raises:
        ValueError: a size is not positive, or the dropout no probability below 1.
    """

    def __init__(
        self,
        n_operations: int = 5,
        width: int = 144,
        layers: int = 3,
        hidden: int = 128,
        dropout: float = 0.1,
        twice_normalised: bool = True,
        n_features: int = 0,
        nonlinear: bool = False,
        xavier_head: bool = True,
    ) -> None:
        super().__init__()
        if min(n_operations, width, hidden) < 1 or layers < 0 or not 0 <= dropout < 1:
            raise ValueError("n_operations, width and hidden must be 1 or more, layers 0 or more, dropout in [0, 1)")
        if layers == 0 and n_features == 0:
            raise ValueError("without layers and without features there is nothing to predict from")
        self.dropout, self.twice_normalised, self.nonlinear = dropout, twice_normalised, nonlinear
        self.n_operations = n_operations
        sizes = [n_operations, *[width] * layers]
        self.layers = nn.ModuleList(_GraphConvolution(a, b) for a, b in pairwise(sizes))
        pooled = (width if layers else 0) + n_features
        widths = [pooled, hidden, hidden, 1] if nonlinear else [pooled, hidden, 1]
        self.head = nn.ModuleList(nn.Linear(a, b, bias=nonlinear) for a, b in pairwise(widths))
        for linear in self.head if nonlinear or xavier_head else ():
            nn.init.xavier_uniform_(linear.weight)  # type: ignore[arg-type]
            if nonlinear:
                nn.init.zeros_(linear.bias)  # type: ignore[arg-type]

    def forward(
        self, adjacency: Tensor, operations: Tensor, n_vertices: Tensor, features: Tensor | None = None
    ) -> Tensor:
        """The prediction (B,).

        Args:
            adjacency: (B, V, V), entry (i, j) the edge i -> j.
            operations: (B, V, K), one-hot, zero beyond the graph.
            n_vertices: (B,).
            features: (B, n_features), where the network takes them.
        """
        operations = operations.to(self.head[0].weight.dtype)  # type: ignore[arg-type]
        relation = relations(adjacency.to(operations.dtype), self.twice_normalised)
        return self.predict(relation, operations, n_vertices, features)

    def predict(self, relation: Tensor, nodes: Tensor, n_vertices: Tensor, features: Tensor | None = None,
                masks: Sequence[Tensor] | None = None) -> Tensor:  # fmt: skip
        """(*S, B) of relations (*S, B, 2, V, V), nodes (*S, B, V, K), n_vertices (*S, B), features (*S, B, n_features).

        In training, masks of `mask_shapes` drop what they say; without them torch's generator does.
        """
        drops = iter(masks) if masks is not None else None
        for layer in self.layers:
            nodes = self._drop(layer(relation, nodes), drops)
        parts = [nodes.sum(-2) / n_vertices.unsqueeze(-1)] if len(self.layers) else []
        out = torch.cat([*parts, features], -1) if features is not None else parts[0]
        for linear in self.head[:-1]:
            out = _linear(linear, out)
            out = self._drop(F.silu(out) if self.nonlinear else out, drops)
        return _linear(self.head[-1], out).squeeze(-1)

    def mask_shapes(self, n: int, n_vertices: int) -> list[tuple[int, ...]]:
        """Shapes of the dropout masks of a batch of n graphs padded to n_vertices."""
        convolutions = [(n, n_vertices, layer.along.shape[-1]) for layer in self.layers]  # type: ignore[union-attr]
        return [*convolutions, *((n, linear.weight.shape[-2]) for linear in self.head[:-1])]  # type: ignore[union-attr]

    def _drop(self, x: Tensor, masks: Iterator[Tensor] | None) -> Tensor:
        if not self.training or self.dropout == 0:
            return x
        return F.dropout(x, self.dropout) if masks is None else x * next(masks)


def _linear(linear: nn.Module, x: Tensor) -> Tensor:
    weight, bias = linear.weight, linear.bias
    out = x @ weight.mT  # type: ignore[operator]
    return out if bias is None else out + (bias.unsqueeze(-2) if bias.ndim > 1 else bias)  # type: ignore[operator]


@dataclass(frozen=True)
class Setting:
    """How a network is built and trained; the defaults are the paper's (section 3.2 and the reproduction by ultmaster).

    Attributes:
        learning_rate, weight_decay: of Adam, L2; the rate falls to 0 along a cosine over the epochs.
        drop_last: leave out the batch that is not full.
        xavier_head: as in `GraphPredictor`; the reproduction's is False. Of no account where graphs are `counted`.
        counted: the network sees what `vertex_features` and `graph_features` count, and its head is nonlinear.
        bounded: it fits -log(bound - label), for labels that crowd below a best possible one, as accuracies do.
    """

    epochs: int = 300
    learning_rate: float = 1e-4
    weight_decay: float = 1e-3
    batch_size: int = 10
    drop_last: bool = True
    width: int = 144
    layers: int = 3
    hidden: int = 128
    dropout: float = 0.1
    twice_normalised: bool = True
    counted: bool = False
    bounded: bool = False
    xavier_head: bool = True

    def said(self) -> dict:
        """All that is of account, as plain values."""
        return {name: value for name, value in asdict(self).items() if name != "xavier_head" or not self.counted}

    def network(self, n_operations: int) -> GraphPredictor:
        """A network for graphs with this many columns of operations, initialised by torch's generator."""
        sizes = {"width": self.width, "layers": self.layers, "hidden": self.hidden, "dropout": self.dropout}
        if not self.counted:
            how = {"twice_normalised": self.twice_normalised, "xavier_head": self.xavier_head}
            return GraphPredictor(n_operations, **sizes, **how)  # type: ignore[arg-type]
        return GraphPredictor(
            n_operations + VERTEX_FEATURES,
            **sizes,  # type: ignore[arg-type]
            twice_normalised=self.twice_normalised,
            n_features=7 + 6 * n_operations,
            nonlinear=True,
        )


PAPER = Setting()
RECOMMENDED = Setting(epochs=150, learning_rate=1e-3, batch_size=32, width=32, hidden=32, counted=True)
CANDIDATES = {"counts": RECOMMENDED, "counts, bounded": replace(RECOMMENDED, bounded=True)}  # cross validation chooses
