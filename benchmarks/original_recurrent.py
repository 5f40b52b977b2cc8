"""The recurrent search network as one would write it first, in the style of the original code.

Node by node: one product of all earlier states with the node's matrix, then the activations one at a time, each with
its own highway connection. The weights are those of `recurrent_search_network`, in the same order.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FUNCTIONS = (torch.tanh, torch.relu, torch.sigmoid, lambda h: h)  # the first of the five options adds nothing


def weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape).uniform_(-0.04, 0.04))


def locked(x: Tensor, p: float, *shape: int) -> Tensor:
    return x * x.new_empty(shape).bernoulli_(1 - p) / (1 - p)


class OriginalSearchCell(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = weight(2 * width, 2 * width)
        self.nodes = nn.ParameterList(weight(width, 2 * width) for _ in range(8))
        self.norm = nn.BatchNorm1d(width, affine=False)

    def forward(self, x: Tensor, h: Tensor, x_mask: Tensor, h_mask: Tensor, weights: Tensor) -> Tensor:
        gate, candidate = (torch.cat([x * x_mask, h * h_mask], -1) @ self.first).chunk(2, -1)
        first = self.norm(h + gate.sigmoid() * (candidate.tanh() - h))
        states, row = first.unsqueeze(0), 0
        for i, matrix in enumerate(self.nodes):
            gates, candidates = ((states * h_mask).flatten(0, 1) @ matrix).view(i + 1, len(h), -1).chunk(2, -1)
            gates, node = gates.sigmoid(), torch.zeros_like(first)
            for k, function in enumerate(FUNCTIONS, start=1):
                unweighted = states + gates * (function(candidates) - states)
                node = node + (weights[row : row + i + 1, k, None, None] * unweighted).sum(0)
            states = torch.cat([states, self.norm(node).unsqueeze(0)])
            row += i + 1
        return states[1:].mean(0)


class OriginalSearchNetwork(nn.Module):
    def __init__(self, n_words: int, width: int, dropouts: dict[str, float]) -> None:
        super().__init__()
        self.encoder = nn.Embedding(n_words, width)
        self.cell = OriginalSearchCell(width)
        self.decoder = nn.Linear(width, n_words)
        self.decoder.weight = self.encoder.weight
        self.dropouts = dropouts

    def forward(self, x: Tensor, hidden: Tensor, weights: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        p, (_, batch, width) = self.dropouts, hidden.shape
        embedded = locked(self.encoder(x), p["dropouti"], 1, batch, width)
        x_mask, h_mask = (
            locked(torch.ones_like(hidden[0]), p[name], batch, width) for name in ("dropoutx", "dropouth")
        )
        h, outputs = hidden[0], []
        for word in embedded:
            h = self.cell(word, h, x_mask, h_mask, weights["recurrent"])
            outputs.append(h)
        stacked = torch.stack(outputs)
        logits = self.decoder(locked(stacked, p["dropout"], 1, batch, width))
        return F.log_softmax(logits, -1), h.unsqueeze(0), stacked
