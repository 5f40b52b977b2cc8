"""Language models round a recurrent cell: tied embedding, variational dropout.

A word's row of the embedding goes through the cell; the cell's output times the same embedding, plus a bias, gives
the logits of the next word (Press & Wolf 2017). All dropouts are variational (Gal & Ghahramani 2016): a mask is drawn
once a call and stays the same at all its times.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# What DARTS (arXiv 1806.09055, appendices A.1.2 and A.2.2) uses, as arguments of the networks, whose defaults are 0.
SEARCH_DROPOUTS = {"dropout": 0.75, "dropouth": 0.25, "dropoutx": 0.75, "dropouti": 0.2, "dropoute": 0.0}
PTB_DROPOUTS = SEARCH_DROPOUTS | {"dropoute": 0.1}
WIKITEXT2_DROPOUTS = PTB_DROPOUTS | {"dropouth": 0.15}

INITIAL_RANGE = 0.04  # weights start uniform within plus and minus this


@dataclass(frozen=True)
class Dropouts:
    """Probabilities that an entry is dropped; what is kept is divided by 1 - p. Of effect in training mode only.

    Attributes:
        dropout: entries of the cell's output, before the decoder: one mask (B, width) for all times.
        dropouth: entries of the hidden state where a matrix multiplies it, in every node of the cell: one mask
            (B, width) for all nodes and times. What passes by a matrix is not dropped.
        dropoutx: entries of the cell's input: one mask (B, width) for all times.
        dropouti: entries of the embedded words: one mask (B, width) for all times.
        dropoute: whole words, rows of the embedding: one mask (n_words,) for all times and the whole batch.

    Raises:
        ValueError: a probability is not in [0, 1).
    """

    dropout: float = 0.0
    dropouth: float = 0.0
    dropoutx: float = 0.0
    dropouti: float = 0.0
    dropoute: float = 0.0

    def __post_init__(self) -> None:
        for name, p in vars(self).items():
            if not 0 <= p < 1:
                raise ValueError(f"{name} is the probability of dropping, from 0 to below 1, not {p!r}")


def variational_mask(p: float, shape: tuple[int, ...], like: Tensor) -> Tensor | None:
    """0 with probability p and 1 / (1 - p) otherwise, from torch's global generator; None where p = 0."""
    return like.new_empty(shape).bernoulli_(1 - p).div_(1 - p) if p > 0 else None


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """x under a mask, or as it is where there is none."""
    return x if mask is None else x * mask


def initial_weight(*shape: int) -> nn.Parameter:
    """A new parameter, uniform within `INITIAL_RANGE`."""
    return nn.Parameter(torch.empty(shape).uniform_(-INITIAL_RANGE, INITIAL_RANGE))


class _Decoder(nn.Module):
    def __init__(self, n_words: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(n_words))

    def forward(self, outputs: Tensor, embedding: Tensor) -> Tensor:
        return F.log_softmax(F.linear(outputs, embedding, self.bias), dim=-1)


class LanguageModel(nn.Module):
    """An embedding that is the decoder's weight too, and a cell between them.

    Args:
        n_words: size V of the vocabulary.
        width: of the embedding, the hidden state and the output.
        make_cell: makes the cell of a width. It is called as `cell(embedded, hidden, x_mask, h_mask)` with embedded
            (T, B, width) and masks (B, width) or None; it returns outputs (T, B, width) and the next hidden state.
        dropouts: probabilities by the names of `Dropouts`, 0 where they are not given.

    Raises:
        ValueError: a size is not positive, or a probability is not in [0, 1).
        TypeError: a dropout is none of `Dropouts`.
    """

    hidden_states = 1  # tensors (B, width) that a cell hands on from one time to the next

    def __init__(self, n_words: int, width: int, make_cell: Callable[[int], nn.Module], **dropouts: float) -> None:
        super().__init__()
        if n_words < 1 or width < 1:
            raise ValueError(f"n_words and width must be positive, got {n_words} and {width}")
        self.dropouts = Dropouts(**dropouts)
        self.embedding = initial_weight(n_words, width)
        self.cell = make_cell(width)
        self.decoder = _Decoder(n_words)

    @property
    def n_parameters(self) -> int:
        """How many, the embedding once."""
        return sum(p.numel() for p in self.parameters())

    def initial_hidden(self, batch_size: int) -> Tensor:
        """The hidden state before the first word, zeros (hidden_states, batch_size, width)."""
        return self.embedding.new_zeros(self.hidden_states, batch_size, self.embedding.shape[1])

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reads T words of B texts side by side.

        Args:
            x: numbers of words (T, B), int64.
            hidden: state before them (hidden_states, B, width).

        Returns:
            log probabilities of the word that follows each (T, B, V), the hidden state after the last word, and the
            outputs of the cell (T, B, width) before dropout, for penalties on them.

        Raises:
            ValueError: x is not (T, B) with T > 0, or hidden does not fit it.
        """
        return self._read(x, hidden)

    def _read(self, x: Tensor, hidden: Tensor, *mixture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n_words, width = self.embedding.shape
        if x.dim() != 2 or len(x) == 0 or hidden.shape != (self.hidden_states, x.shape[1], width):
            need = f"words (T, B) and a hidden state ({self.hidden_states}, B, {width})"
            raise ValueError(f"need {need}, got {tuple(x.shape)} and {tuple(hidden.shape)}")
        p = self.dropouts if self.training else Dropouts()
        embedded, of_batch = F.embedding(x, self.embedding), (x.shape[1], width)
        kept = variational_mask(p.dropoute, (n_words, 1), embedded)
        if kept is not None:
            embedded = embedded * kept[x]
        masks = [variational_mask(q, of_batch, embedded) for q in (p.dropouti, p.dropoutx, p.dropouth, p.dropout)]
        outputs, hidden = self.cell(masked(embedded, masks[0]), hidden, masks[1], masks[2], *mixture)
        return self.decoder(masked(outputs, masks[3]), self.embedding), hidden, outputs


def nearest_width(size: Callable[[int], int], n_parameters: int) -> int:
    """The width at which a network comes closest to so many parameters; `size` says how many it has at a width.

    Raises:
        ValueError: that is fewer than it has at width 1.
    """
    if n_parameters < size(1):
        raise ValueError(f"a network that has {size(1):,} parameters or more cannot have {n_parameters:,}")
    below = 1
    while size(below + 1) <= n_parameters:
        below += 1
    return min(below, below + 1, key=lambda width: abs(size(width) - n_parameters))
