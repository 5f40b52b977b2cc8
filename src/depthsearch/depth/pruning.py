"""How deep the network should be, and the cut (section 3.2 of the paper)."""

import copy

from torch import Tensor

from depthsearch.depth.networks import DepthHead, DepthNetwork
from depthsearch.depth.posteriors import DepthPosterior


def pruned_depth(probs: Tensor, threshold: float = 0.95) -> int:
    """d_opt: the first depth with q(d) > threshold * max q (the rule called LDN-95).

    Args:
        probs: (D + 1,) q(d).
        threshold: share of the largest probability, in (0, 1).

    Raises:
        ValueError: the threshold is not in (0, 1).
    """
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must be above 0 and below 1, got {threshold}")
    return int((probs > threshold * probs.max()).int().argmax())


def expected_depth(probs: Tensor) -> float:
    """E_q[d]; rounded, it is the depth of LDN-E. probs (D + 1,)."""
    return sum(d * p for d, p in enumerate(probs.tolist()))


def prune(network: DepthNetwork, depth: DepthPosterior, max_depth: int) -> tuple[DepthNetwork, DepthPosterior]:
    """A smaller network of its own with the first max_depth blocks, and q with the mass beyond moved onto max_depth.

    Returns:
        The cut network and its posterior over 0..max_depth; both are copies.

    Raises:
        ValueError: unless 0 <= max_depth <= D, which network and posterior share.
    """
    if depth.max_depth != network.max_depth:
        raise ValueError(f"a network of depth {network.max_depth} with a posterior over 0..{depth.max_depth}")
    if not 0 <= max_depth <= network.max_depth:
        raise ValueError(f"cannot prune a network of depth {network.max_depth} to depth {max_depth}")
    small = copy.deepcopy(network)
    del small.blocks[max_depth:]
    if isinstance(small.head, DepthHead):
        small.head.truncate(max_depth)
    return small, depth.truncate(max_depth)
