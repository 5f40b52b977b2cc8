"""Variational depth search: a residual network with a learnt distribution over its own depth.

Reference implementation of Antorán, Allingham & Hernández-Lobato, "Variational Depth Search in
ResNets" (arXiv 2002.02797). One idea: a network that returns the logits of every depth in one pass,
and a distribution over depth beside it.
"""

from depthsearch.data.spirals import spirals
from depthsearch.depth.convolutional import conv_resnet
from depthsearch.depth.networks import DepthHead, DepthNetwork, mlp_resnet
from depthsearch.depth.objectives import elbo, elbo_of_depths, log_likelihood, log_predictive, marginal_likelihood
from depthsearch.depth.posteriors import (
    CategoricalDepth,
    DepthPosterior,
    DiscretisedNormal,
    ExactDepth,
    FixedDepth,
    TruncatedPoisson,
    geometric_prior,
)
from depthsearch.depth.pruning import expected_depth, prune, pruned_depth
from depthsearch.hardware import __version__ as __version__

__all__ = [
    "CategoricalDepth",
    "DepthHead",
    "DepthNetwork",
    "DepthPosterior",
    "DiscretisedNormal",
    "ExactDepth",
    "FixedDepth",
    "TruncatedPoisson",
    "conv_resnet",
    "elbo",
    "elbo_of_depths",
    "expected_depth",
    "geometric_prior",
    "log_likelihood",
    "log_predictive",
    "marginal_likelihood",
    "mlp_resnet",
    "prune",
    "pruned_depth",
    "spirals",
]
