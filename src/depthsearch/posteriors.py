"""Distributions over depth: modules whose call returns a `torch.distributions.Categorical` over 0..D."""

import torch
from torch import Tensor, nn
from torch.distributions import Categorical


def geometric_prior(max_depth: int, ratio: float = 0.85) -> Categorical:
    """The paper's prior over depth, p(d) proportional to ratio^(1 + d), d = 0..max_depth.

    Raises:
        ValueError: max_depth is negative or ratio is not positive.
    """
    if max_depth < 0:
        raise ValueError(f"max_depth must be 0 or more, got {max_depth}")
    if not ratio > 0:
        raise ValueError(f"ratio must be positive, got {ratio}")
    exponents = torch.arange(1, max_depth + 2, dtype=torch.float64)
    return _categorical(torch.log(torch.tensor(ratio, dtype=torch.float64)) * exponents)


def _categorical(logits: Tensor) -> Categorical:
    # -inf is a valid logit here: a depth without mass.
    return Categorical(logits=logits, validate_args=False)


class DepthPosterior(nn.Module):
    """Base of the distributions q(d) over depth: a call returns q, `prior` is p.

    A subclass defines `forward() -> Categorical` over 0..D. `min_depth` is the first depth with mass: depths
    before it need no head.

    Args:
        prior: p(d), a Categorical or a tensor of D + 1 probabilities. Kept as a float64
            buffer of log probabilities.
    """

    prior_log_probs: Tensor
    min_depth: int = 0

    def __init__(self, prior: Categorical | Tensor) -> None:
        super().__init__()
        log_probs = prior.logits if isinstance(prior, Categorical) else torch.log(prior.double() / prior.double().sum())
        self.register_buffer("prior_log_probs", log_probs.double())

    @property
    def max_depth(self) -> int:
        """D, the deepest depth of the support."""
        return self.prior_log_probs.shape[-1] - 1

    @property
    def prior(self) -> Categorical:
        return _categorical(self.prior_log_probs)

    def forward(self) -> Categorical:
        raise NotImplementedError

    def truncate(self, max_depth: int) -> "DepthPosterior":
        """The distribution over 0..max_depth with the mass beyond max_depth moved onto it; likewise its prior."""
        return CategoricalDepth(
            prior=_categorical(_fold_log_probs(self.prior_log_probs, max_depth)),
            q_logits=_fold_log_probs(self().logits.detach(), max_depth),
        )


class CategoricalDepth(DepthPosterior):
    """The paper's learnt posterior q(d) = softmax(q_logits), starting uniform (section 3).

    Args:
        prior: p(d) over 0..D.
        q_logits: (D + 1,) initial logits, zeros if not given.
    """

    def __init__(self, prior: Categorical | Tensor, q_logits: Tensor | None = None) -> None:
        super().__init__(prior)
        self.q_logits = nn.Parameter(torch.zeros(self.max_depth + 1) if q_logits is None else q_logits.clone())

    def forward(self) -> Categorical:
        return _categorical(self.q_logits)


class FixedDepth(DepthPosterior):
    """All mass on one depth: the deterministic network (DDN) as the same code with nothing to learn.

    Its prior is itself, so that KL(q || p) = 0 and the ELBO is the log-likelihood.

    Args:
        max_depth: D.
        depth: where the mass lies, D if not given.

    Raises:
        ValueError: unless 0 <= depth <= max_depth.
    """

    def __init__(self, max_depth: int, depth: int | None = None) -> None:
        depth = max_depth if depth is None else depth
        if not 0 <= depth <= max_depth:
            raise ValueError(f"need 0 <= depth <= max_depth, got depth {depth} and max_depth {max_depth}")
        super().__init__(torch.nn.functional.one_hot(torch.tensor(depth), max_depth + 1))
        self.min_depth = depth

    def forward(self) -> Categorical:
        return self.prior

    def truncate(self, max_depth: int) -> "FixedDepth":
        return FixedDepth(max_depth, min(self.min_depth, max_depth)).to(self.prior_log_probs)


def _fold_log_probs(log_probs: Tensor, max_depth: int) -> Tensor:
    """(..., D + 1) log probabilities with the mass beyond max_depth moved onto max_depth."""
    tail = log_probs[..., max_depth:].logsumexp(-1, keepdim=True)
    return torch.cat([log_probs[..., :max_depth], tail], -1)
