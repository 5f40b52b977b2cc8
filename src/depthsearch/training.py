"""The one training loop, for one network or R replicates side by side."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import mean
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from depthsearch.chain import objective_gradient
from depthsearch.data import Split
from depthsearch.fused import keep_freed_memory
from depthsearch.networks import Bottleneck, DepthBatchNorm, DepthNetwork, MLPNetwork, stack_modules
from depthsearch.objectives import elbo_of_depths, log_likelihood, log_predictive
from depthsearch.posteriors import CategoricalDepth, DepthPosterior, geometric_prior
from depthsearch.pruning import expected_depth, pruned_depth


@dataclass(frozen=True)
class Training:
    """How to train. The defaults are the paper's for spirals: SGD, full batch where N <= 512.

    Attributes:
        epochs: at most this many passes over the training set.
        patience: stop this many epochs after the best ELBO.
        learning_rate, momentum: of SGD; there is no weight decay.
        decay_epoch: after this epoch the learning rate is a tenth; None for never.
        batch_size: minibatch size; a smaller data set is one batch.
        precision: "float32", or "bfloat16" for mixed precision: stem and blocks compute in bfloat16, in validation too;
            parameters, head and objective are float32. "tf32" is float32 whose products a scan lets CUDA round. Of no
            effect on `mlp_resnet`.
        norm_batches: minibatches of each epoch on which the statistics of batch norm are estimated anew at its end; 0
            keeps the running averages. These lag behind the weights, by up to twenty points of error at the learning
            rate of the image experiments (Wu & Johnson 2021, "Rethinking 'Batch' in BatchNorm", section 3, call it
            precise batch norm). Of no effect on `mlp_resnet`.
        eval_every: epochs between evaluations on the test set (they are logged and decide nothing). Validation points,
            where there are any, are evaluated after every epoch.
    """

    epochs: int = 8000
    patience: int = 500
    learning_rate: float = 0.1
    momentum: float = 0.5
    decay_epoch: int | None = None
    batch_size: int = 512
    precision: str = "float32"
    norm_batches: int = 0
    eval_every: int = 100


@dataclass(frozen=True)
class Method:
    """What is learnt about depth and how: this one is the paper's; its rivals (`strategies`) override what differs.

    The *outputs* of a method for a batch are logits (S, *R, B, C): of each depth, or of one mixture (S = 1).

    Attributes:
        select_by: the epoch kept is the best on the validation points by "elbo", the objective there, or by the
            "log_likelihood" of the predictive distribution.
        validate_every: epochs between evaluations on the validation points.
        settle: share of the epochs for which depth is given time to settle: no state of theirs is a candidate.
        depthwise: whether the outputs are those of each depth.
    """

    select_by: str = "elbo"
    validate_every: int = 1
    settle: float = 0.0
    depthwise: ClassVar[bool] = True

    @property
    def passes(self) -> float:
        """How often an epoch runs the network forward over the training points."""
        return 1.0

    def posterior(self, max_depth: int) -> DepthPosterior:
        """The distribution over 0..max_depth to start from."""
        return CategoricalDepth(geometric_prior(max_depth))

    def objective(self, log_likelihoods: Tensor, depth: DepthPosterior, n_train: int) -> Tensor:
        """What is maximised (*R,), from the mean log-likelihood of each output (S, *R)."""
        return elbo_of_depths(log_likelihoods, depth, n_train)

    def outputs(self, network: DepthNetwork, depth: DepthPosterior, x: Tensor) -> Tensor:
        """Logits (S, *R, B, C) of a batch (*R, B, ...)."""
        return network(x, min_depth=depth.min_depth)

    def log_predictive(self, outputs: Tensor, depth: DepthPosterior) -> Tensor:
        """Log probabilities (*R, B, C)."""
        return log_predictive(outputs, depth)

    def chosen_depth(self, probs: Tensor) -> int:
        """The depth that (D + 1,) probabilities or weights say."""
        return pruned_depth(probs)

    def first_epoch(self, epochs: int) -> int:
        """The first epoch whose state may be kept, of at most so many; patience counts from there."""
        return int(self.settle * epochs) + 1

    def run_epoch(self, replicates: "Replicates", data: Split, generators: Sequence[torch.Generator]) -> Tensor:
        """One pass over the training points; the objective per datum (R,)."""
        return replicates.run_epoch(data, generators)

    def block_evaluations(self, depth: DepthPosterior, n_train: int, epochs: int, limit: int) -> float:
        """Blocks run forward x points in so many epochs of training; `limit` is that on epochs."""
        return self.passes * depth.max_depth * n_train * epochs


PAPER = Method()


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


class Replicates:
    """R networks and posteriors of one architecture, trained side by side without touching each other.

    The whole state lies in one tensor `state` (R, P + Q), a row for each replicate: P parameters, then Q buffers of
    their type. The tensors of the modules are views of it. An optimiser step, and keeping the best state of each
    replicate, are then a few operations whatever the depth. Only an `MLPNetwork` has a replicate axis; of others
    there is one, as it is.

    Raises:
        ValueError: several networks that are not `MLPNetwork`s.
    """

    def __init__(
        self,
        networks: Sequence[DepthNetwork],
        depths: Sequence[DepthPosterior],
        training: Training,
        compiled: bool = False,
        method: Method = PAPER,
    ) -> None:
        keep_freed_memory()
        self._has_axis = isinstance(networks[0], MLPNetwork)
        if len(networks) > 1 and not self._has_axis:
            raise ValueError("only networks of mlp_resnet train side by side; give one at a time")
        self.training, self.compiled, self.method = training, compiled, method
        self.learning_rate, self.epoch = training.learning_rate, 0
        self.network = stack_modules(networks) if self._has_axis else copy.deepcopy(networks[0])
        for module in self.network.modules():
            if isinstance(module, Bottleneck):
                module.fused = compiled
        self.network.train()
        self.depth = stack_modules(depths)
        self._modules = nn.ModuleDict({"network": self.network, "depth": self.depth})
        self._parameters = dict(self._modules.named_parameters())
        dtype = next(self.network.parameters()).dtype
        buffers = {name: b for name, b in self._modules.named_buffers() if b.dtype == dtype}
        tensors = {name: t.detach() for name, t in (self._parameters | buffers).items()}
        if not self._has_axis:
            tensors |= {name: t.unsqueeze(0) for name, t in tensors.items() if name.startswith("network.")}
        self._shapes = {name: t.shape[1:] for name, t in tensors.items()}
        sizes = {name: self._shapes[name].numel() for name in self._parameters}
        self._n_own = sum(size for name, size in sizes.items() if name.startswith("network."))
        state = torch.cat([t.flatten(1) for t in tensors.values()], dim=1)
        self._hold(state, velocity=torch.zeros_like(state[:, : sum(sizes.values())]))

    def _hold(self, state: Tensor, velocity: Tensor) -> None:
        self.state, self.velocity = state, velocity
        for name, view in self.views(state).items():
            if not self._has_axis and name.startswith("network."):
                view = view.squeeze(0)
            if name in self._parameters:
                self._parameters[name].data = view
            else:
                self._set_buffer(name, view.data)  # its own version counter, or autograd takes one update for all

    def _set_buffer(self, name: str, value: Tensor) -> None:
        owner, _, leaf = name.rpartition(".")
        self._modules.get_submodule(owner)._buffers[leaf] = value

    def views(self, state: Tensor) -> dict[str, Tensor]:
        """The named tensors that lie in rows (..., P + Q) of the state."""
        parts = state.split([shape.numel() for shape in self._shapes.values()], dim=-1)
        named = zip(self._shapes.items(), parts, strict=True)
        return {name: part.view(*part.shape[:-1], *shape) for (name, shape), part in named}

    def keep(self, rows: list[int]) -> None:
        """Drops all other replicates."""
        for name, constant in list(self._modules.named_buffers()):
            if name not in self._shapes:
                self._set_buffer(name, constant[rows])
        self._hold(self.state[rows], self.velocity[rows])

    def step(self, x: Tensor, y: Tensor, n_train: int) -> Tensor:
        """One step of SGD with momentum on a batch: x (R, B, ...), y (R, B) -> the objective before it (R,)."""
        values, gradient = self.gradient(x, y, n_train)
        self.velocity.mul_(self.training.momentum).add_(gradient)
        self.state[:, : gradient.shape[1]].add_(self.velocity, alpha=self.learning_rate)
        return values

    def gradient(self, x: Tensor, y: Tensor, n_train: int) -> tuple[Tensor, Tensor]:
        """The objective on a batch (R,), and its gradient (R, P) with respect to the parameters."""
        if isinstance(self.network, MLPNetwork) and self.method.depthwise:
            own, statistics = self.state[:, : self._n_own], self.state[:, self.velocity.shape[1] :]
            chain = (self.network, self.depth, own, statistics)
            return objective_gradient(*chain, x, y, n_train, self.compiled, self.method.objective)
        values = self.value(x, y, n_train)
        parameters = list(self._parameters.values())
        gradients = torch.autograd.grad(values.sum(), parameters, materialize_grads=True)
        return values.detach(), torch.cat([g.reshape(len(values), -1) for g in gradients], dim=1)

    def value(self, x: Tensor, y: Tensor, n_train: int) -> Tensor:
        """The objective on a batch (R,), to be differentiated."""
        return self.method.objective(log_likelihood(self.outputs(x), y).mean(-1), self.depth, n_train)

    def outputs(self, x: Tensor) -> Tensor:
        """The method's logits (S, R, B, C) of a batch (R, B, ...)."""
        if self._has_axis:
            return self.method.outputs(self.network, self.depth, x)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.training.precision == "bfloat16"):
            return self.method.outputs(self.network, self.depth, x[0]).unsqueeze(1)

    def run_epoch(self, data: Split, generators: Sequence[torch.Generator]) -> Tensor:
        """One pass over the training points (R, N, ...) in batches; the objective per datum (R,)."""
        total, n_train = torch.zeros(len(generators), device=data.y_train.device), data.y_train.shape[1]
        for x, y in self.batches(data, generators):
            total += self.step(x, y, n_train) * y.shape[1]
        return total / n_train

    def batches(self, data: Split, generators: Sequence[torch.Generator]) -> Iterator[tuple[Tensor, Tensor]]:
        """The training points in a new order, x (R, B, ...) and y (R, B); as they are where they fit one batch."""
        x, y = data.x_train, data.y_train
        n_train, size = y.shape[1], self.training.batch_size
        if n_train <= size:
            yield data.inputs(x), y
            return
        order = torch.stack([torch.randperm(n_train, generator=g) for g in generators]).to(x.device)
        rows = torch.arange(len(generators), device=x.device).unsqueeze(1)
        for batch in order.split(size, dim=1):
            yield data.inputs(x[rows, batch]), y[rows, batch]

    @torch.no_grad()
    def estimate_norms(self, data: Split, generators: Sequence[torch.Generator]) -> None:
        """Batch-norm statistics as means over the first `norm_batches` minibatches of the order that these give."""
        if self._has_axis:
            return
        # With a momentum of 1 / k in the k-th batch the exponential average is the mean over batches.
        norms = [m for m in self.network.modules() if isinstance(m, nn.BatchNorm2d | DepthBatchNorm)]
        before: list[Any] = [norm.momentum for norm in norms]
        for k, (x, _) in enumerate(islice(self.batches(data, generators), self.training.norm_batches), start=1):
            for norm in norms:
                norm.momentum = 1 / k
            self.outputs(x)
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum

    @torch.no_grad()
    def log_likelihoods(self, data: Split, which: str) -> Tensor:
        """Mean log-likelihood (S, R) of each output on the "train", "valid" or "test" points, in evaluation mode."""
        parts = [log_likelihood(outputs, y).sum(-1) for outputs, y in self._predictions(data, which)]
        return torch.stack(parts).sum(0) / getattr(data, f"y_{which}").shape[1]

    def _predictions(self, data: Split, which: str, batch_size: int = 2048) -> Iterator[tuple[Tensor, Tensor]]:
        x, y = (getattr(data, f"{kind}_{which}") for kind in "xy")
        self.network.eval()
        for part_x, part_y in zip(x.split(batch_size, 1), y.split(batch_size, 1), strict=True):
            yield self.outputs(data.inputs(part_x)), part_y
        self.network.train()

    @torch.no_grad()
    def observe(self, data: Split, which: str) -> list[dict]:
        """Metrics of the unpruned networks on the "valid" or "test" points, and their depths, one dict a replicate."""
        sums = []
        for outputs, y in self._predictions(data, which):
            log_probs = self.method.log_predictive(outputs, self.depth)
            wrong = (log_probs.argmax(-1) != y).sum(-1)
            sums.append((wrong, log_likelihood(log_probs, y).sum(-1), log_likelihood(outputs, y).sum(-1)))
        n = getattr(data, f"y_{which}").shape[1]
        error, likelihood, of_outputs = (torch.stack(parts).sum(0) / n for parts in zip(*sums, strict=True))
        value = self.method.objective(of_outputs, self.depth, data.y_train.shape[1])
        metrics = {"elbo": value, "error": error, "log_likelihood": likelihood}
        columns = {f"{which}_{name}": values.tolist() for name, values in metrics.items()}
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        q = self.depth()
        return [
            row | {"pruned_depth": self.method.chosen_depth(p), "expected_depth": expected_depth(p), "depth_entropy": h}
            for row, p, h in zip(rows, q.probs, q.entropy().tolist(), strict=True)
        ]

    def load_into(self, network: DepthNetwork, depth: DepthPosterior, state: Tensor) -> None:
        """Copies one row (P + Q,) of the state into a network and posterior without replicate axis."""
        for prefix, module in (("network.", network), ("depth.", depth)):
            own = {k.removeprefix(prefix): v for k, v in self.views(state).items() if k.startswith(prefix)}
            module.load_state_dict(own, strict=False)  # counters of batches seen are not part of the state
            module.eval()


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
        before = [generator.get_state() for generator in generators]
        value = method.run_epoch(replicates, data, generators)
        if training.norm_batches:
            replicates.estimate_norms(data, [torch.Generator().set_state(state) for state in before])
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
