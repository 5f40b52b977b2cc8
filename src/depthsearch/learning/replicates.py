"""R networks of one architecture side by side in one tensor: a step, an epoch, what they predict."""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from depthsearch.data.split import Split
from depthsearch.depth.convolutional import Bottleneck, DepthBatchNorm
from depthsearch.depth.networks import DepthNetwork, MLPNetwork, stack_modules
from depthsearch.depth.objectives import log_likelihood
from depthsearch.depth.posteriors import DepthPosterior
from depthsearch.depth.pruning import expected_depth
from depthsearch.learning.flat import FlatState
from depthsearch.learning.gradients import gradients_of
from depthsearch.learning.method import PAPER, Method, Training

AT_ONCE = 2048  # points that are predicted together


class Replicates:
    """R networks and posteriors of one architecture, trained side by side without touching each other.

    Their whole state lies in one tensor, a `FlatState`. Only an `MLPNetwork` has a replicate axis; of others there is
    one, as it is.

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
        self.has_axis = isinstance(networks[0], MLPNetwork)
        if len(networks) > 1 and not self.has_axis:
            raise ValueError("only networks of mlp_resnet train side by side; give one at a time")
        self.training, self.method = training, method
        self.learning_rate, self.epoch = training.learning_rate, 0
        self.network = stack_modules(networks) if self.has_axis else copy.deepcopy(networks[0])
        all_learn = all(parameter.requires_grad for parameter in self.network.parameters())
        self.compiled = compiled and not method.second_derivatives
        for module in self.network.modules():
            if isinstance(module, Bottleneck | MLPNetwork):  # chain.cpp knows no frozen parameters
                module.fused = self.compiled and (all_learn or isinstance(module, Bottleneck))
        self.network.train()
        self.depth = stack_modules(depths)
        self.flat = FlatState({"network": self.network, "depth": self.depth}, set() if self.has_axis else {"network"})
        self._n_own = sum(p.numel() for p in self.network.parameters()) // len(self.state)
        self.velocity = torch.zeros_like(self.state[:, : self.flat.n_parameters])

    @property
    def state(self) -> Tensor:
        """(R, P + gap + Q): P parameters, then Q buffers of their type, of each replicate (`FlatState`)."""
        return self.flat.state

    def views(self, state: Tensor) -> dict[str, Tensor]:
        """The named tensors that lie in rows (..., P + gap + Q) of the state."""
        return self.flat.views(state)

    def keep(self, rows: list[int]) -> None:
        """Drops all other replicates."""
        self.flat.keep(rows)
        self.velocity = self.velocity[rows]

    def step(self, x: Tensor, y: Tensor, n_train: int) -> Tensor:
        """One step of SGD with momentum on a batch: x (R, B, ...), y (R, B) -> the objective before it (R,)."""
        values, gradient = self.gradient(x, y, n_train)
        self.velocity.mul_(self.training.momentum).add_(gradient)
        self.state[:, : gradient.shape[1]].add_(self.velocity, alpha=self.learning_rate)
        return values

    def gradient(self, x: Tensor, y: Tensor, n_train: int) -> tuple[Tensor, Tensor]:
        """The objective on a batch (R,), and its gradient (R, P) with respect to the parameters."""
        depthwise = self.method.depthwise and type(self.method).outputs is Method.outputs  # logits as the network's
        if depthwise and isinstance(self.network, MLPNetwork) and self.network.is_fused(x):
            return self._fused_gradient(self.network, x, y, n_train)
        values = self.value(x, y, n_train)
        found = gradients_of(values, self.flat.parameters)
        return values.detach(), _rows(found, len(values))

    def _fused_gradient(self, network: MLPNetwork, x: Tensor, y: Tensor, n_train: int) -> tuple[Tensor, Tensor]:
        """The same by `chain.cpp`, whose one pass has to be told the slopes of the objective before it is made.

        Those of the ELBO are q. Any other objective is known after the pass, and takes a second one.
        """
        parameters, statistics = self.state[:, : self._n_own], self.state[:, self.velocity.shape[1] :]
        of_batch = x, y, self.depth.min_depth
        q = self.depth().probs.detach()[..., self.depth.min_depth :].movedim(-1, 0).to(x.dtype)
        found, of_network = network.gradient(parameters, statistics, *of_batch, q)
        values = self.method.objective(found.requires_grad_(), self.depth, n_train)
        wanted = [found, *self.depth.parameters()]
        slopes, *of_depth = gradients_of(values, wanted)
        if not torch.equal(slopes, q):
            _, of_network = network.gradient(parameters, None, *of_batch, slopes)
        return values.detach(), _rows([of_network, *of_depth], len(values))

    def value(self, x: Tensor, y: Tensor, n_train: int) -> Tensor:
        """The objective on a batch (R,), to be differentiated with respect to the modules' parameters."""
        return self.method.objective(log_likelihood(self.outputs(x), y).mean(-1), self.depth, n_train)

    def outputs(self, x: Tensor) -> Tensor:
        """The method's logits (S, R, B, C) of a batch (R, B, ...)."""
        if self.has_axis:
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
        n_train = y.shape[1]
        if n_train <= self.training.batch_size:
            yield data.inputs(x), y
            return
        order = torch.stack([torch.randperm(n_train, generator=g) for g in generators]).to(x.device)
        rows = torch.arange(len(generators), device=x.device).unsqueeze(1)
        for batch in order.split(self.training.batch_sizes(n_train), dim=1):
            yield data.inputs(x[rows, batch]), y[rows, batch]

    @torch.no_grad()
    def estimate_norms(self, data: Split, generators: Sequence[torch.Generator]) -> None:
        """Batch-norm statistics as means over the first `norm_batches` minibatches of the order that these give."""
        if self.has_axis:
            return
        average_norms(self.network, islice(self.batches(data, generators), self.training.norm_batches), self.outputs)

    @torch.no_grad()
    def log_likelihoods(self, data: Split, which: str) -> Tensor:
        """Mean log-likelihood (S, R) of each output on the "train", "valid" or "test" points, in evaluation mode."""
        parts = [log_likelihood(outputs, y).sum(-1) for outputs, y in self._predictions(data, which)]
        return torch.stack(parts).sum(0) / getattr(data, f"y_{which}").shape[1]

    def _predictions(self, data: Split, which: str) -> Iterator[tuple[Tensor, Tensor]]:
        x, y = (getattr(data, f"{kind}_{which}") for kind in "xy")
        self.network.eval()
        for part_x, part_y in zip(x.split(AT_ONCE, 1), y.split(AT_ONCE, 1), strict=True):
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
            row | self._depths(p) | {"depth_entropy": h}
            for row, p, h in zip(rows, q.probs.cpu(), q.entropy().tolist(), strict=True)
        ]

    def _depths(self, probs: Tensor) -> dict:
        if not probs.isfinite().all():  # it diverged in this epoch, which the loop is about to see
            return {"pruned_depth": 0, "expected_depth": math.nan}
        return {"pruned_depth": self.method.chosen_depth(probs), "expected_depth": expected_depth(probs)}

    def load_into(self, network: DepthNetwork, depth: DepthPosterior, state: Tensor) -> None:
        """Copies one row (P + gap + Q,) of the state into a network and posterior without replicate axis."""
        for prefix, module in (("network.", network), ("depth.", depth)):
            own = {k.removeprefix(prefix): v for k, v in self.views(state).items() if k.startswith(prefix)}
            module.load_state_dict(own, strict=False)  # counters of batches seen are not part of the state
            module.eval()


@torch.no_grad()
def average_norms(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], forward: Callable) -> None:
    """Running statistics as means over batches, each in proportion to its points; those that there were are forgotten.

    Args:
        network: its `BatchNorm2d`s and `DepthBatchNorm`s are set, if they are in training mode.
        batches: x, and labels y (..., B).
        forward: runs the network on x.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d | DepthBatchNorm)]
    before: list[Any] = [norm.momentum for norm in norms]
    seen = 0
    for x, y in batches:
        seen += y.shape[-1]
        for norm in norms:  # of an exponential average with this momentum nothing but the mean is left
            norm.momentum = y.shape[-1] / seen
        forward(x)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum


def _rows(tensors: Sequence[Tensor], n: int) -> Tensor:
    """Tensors (n, ...) side by side, (n, P)."""
    return torch.cat([tensor.reshape(n, -1) for tensor in tensors], dim=1)
