"""What a search on NAS-Bench-201 would find, exactly: the true accuracy of all cells under what it believes.

A search says how likely each edge ends with each operation, independently: q (6, 5). The probability of a cell is then
a product of six numbers, and as all 15,625 cells have been trained, the distribution of the accuracy is a sum. For
softmax weights q is their categorical; for DrNAS (arXiv 2006.10355) it is the probability that a component of the
Dirichlet draw is the largest, `largest_probabilities`, not its mean.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class TrueAccuracy:
    """Of the cell that a search ends with, in the unit of the accuracies (percent).

    Attributes:
        mean, sd: over cells.
        quantiles: by probability; the smallest accuracy that is reached or not surpassed with that probability.
        near_best: probability of a cell within `within` of the best one.
        best: probability of the best one.
        mode: accuracy of the most likely cell, each edge with its most likely operation.
        mode_index: the position of that cell.
    """

    mean: float
    sd: float
    quantiles: dict[float, float]
    near_best: float
    best: float
    mode: float
    mode_index: int


def cell_probabilities(q: Tensor, operations: Tensor) -> Tensor:
    """Probability of each cell (K,) float64, given q (edges, options) and the option on each of its edges (K, edges).

    Raises:
        ValueError: q has not the shape of the choices, or its rows are not probabilities.
    """
    q = q.detach().double().cpu()
    if q.dim() != 2 or len(q) != operations.shape[1] or q.shape[1] <= int(operations.max()):
        raise ValueError(
            f"q must have a row for each of the {operations.shape[1]} edges, got the shape {tuple(q.shape)}"
        )
    if bool((q < 0).any()) or not torch.allclose(q.sum(1), torch.ones(len(q)).double(), atol=1e-5):
        raise ValueError("each row of q must be probabilities that sum to one")
    q = q / q.sum(1, keepdim=True)
    return q.gather(1, operations.T).prod(0)


def true_accuracy(
    q: Tensor, operations: Tensor, accuracies: Tensor, within: float = 0.5, quantiles: Sequence[float] = QUANTILES
) -> TrueAccuracy:
    """The distribution of the true accuracy over all cells, exactly.

    Args:
        q: how likely each edge ends with each option (edges, options).
        operations: the option on each edge of each cell (K, edges).
        accuracies: what each cell reaches (K,).
        within: how near to the best counts as near.

    Raises:
        ValueError: as `cell_probabilities`.
    """
    p, accuracies = cell_probabilities(q, operations), accuracies.double()
    values, order = accuracies.sort()
    cumulative = p[order].cumsum(0)
    levels = torch.tensor(quantiles, dtype=torch.float64)
    places = torch.searchsorted(cumulative, levels * (1 - 1e-12)).clamp(max=len(values) - 1)  # rounding of the sum
    mean = (p * accuracies).sum()
    mode = int((operations == q.detach().argmax(1).cpu()).all(1).nonzero()[0, 0])
    return TrueAccuracy(
        mean=float(mean),
        sd=float((p * (accuracies - mean).square()).sum().sqrt()),
        quantiles=dict(zip(quantiles, values[places].tolist(), strict=True)),
        near_best=float(p[accuracies >= values[-1] - within].sum()),
        best=float(p[accuracies.argmax()]),
        mode=float(accuracies[mode]),
        mode_index=mode,
    )


def drawn_accuracies(
    q: Tensor, operations: Tensor, accuracies: Tensor, n: int, generator: torch.Generator | None = None
) -> Tensor:
    """The accuracies of n cells drawn from q (n,): DrNAS's figure shows the range of 100 at every epoch."""
    p = cell_probabilities(q, operations)
    return accuracies[torch.multinomial(p, n, replacement=True, generator=generator)]


def largest_probabilities(concentration: Tensor) -> Tensor:
    """Probability that each component of a Dirichlet draw is the largest, (..., n) float64, rows that sum to one.

    A draw is n independent gamma variables divided by their sum, so that component i is the largest with probability
    integral of f_i(x) prod_{j != i} F_j(x) dx, with f_i and F_i density and distribution function of a gamma variable
    of shape concentration_i. Over log x the integrand is smooth and falls to zero at both ends, so the trapezoidal rule
    is exact up to rounding.

    Args:
        concentration: (..., n), zero where an option is closed (its probability is then zero).

    Raises:
        ValueError: a concentration is negative or no number, or a row has none that is positive.
    """
    rows = concentration.detach().double().cpu().reshape(-1, concentration.shape[-1]).numpy()
    if not (np.isfinite(rows).all() and (rows >= 0).all() and (rows > 0).any(1).all()):
        raise ValueError("a concentration must be a positive number, or zero where an option is closed")
    probabilities = np.zeros_like(rows)
    for row, out in zip(rows, probabilities, strict=True):
        out[row > 0] = _largest(row[row > 0])
    return torch.from_numpy(probabilities).reshape(concentration.shape)


def _largest(shapes: np.ndarray) -> np.ndarray:
    from scipy.special import gammainc, gammaln

    # prod_j F_j(x) <= prod_j x^a_j / Gamma(a_j + 1) is below 1e-17 under `low`, every 1 - F_j above `high`; the steps
    # are a quarter of the narrowest width of an f_i(log x), which is about 1 / sqrt(a_i), and at most a quarter.
    largest, total = shapes.max(), shapes.sum()
    low = (gammaln(shapes + 1).sum() - 40) / total
    high = math.log(largest + 10 * math.sqrt(largest) + 50)
    step = 0.25 / max(1.0, math.sqrt(largest))
    t = np.arange(low, high + step, step)
    x, a = np.exp(t), shapes[:, None]
    log_density = a * t - x - gammaln(a)  # of log x
    with np.errstate(divide="ignore", invalid="ignore"):
        log_cumulative = np.where(x < 1e-13, a * t - gammaln(a + 1), np.log(gammainc(a, x)))
        others = log_cumulative.sum(0) - log_cumulative
    others[np.isnan(others)] = -np.inf  # F_i itself is zero, and so is f_i
    found = np.exp(log_density + others).sum(1) * step
    return found / found.sum()
