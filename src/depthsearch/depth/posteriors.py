"""Distributions over depth: modules whose call returns a `torch.distributions.Categorical` over 0..D."""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Categorical


def geometric_prior(max_depth: int, ratio: float = 0.85) -> Categorical:
    """The paper's prior over depth, p(d) proportional to ratio^(1 + d), d = 0..max_depth.

    Raises:
        ValueError: max_depth is negative, or ratio is not positive and finite.
    """
    if max_depth < 0:
        raise ValueError(f"max_depth must be 0 or more, got {max_depth}")
    if not 0 < ratio < math.inf:
        raise ValueError(f"ratio must be positive and finite, got {ratio}")
    exponents = torch.arange(1, max_depth + 2, dtype=torch.float64)
    return _categorical(torch.log(torch.tensor(ratio, dtype=torch.float64)) * exponents)


def _categorical(logits: Tensor) -> Categorical:
    # -inf is a valid logit here: a depth without mass.
    return Categorical(logits=logits, validate_args=False)


def _log_probs(prior: Categorical | Tensor) -> Tensor:
    if not isinstance(prior, Categorical | Tensor):
        raise ValueError(f"a prior is a Categorical or a tensor of probabilities, not a {type(prior).__name__}")
    weights = prior.probs if isinstance(prior, Categorical) else prior
    if weights.is_meta:
        return weights
    one_axis = isinstance(prior, Categorical) or prior.dim() == 1
    if not (one_axis and weights.isfinite().all() and (weights >= 0).all() and weights.sum() > 0):
        raise ValueError(f"a prior needs probabilities (D + 1,), 0 or more and not all 0, got {weights.tolist()}")
    if isinstance(prior, Tensor):
        return torch.log(prior.double() / prior.double().sum())
    # Logits of a Categorical that was given probabilities are not below log(eps) of their type.
    given = torch.isclose(prior.logits.exp(), weights, rtol=1e-3, atol=0.0)
    return torch.where(given, prior.logits, weights.log())


