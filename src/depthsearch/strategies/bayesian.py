"""Rivals that keep a posterior over depth, as the paper does, and differ in its family or in how it is set."""

import math
from dataclasses import dataclass

from torch import Tensor

from depthsearch.data.split import Split
from depthsearch.depth.objectives import elbo_of_depths, marginal_likelihood_of_depths
from depthsearch.depth.posteriors import (
    CategoricalDepth,
    DepthPosterior,
    DiscretisedNormal,
    ExactDepth,
    TruncatedPoisson,
    geometric_prior,
)
from depthsearch.learning.method import Method
from depthsearch.learning.replicates import Replicates


@dataclass(frozen=True)
class ExactPosterior(Method):
    """The ELBO with q set to the exact posterior over depth by a full pass at the end of every epoch."""

    @property
    def passes(self) -> float:
        return 2.0

    def posterior(self, max_depth: int) -> ExactDepth:
        return ExactDepth(geometric_prior(max_depth))

    def end_epoch(self, replicates: Replicates, data: Split) -> None:
        assert isinstance(replicates.depth, ExactDepth)
        replicates.depth.condition(replicates.log_likelihoods(data, "train"), data.y_train.shape[1])


@dataclass(frozen=True)
class MarginalLikelihood(ExactPosterior):
    """Depth uncertainty networks (Antorán, Allingham & Hernández-Lobato 2020): the weights maximise the evidence.

    Depth is never optimised; q is the exact posterior, and serves prediction and choice.
    """

    def objective(self, log_likelihoods: Tensor, depth: DepthPosterior, n_train: int) -> Tensor:
        return marginal_likelihood_of_depths(log_likelihoods, depth, n_train)


@dataclass(frozen=True)
class Poisson(Method):
    """The paper's ELBO with a truncated Poisson q (Nazaret & Blei 2022)."""

    def posterior(self, max_depth: int) -> TruncatedPoisson:
        return TruncatedPoisson(geometric_prior(max_depth))


@dataclass(frozen=True)
class Normal(Method):
    """The paper's ELBO with a discretised truncated normal q (van Erp & de Vries 2024)."""

    def posterior(self, max_depth: int) -> DiscretisedNormal:
        return DiscretisedNormal(geometric_prior(max_depth))


@dataclass(frozen=True)
class VariedDepth(Method):
    """The paper's method with what it fixes left open; as it is by default, it is the paper's.

    Attributes:
        q_rate: learning rate of q as a multiple of that of the network.
        kl_weight: of KL(q || p) in the bound, 0 or more; below 1 the likelihood counts for more, as with more data.
        prior_ratio: of the prior, p(d) proportional to prior_ratio^(1 + d).
    """

    q_rate: float = 1.0
    kl_weight: float = 1.0
    prior_ratio: float = 0.85

    def posterior(self, max_depth: int) -> CategoricalDepth:
        return CategoricalDepth(geometric_prior(max_depth, self.prior_ratio))

    def objective(self, log_likelihoods: Tensor, depth: DepthPosterior, n_train: int) -> Tensor:
        # N only divides the KL. What is added is 0, but its gradient with respect to q is not.
        n = n_train / self.kl_weight if self.kl_weight else math.inf
        value = elbo_of_depths(log_likelihoods, depth, n)
        of_q = elbo_of_depths(log_likelihoods.detach(), depth, n)
        return value + (self.q_rate - 1) * (of_q - of_q.detach())
