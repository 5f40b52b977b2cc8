"""Trains and tests a language model: truncated backpropagation, clipped SGD, then averaged SGD.

What Merity, Keskar & Socher 2018 (arXiv 1708.02182) and, after them, DARTS (arXiv 1806.09055, appendix A.2.2) do. A
network is anything with `initial_hidden(batch_size)` and `log_probs, hidden, outputs = network(x, hidden)`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthsearch.data.text import Text, batchify, pieces, sequence_lengths
from depthsearch.hardware import products_in
from depthsearch.learning.averaging import Averaging
from depthsearch.learning.copies import on_cpu
from depthsearch.learning.randomness import OwnRandomNumbers
from depthsearch.learning.single import Fitted

MAX_ATTEMPTS = 10  # at an epoch whose loss is no number


@dataclass(frozen=True)
class TextTraining:
    """How a language model is trained; the defaults are DARTS's for a cell on PTB.

    Attributes:
        epochs: passes over the training part.
        batch_size, eval_batch_size: rows that are read side by side in training, and in validation.
        bptt, spread: words a step of backpropagation, mean and standard deviation (`sequence_lengths`).
        learning_rate: of SGD for a step of bptt words; one of other length has it in proportion.
        weight_decay: L2, added to the gradient after clipping.
        clip: the norm of the gradient over all parameters is at most this.
        activation, temporal: weights of `activation_penalty` and `temporal_penalty`.
        patience: of `Averaging`.

    Raises:
        ValueError: a number makes no sense.
    """

    epochs: int = 3600
    batch_size: int = 64
    eval_batch_size: int = 10
    bptt: int = 35
    spread: float = 5.0
    learning_rate: float = 20.0
    weight_decay: float = 8e-7
    clip: float = 0.25
    activation: float = 0.0
    temporal: float = 1e-3
    patience: int = 5

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "eval_batch_size", "bptt"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        for name in ("spread", "weight_decay", "activation", "temporal", "patience"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")


def activation_penalty(outputs: Tensor) -> Tensor:
    """Mean square of the outputs (T, B, width), Merity et al. 2018, section 4.6.

    The original squares them after dropout; that has the same mean if this is weighted by 1 / (1 - dropout).
    """
    return outputs.square().mean()


def temporal_penalty(outputs: Tensor) -> Tensor:
    """Mean square of what outputs (T, B, width) change from one time to the next, 0 where T = 1. Source as above."""
    return outputs.diff(dim=0).square().mean() if len(outputs) > 1 else outputs.sum() * 0


def word_loss(log_probs: Tensor, y: Tensor) -> Tensor:
    """Mean negative log-likelihood, nats a word, of words y (T, B) under log probabilities (T, B, V)."""
    return F.nll_loss(log_probs.flatten(0, 1), y.flatten())


@torch.no_grad()
def evaluate(network: nn.Module, words: Tensor, batch_size: int = 1, bptt: int = 35, faithful: bool = False) -> float:
    """Mean negative log-likelihood of a text (N,), nats a word; its exponential is the perplexity.

    Every word but the first of each row is predicted from all that come before it in the row. Words that do not fill a
    row are left out: with a batch of one there are none.

    Args:
        network: evaluated in evaluation mode, and left in the mode that it was in.
        words: on the network's device.
        batch_size: rows side by side.
        bptt: words a pass, of no effect on the result.
        faithful: divides by the number of all words, as the original does, not of those that are predicted.
    """
    rows, training = batchify(words, batch_size), network.training
    network.eval()
    hidden, total = network.initial_hidden(batch_size), torch.zeros((), dtype=torch.float64, device=words.device)  # type: ignore[operator]
    with products_in("float32"):
        for start in range(0, len(rows) - 1, bptt):
            y = rows[start + 1 : start + 1 + bptt]
            log_probs, hidden, _ = network(rows[start : start + len(y)], hidden)
            total += word_loss(log_probs, y) * len(y)
    network.train(training)
    return total.item() / (len(rows) - (not faithful))


def perplexity(nats: float) -> float:
    """exp of a mean negative log-likelihood; infinite where that is too large for a float."""
    return math.exp(nats) if nats < 700 else (nats if math.isnan(nats) else math.inf)


class TextLearner:
    """Trains one network on one text, epoch by epoch; what it draws is its own, so nothing beside it changes it.

    The state kept is the one with the lowest loss on the validation part: of the averaged weights once there are any.
    An epoch in which a loss is no number is done again from the end of the last one, with other random numbers; where
    that fails `MAX_ATTEMPTS` times, training ends.

    Args:
        network: trained in place, on the device that it is on.
        text: training and validation part are used.
        training: how to train.
        seed: of the lengths of pieces and of the dropout masks.
        resume: one checkpoint to go on from, or none.

    Raises:
        DataError: a part of the text is too short for its batch size.
    """

    def __init__(
        self, network: nn.Module, text: Text, training: TextTraining, seed: int, resume: Sequence[dict] = ()
    ) -> None:
        self.network, self.training = network, training
        self._device = next(network.parameters()).device
        self._rows = batchify(text.train.to(self._device), training.batch_size)
        self._valid = text.valid.to(self._device)
        batchify(self._valid, training.eval_batch_size)  # too short a part is noticed before anything is trained
        self._optimiser = torch.optim.SGD(
            network.parameters(), training.learning_rate, weight_decay=training.weight_decay
        )
        self._averaging = Averaging(network.parameters(), training.patience)
        self._lengths = torch.Generator().manual_seed(seed)
        self._random = OwnRandomNumbers(self._device, seed)  # of the dropout masks
        self._best: dict[str, Tensor] = _copied(network)
        self.history: list[dict] = []
        self.diverged_epoch: int | None = None
        if resume:
            self._resume(resume[0])

    @property
    def best_loss(self) -> float:
        """The lowest loss on the validation part so far, nats a word."""
        return min((row["valid_loss"] for row in self.history), default=math.inf)

    def epochs(self) -> Iterator[int]:
        """Trains what epochs are left; yields the number of each when it is done.

        Its row in `history`: epoch (from 1), train_loss, valid_loss, averaged, attempts.
        """
        while len(self.history) < self.training.epochs and self.diverged_epoch is None:
            row = self._epoch()
            if row is None:
                self.diverged_epoch = len(self.history) + 1
            else:
                self.history.append(row)
            yield self.diverged_epoch or len(self.history)

    def learned(self) -> list[Fitted]:
        """The network, put into the best state."""
        self.network.load_state_dict(self._best)
        return [Fitted(self.network.eval(), self.history, self.diverged_epoch)]

    def histories(self) -> list[list[dict]]:
        """What was logged so far."""
        return [self.history]

    def about(self) -> dict:
        """Nothing but the configuration."""
        return {}

    def progress(self) -> str:
        """Perplexities of the last epoch."""
        if not self.history:
            return "before the first epoch"
        row = self.history[-1]
        perplexities = (perplexity(row[f"{part}_loss"]) for part in ("train", "valid"))
        return "perplexity {:.1f}, validation {:.1f}".format(*perplexities) + ", averaged" * row["averaged"]

    def _epoch(self) -> dict | None:
        """An epoch; its row of the history, None if its loss was no number however often it was done."""
        epoch, averaged = len(self.history) + 1, self._averaging.started
        network, averaging = _copied(self.network), self._averaging.state_dict()
        for attempt in range(1, MAX_ATTEMPTS + 1):
            train_loss, valid_loss = self._one_pass(), self._validate()
            if math.isfinite(train_loss) and math.isfinite(valid_loss):
                self._averaging.observe(valid_loss)
                row = {"epoch": epoch, "train_loss": train_loss, "valid_loss": valid_loss}
                return row | {"averaged": averaged, "attempts": attempt}
            self.network.load_state_dict(network)
            self._averaging.load_state_dict(averaging)
        return None

    def _validate(self) -> float:
        """The loss on the validation part; keeps the state if it is the best."""
        with self._averaging.in_place():
            loss = evaluate(self.network, self._valid, self.training.eval_batch_size, self.training.bptt)
            if loss < self.best_loss:
                self._best = _copied(self.network)
        return loss

    def _one_pass(self) -> float:
        """Trains on all pieces; the mean loss in nats a word, without penalties, each piece before its step."""
        how, network = self.training, self.network.train()
        hidden, total, n = network.initial_hidden(how.batch_size), torch.zeros((), device=self._device), 0  # type: ignore[operator]
        with products_in("float32"), self._random.drawn():
            for x, y, length in pieces(self._rows, sequence_lengths(how.bptt, self._lengths, how.spread)):
                log_probs, hidden, outputs = network(x, hidden.detach())
                loss = word_loss(log_probs, y)
                total, n = total + loss.detach() * len(x), n + len(x)
                loss = loss + how.activation * activation_penalty(outputs) + how.temporal * temporal_penalty(outputs)
                self._optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), how.clip)
                self._optimiser.param_groups[0]["lr"] = how.learning_rate * length / how.bptt
                self._optimiser.step()
                self._averaging.update()
        return total.item() / n

    def checkpoint(self) -> list[dict]:
        """All that it takes to go on, of a CPU bit for bit; on the CPU."""
        state = {"network": self.network.state_dict(), "best": self._best, "averaging": self._averaging.state_dict()}
        state |= {"lengths": self._lengths.get_state(), "random": self._random.states}
        state |= {"epoch": self.diverged_epoch or len(self.history), "diverged_epoch": self.diverged_epoch}
        return [on_cpu(state | {"history": self.history})]

    def _resume(self, state: dict) -> None:
        """Goes on from a checkpoint of the same network, text and training."""
        self.network.load_state_dict(state["network"])
        self._best = {name: t.to(self._device, copy=True) for name, t in state["best"].items()}
        self._averaging.load_state_dict(state["averaging"])
        self._lengths.set_state(state["lengths"])
        self._random.states = state["random"]
        self.history = [dict(row) for row in state["history"]]
        self.diverged_epoch = state["diverged_epoch"]


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}
