"""The one training loop, for one network or R replicates side by side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from depthsearch.chain import elbo_gradient
from depthsearch.data import Split
from depthsearch.networks import DepthNetwork, MLPNetwork, stack_modules
from depthsearch.objectives import elbo, log_likelihood, log_predictive
from depthsearch.posteriors import DepthPosterior
from depthsearch.pruning import expected_depth, pruned_depth


@dataclass(frozen=True)
class Training:
    """How to train. The defaults are the paper's for spirals: SGD, full batch where N <= 512.

    Attributes:
        epochs: at most this many passes over the training set.
        patience: stop this many epochs after the best training ELBO.
        learning_rate, momentum: of SGD; there is no weight decay.
        batch_size: minibatch size; a smaller data set is one batch.
        eval_every: epochs between evaluations on the test set (they are logged and decide nothing).
    """

    epochs: int = 8000
    patience: int = 500
    learning_rate: float = 0.1
    momentum: float = 0.5
    batch_size: int = 512
    eval_every: int = 100


@dataclass(frozen=True)
class Trained:
    """One trained replicate.

    Attributes:
        network, depth: in the state of the best epoch, evaluation mode.
        elbo: training ELBO of every epoch, nats per datum.
        history: one dict every `eval_every` epochs: epoch, elbo, test_error, test_log_likelihood,
            pruned_depth, expected_depth.
        best_epoch: where the training ELBO was highest; epochs count from 1.
    """

    network: DepthNetwork
    depth: DepthPosterior
    elbo: list[float]
    history: list[dict]
    best_epoch: int


@dataclass(frozen=True)
class Progress:
    """What the loop says every `eval_every` epochs: epochs done, mean ELBO, d_opt of each replicate still training."""

    epoch: int
    elbo: float
    pruned_depths: list[int]


class Replicates:
    """R networks and posteriors of one architecture, trained side by side without touching each other.

    The whole state lies in one tensor `state` (R, P + Q), a row for each replicate: P parameters, then Q buffers of
    their type. The tensors (R, ...) of the stacked modules are views of it. An optimiser step, and keeping the best
    state of each replicate, are then a few operations whatever the depth.
    """

    def __init__(
        self,
        networks: Sequence[DepthNetwork],
        depths: Sequence[DepthPosterior],
        training: Training,
        compiled: bool = False,
    ) -> None:
        _keep_freed_memory()
        self.training, self.compiled = training, compiled
        self.network = stack_modules(networks).train()
        self.depth = stack_modules(depths)
        self._modules = nn.ModuleDict({"network": self.network, "depth": self.depth})
        self._parameters = dict(self._modules.named_parameters())
        self._n_own = sum(p[0].numel() for p in self.network.parameters())
        dtype = next(self.network.parameters()).dtype
        buffers = {name: b for name, b in self._modules.named_buffers() if b.dtype == dtype}
        self._shapes = {name: t.shape[1:] for name, t in (self._parameters | buffers).items()}
        state = torch.cat([t.detach().flatten(1) for t in (self._parameters | buffers).values()], dim=1)
        n_parameters = sum(p[0].numel() for p in self._parameters.values())
        self._hold(state, velocity=torch.zeros_like(state[:, :n_parameters]))

    def _hold(self, state: Tensor, velocity: Tensor) -> None:
        self.state, self.velocity = state, velocity
        for name, view in self.views(state).items():
            if name in self._parameters:
                self._parameters[name].data = view
            else:
                self._set_buffer(name, view)

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
        """One step of SGD with momentum on a batch: x (R, B, ...), y (R, B) -> the ELBO before it (R,)."""
        values, gradient = self._gradient(x, y, n_train)
        self.velocity.mul_(self.training.momentum).add_(gradient)
        self.state[:, : gradient.shape[1]].add_(self.velocity, alpha=self.training.learning_rate)
        return values

    def _gradient(self, x: Tensor, y: Tensor, n_train: int) -> tuple[Tensor, Tensor]:
        if isinstance(self.network, MLPNetwork):
            own, statistics = self.state[:, : self._n_own], self.state[:, self.velocity.shape[1] :]
            return elbo_gradient(self.network, self.depth, own, statistics, x, y, n_train, self.compiled)
        values = elbo(self.network(x, min_depth=self.depth.min_depth), y, self.depth, n_train)
        gradients = torch.autograd.grad(values.sum(), list(self._parameters.values()))
        return values.detach(), torch.cat([g.flatten(1) for g in gradients], dim=1)

    def run_epoch(self, x: Tensor, y: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """One pass over the training sets x (R, N, ...), y (R, N) in batches; the ELBO per datum (R,)."""
        n_train, size = x.shape[1], self.training.batch_size
        if n_train <= size:
            return self.step(x, y, n_train)
        order = torch.stack([torch.randperm(n_train, generator=g) for g in generators]).to(x.device)
        rows = torch.arange(len(generators), device=x.device).unsqueeze(1)
        total = torch.zeros(len(generators), device=x.device)
        for batch in order.split(size, dim=1):
            total += self.step(x[rows, batch], y[rows, batch], n_train) * batch.shape[1]
        return total / n_train

    @torch.no_grad()
    def observe(self, x: Tensor, y: Tensor) -> list[dict]:
        """Test metrics of the unpruned networks and their depths, one dict a replicate: x (R, N, ...), y (R, N)."""
        self.network.eval()
        log_probs = log_predictive(self.network(x, min_depth=self.depth.min_depth), self.depth)
        self.network.train()
        errors = (log_probs.argmax(-1) != y).to(log_probs.dtype).mean(-1)
        values = zip(errors.tolist(), log_likelihood(log_probs, y).mean(-1).tolist(), self.depth().probs, strict=True)
        return [
            {
                "test_error": error,
                "test_log_likelihood": value,
                "pruned_depth": pruned_depth(q),
                "expected_depth": expected_depth(q),
            }
            for error, value, q in values
        ]

    def load_into(self, network: DepthNetwork, depth: DepthPosterior, state: Tensor) -> None:
        """Copies one row (P + Q,) of the state into a network and posterior without replicate axis."""
        for prefix, module in (("network.", network), ("depth.", depth)):
            own = {k.removeprefix(prefix): v for k, v in self.views(state).items() if k.startswith(prefix)}
            module.load_state_dict(own, strict=False)  # counters of batches seen are not part of the state
            module.eval()


def _keep_freed_memory() -> None:
    # glibc gives large tensors back to the system when they are freed, and a quarter of a training step on the CPU is
    # then page faults. To have freed one block of nearly 32 MiB raises that threshold; elsewhere it does nothing.
    torch.empty(31 * 2**20, dtype=torch.uint8)


def train(
    networks: Sequence[DepthNetwork],
    depths: Sequence[DepthPosterior],
    splits: Sequence[Split],
    training: Training,
    seeds: Sequence[int],
    on_progress: Callable[[Progress], None] = lambda progress: None,
    compiled: bool = False,
) -> list[Trained]:
    """Trains R networks of one architecture side by side, each on its own data (section 3 of the paper).

    Each replicate keeps its own best state and its own early stop, and its numbers do not depend on who trains
    beside it. The state kept is the one at the end of the epoch with the highest training ELBO, as in the original.

    Args:
        networks, depths: R of each; they are trained in place and returned in their best state.
        splits: R data sets of equal sizes, on the device of the networks.
        training: how to train.
        seeds: R seeds, of the order of minibatches.
        on_progress: called every `eval_every` epochs.
        compiled: use `torch.compile` for `mlp_resnet`; it pays on runs of more than a few thousand steps.

    Raises:
        ValueError: the numbers of networks, posteriors, data sets and seeds differ.
    """
    if not len(networks) == len(depths) == len(splits) == len(seeds):
        raise ValueError("need as many networks as posteriors, data sets and seeds")
    replicates = Replicates(networks, depths, training, compiled)
    x, y = torch.stack([s.x_train for s in splits]), torch.stack([s.y_train for s in splits])
    x_test, y_test = torch.stack([s.x_test for s in splits]), torch.stack([s.y_test for s in splits])
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    # Row i of the tensors below is replicate alive[i]; None once that replicate has stopped.
    alive: list[int | None] = list(range(len(networks)))
    best = torch.full((len(networks),), -torch.inf, device=x.device)
    best_epoch = torch.zeros(len(networks), dtype=torch.long, device=x.device)
    best_state = replicates.state.clone()
    curves: list[list[float]] = [[] for _ in networks]
    histories: list[list[dict]] = [[] for _ in networks]
    results: dict[int, Trained] = {}

    for epoch in range(1, training.epochs + 1):
        value = replicates.run_epoch(x, y, generators)
        improved = value > best
        best = torch.where(improved, value, best)
        best_epoch = torch.where(improved, epoch, best_epoch)
        best_state = torch.where(improved.unsqueeze(1), replicates.state, best_state)
        for r, v in zip(alive, value.tolist(), strict=True):
            if r is not None:
                curves[r].append(v)
        last = epoch == training.epochs
        if epoch % training.eval_every == 0 or last:
            observed = zip(alive, replicates.observe(x_test, y_test), strict=True)
            new = {r: {"epoch": epoch, "elbo": curves[r][-1]} | row for r, row in observed if r is not None}
            for r, row in new.items():
                histories[r].append(row)
            elbos, depths_now = [r["elbo"] for r in new.values()], [r["pruned_depth"] for r in new.values()]
            on_progress(Progress(epoch, sum(elbos) / len(elbos), depths_now))

        for row, (r, at) in enumerate(zip(alive, best_epoch.tolist(), strict=True)):
            if r is not None and (last or epoch - at >= training.patience):
                replicates.load_into(networks[r], depths[r], best_state[row])
                results[r] = Trained(networks[r], depths[r], curves[r], histories[r], at)
                alive[row] = None
        rows = [row for row, r in enumerate(alive) if r is not None]
        if not rows:
            break
        if len(rows) <= len(alive) // 2:  # at each halving, not at each stop: other shapes compile anew
            best, best_epoch, best_state = best[rows], best_epoch[rows], best_state[rows]
            replicates.keep(rows)
            alive, generators = [alive[row] for row in rows], [generators[row] for row in rows]
            x, y, x_test, y_test = x[rows], y[rows], x_test[rows], y_test[rows]
    return [results[r] for r in range(len(networks))]
