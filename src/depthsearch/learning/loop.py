"""The one training loop, for one network or R replicates side by side."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean

import torch
from torch import Tensor

from depthsearch.data.split import Split
from depthsearch.depth.networks import DepthNetwork
from depthsearch.depth.posteriors import DepthPosterior
from depthsearch.learning.method import PAPER, Method, Training
from depthsearch.learning.replicates import Replicates


@dataclass(frozen=True)
class Trained:
    """One trained replicate.

    Attributes:
        network, depth: in the state of the best epoch, evaluation mode.
        elbo: training ELBO (or what the method maximises) of every epoch, nats per datum, a mean over its steps.
        history: one dict an evaluation: epoch, elbo, both depths, entropy of q, and elbo, error and log-likelihood of
            the unpruned network under `valid_` or, where there are no validation points, under `test_`.
        best_epoch: which was kept; epochs count from 1.
        diverged_epoch: where the ELBO of training was infinite or no number, which ends the run; None if it never was.
    """

    network: DepthNetwork
    depth: DepthPosterior
    elbo: list[float]
    history: list[dict]
    best_epoch: int
    diverged_epoch: int | None


@dataclass(frozen=True)
class Progress:
    """What the loop says at every evaluation: epochs done, mean ELBO, d_opt of each replicate still training."""

    epoch: int
    elbo: float
    pruned_depths: list[int]


@dataclass(frozen=True)
class Checkpoint:
    """One replicate at the end of an epoch: all that it takes to go on as if never interrupted.

    Attributes:
        epoch: how many are done.
        state, velocity, best_state: rows (P + Q,), (P,), (P + Q,) of the replicates.
        best, best_epoch: the highest ELBO so far, and when.
        generator: state of the generator of the order of minibatches.
        elbo, history: as in `Trained`.
    """

    epoch: int
    state: Tensor
    velocity: Tensor
    best_state: Tensor
    best: float
    best_epoch: int
    generator: Tensor
    elbo: list[float]
    history: list[dict]


def train(
    networks: Sequence[DepthNetwork],
    depths: Sequence[DepthPosterior],
    splits: Sequence[Split],
    training: Training,
    seeds: Sequence[int],
    on_progress: Callable[[Progress], None] = lambda progress: None,
    compiled: bool = False,
    resume: Sequence[Checkpoint] = (),
    on_epoch: Callable[[int, Callable[[], list[Checkpoint]]], None] = lambda epoch, checkpoints: None,
    method: Method = PAPER,
) -> list[Trained]:
    """Trains R networks of one architecture side by side, each on its own data (section 3 of the paper).

    Each replicate keeps its own best state and its own early stop, and its numbers do not depend on who trains
    beside it. The state kept is the one at the end of the epoch with the highest ELBO (or what the method selects by)
    of the validation points where the data sets have some, else of training, as in the original. A replicate whose
    ELBO is no longer finite stops.

    Args:
        networks, depths: R of each; copies are trained, and these put into the best state at the end.
        splits: R data sets of equal sizes, on the device of the networks.
        training: how to train.
        seeds: R seeds, of the order of minibatches.
        on_progress: called at every evaluation.
        compiled: use `torch.compile` for the networks of this package; it pays on long runs.
        resume: R checkpoints of the same epoch to go on from, on the CPU.
        on_epoch: called at the end of each epoch with its number and a function that makes R checkpoints, on the CPU.
        method: what is maximised and how depth is learnt, the paper's if not given.

    Raises:
        ValueError: the numbers of networks, posteriors, data sets, seeds and checkpoints differ, the checkpoints are of
            different epochs, or there are several networks that cannot train side by side.
    """
    if not len(networks) == len(depths) == len(splits) == len(seeds):
        raise ValueError("need as many networks as posteriors, data sets and seeds")
    if resume and (len(resume) != len(networks) or len({c.epoch for c in resume}) > 1):
        raise ValueError("need as many checkpoints as networks, all of the same epoch")
    replicates = Replicates(networks, depths, training, compiled, method)
    first = method.first_epoch(training.epochs)
    data = Split.stack(splits)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    # Row i of the tensors below is replicate alive[i]; None once that replicate has stopped.
    alive: list[int | None] = list(range(len(networks)))
    device = data.y_train.device
    best = torch.full((len(networks),), -torch.inf, device=device)
    best_epoch = torch.zeros(len(networks), dtype=torch.long, device=device)
    best_state = replicates.state.clone()
    curves: list[list[float]] = [[] for _ in networks]
    histories: list[list[dict]] = [[] for _ in networks]
    epoch = 0
    if resume:
        epoch = resume[0].epoch
        replicates.state.copy_(torch.stack([c.state for c in resume]))
        replicates.velocity.copy_(torch.stack([c.velocity for c in resume]))
        best_state = torch.stack([c.best_state for c in resume]).to(device)
        best = torch.tensor([c.best for c in resume], device=device)
        best_epoch = torch.tensor([c.best_epoch for c in resume], device=device)
        curves, histories = [list(c.elbo) for c in resume], [list(c.history) for c in resume]
        for generator, c in zip(generators, resume, strict=True):
            generator.set_state(c.generator)
    results: dict[int, Trained] = {}
    stopped: dict[int, Checkpoint] = {}
    validated = data.y_valid is not None

    def checkpoint(row: int, r: int) -> Checkpoint:
        state, velocity, kept = (t[row].cpu().clone() for t in (replicates.state, replicates.velocity, best_state))
        moments = (best[row].item(), int(best_epoch[row]), generators[row].get_state())
        return Checkpoint(epoch, state, velocity, kept, *moments, list(curves[r]), list(histories[r]))

    def checkpoints() -> list[Checkpoint]:
        now = {r: checkpoint(row, r) for row, r in enumerate(alive) if r is not None}
        return [(now | stopped)[r] for r in range(len(networks))]

    while True:
        for row, (r, at) in enumerate(zip(alive, best_epoch.tolist(), strict=True)):
            if r is None:
                continue
            diverged = epoch > 0 and not math.isfinite(curves[r][-1])
            if diverged or epoch == training.epochs or epoch - max(at, first - 1) >= training.patience:
                stopped[r] = checkpoint(row, r)
                replicates.load_into(networks[r], depths[r], best_state[row])
                results[r] = Trained(
                    networks[r], depths[r], curves[r], histories[r], at, diverged_epoch=epoch if diverged else None
                )
                alive[row] = None
        if epoch > 0:
            on_epoch(epoch, checkpoints)
        rows = [row for row, r in enumerate(alive) if r is not None]
        if not rows:
            break
        if len(rows) <= len(alive) // 2:  # at each halving, not at each stop: other shapes compile anew
            best, best_epoch, best_state = best[rows], best_epoch[rows], best_state[rows]
            replicates.keep(rows)
            alive, generators = [alive[row] for row in rows], [generators[row] for row in rows]
            data = data.rows(rows)

        epoch += 1
        decayed = training.decay_epoch is not None and epoch > training.decay_epoch
        replicates.learning_rate = training.learning_rate / (10 if decayed else 1)
        replicates.epoch = epoch
        same = [torch.Generator().set_state(g.get_state()) for g in generators] if training.norm_batches else []
        value = method.run_epoch(replicates, data, generators)
        if training.norm_batches:
            replicates.estimate_norms(data, same)
        for r, v in zip(alive, value.tolist(), strict=True):
            if r is not None:
                curves[r].append(v)
        every = method.validate_every if validated else training.eval_every
        observing = epoch % every == 0 or epoch == training.epochs
        if observing:
            observed = replicates.observe(data, "valid" if validated else "test")
            if validated:
                value = torch.tensor([row[f"valid_{method.select_by}"] for row in observed], device=device)
            seen = {r: row for r, row in zip(alive, observed, strict=True) if r is not None}
            for r, row in seen.items():
                histories[r].append({"epoch": epoch, "elbo": curves[r][-1]} | row)
            on_progress(
                Progress(epoch, mean(curves[r][-1] for r in seen), [row["pruned_depth"] for row in seen.values()])
            )
        if epoch < first or (validated and not observing):
            continue
        improved = value > best
        best = torch.where(improved, value, best)
        best_epoch = torch.where(improved, epoch, best_epoch)
        best_state = torch.where(improved.unsqueeze(1), replicates.state, best_state)
    return [results[r] for r in range(len(networks))]
