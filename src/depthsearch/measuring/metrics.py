"""Error, log-likelihood, Brier score and calibration of predictions.

A *metric set* is a dict of floats, averaged over all data points:

- `error`: share of wrong top labels.
- `log_likelihood`: mean log p(y | x), nats.
- `brier`: mean of sum_k (p_k - [y = k])^2, in [0, 2] (Brier 1950).
- `ece`: top-label expected calibration error, 15 equal-width bins (Guo et al. 2017).
- `mean_true_class_probability`: mean p(y | x); the original code reports it as "log-likelihood".
- `paper_ece`: the original code's ECE: all K class probabilities in 10 equal-width bins; how often the class is the
  true one *and* the likeliest, against the *upper edge* of the bin. About 0.09 even for a perfect confident ten-class
  classifier.
"""

import torch
from torch import Tensor

METRICS = ("error", "log_likelihood", "brier", "ece", "mean_true_class_probability", "paper_ece")


def metrics(log_probs: Tensor, y: Tensor) -> dict[str, float]:
    """The metric set of predictions: log_probs (B, C), y (B,)."""
    log_probs = log_probs.double()
    probs = log_probs.exp()
    true_class = log_probs.gather(-1, y.unsqueeze(-1)).squeeze(-1)
    one_hot = torch.nn.functional.one_hot(y, probs.shape[-1])
    wrong = log_probs.argmax(-1) != y
    bins = reliability(log_probs, y)
    return {
        "error": wrong.double().mean().item(),
        "log_likelihood": true_class.mean().item(),
        "brier": (probs - one_hot).square().sum(-1).mean().item(),
        "ece": sum(n * abs(c - a) for n, c, a in zip(*bins.values(), strict=True)) / len(y),
        "mean_true_class_probability": true_class.exp().mean().item(),
        "paper_ece": _paper_ece(probs, one_hot * ~wrong.unsqueeze(-1)),
    }


def top_error(log_probs: Tensor, y: Tensor, k: int = 5) -> float:
    """Share of points whose label is not among the k likeliest: log_probs (B, C), y (B,)."""
    return 1 - (log_probs.topk(k, dim=-1).indices == y.unsqueeze(-1)).any(-1).double().mean().item()


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


def _paper_ece(probs: Tensor, hits: Tensor, n_bins: int = 10) -> float:
    flat, hit = probs.flatten(), hits.flatten().double()
    index = (torch.ceil(flat * n_bins).long() - 1).clamp(0, n_bins - 1)
    count = torch.bincount(index, minlength=n_bins)
    frequency = torch.bincount(index, hit, n_bins) / count.clamp(min=1)
    upper_edge = torch.arange(1, n_bins + 1, dtype=torch.float64, device=flat.device) / n_bins
    return ((frequency - upper_edge).abs() * count).sum().item() / len(flat)
