"""The closed-form ELBO, the marginal likelihood, the marginal predictive: pure functions of logits and depth.

All accept replicate axes R between depth and batch: logits (S, *R, B, C), targets (*R, B), q over (*R, D + 1).
S is D + 1, or fewer where a posterior has no mass on the shallower depths: the S deepest ones.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical

from depthsearch.depth.posteriors import DepthPosterior


def log_likelihood(logits: Tensor, y: Tensor) -> Tensor:
    """log p(y_n | x_n, d), nats: logits (S, *R, B, C), y (*R, B) -> (S, *R, B); of half precision in float32.

    A logit of -inf rules its class out.

    Raises:
        ValueError: y is not of int64, one for each of the B points, or there is one class only.
        RuntimeError: a label is not among the C classes (on CUDA an assertion fails).
    """
    logits = _wide(logits)
    if y.dtype != torch.int64 or logits.shape[-1 - y.dim() : -1] != y.shape or y.dim() < logits.dim() - 2:
        raise ValueError(
            f"labels {list(y.shape)} of type {y.dtype} for logits {list(logits.shape)}: for (S, B, C) they are class "
            "indices (B,) in int64; any other likelihood goes to elbo_of_depths"
        )
    # Reductions: gather and log_softmax are several times slower on two classes, backward most of all.
    own = F.one_hot(y, logits.shape[-1]).bool()
    return logits.where(own, 0.0).sum(-1) - logits.logsumexp(-1)


def elbo(logits: Tensor, y: Tensor, depth: DepthPosterior, n_train: int) -> Tensor:
    """Evidence lower bound per datum, nats (equation 5 of the paper, divided by N).

    sum_d q(d) mean_n log p(y_n | x_n, d) - KL(q || p) / N, without sampling; an unbiased minibatch estimate.

    Args:
        logits: (S, B, C), depth 0 first (or the S deepest depths).
        y: (B,) class indices.
        depth: the posterior q with its prior p.
        n_train: N, the number of training points.

    Returns:
        scalar (one value a replicate where there are replicate axes).

    Raises:
        ValueError, RuntimeError: logits do not cover the depths that have mass, or as of `log_likelihood`.
    """
    return elbo_of_depths(log_likelihood(logits, y).mean(-1), depth, n_train)


def elbo_of_depths(log_likelihoods: Tensor, depth: DepthPosterior, n_train: float) -> Tensor:
    """The same bound from the mean log-likelihood of each depth, of whatever model: (S, *R) -> (*R,).

    For regression, say, those of a normal distribution around the S outputs of a `DepthNetwork`.

    Raises:
        ValueError: they do not cover the depths that have mass.
    """
    q = depth()
    weights = q.probs[..., _covered(log_likelihoods, depth)].to(log_likelihoods.dtype)
    expected = (weights * log_likelihoods.movedim(0, -1)).sum(-1)
    return expected - kl_of_depths(q, depth.prior).to(log_likelihoods.dtype) / n_train


def kl_of_depths(q: Categorical, p: Categorical) -> Tensor:
    """KL(q || p), nats, over (*R, D + 1) -> (*R,); infinite where q has mass on a depth that p rules out.

    `torch.distributions.kl_divergence` of older versions of torch fills masked entries with Python numbers, which makes
    a GPU wait at every step of training.
    """
    return (q.probs * torch.where(q.probs > 0, q.logits - p.logits, 0.0)).sum(-1)


def marginal_likelihood(logits: Tensor, y: Tensor, depth: DepthPosterior, n_train: int) -> Tensor:
    """Log marginal likelihood per datum, nats: log sum_d p(d) prod_n p(y_n | x_n, d), divided by N.

    The objective of depth uncertainty networks (Antorán, Allingham & Hernández-Lobato 2020, arXiv 2006.08437). On a
    minibatch the log-likelihood of all N points is estimated by N times the mean over the batch. Of `depth` only the
    prior counts.

    Args, returns and errors are those of `elbo`, which is at most this and equal to it at the exact posterior.
    """
    return marginal_likelihood_of_depths(log_likelihood(logits, y).mean(-1), depth, n_train)


def marginal_likelihood_of_depths(log_likelihoods: Tensor, depth: DepthPosterior, n_train: int) -> Tensor:
    """The same from the mean log-likelihood of each depth: (S, *R) -> (*R,)."""
    log_p = depth.prior.logits[..., _covered(log_likelihoods, depth)]
    log_joint = n_train * log_likelihoods.movedim(0, -1).to(log_p.dtype) + log_p
    return (log_joint.logsumexp(-1) / n_train).to(log_likelihoods.dtype)


def log_predictive(logits: Tensor, depth: DepthPosterior) -> Tensor:
    """log p(y | x) with depth marginalised: log sum_d q(d) softmax(logits_d), in log space throughout.

    Of a class whose logit is -inf at all depths it is -inf, and has no gradient.

    Args:
        logits: (S, B, C), depth 0 first (or the S deepest depths).
        depth: the posterior q.

    Returns:
        log probabilities (B, C), in float32 where the logits are of half precision.

    Raises:
        ValueError: logits do not cover the depths that have mass, or are of one class only.
    """
    logits = _wide(logits)
    log_q = depth().logits[..., _covered(logits, depth)].movedim(-1, 0).to(logits.dtype)
    # Each depth is normalised before it is weighted: beside logits of 1e8, far from the data, log q is rounded away.
    return (logits.log_softmax(-1) + log_q[..., None, None]).logsumexp(0)


def _wide(logits: Tensor) -> Tensor:
    if logits.shape[-1] < 2:
        raise ValueError("one logit a point says nothing of classes: give two, or another likelihood to elbo_of_depths")
    # Under autocast an ordinary head's are of half precision, which rounds away what tells depths apart.
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def _covered(logits: Tensor, depth: DepthPosterior) -> slice:
    first = depth.max_depth + 1 - logits.shape[0]
    if not 0 <= first <= depth.min_depth:
        raise ValueError(
            f"logits of {logits.shape[0]} depths given, but the posterior has mass on depths "
            f"{depth.min_depth}..{depth.max_depth}"
        )
    return slice(first, None)
