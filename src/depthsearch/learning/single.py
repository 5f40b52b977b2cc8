"""One network of any kind, trained by SGD as those of searched cells are (arXiv 1806.09055, appendix A.2).

A network takes inputs and returns logits (B, C), or in training a pair: these and those of an auxiliary head.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthsearch.hardware import products_in
from depthsearch.learning.copies import on_cpu
from depthsearch.learning.randomness import OwnRandomNumbers

Batch = tuple[Tensor, Tensor]  # inputs (B, ...), targets (B,)
Batches = Callable[[torch.Generator], Iterable[Batch]]  # those of an epoch; all that is random comes from the generator
SCHEDULES = ("cosine", "exponential", "linear")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the defaults are those of DARTS for CIFAR-10.

    Attributes:
        epochs: all of them are trained, and the last state is kept.
        batch_size: images a step.
        learning_rate: of SGD in the first epoch.
        schedule: "cosine" ends at 0 after the last epoch, "exponential" multiplies by `factor` an epoch, "linear" is
            DrNAS's for ImageNet: it nears 0 five epochs before the last, and ends in five small steps.
        warm_up: epochs in which the rate rises to `learning_rate` by equal steps; the schedule rules after them.
        momentum, weight_decay: of SGD.
        clip: norm of the gradient at most; 0 for no limit.
        auxiliary_weight: of the loss of the auxiliary head, where the network has one.
        label_smoothing: share of each target that is spread over all classes (Szegedy et al., arXiv 1512.00567).
        drop_path: what its probability would reach after the last epoch; it grows linearly, from 0 in the first.
        eval_every: epochs from one look at the points that are not trained on to the next.
        precision: "float32", "tf32", or "bfloat16" for mixed precision.

    Raises:
        ValueError: a number makes no sense, or there is no such schedule.
    """

    epochs: int = 600
    batch_size: int = 96
    learning_rate: float = 0.025
    schedule: str = "cosine"
    factor: float = 0.97
    warm_up: int = 0
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip: float = 5.0
    auxiliary_weight: float = 0.4
    label_smoothing: float = 0.0
    drop_path: float = 0.2
    eval_every: int = 1
    precision: str = "float32"

    def __post_init__(self) -> None:
        for name, least in {"epochs": 1, "batch_size": 2, "eval_every": 1, "warm_up": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more, got {getattr(self, name)}")
        for name in ("momentum", "weight_decay", "clip", "auxiliary_weight", "label_smoothing", "drop_path"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("momentum", "label_smoothing", "drop_path"):
            if not getattr(self, name) < 1:
                raise ValueError(f"{name} must be below 1, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"no schedule {self.schedule!r}; there are {', '.join(SCHEDULES)}")

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 1."""
        done = (epoch - 1) / self.epochs
        shares = {
            "cosine": (1 + math.cos(math.pi * done)) / 2,
            "exponential": self.factor ** (epoch - 1),
            "linear": _linear(epoch, self.epochs),
        }
        return self.learning_rate * (epoch / self.warm_up if epoch <= self.warm_up else shares[self.schedule])

    def drop_path_in(self, epoch: int) -> float:
        """The probability of drop path in an epoch, counted from 1."""
        return self.drop_path * (epoch - 1) / self.epochs

    def loss(self, outputs: Tensor | tuple[Tensor, Tensor], y: Tensor) -> Tensor:
        """Cross entropy of what a network returns in training, nats, a mean over the batch."""
        logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
        value = _cross_entropy(logits, y, self.label_smoothing)
        for other in auxiliary:
            value = value + self.auxiliary_weight * _cross_entropy(other, y, self.label_smoothing)
        return value


def _linear(epoch: int, epochs: int) -> float:
    """Of DrNAS's training on ImageNet: linear to 0 but for the last epochs, which share what one step is."""
    tail = min(5, epochs - 1)
    left, steps = epochs - epoch + 1, epochs - tail
    return (left - tail) / steps if left > tail else left / (steps * tail)


@dataclass(frozen=True)
class Fitted:
    """A trained network.

    Attributes:
        network: in the state that is kept, the last one or of a text the best, evaluation mode.
        history: one dict an epoch; of `SingleLearner` `epoch`, `learning_rate`, `drop_path`, `train_loss` (what was
            minimised) and `train_error` (means over the images, in training mode); and what was watched.
        diverged_epoch: where the training loss was infinite or no number, which ends the run; None if it never was.
    """

    network: nn.Module
    history: list[dict]
    diverged_epoch: int | None

    def state(self) -> dict[str, nn.Module]:
        """What is saved of it."""
        return {"network": self.network.cpu()}


class SingleLearner:
    """Trains one network. On a CPU equal seeds give equal numbers, and so does a run that was resumed.

    Args:
        network: on its device, in the state to start from; it is trained itself. Where it has an attribute `drop_path`,
            that is set before every epoch.
        batches: makes those of an epoch.
        recipe: how to train.
        seed: of the order of batches and of all that is drawn.
        watch: what is to be known of the network every `recipe.eval_every` epochs and after the last, plain values.
        resume: one checkpoint to go on from, or none.

    Raises:
        ValueError: the recipe has drop path and the network cannot do it.
    """

    def __init__(
        self,
        network: nn.Module,
        batches: Batches,
        recipe: Recipe = Recipe(),
        seed: int = 0,
        watch: Callable[[nn.Module], dict] = lambda network: {},
        resume: Sequence[dict] = (),
    ) -> None:
        if recipe.drop_path and not hasattr(network, "drop_path"):
            raise ValueError(f"{type(network).__name__} has no drop path; take a recipe with drop_path=0")
        self.network, self.recipe, self.epoch = network, recipe, 0
        self.history: list[dict] = []
        self.diverged_epoch: int | None = None
        self._batches, self._watch = batches, watch
        self._device = next(network.parameters()).device
        self._generator = torch.Generator().manual_seed(seed)
        self._random = OwnRandomNumbers(self._device, seed)
        self._sgd = torch.optim.SGD(
            network.parameters(), recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay
        )
        if resume:
            self._resume(resume[0])

    def epochs(self) -> Iterator[int]:
        """Trains; yields the number of each epoch when it is done. Where it was resumed, it goes on from there."""
        while self.epoch < self.recipe.epochs and self.diverged_epoch is None:
            self.epoch += 1
            with self._random.drawn(), products_in(self.recipe.precision):
                row = self._run_epoch()
            if not math.isfinite(row["train_loss"]):
                self.diverged_epoch = self.epoch
            elif self.epoch % self.recipe.eval_every == 0 or self.epoch == self.recipe.epochs:
                row |= self._watch(self.network)
            self.history.append(row)
            yield self.epoch

    def learned(self) -> list[Fitted]:
        """What has come out."""
        return [Fitted(self.network.eval(), self.history, self.diverged_epoch)]

    def histories(self) -> list[list[dict]]:
        """What was logged so far."""
        return [self.history]

    def about(self) -> dict:
        """Nothing but the configuration."""
        return {}

    def progress(self) -> str:
        """Training loss, and the errors of the last epoch."""
        if not self.history:
            return f"epoch {self.epoch}"
        row = self.history[-1]
        errors = (f"{k.removesuffix('_error')} error {100 * v:.2f} %" for k, v in row.items() if k.endswith("_error"))
        return ", ".join([f"loss {row['train_loss']:.3f}", *errors])

    def checkpoint(self) -> list[dict]:
        """All that it takes to go on, on the CPU."""
        state = {"network": self.network.state_dict(), "sgd": self._sgd.state_dict()}
        state |= {"generator": self._generator.get_state(), "random": self._random.states}
        state |= {"epoch": self.epoch, "history": self.history, "diverged_epoch": self.diverged_epoch}
        return [on_cpu(state)]

    def _run_epoch(self) -> dict:
        """An epoch; its row of the history."""
        recipe, drop_path = self.recipe, self.recipe.drop_path_in(self.epoch)
        for group in self._sgd.param_groups:
            group["lr"] = recipe.rate(self.epoch)
        if hasattr(self.network, "drop_path"):
            self.network.drop_path = drop_path  # type: ignore[assignment]
        self.network.train()
        loss, wrong, n = torch.zeros((), device=self._device), torch.zeros((), device=self._device), 0
        for inputs, y in self._batches(self._generator):
            own_loss, own_wrong = self._step(inputs, y)
            loss, wrong, n = loss + own_loss * len(y), wrong + own_wrong, n + len(y)
        row = {"epoch": self.epoch, "learning_rate": recipe.rate(self.epoch), "drop_path": drop_path}
        return row | {"train_loss": loss.item() / n, "train_error": wrong.item() / n}

    def _step(self, inputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of a batch before the step, and how many of its top labels are wrong."""
        recipe = self.recipe
        with torch.autocast(self._device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            outputs = self.network(inputs)
        loss = recipe.loss(outputs, y)
        self._sgd.zero_grad()
        loss.backward()
        if recipe.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip)
        self._sgd.step()
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        return loss.detach(), (logits.detach().argmax(-1) != y).sum()

    def _resume(self, saved: dict) -> None:
        self.epoch, self.diverged_epoch = saved["epoch"], saved["diverged_epoch"]
        self.history = list(saved["history"])
        self.network.load_state_dict(saved["network"])
        self._sgd.load_state_dict(saved["sgd"])
        self._generator.set_state(saved["generator"])
        self._random.states = saved["random"]


@torch.no_grad()
def predict(network: nn.Module, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Log-probabilities (N, C), float64, of all points in evaluation mode, and their targets (N,)."""
    network.eval()
    with products_in("float32"):
        parts = [(F.log_softmax(network(inputs).double(), dim=-1), y) for inputs, y in batches]
    log_probs, y = zip(*parts, strict=True)
    return torch.cat(log_probs), torch.cat(y)


def _cross_entropy(logits: Tensor, y: Tensor, label_smoothing: float) -> Tensor:
    wide = logits.float() if logits.dtype == torch.bfloat16 else logits
    return F.cross_entropy(wide, y, label_smoothing=label_smoothing)
