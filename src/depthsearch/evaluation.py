"""Error, log-likelihood, Brier score and calibration; per depth, pruned, full.

A *metric set* is a dict of floats, averaged over all data points:

- `error`: share of wrong top labels.
- `log_likelihood`: mean log p(y | x), nats.
- `brier`: mean of sum_k (p_k - [y = k])^2, in [0, 2] (Brier 1950).
- `ece`: top-label expected calibration error, 15 equal-width bins (Guo et al. 2017).
- `mean_true_class_probability`: mean p(y | x); the original code reports it as "log-likelihood".
- `paper_ece`: the original code's ECE: all K class probabilities in 10 equal-width bins, frequency of the
  class against the *upper edge* of the bin. About 0.09 even for a perfect confident ten-class classifier.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from depthsearch.data import Split
from depthsearch.hardware import keep_freed_memory, products_in
from depthsearch.networks import DepthNetwork
from depthsearch.objectives import log_likelihood, log_predictive
from depthsearch.posteriors import DepthPosterior, FixedDepth
from depthsearch.pruning import expected_depth, prune, pruned_depth

METRICS = ("error", "log_likelihood", "brier", "ece", "mean_true_class_probability", "paper_ece")
BATCH = 1024  # of a prediction on a CPU; smaller ones are mostly overhead, larger ones no faster


def metrics(log_probs: Tensor, y: Tensor) -> dict[str, float]:
    """The metric set of predictions: log_probs (B, C), y (B,)."""
    log_probs = log_probs.double()
    probs = log_probs.exp()
    true_class = log_probs.gather(-1, y.unsqueeze(-1)).squeeze(-1)
    one_hot = torch.nn.functional.one_hot(y, probs.shape[-1])
    bins = reliability(log_probs, y)
    return {
        "error": (log_probs.argmax(-1) != y).double().mean().item(),
        "log_likelihood": true_class.mean().item(),
        "brier": (probs - one_hot).square().sum(-1).mean().item(),
        "ece": sum(n * abs(c - a) for n, c, a in zip(*bins.values(), strict=True)) / len(y),
        "mean_true_class_probability": true_class.exp().mean().item(),
        "paper_ece": _paper_ece(probs, one_hot),
    }


def reliability(log_probs: Tensor, y: Tensor, n_bins: int = 15) -> dict[str, list[float]]:
    """Reliability diagram of the top label: per equal-width bin of confidence, (lower, upper].

    Args:
        log_probs: (B, C).
        y: (B,).

    Returns:
        `count`, `confidence` (mean) and `accuracy`, n_bins values each; 0 where the bin is empty.
    """
    confidence, label = log_probs.double().exp().max(-1)
    index = (torch.ceil(confidence * n_bins).long() - 1).clamp(0, n_bins - 1)
    count = torch.bincount(index, minlength=n_bins)
    filled = count.clamp(min=1)
    hits = (label == y).double()
    return {
        "count": count.tolist(),
        "confidence": (torch.bincount(index, confidence, n_bins) / filled).tolist(),
        "accuracy": (torch.bincount(index, hits, n_bins) / filled).tolist(),
    }


def _paper_ece(probs: Tensor, one_hot: Tensor, n_bins: int = 10) -> float:
    flat, hit = probs.flatten(), one_hot.flatten().double()
    index = (torch.ceil(flat * n_bins).long() - 1).clamp(0, n_bins - 1)
    count = torch.bincount(index, minlength=n_bins)
    frequency = torch.bincount(index, hit, n_bins) / count.clamp(min=1)
    upper_edge = torch.arange(1, n_bins + 1, dtype=torch.float64, device=flat.device) / n_bins
    return ((frequency - upper_edge).abs() * count).sum().item() / len(flat)


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
    keep_freed_memory()
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
    rows = []
    for i, d in enumerate(range(depth.min_depth, depth.max_depth + 1)):
        row: dict = {
            "depth": d,
            "q": q[d].item(),
            "prior": depth.prior.probs[d].item(),
            "exact_posterior": exact[d].item(),
        }
        for name, (_, y) in splits.items():
            row |= {f"{name}_{k}": v for k, v in metrics(logits[name][i].log_softmax(-1), y).items()}
        rows.append(row)

    d_opt, d_mean = pruned_depth(q), expected_depth(q)
    full, small = (network, depth), prune(network, depth, d_opt)
    timed = {"DDN": (network, FixedDepth(depth.max_depth).to(q.device))}
    if learnt:
        timed |= {"LDN-95": small, "LDN-full": full, "DDN-95": (small[0], FixedDepth(d_opt).to(q.device))}
    cuts = {"LDN-95": d_opt, "LDN-E": round(d_mean), "LDN-full": depth.max_depth}
    if not learnt:
        cuts = {"DDN": depth.max_depth}
    variants, bins = {}, {}
    for variant, cut in cuts.items():
        variants[variant] = {"depth": cut}
        for name, (_, y) in splits.items():
            log_probs = log_predictive(logits[name][: cut - depth.min_depth + 1], depth.truncate(cut))
            variants[variant] |= {f"{name}_{k}": v for k, v in metrics(log_probs, y).items()}
            if name == "test":
                bins[variant] = reliability(log_probs, y)
    return {
        "pruned_depth": d_opt,
        "expected_depth": d_mean,
        "kl_to_exact": kl,
        "parameters": _n_parameters(network),
        "pruned_parameters": _n_parameters(small[0]),
        "depths": rows,
        "variants": variants,
        "reliability": bins,
        "seconds": {
            f"{name}_predict_seconds": statistics.median(passes)
            for name, passes in predict_seconds(timed, split, precision).items()
        },
    }


@torch.no_grad()
def predict_seconds(
    networks: Mapping[str, tuple[DepthNetwork, DepthPosterior]],
    split: Split,
    precision: str = "float32",
    passes: int = 3,
) -> dict[str, list[float]]:
    """Seconds to predict the whole test set, depth marginalised: of each network, by its name, those of each pass.

    After one pass to warm up. The networks take turns batch by batch: whatever else slows the machine slows them
    alike.
    """
    times: dict[str, list[float]] = {name: [0.0] * (passes + 1) for name in networks}
    device = split.x_test.device
    keep_freed_memory()
    for network, _ in networks.values():
        network.eval()
    # Within one autocast the parameters are cast once.
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"), products_in(precision):
        for i in range(passes + 1):
            for part in split.x_test.split(BATCH if device.type == "cpu" else 8 * BATCH):
                for name, (network, depth) in networks.items():
                    start = time.perf_counter()
                    log_predictive(network(split.inputs(part), min_depth=depth.min_depth), depth)
                    if device.type == "cuda":
                        torch.cuda.synchronize(device)
                    times[name][i] += time.perf_counter() - start
    return {name: values[1:] for name, values in times.items()}


def _n_parameters(network: DepthNetwork) -> int:
    return sum(math.prod(p.shape) for p in network.parameters())
