"""Random search: networks drawn one after the other and trained, as long as a budget lasts; the best one is taken."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn

from depthsearch.data.batches import SplitBatches
from depthsearch.learning.single import Recipe, SingleLearner, predict


@dataclass(frozen=True)
class Trial:
    """A network that was tried.

    Attributes:
        name: what it is of.
        cost: what was spent on it.
        valid_error, valid_loss: on the validation points, after the last epoch; of one that diverged 1 and infinity.
    """

    name: str
    cost: float
    valid_error: float
    valid_loss: float


@dataclass(frozen=True)
class Chosen:
    """What a random search has come to.

    Attributes:
        best: of the least error on the validation points, of equals the one of the lower loss.
        trials: all, in order.
        history: one dict an epoch.
    """

    best: Trial
    trials: list[Trial]
    history: list[dict]

    def state(self) -> dict[str, nn.Module]:
        """Nothing: the networks tried are gone."""
        return {}


class RandomSearch:
    """Tries random networks, each trained alike from scratch. On a CPU equal seeds give equal numbers, resumed or not.

    An epoch is an equal share of the budget, whatever is trained in it: what an epoch costs a search that has the same
    budget and as many epochs. A network is not begun that would go beyond the budget.

    Args:
        draw: the name of a network, from a generator.
        build: the network of a name and a seed, on its device.
        cost: what one pass over a point costs the network of a name; the unit is that of the budget.
        budget: for training and validation together.
        shares: how many epochs it is divided into.
        batches: of a split with validation points.
        recipe: of each network.
        seed: of all that is drawn.
        measure: what is to be known of the best so far, by its name, as plain values.
        resume: one checkpoint to go on from, or none.

    Raises:
        ValueError: the budget does not last for the first network.
    """

    def __init__(
        self,
        draw: Callable[[torch.Generator], str],
        build: Callable[[str, int], nn.Module],
        cost: Callable[[str], float],
        budget: float,
        shares: int,
        batches: SplitBatches,
        recipe: Recipe,
        seed: int = 0,
        measure: Callable[[str], dict] = lambda name: {},
        resume: Sequence[dict] = (),
    ) -> None:
        assert batches.split.y_valid is not None
        self._draw, self._build, self._cost, self._measure = draw, build, cost, measure
        self._budget, self._shares, self._batches, self._recipe = budget, shares, batches, recipe
        self._points = len(batches.split.y_train), len(batches.split.y_valid)
        self._generator = torch.Generator().manual_seed(seed)
        self.epoch, self.history, self.trials = 0, [], []
        self._spent = 0.0  # on all trials that have ended
        if resume:
            self._resume(resume[0])
        elif first := self._next():
            self._begin(first)
        else:
            raise ValueError(f"a budget of {budget:g} does not last for the first network drawn; give a larger one")

    def epochs(self) -> Iterator[int]:
        """Tries; yields the number of each epoch when it is done. Where it was resumed, it goes on from there."""
        while self.epoch < self._shares:
            goal = self._budget * (self.epoch + 1) / self._shares
            while self._learner is not None and self._so_far() < goal:
                next(self._learning)
                if self._learner.epoch == self._recipe.epochs or self._learner.diverged_epoch:
                    self._end(self._learner)
            self.epoch += 1
            row = {"epoch": self.epoch, "trials": len(self.trials), "operation_evaluations": self._so_far()}
            if self.trials:
                best = self._best()
                row |= {"valid_error": best.valid_error, "valid_loss": best.valid_loss} | self._measure(best.name)
            self.history.append(row)
            yield self.epoch

    def learned(self) -> list[Chosen]:
        """What has come out."""
        return [Chosen(self._best(), self.trials, self.history)]

    def histories(self) -> list[list[dict]]:
        """What was logged so far."""
        return [self.history]

    def about(self) -> dict:
        """Nothing but the configuration."""
        return {}

    def progress(self) -> str:
        """How many have been tried, and the least error so far."""
        error = f", validation error {100 * self._best().valid_error:.1f} %" if self.trials else ""
        return f"{len(self.trials)} tried{error}"

    def checkpoint(self) -> list[dict]:
        """All that it takes to go on, on the CPU."""
        state = {"epoch": self.epoch, "history": list(self.history), "trials": [asdict(trial) for trial in self.trials]}
        state |= {"spent": self._spent, "generator": self._generator.get_state(), "name": self._name}
        state |= {"seed": self._seed, "learner": self._learner.checkpoint() if self._learner else []}
        return [state]

    def _next(self) -> tuple[str, int] | None:
        """The name and the seed of the next network; none where the budget does not last for it."""
        name, seed = self._draw(self._generator), int(torch.randint(2**31, (), generator=self._generator))
        return (name, seed) if self._spent + self._whole_cost(name) <= self._budget else None

    def _begin(self, drawn: tuple[str, int] | None, resume: Sequence[dict] = ()) -> None:
        self._name, self._seed = drawn or ("", 0)
        self._learner: SingleLearner | None = None
        if drawn is not None:
            network = self._build(*drawn)
            self._learner = SingleLearner(network, self._batches.train, self._recipe, self._seed, resume=resume)
            self._learning = self._learner.epochs()

    def _end(self, learner: SingleLearner) -> None:
        error, loss = 1.0, math.inf
        if learner.diverged_epoch is None:
            log_probs, y = predict(learner.network, self._batches.held_out("valid"))
            error, loss = (log_probs.argmax(-1) != y).double().mean().item(), F.nll_loss(log_probs, y).item()
        cost = self._so_far() - self._spent + self._points[1] * self._cost(self._name)
        self.trials.append(Trial(self._name, cost, error, loss))
        self._spent += cost
        self._begin(self._next())

    def _whole_cost(self, name: str) -> float:
        train, valid = self._points
        return (self._recipe.epochs * train + valid) * self._cost(name)

    def _so_far(self) -> float:
        """What has been spent, on the trial under way too."""
        under_way = self._learner.epoch * self._points[0] * self._cost(self._name) if self._learner else 0.0
        return self._spent + under_way

    def _best(self) -> Trial:
        return min(self.trials, key=lambda trial: (trial.valid_error, trial.valid_loss))

    def _resume(self, saved: dict) -> None:
        self.epoch, self.history, self._spent = saved["epoch"], list(saved["history"]), saved["spent"]
        self.trials = [Trial(**trial) for trial in saved["trials"]]
        self._generator.set_state(saved["generator"])
        self._begin((saved["name"], saved["seed"]) if saved["learner"] else None, saved["learner"])
