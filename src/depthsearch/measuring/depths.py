"""What is measured of a network with a distribution over depth: per depth, pruned, full."""

import math
import statistics
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from depthsearch.data.split import Split
from depthsearch.depth.networks import DepthNetwork
from depthsearch.depth.objectives import log_likelihood, log_predictive
from depthsearch.depth.posteriors import DepthPosterior, FixedDepth
from depthsearch.depth.pruning import expected_depth, prune, pruned_depth
from depthsearch.hardware import products_in
from depthsearch.measuring.metrics import metrics, reliability
from depthsearch.measuring.timing import BATCH, predict_seconds


@torch.no_grad()
def predict(
    network: DepthNetwork,
    depth: DepthPosterior,
    x: Tensor,
    batch_size: int = BATCH,
    inputs: Callable[[Tensor], Tensor] = lambda x: x,
) -> Tensor:
    """Logits of every depth that has mass, in evaluation mode: x (N, ...) -> (S, N, C).

    `inputs` makes of each batch what the network sees.
    """
    network.eval()
    return torch.cat([network(inputs(part), min_depth=depth.min_depth) for part in x.split(batch_size)], dim=1)


def exact_posterior(logits: Tensor, y: Tensor, depth: DepthPosterior) -> Tensor:
    """log p(d | data, weights), which is log p(d) + sum_n log p(y_n | x_n, d), normalised.

    logits (D + 1, N, C), y (N,) -> (D + 1,).
    """
    log_joint = depth.prior.logits + log_likelihood(logits.double(), y).sum(-1)
    return log_joint.log_softmax(-1)


def evaluate(network: DepthNetwork, depth: DepthPosterior, split: Split, precision: str = "float32") -> dict:
    """Everything that tables and figures need to know of a trained network, as plain numbers.

    Args:
        network: the trained network; it is put in evaluation mode.
        depth: its posterior.
        split: its data.
        precision: in which the test set is timed, "float32", "tf32" or "bfloat16"; everything else is in float32.

    Returns:
        `pruned_depth`, `expected_depth`, `parameters` and `pruned_parameters` (counts);
        `depths`: one row a depth that has mass: `depth`, `q`, `prior`, `exact_posterior`, and each split's metric set
        under `<split>_<metric>`; `variants`: for LDN-95, LDN-E and LDN-full (DDN for a fixed depth) the depth and the
        metric sets; `reliability`: for each variant the bins of the test set;
        `kl_to_exact`: KL(q || exact posterior over depth given the trained weights), nats;
        `seconds`: of predicting the whole test set; of a learnt depth with LDN-95, really cut, LDN-full, and these two
        with their last head alone, as deterministic networks have it (DDN-95, DDN); of a fixed depth with DDN.
    """
    q = depth().probs.detach()
    splits = {"train": (split.x_train, split.y_train), "test": (split.x_test, split.y_test)}
    with products_in("float32"):
        logits = {name: predict(network, depth, x, inputs=split.inputs) for name, (x, _) in splits.items()}
    learnt = not isinstance(depth, FixedDepth)
    log_exact = exact_posterior(logits["train"], splits["train"][1], depth) if learnt else depth().logits.double()
    exact, has_mass = log_exact.exp(), q > 0
    kl = (q * (depth().logits - log_exact))[has_mass].sum().item()
    rows = [
        {"depth": d, "q": q[d].item(), "prior": depth.prior.probs[d].item(), "exact_posterior": exact[d].item()}
        | _metrics({name: logits[name][i].log_softmax(-1) for name in splits}, splits)
        for i, d in enumerate(range(depth.min_depth, depth.max_depth + 1))
    ]

    d_opt, d_mean = pruned_depth(q), expected_depth(q)
    small, deepest = prune(network, depth, d_opt), depth.max_depth
    timed = {"DDN": (network, FixedDepth(deepest).to(q.device))}
    if learnt:
        timed |= {"LDN-95": small, "LDN-full": (network, depth), "DDN-95": (small[0], FixedDepth(d_opt).to(q.device))}
    cuts = {"LDN-95": d_opt, "LDN-E": round(d_mean), "LDN-full": deepest} if learnt else {"DDN": deepest}
    variants, bins = {}, {}
    for variant, cut in cuts.items():
        kept, cut_depth = cut - depth.min_depth + 1, depth.truncate(cut)
        log_probs = {name: log_predictive(logits[name][:kept], cut_depth) for name in splits}
        variants[variant] = {"depth": cut} | _metrics(log_probs, splits)
        bins[variant] = reliability(log_probs["test"], splits["test"][1])
    seconds = predict_seconds(timed, split, precision)
    return {
        "pruned_depth": d_opt,
        "expected_depth": d_mean,
        "kl_to_exact": kl,
        "parameters": _n_parameters(network),
        "pruned_parameters": _n_parameters(small[0]),
        "depths": rows,
        "variants": variants,
        "reliability": bins,
        "seconds": {f"{name}_predict_seconds": statistics.median(passes) for name, passes in seconds.items()},
    }


def _metrics(log_probs: Mapping[str, Tensor], splits: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
    return {f"{name}_{k}": v for name, (_, y) in splits.items() for k, v in metrics(log_probs[name], y).items()}


def _n_parameters(network: DepthNetwork) -> int:
    return sum(math.prod(p.shape) for p in network.parameters())
