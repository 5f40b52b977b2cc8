"""What a recurrent space is searched on: two parts of a text, read side by side with the hidden state carried on."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn

from depthsearch.data.text import batchify, pieces, sequence_lengths
from depthsearch.learning.bilevel import Loss
from depthsearch.learning.halves import Pair
from depthsearch.learning.mixing import Weights
from depthsearch.learning.text import temporal_penalty, word_loss


@dataclass(frozen=True)
class TextParts:
    """A text for the weights of a space and another for its mixing weights (DARTS, arXiv 1806.09055, section 3.1.2).

    Every epoch starts both from a hidden state of zeros. A pass hands its state on whenever it is made, so the state
    that goes on is that of the step that the weights take, and of the only pass of an order over validation words.

    Attributes:
        train, valid: words (N,), on the device of the space.
        batch_size: rows of both that are read side by side.
        bptt: words of a piece; 5 % of those for the weights are half as long, and so is the step they make.
        temporal: weight of `temporal_penalty` in the loss for the weights. The second order looks ahead by that loss,
            too; the original leaves the penalty out there.

    Raises:
        DataError: a part is too short for its batch size.
    """

    train: Tensor
    valid: Tensor
    batch_size: int = 256
    bptt: int = 35
    temporal: float = 1e-3

    def __post_init__(self) -> None:
        for words in (self.train, self.valid):
            batchify(words, self.batch_size)

    def to(self, device: torch.device) -> "TextParts":
        """The same words on a device."""
        return replace(self, train=self.train.to(device), valid=self.valid.to(device))

    def pairs(self, space: nn.Module, generator: torch.Generator) -> Iterator[Pair]:
        """One pass over the text for the weights; where the other is shorter, it comes round again from its start."""
        train, valid = _Reader(space, self.batch_size, self.temporal), _Reader(space, self.batch_size)
        others = iter(())
        lengths = sequence_lengths(self.bptt, generator, spread=0)
        for x, y, length in pieces(batchify(self.train, self.batch_size), lengths):
            other = next(others, None)
            if other is None:
                others = pieces(batchify(self.valid, self.batch_size), repeat(self.bptt))
                other, valid = next(others), _Reader(space, self.batch_size)
            yield Pair(train.loss(x, y), valid.loss(*other[:2]), scale=length / self.bptt)


class _Reader:
    """Where the reading of a part has come to."""

    def __init__(self, space: Any, batch_size: int, temporal: float = 0.0) -> None:
        self.space, self.temporal, self.hidden = space, temporal, space.initial_hidden(batch_size)

    def loss(self, x: Tensor, y: Tensor) -> Loss:
        """Of the words y that follow x (T, B), read from where the last pass ended."""
        hidden = self.hidden

        def loss(weights: Weights) -> Tensor:
            log_probs, after, outputs = self.space(x, hidden, weights)
            self.hidden = after.detach()
            return word_loss(log_probs, y) + (self.temporal * temporal_penalty(outputs) if self.temporal else 0)

        return loss
