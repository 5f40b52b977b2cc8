"""The training loop of networks whose depth is chosen, one or R replicates side by side."""

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

import torch
from torch import Tensor

from depthsearch.data.split import Split
from depthsearch.depth.networks import DepthNetwork
from depthsearch.depth.posteriors import DepthPosterior
from depthsearch.hardware import products_in
from depthsearch.learning.method import PAPER, Method, Selection, Training
from depthsearch.learning.replicates import Replicates
from depthsearch.learning.trained import Best, Trained


class DepthLearner:
    """Trains R networks of one architecture side by side, each on its own data (section 3 of the paper).

    Each replicate keeps its own best state and its own early stop, and its numbers do not depend on who trains
    beside it, but for the last digit of a sum over depths. The state kept is the one at the end of the epoch that the
    selection likes best on the validation points where the data sets have some, else that of the highest objective of
    training, as in the original. A replicate whose objective is no longer finite stops.

    Args:
        networks, depths: R of each; copies are trained, and these put into the best state at the end.
        splits: R data sets of equal sizes, on the device of the networks.
        training: how to train.
        seeds: R seeds, of the order of minibatches.
        compiled: run the networks of this package by what has to be compiled first: `chain.cpp` on spirals, functions
            of `fused.py` on images (studies ask for it on CPUs alone).
        resume: R checkpoints of the same epoch to go on from.
        method: what is maximised and how depth is learnt, the paper's if not given.
        selection: which epoch is kept.

    Raises:
        ValueError: the numbers of networks, posteriors, data sets, seeds and checkpoints differ, the checkpoints are of
            different epochs, patience ends before the first evaluation, the validation points are none (not None), or
            there are several networks that cannot train side by side.
    """

    def __init__(
        self,
        networks: Sequence[DepthNetwork],
        depths: Sequence[DepthPosterior],
        splits: Sequence[Split],
        training: Training,
        seeds: Sequence[int],
        compiled: bool = False,
        resume: Sequence[dict] = (),
        method: Method = PAPER,
        selection: Selection = Selection(),  # noqa: B008
    ) -> None:
        if not len(networks) == len(depths) == len(splits) == len(seeds):
            raise ValueError("need as many networks as posteriors, data sets and seeds")
        if resume and (len(resume) != len(networks) or len({saved["epoch"] for saved in resume}) > 1):
            raise ValueError("need as many checkpoints as networks, all of the same epoch")
        valid = splits[0].y_valid
        if valid is not None and not len(valid):
            raise ValueError("no validation points: leave x_valid and y_valid out, or hold some points out")
        every = 1 if valid is None else min(selection.every, training.epochs)
        if training.patience < every:
            raise ValueError(f"patience must be {every} epochs or more, from one evaluation to the next")
        self.training, self.method, self.selection = training, method, selection
        self.epoch = 0
        self._networks, self._depths = networks, depths
        self._replicates = Replicates(networks, depths, training, compiled, method)
        self._data = Split.stack(splits)
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._best = Best(self._replicates.state)
        # Row i of state, data and best is replicate alive[i]; None once that replicate has stopped.
        self._alive: list[int | None] = list(range(len(networks)))
        self._objectives: list[list[float]] = [[] for _ in networks]
        self._histories: list[list[dict]] = [[] for _ in networks]
        self._stopped: dict[int, dict] = {}
        self._trained: dict[int, Trained] = {}
        if resume:
            self._resume(resume)

    def epochs(self) -> Iterator[int]:
        """Trains; yields the number of each epoch when it is done, the first one that is left first."""
        self._stop()
        while any(r is not None for r in self._alive):
            self._compact()
            self.epoch += 1
            value = self._run_epoch()
            candidate = self._observe(value)
            if candidate is not None and self.epoch >= self._first:
                self._best.update(self.epoch, candidate, self._replicates.state)
            self._stop()
            yield self.epoch

    def learned(self) -> list[Trained]:
        """The R results.

        Raises:
            ValueError: `epochs` has not ended.
        """
        if len(self._trained) < len(self._networks):
            raise ValueError("training has not ended: exhaust epochs() first")
        return [self._trained[r] for r in range(len(self._networks))]

    def histories(self) -> list[list[dict]]:
        """For each replicate its evaluations so far."""
        return self._histories

    def progress(self) -> str:
        """Mean objective and d_opt of the last evaluation, in words."""
        last = [history[-1] for history in self._histories if history]
        if not last:
            return "not evaluated yet"
        objective, depth = (fmean(row[name] for row in last) for name in ("elbo", "pruned_depth"))
        return f"objective {objective:.3f}, d_opt {depth:.1f}"

    def about(self) -> dict:
        """What belongs in `config.json` beside the configuration."""
        return {"compiled": self._replicates.compiled}

    def checkpoint(self) -> list[dict]:
        """For each replicate all that it takes to go on as if never interrupted, on the CPU.

        Of networks of this package: what others keep beside parameters and buffers of their type (a count of batches,
        the random numbers of dropout) is not in it.

        `epoch`; rows `state` (P + Q,), `velocity` (P,), `best_state` (P + Q,); `best`, its value, and `best_epoch`;
        `generator`, the state of that of the order of minibatches; `objective` and `history` so far.
        """
        now = {r: self._row(row, r) for row, r in enumerate(self._alive) if r is not None}
        return [(now | self._stopped)[r] for r in range(len(self._networks))]

    # The parts of an epoch.

    @property
    def _first(self) -> int:
        return self.selection.first_epoch(self.training.epochs)

    def _run_epoch(self) -> Tensor:
        """The objective per datum (rows,) of an epoch of training."""
        training, replicates = self.training, self._replicates
        decayed = training.decay_epoch is not None and self.epoch > training.decay_epoch
        replicates.learning_rate = training.learning_rate / (10 if decayed else 1)
        replicates.epoch = self.epoch
        same = [torch.Generator().set_state(g.get_state()) for g in self._generators] if training.norm_batches else []
        with products_in(training.precision):
            value = self.method.run_epoch(replicates, self._data, self._generators)
            if training.norm_batches:
                replicates.estimate_norms(self._data, same)
            self.method.end_epoch(replicates, self._data)
        for r, v in zip(self._alive, value.tolist(), strict=True):
            if r is not None:
                self._objectives[r].append(v)
        return value

    def _observe(self, value: Tensor) -> Tensor | None:
        """Evaluates where it is time; what the selection compares (rows,), None where there is nothing to compare."""
        validated = self._data.y_valid is not None
        every = self.selection.every if validated else self.training.eval_every
        if self.epoch % every and self.epoch != self.training.epochs:
            return None if validated else value
        with products_in(self.training.precision):
            observed = self._replicates.observe(self._data, "valid" if validated else "test")
        for r, row in zip(self._alive, observed, strict=True):
            if r is not None:
                self._histories[r].append({"epoch": self.epoch, "elbo": self._objectives[r][-1]} | row)
        if not validated:
            return value
        return torch.tensor([row[f"valid_{self.selection.by}"] for row in observed], device=value.device)

    def _stop(self) -> None:
        """Takes out the replicates that are done: at the last epoch, out of patience, diverged."""
        for row, (r, best) in enumerate(zip(self._alive, self._best.epoch.tolist(), strict=True)):
            if r is None:
                continue
            diverged = self.epoch > 0 and not math.isfinite(self._objectives[r][-1])
            impatient = self.epoch - max(best, self._first - 1) >= self.training.patience
            if diverged or impatient or self.epoch >= self.training.epochs:
                # By its last step, which no objective tells of; -inf is a depth without mass.
                diverged = diverged or not bool((self._best.state[row] < math.inf).all())
                self._stopped[r] = self._row(row, r)
                self._replicates.load_into(self._networks[r], self._depths[r], self._best.state[row])
                result = (self._networks[r], self._depths[r], self._objectives[r], self._histories[r], best)
                self._trained[r] = Trained(*result, diverged_epoch=self.epoch if diverged else None)
                self._alive[row] = None

    def _compact(self) -> None:
        """Drops the rows of stopped replicates."""
        rows = [row for row, r in enumerate(self._alive) if r is not None]
        if len(rows) < len(self._alive):
            self._best.keep(rows)
            self._replicates.keep(rows)
            self._alive, self._generators = [self._alive[row] for row in rows], [self._generators[row] for row in rows]
            self._data = self._data.rows(rows)

    def _row(self, row: int, r: int) -> dict:
        held = self._replicates
        state, best = (held.flat.packed(rows[row]) for rows in (held.state, self._best.state))
        tensors = {"state": state, "velocity": held.velocity[row], "best_state": best}
        found: dict = {name: tensor.cpu().clone() for name, tensor in tensors.items()}
        found |= {"best": self._best.value[row].item(), "best_epoch": int(self._best.epoch[row])}
        found |= {"objective": list(self._objectives[r]), "history": list(self._histories[r])}
        return found | {"epoch": self.epoch, "generator": self._generators[row].get_state()}

    def _resume(self, saved: Sequence[dict]) -> None:
        device = self._best.state.device
        self.epoch = saved[0]["epoch"]
        spread = self._replicates.flat.spread
        self._replicates.state.copy_(spread(torch.stack([one["state"] for one in saved])))
        self._replicates.velocity.copy_(torch.stack([one["velocity"] for one in saved]))
        self._best.state = spread(torch.stack([one["best_state"] for one in saved])).to(device)
        self._best.value = torch.tensor([one["best"] for one in saved], device=device)
        self._best.epoch = torch.tensor([one["best_epoch"] for one in saved], device=device)
        self._objectives = [list(one["objective"]) for one in saved]
        self._histories = [list(one["history"]) for one in saved]
        for generator, one in zip(self._generators, saved, strict=True):
            generator.set_state(one["generator"])


def train(
    networks: Sequence[DepthNetwork],
    depths: Sequence[DepthPosterior],
    splits: Sequence[Split],
    training: Training,
    seeds: Sequence[int],
    on_epoch: Callable[[DepthLearner], object] = lambda learner: None,
    **options,
) -> list[Trained]:
    """The R results of a `DepthLearner` of these (`options` are its others), from its first epoch to its last.

    `on_epoch` is called with it at the end of each.
    """
    learner = DepthLearner(networks, depths, splits, training, seeds, **options)
    for _ in learner.epochs():
        on_epoch(learner)
    return learner.learned()
