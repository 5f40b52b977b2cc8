"""The search of a space: its weights by SGD and its mixing weights by an architect, in turns (arXiv 1806.09055).

Any space will do: a module with `choices`, whose losses (`Pair`) run it on mixing weights, and with `derive`. A search
in stages (DrNAS, arXiv 2006.10355) also needs its `prune`, and `widen` with `blend`.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from depthsearch.hardware import products_in
from depthsearch.learning.architect import Architect
from depthsearch.learning.bilevel import Bilevel, LookAhead, Loss
from depthsearch.learning.copies import on_cpu
from depthsearch.learning.halves import Pair, Task
from depthsearch.learning.mixing import MixingWeights, Weights
from depthsearch.learning.randomness import OwnRandomNumbers
from depthsearch.learning.stages import Schedule, Stage


@dataclass(frozen=True)
class Found:
    """What a search has come to.

    Attributes:
        architecture: what the space derives from the weights that the architect ranks by (`Architect.ranking`).
        space, mixing: in the state of the last epoch.
        history: one dict an epoch: `epoch`, `stage`, `learning_rate`, `train_loss` and, where alpha was learnt,
            `valid_loss` (means over the steps, in training mode, before each); for each choice `entropy_NAME`, nats, a
            mean over edges, and `changed_NAME`, the edges whose largest option is another than an epoch ago; and what
            was measured.
        trajectory: alpha at the start and after each epoch {name: (1 + epochs, edges, options)}; 0 where an option is
            gone.
        diverged_epoch: where the training loss was infinite or no number, which ends the search; None if it never was.
    """

    architecture: Any
    space: nn.Module
    mixing: MixingWeights
    history: list[dict]
    trajectory: Weights
    diverged_epoch: int | None

    def state(self) -> dict[str, nn.Module]:
        """What is saved of it."""
        return {"space": self.space.cpu(), "mixing": self.mixing.cpu()}


class Search:
    """One search, epoch by epoch. On a CPU equal seeds give equal numbers, and so does one that was resumed.

    A stage that opens channels keeps the function of the space and lets the new channels in, epoch by epoch, while
    alpha is left alone: in ten epochs a tenth of them each, in a single one all at once. With a faithful architect it
    copies channels, as the original does, which changes the function.

    Args:
        space: on its device, in the state to start from; it is trained itself.
        architect: how mixing weights are learnt.
        task: the batches.
        stages: one after the other.
        schedule: how the weights are trained.
        seed: of the start of alpha, of the order of batches, and of draws and dropout.
        measure: anything that is to be known of the mixing weights after every epoch, as plain values by name.
        resume: one checkpoint to go on from, or none; the space is then as it was at the start.

    Raises:
        ValueError: there is no stage, or one without epochs.
    """

    def __init__(
        self,
        space: nn.Module,
        architect: Architect,
        task: Task,
        stages: Sequence[Stage],
        schedule: Schedule = Schedule(),  # noqa: B008
        seed: int = 0,
        measure: Callable[[MixingWeights], dict] = lambda mixing: {},
        resume: Sequence[dict] = (),
    ) -> None:
        if not stages or min(stage.epochs for stage in stages) < 1:
            raise ValueError("a search needs stages of one epoch or more")
        self.space: Any = space
        self.architect, self.task, self.stages, self.schedule = architect, task, stages, schedule
        self.epoch, self.history, self.diverged_epoch = 0, [], None
        self._measure, self._ends = measure, list(accumulate(stage.epochs for stage in stages))
        self._generator = torch.Generator().manual_seed(seed)
        some = next(space.parameters())
        self.mixing = architect.mixing(self.space.choices, self._generator).to(some.device, some.dtype)
        self._device, self._random = some.device, OwnRandomNumbers(some.device, seed)
        self._sgd = schedule.optimiser(space)
        self._alphas = [self._alpha()]
        if resume:
            self._resume(resume[0])

    def epochs(self) -> Iterator[int]:
        """Searches; yields the number of each epoch when it is done. Where it was resumed, it goes on from there."""
        while self.epoch < self._ends[-1] and self.diverged_epoch is None:
            with self._random.drawn():
                self.epoch += 1
                index, in_stage = self._where()
                if in_stage == 1:
                    self.stages[index].drop(self.space, self.mixing)
                    self.stages[index].widen(self.space, self._sgd, self._keeps_function)
                self.history.append(self._run_epoch(index, in_stage))
            yield self.epoch

    def learned(self) -> list[Found]:
        """What has come out."""
        trajectory = {name: torch.stack([alpha[name] for alpha in self._alphas]) for name in self.space.choices}
        architecture = self.space.derive(self.architect.ranking(self.mixing))
        return [Found(architecture, self.space, self.mixing, self.history, trajectory, self.diverged_epoch)]

    def histories(self) -> list[list[dict]]:
        """What was logged so far."""
        return [self.history]

    def about(self) -> dict:
        """Nothing but the configuration."""
        return {}

    def progress(self) -> str:
        """For each choice the mean entropy of its edges and the number of the largest option of each; the loss."""
        entropy, best = self.mixing.entropy(), self._best()
        words = [f"{name} {entropy[name]:.2f} nats {''.join(map(str, best[name].tolist()))}" for name in best]
        loss = self.history[-1].get("valid_loss") if self.history else None
        return ", ".join([*words, *([] if loss is None else [f"validation loss {loss:.3f}"])])

    def checkpoint(self) -> list[dict]:
        """All that it takes to go on, on the CPU."""
        parts = {"space": self.space, "mixing": self.mixing, "sgd": self._sgd}
        state = {name: part.state_dict() for name, part in parts.items()} | {"alphas": self._alphas}
        state |= {"generator": self._generator.get_state(), "random": self._random.states}
        state |= {"epoch": self.epoch, "history": self.history, "diverged_epoch": self.diverged_epoch}
        return [on_cpu(state)]

    # The parts of an epoch.

    def _run_epoch(self, index: int, in_stage: int) -> dict:
        """An epoch, of its number in a stage; its row of the history."""
        learns = self.architect.learns_in(in_stage, self.stages[index].epochs)
        rate, before = self.schedule.rate(self.epoch, self._ends[-1]), self._best()
        self._let_in(index, in_stage)
        self.space.train()
        losses: dict[str, list[Tensor]] = {"train_loss": [], "valid_loss": []}
        with products_in(self.schedule.precision):
            for pair in self.task.pairs(self.space, self._generator):
                self._sgd.param_groups[0]["lr"] = rate * pair.scale
                if learns:
                    losses["valid_loss"].append(self._learn_alpha(pair))
                losses["train_loss"].append(self._step(pair))
        self._alphas.append(self._alpha())
        row: dict = {"epoch": self.epoch, "stage": index, "learning_rate": rate}
        row |= {name: torch.stack(values).mean().item() for name, values in losses.items() if values}
        row |= {f"entropy_{name}": value.item() for name, value in self.mixing.entropy().items()}
        row |= {f"changed_{name}": int((best != before[name]).sum()) for name, best in self._best().items()}
        if not math.isfinite(row["train_loss"]):
            self.diverged_epoch = self.epoch
        return row | self._measure(self.mixing)

    def _learn_alpha(self, pair: Pair) -> Tensor:
        schedule = self.schedule
        problem = Bilevel(self.space, self.mixing, self._cast(pair.train), self._cast(pair.valid))
        options = {"clip": schedule.clip if schedule.clips_ahead else None, "tied": schedule.tied}
        ahead = LookAhead.of(self._sgd, self.space, faithful=self.architect.faithful, **options)
        return self.architect.learn(problem, ahead)

    def _step(self, pair: Pair) -> Tensor:
        within = self.mixing.learning() if self.schedule.clips_alpha else contextlib.nullcontext({})
        with within as alphas:
            self._sgd.zero_grad()
            loss = self._cast(pair.train)(self.mixing.draw())
            loss.backward()
            nn.utils.clip_grad_norm_([*self.space.parameters(), *alphas.values()], self.schedule.clip)
            for alpha in alphas.values():
                alpha.grad = None
        self._sgd.step()
        return loss.detach()

    def _cast(self, loss: Loss) -> Loss:
        if self.schedule.precision != "bfloat16":
            return loss

        def in_bfloat16(weights: Weights) -> Tensor:
            with torch.autocast(self._device.type, torch.bfloat16):
                return loss(weights)

        return in_bfloat16

    def _alpha(self) -> Weights:
        return {name: alpha.detach().cpu().clone() for name, alpha in self.mixing.alphas.items()}

    def _best(self) -> Weights:
        """The largest option of each edge {name: (edges,)}."""
        return {name: mean.argmax(-1).cpu() for name, mean in self.mixing.mean().items()}

    # Stages.

    def _where(self) -> tuple[int, int]:
        """The stage, and the number in it, of the present epoch."""
        index = next(i for i, end in enumerate(self._ends) if self.epoch <= end)
        return index, self.epoch - (0, *self._ends)[index]

    @property
    def _keeps_function(self) -> bool:
        return not self.architect.faithful

    def _let_in(self, index: int, in_stage: int) -> None:
        if self.stages[index].partial is not None and self._keeps_function:
            warm_up = self.architect.warm_up * self.stages[index].epochs
            self.space.blend = min(1.0, in_stage / max(warm_up, 1))

    def _resume(self, saved: Mapping) -> None:
        self.epoch, self.diverged_epoch = saved["epoch"], saved["diverged_epoch"]
        self.history, self._alphas = list(saved["history"]), list(saved["alphas"])
        self.mixing.load_state_dict(saved["mixing"])
        index, in_stage = self._where()
        begun = self.stages[: index + 1] if self.epoch else ()
        with self._random.drawn():  # what is drawn here is overwritten
            for i, stage in enumerate(begun):
                stage.widen(self.space, self._sgd, self._keeps_function)
                self._let_in(i, in_stage if i == index else stage.epochs)
        if any(stage.keep is not None for stage in begun):
            self.space.prune(self.mixing.masks)
        self.space.load_state_dict(saved["space"])
        self._sgd.load_state_dict(saved["sgd"])
        self._generator.set_state(saved["generator"])
        self._random.states = saved["random"]
