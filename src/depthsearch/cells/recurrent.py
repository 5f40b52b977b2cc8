"""Recurrent cells: the space of DARTS (arXiv 1806.09055, section 2.1 and appendix A) and the networks it becomes.

State 0 is made of the input x and the hidden state h: h + gate (tanh(candidate) - h), with [gate, candidate] =
[x, h] W0 and a sigmoid over the gate. Node i, one of 1..8, is s + gate (f(candidate) - s), with [gate, candidate] =
s Wi, s an earlier state and f an activation. The cell's output, and the hidden state that it hands on, is the mean of
nodes.

In the search network a node is the sum over all earlier states s and all f, weighted. Both networks work from state to
state: one matrix product takes a state to all nodes that read it.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from depthsearch.cells.genotype import ACTIVATIONS, N_NODES, Genotype, RecurrentGenotype
from depthsearch.cells.genotype import genotype as genotype_of
from depthsearch.cells.language import LanguageModel, initial_weight, masked
from depthsearch.cells.mixture import mixture as mix

OPERATIONS = ("none", *ACTIVATIONS)
N_EDGES = N_NODES * (N_NODES + 1) // 2

_FUNCTIONS = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid, "identity": lambda h: h}


class _Cell(nn.Module):
    """What both cells share. `readers[j]` are the nodes, counted from 1, that read state j."""

    def __init__(self, width: int, readers: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.readers = readers
        self.first = initial_weight(2 * width, 2 * width)
        self.nodes = nn.ParameterList(initial_weight(width, 2 * width) for _ in range(len(readers) - 1))

    def forward(
        self, x: Tensor, hidden: Tensor, x_mask: Tensor | None, h_mask: Tensor | None, *mixture: Tensor
    ) -> tuple[Tensor, Tensor]:
        of_x, of_h = self.first.chunk(2)
        matrices = {j: self._matrix(nodes) for j, nodes in enumerate(self.readers) if nodes}
        h, outputs = hidden[0], []
        for from_x in masked(x, x_mask) @ of_x:  # the products of all times at once
            gate, candidate = torch.addmm(from_x, masked(h, h_mask), of_h).chunk(2, dim=-1)
            h = self._output(torch.lerp(h, candidate.tanh(), gate.sigmoid()), h_mask, matrices, *mixture)
            outputs.append(h)
        return torch.stack(outputs), h.unsqueeze(0)

    def _matrix(self, nodes: Sequence[int]) -> Tensor:
        """The matrices (width, 2 width) of some nodes as one: the gates of all, then the candidates of all."""
        return torch.stack([self.nodes[i - 1].unflatten(1, (2, -1)) for i in nodes], dim=2).flatten(1)

    def _output(self, state: Tensor, mask: Tensor | None, matrices: dict[int, Tensor], *mixture: Tensor) -> Tensor:
        raise NotImplementedError


class GenotypeCell(_Cell):
    """The cell that a genotype says."""

    def __init__(self, width: int, genotype: RecurrentGenotype) -> None:
        edges = list(enumerate(genotype.recurrent, start=1))
        super().__init__(width, [[i for i, (_, state) in edges if state == j] for j in range(len(edges) + 1)])
        self.functions = {i: _FUNCTIONS[name] for i, (name, _) in edges}
        self.concat = genotype.concat

    def _output(self, state: Tensor, mask: Tensor | None, matrices: dict[int, Tensor]) -> Tensor:  # type: ignore[override]
        states = {0: state}
        for j, matrix in matrices.items():
            gates, candidates = (masked(states[j], mask) @ matrix).unflatten(1, (2, len(self.readers[j]), -1)).unbind(1)
            for i, gate, candidate in zip(
                self.readers[j], gates.sigmoid().unbind(1), candidates.unbind(1), strict=True
            ):
                states[i] = torch.lerp(states[j], self.functions[i](candidate), gate)
        return torch.stack([states[i] for i in self.concat]).mean(0)


class SearchCell(_Cell):
    """The cell in which all nodes read all earlier states; one batch norm, not affine, is shared by all its states."""

    def __init__(self, width: int) -> None:
        super().__init__(width, [range(j + 1, N_NODES + 1) for j in range(N_NODES + 1)])
        self.norm = nn.BatchNorm1d(width, affine=False)

    def _output(self, state: Tensor, mask: Tensor | None, matrices: dict[int, Tensor], *mixture: Tensor) -> Tensor:
        state, total = self.norm(state), torch.zeros_like(state)
        waiting = state.new_zeros(len(state), N_NODES, state.shape[1])  # what the states so far add to later nodes
        for matrix, weights in zip(matrices.values(), mixture, strict=True):
            product = (masked(state, mask) @ matrix).unflatten(1, (2, len(weights), -1))
            node, waiting = mix(state, product, weights, waiting)
            state = self.norm(node)
            total = total + state
        return total / N_NODES


class RecurrentNetwork(LanguageModel):
    """What `recurrent_network` makes."""

    def __init__(self, genotype: RecurrentGenotype, n_words: int, width: int, **dropouts: float) -> None:
        super().__init__(n_words, width, lambda width: GenotypeCell(width, genotype), **dropouts)
        self.genotype = genotype


class RecurrentSearchNetwork(LanguageModel):
    """What `recurrent_search_network` makes."""

    cell: SearchCell
    _by_state: Tensor

    def __init__(self, n_words: int, width: int, **dropouts: float) -> None:
        super().__init__(n_words, width, SearchCell, **dropouts)
        self.choices = {"recurrent": (N_EDGES, len(OPERATIONS))}
        # What state j adds goes to the nodes j + 1, ..., 8; node i's edges start at row i (i - 1) / 2.
        of_state = [[i * (i - 1) // 2 + j for i in range(j + 1, N_NODES + 1)] for j in range(N_NODES)]
        self._n_of_state = [len(rows) for rows in of_state]
        self.register_buffer("_by_state", torch.tensor([row for rows in of_state for row in rows]), persistent=False)

    def forward(self, x: Tensor, hidden: Tensor, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """As `LanguageModel.forward`, with the mixing weights {"recurrent": (36, 5)}.

        Rows: node 1's edge from state 0, node 2's from states 0 and 1, ...; columns: `OPERATIONS`. A row's weights are
        used as they are; the weight of `none` adds nothing.

        Raises:
            ValueError: also if the weights are of another name or shape.
        """
        rows = self._checked(weights).index_select(0, self._by_state)
        return self._read(x, hidden, *rows.split(self._n_of_state))

    def derive(self, weights: Mapping[str, Tensor]) -> RecurrentGenotype:
        """The cell that mixing weights say: each node keeps its edge with the largest weight other than that of `none`.

        Of equal weights the first counts. All nodes make up the output (section 3.1.2 of the paper).
        """
        rows, nodes, first = self._checked(weights)[:, 1:].tolist(), [], 0
        for node in range(1, N_NODES + 1):
            edges = rows[first : first + node]
            state = max(range(node), key=lambda j: max(edges[j]))
            nodes.append((ACTIVATIONS[edges[state].index(max(edges[state]))], state))
            first += node
        return RecurrentGenotype(tuple(nodes), tuple(range(1, N_NODES + 1)))

    def _checked(self, weights: Mapping[str, Tensor]) -> Tensor:
        shapes = {name: tuple(w.shape) for name, w in weights.items()}
        if shapes != self.choices:
            raise ValueError(f"a recurrent space needs mixing weights of the shapes {self.choices}, got {shapes}")
        return weights["recurrent"]


def recurrent_search_network(n_words: int, width: int, **dropouts: float) -> RecurrentSearchNetwork:
    """The space of recurrent cells: 8 nodes, each the weighted sum of 5 operations on all earlier states.

    `space(x, hidden, {"recurrent": w})` gives log probabilities, hidden state, outputs; `space.derive` a genotype. Its
    one batch norm needs a batch of two or more in training.

    Args:
        n_words: size of the vocabulary.
        width: of the embedding, the hidden state and the output; 300 in the paper.
        dropouts: probabilities by the names of `Dropouts`, 0 by default; `SEARCH_DROPOUTS` are the paper's.

    Raises:
        ValueError: a size is not positive or a probability not in [0, 1).
    """
    return RecurrentSearchNetwork(n_words, width, **dropouts)


def recurrent_network(
    genotype: Genotype | Mapping | str, n_words: int, width: int, **dropouts: float
) -> RecurrentNetwork:
    """The language model of one cell: `log_probs, hidden, outputs = network(x, hidden)`.

    Args:
        genotype: whatever `genotype()` takes, of a recurrent cell.
        n_words, width, dropouts: as of `recurrent_search_network`. The paper's: 850 and `PTB_DROPOUTS` for PTB, 700 and
            `WIKITEXT2_DROPOUTS` for WikiText-2.

    Raises:
        ValueError: as there, or there is no such genotype, or it is one for images.
    """
    return RecurrentNetwork(genotype_of(genotype, RecurrentGenotype), n_words, width, **dropouts)


def recurrent_size(n_words: int, width: int, nodes: int = N_NODES) -> int:
    """How many parameters `recurrent_network` has for a cell of so many nodes."""
    return n_words * (width + 1) + (4 + 2 * nodes) * width * width
