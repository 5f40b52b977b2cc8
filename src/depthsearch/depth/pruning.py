"""How deep the network should be, and the cut (section 3.2 of the paper)."""

import copy
import operator

from torch import Tensor

from depthsearch.depth.networks import DepthHead, DepthNetwork
from depthsearch.depth.posteriors import DepthPosterior


def pruned_depth(probs: Tensor, threshold: float = 0.95) -> int:
    """d_opt: the first depth with q(d) > threshold * max q (the rule called LDN-95).

    Args:
        probs: (D + 1,) q(d).
        threshold: share of the largest probability, in (0, 1).

    Raises:
        ValueError: these are no probabilities, or the threshold is not in (0, 1).
    """
    probs = _checked(probs)
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must be above 0 and below 1, got {threshold}")
    return int((probs > threshold * probs.max()).int().argmax())


def expected_depth(probs: Tensor) -> float:
    """E_q[d]; rounded, it is the depth of LDN-E. probs (D + 1,).

    Raises:
        ValueError: these are no probabilities.
    """
    return sum(d * p for d, p in enumerate(_checked(probs).tolist()))


def _checked(probs: Tensor) -> Tensor:
    """On the CPU, which is waited for once."""
    if not isinstance(probs, Tensor) or probs.dim() != 1:
        what = f"of shape {list(probs.shape)}" if isinstance(probs, Tensor) else f"a {type(probs).__name__}"
        raise ValueError(f"q(d) must be a tensor (D + 1,) of probabilities, as depth().probs is, got {what}")
    probs = probs.detach().cpu()
    if not (probs >= 0).all() or abs(float(probs.double().sum()) - 1) > 0.02:  # as far as half precision goes
        raise ValueError(f"q(d) must be probabilities, 0 or more and 1 in sum, got {probs.tolist()}")
    return probs


def prune(network: DepthNetwork, depth: DepthPosterior, max_depth: int) -> tuple[DepthNetwork, DepthPosterior]:
    """A smaller network of its own with the first max_depth blocks, and q with the mass beyond moved onto max_depth.

    Returns:
        The cut network and its posterior over 0..max_depth; both are copies.

    Raises:
        ValueError: unless max_depth is a whole number, 0 <= max_depth <= D, which network and posterior share.
    """
    try:
        max_depth = operator.index(max_depth)
    except TypeError:
        raise ValueError(f"a network is cut to a whole number of blocks, not to {max_depth!r}; round it") from None
    if depth.max_depth != network.max_depth:
        raise ValueError(f"a network of depth {network.max_depth} with a posterior over 0..{depth.max_depth}")
    if not 0 <= max_depth <= network.max_depth:
        raise ValueError(f"cannot prune a network of depth {network.max_depth} to depth {max_depth}")
    small = copy.deepcopy(network)
    del small.blocks[max_depth:]
    if isinstance(small.head, DepthHead):
        small.head.truncate(max_depth)
    return small, depth.truncate(max_depth)
