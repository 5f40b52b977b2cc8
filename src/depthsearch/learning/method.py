"""How networks are trained (`Training`), which epoch is kept (`Selection`), how depth is learnt (`Method`)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from depthsearch.data.split import Split
from depthsearch.depth.networks import DepthNetwork
from depthsearch.depth.objectives import elbo_of_depths, log_predictive
from depthsearch.depth.posteriors import CategoricalDepth, DepthPosterior, geometric_prior
from depthsearch.depth.pruning import pruned_depth


@dataclass(frozen=True)
class Training:
    """How to train. The defaults are the paper's for spirals: SGD, full batch where N <= 512.

    Attributes:
        epochs: at most this many passes over the training set.
        patience: stop this many epochs after the best one, as the `Selection` has it.
        learning_rate, momentum: of SGD; there is no weight decay.
        decay_epoch: after this epoch the learning rate is a tenth; None for never.
        batch_size: minibatch size; a smaller data set is one batch. Of a last one of a single point, which batch norm
            cannot take, the one before is larger by it.
        even_batches: cut an epoch into as few minibatches as can be, of equal sizes up to one point. Otherwise, as in
            the original, the last one has what is left: with batch norm a step on a handful of points is a large one in
            an odd direction, and the last that the running averages see.
        precision: "float32", or "bfloat16" for mixed precision: stem and blocks compute in bfloat16, in validation too;
            parameters, head and objective are float32. "tf32" is float32 whose products CUDA may round. On
            `mlp_resnet` "bfloat16" has no effect.
        norm_batches: minibatches of each epoch on which the statistics of batch norm are estimated anew at its end; 0
            keeps the running averages. These lag behind the weights at the learning rate of the image experiments, by
            many points of error (`reporting.pages.images.protocol_gap`; Wu & Johnson 2021, "Rethinking 'Batch' in
            BatchNorm", section 3, call it precise batch norm). Of no effect on `mlp_resnet`.
        eval_every: epochs between evaluations on the test set (they are logged and decide nothing). Validation points,
            where there are any, are evaluated as often as the `Selection` says.
    """

    epochs: int = 8000
    patience: int = 500
    learning_rate: float = 0.1
    momentum: float = 0.5
    decay_epoch: int | None = None
    batch_size: int = 512
    even_batches: bool = False
    precision: str = "float32"
    norm_batches: int = 0
    eval_every: int = 100

    def batch_sizes(self, n: int) -> list[int]:
        """Of how many points each minibatch of an epoch of n is, in order."""
        number = math.ceil(n / self.batch_size)
        if self.even_batches:
            number -= number > 1 and n // number == 1 < self.batch_size  # no point is left alone
            return [n // number + (i < n % number) for i in range(number)]
        sizes = [self.batch_size] * (number - 1) + [n - self.batch_size * (number - 1)]
        return [*sizes[:-2], sizes[-2] + 1] if number > 1 and sizes[-1] == 1 < self.batch_size else sizes


@dataclass(frozen=True)
class Selection:
    """Which epoch of a run is kept.

    Attributes:
        by: the best on the validation points by "elbo", the objective there, or by the "log_likelihood" of the
            predictive distribution. Without validation points it is the best objective of training.
        every: epochs between evaluations on the validation points.
        settle: share of the epochs for which depth is given time to settle: no state of theirs is a candidate, and
            patience counts from there.
    """

    by: str = "elbo"
    every: int = 1
    settle: float = 0.0

    def __post_init__(self) -> None:
        if self.by not in ("elbo", "log_likelihood"):
            raise ValueError(f"select by elbo or log_likelihood, got {self.by!r}")
        if self.every < 1 or not 0 <= self.settle < 1:
            raise ValueError(f"every must be 1 or more and settle in [0, 1), got {self.every} and {self.settle}")

    def first_epoch(self, epochs: int) -> int:
        """The first epoch whose state may be kept, of at most so many."""
        return int(self.settle * epochs) + 1


@dataclass(frozen=True)
class Method:
    """What is learnt about depth and how: this one is the paper's; its rivals (`strategies`) override what differs.

    The *outputs* of a method for a batch are logits (S, *R, B, C): of each depth, or of one mixture (S = 1).

    Attributes:
        depthwise: whether the outputs are those of each depth.
    """

    depthwise: ClassVar[bool] = True

    @property
    def passes(self) -> float:
        """How often an epoch runs the network forward over the training points."""
        return 1.0

    @property
    def second_derivatives(self) -> bool:
        """Whether it differentiates gradients of the network, which what is compiled (`chain.cpp`) does not have."""
        return False

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

    # `replicates` below is a `Replicates`, whose module imports this one.

    def run_epoch(self, replicates: Any, data: Split, generators: Sequence[torch.Generator]) -> Tensor:
        """One pass over the training points; the objective per datum (R,)."""
        return replicates.run_epoch(data, generators)

    def end_epoch(self, replicates: Any, data: Split) -> None:
        """What is done at the end of an epoch, after the statistics of batch norm were estimated anew."""

    def block_evaluations(self, depth: DepthPosterior, n_train: int, epochs: int, limit: int) -> float:
        """Blocks run forward x points in so many epochs of training; `limit` is that on epochs.

        Passes that estimate the statistics of batch norm anew (`Training.norm_batches`) are not among them.
        """
        return self.passes * depth.max_depth * n_train * epochs


PAPER = Method()