class DepthPosterior(nn.Module):
    """Base of the distributions q(d) over depth: a call returns q, `prior` is p.

    A subclass defines `forward() -> Categorical` over 0..D, by `_over`, which leaves depths without mass that the prior
    rules out. Its parameters have an axis, (1,) or (D + 1,): networks that are trained side by side put another in
    front. `min_depth` is the first depth with mass: depths before it need no head.

    Args:
        prior: p(d), a Categorical or a tensor of D + 1 weights in proportion to it, 0 where a depth is ruled out. Kept
            as a float64 buffer of log probabilities, of which no gradient goes back.

    Raises:
        ValueError: it is neither, or a tensor of more axes than one, or has a weight that is negative or no number, or
            nothing but zeros.
    """

    prior_log_probs: Tensor
    min_depth: int = 0
    _rules_out: bool = False

    def __init__(self, prior: Categorical | Tensor) -> None:
        super().__init__()
        self.register_buffer("prior_log_probs", _log_probs(prior).detach().double().clone())
        self.read_prior()

    def read_prior(self) -> None:
        """Takes over what is kept of the prior outside of it, so that no step waits for a GPU to say it."""
        if not self.prior_log_probs.is_meta:  # there it has no values
            self._rules_out = bool(self.prior_log_probs.isneginf().any())

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.read_prior()

    def _over(self, logits: Tensor) -> Categorical:
        """The distribution of these logits (*R, D + 1) over the depths that the prior does not rule out."""
        # Elsewhere KL(q || p) is infinite whatever q is, and has no gradient.
        if self._rules_out:
            logits = logits.masked_fill(self.prior_log_probs.isneginf(), -math.inf)
        return _categorical(logits)

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

    Raises:
        ValueError: there are not D + 1 logits.
    """

    def __init__(self, prior: Categorical | Tensor, q_logits: Tensor | None = None) -> None:
        super().__init__(prior)
        if q_logits is not None and q_logits.shape[-1:] != (self.max_depth + 1,):
            raise ValueError(
                f"a prior over {self.max_depth + 1} depths needs as many logits, got {list(q_logits.shape)}"
            )
        self.q_logits = nn.Parameter(torch.zeros(self.max_depth + 1) if q_logits is None else q_logits.clone())

    def forward(self) -> Categorical:
        return self._over(self.q_logits)


class ExactDepth(DepthPosterior):
    """A posterior set in closed form, q(d) proportional to p(d) prod_n p(y_n | x_n, d); it starts as the prior.

    Its log probabilities are a buffer: no gradient reaches them, and they are saved and stacked like any other.
    """

    q_logits: Tensor

    def __init__(self, prior: Categorical | Tensor) -> None:
        super().__init__(prior)
        self.register_buffer("q_logits", self.prior_log_probs.float())

    def forward(self) -> Categorical:
        return _categorical(self.q_logits)

    @torch.no_grad()
    def condition(self, log_likelihoods: Tensor, n_train: int) -> None:
        """Sets q to the posterior given the mean log-likelihood of each depth over all N points (S = D + 1, *R)."""
        log_joint = self.prior_log_probs + n_train * log_likelihoods.double().movedim(0, -1)
        self.q_logits.copy_(log_joint.log_softmax(-1))


class TruncatedPoisson(DepthPosterior):
    """q(d) proportional to rate^d / d! on 0..D (the variational family of Nazaret & Blei 2022, cut at D).

    Args:
        prior: p(d) over 0..D.
        rate: to start from, D / 2 if not given (1 where D = 0). The parameter is its logarithm.

    Raises:
        ValueError: the rate is not positive.
    """

    def __init__(self, prior: Categorical | Tensor, rate: float | None = None) -> None:
        super().__init__(prior)
        self.log_rate = nn.Parameter(torch.tensor([_log(self.max_depth / 2 or 1.0 if rate is None else rate, "rate")]))

    def forward(self) -> Categorical:
        d = torch.arange(self.max_depth + 1, device=self.log_rate.device, dtype=torch.float64)
        return self._over(d * self.log_rate.double() - torch.lgamma(d + 1))


class DiscretisedNormal(DepthPosterior):
    """q(d): the mass of a normal within half a layer of d, cut to 0..D (van Erp & de Vries 2024).

    Parameters `loc`, in layers, and `log_scale`; the mass of an interval is a difference of distribution functions,
    taken in the tail where it is small so that it keeps its digits.

    Args:
        prior: p(d) over 0..D.
        loc, scale: to start from, D / 2 and D / 4 (at least 1) if not given.

    Raises:
        ValueError: the scale is not positive.
    """

    def __init__(self, prior: Categorical | Tensor, loc: float | None = None, scale: float | None = None) -> None:
        super().__init__(prior)
        self.loc = nn.Parameter(torch.tensor([self.max_depth / 2 if loc is None else float(loc)]))
        scale = max(self.max_depth / 4, 1.0) if scale is None else scale
        self.log_scale = nn.Parameter(torch.tensor([_log(scale, "scale")]))

    def forward(self) -> Categorical:
        d = torch.arange(self.max_depth + 1, device=self.loc.device, dtype=torch.float64)
        z, half = (d - self.loc.double()) / self.log_scale.double().exp(), 0.5 * torch.exp(-self.log_scale.double())
        z = -z.abs()  # the lower tail: the interval's mirror image has the same mass
        upper, lower = (torch.special.log_ndtr(edge) for edge in (z + half, z - half))
        return self._over(upper + torch.log(-torch.expm1(lower - upper)))


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

    def read_prior(self) -> None:
        super().read_prior()
        if not self.prior_log_probs.is_meta:
            self.min_depth = int(self.prior_log_probs.argmax(-1).min())  # of stacked ones the shallowest

    def forward(self) -> Categorical:
        return self.prior

    def truncate(self, max_depth: int) -> "FixedDepth":
        return FixedDepth(max_depth, min(self.min_depth, max_depth)).to(self.prior_log_probs)


def _log(value: float, name: str) -> float:
    if not value > 0:
        raise ValueError(f"{name} must be positive, got {value}")
    return math.log(value)


def _fold_log_probs(log_probs: Tensor, max_depth: int) -> Tensor:
    """(..., D + 1) log probabilities with the mass beyond max_depth moved onto max_depth."""
    tail = log_probs[..., max_depth:].logsumexp(-1, keepdim=True)
    return torch.cat([log_probs[..., :max_depth], tail], -1)
