"""An LSTM with the interface, the tied embedding and the dropouts of the recurrent cells: a control for them."""

import torch
from torch import Tensor, nn

from depthsearch.cells.language import LanguageModel, initial_weight, masked, nearest_width


class _LSTMCell(nn.Module):
    """One layer (Hochreiter & Schmidhuber 1997); the rows of its matrices are input, forget, candidate, output."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.of_x = initial_weight(4 * width, width)
        self.of_h = initial_weight(4 * width, width)
        self.bias = nn.Parameter(torch.zeros(4 * width))
        with torch.no_grad():
            self.bias[width : 2 * width] = 1  # remembers at first (Jozefowicz et al. 2015)

    def forward(self, x: Tensor, hidden: Tensor, x_mask: Tensor | None, h_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        h, cell = hidden
        outputs = []
        for from_x in masked(x, x_mask) @ self.of_x.T + self.bias:  # the products of all times at once
            gates = torch.addmm(from_x, masked(h, h_mask), self.of_h.T)
            write, keep, candidate, read = gates.chunk(4, dim=-1)
            cell = keep.sigmoid() * cell + write.sigmoid() * candidate.tanh()
            h = read.sigmoid() * cell.tanh()
            outputs.append(h)
        return torch.stack(outputs), torch.stack([h, cell])


class LSTMNetwork(LanguageModel):
    """What `lstm_network` makes. Its hidden state is (2, B, width): the output, then the memory."""

    hidden_states = 2

    def __init__(self, n_words: int, width: int, **dropouts: float) -> None:
        super().__init__(n_words, width, _LSTMCell, **dropouts)


def lstm_network(n_words: int, width: int, **dropouts: float) -> LSTMNetwork:
    """A language model whose cell is one LSTM layer; arguments and errors as of `recurrent_search_network`."""
    return LSTMNetwork(n_words, width, **dropouts)


def lstm_width(n_words: int, n_parameters: int) -> int:
    """The width at which `lstm_network` comes closest to so many parameters; errors as of `nearest_width`.

    It has V width + V of the tied embedding and 8 width^2 + 4 width of the cell.
    """
    return nearest_width(lambda width: n_words * (width + 1) + 8 * width * width + 4 * width, n_parameters)
