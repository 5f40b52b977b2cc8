"""Two spirals (section 4.1 of the paper)."""

import math

import numpy as np
import torch
from torch import Tensor

from depthsearch.data.split import Split


def spirals(n: int = 2000, stop_angle: float = 720.0, noise: float = 0.2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two interleaved spiral arms (section 4.1 of the paper), not yet standardised.

    A point at radius t = sqrt(u) * stop_angle, u ~ U[0, 1), lies at (t cos t, t sin t); uniform noise on
    [0, noise) is added to each coordinate. (The original code documents Gaussian noise but draws
    uniform noise; the paper's data are the uniform ones.) The second arm is turned by 180 degrees.

    Args:
        n: number of points, even, half of them in each arm.
        stop_angle: how far each arm turns, in degrees.
        noise: width of the uniform noise, in radians of radius (the unit of t).
        seed: seed of the generator; the same seed gives the same points on every machine.

    Returns:
        x (n, 2) float32 and y (n,) int64, the arm of each point; arm 0 first.

    Raises:
        ValueError: n is not a positive even number, stop_angle is not positive, or noise is negative.
    """
    if n < 2 or n % 2:
        raise ValueError(f"n must be a positive even number of points, got {n}")
    if not stop_angle > 0:
        raise ValueError(f"stop_angle must be positive (degrees), got {stop_angle}")
    if not noise >= 0:
        raise ValueError(f"noise must not be negative, got {noise}")
    rng = np.random.default_rng(seed)
    arms = []
    for arm in range(2):
        t = np.sqrt(rng.random(n // 2)) * math.radians(stop_angle)
        points = np.stack([t * np.cos(t), t * np.sin(t)], axis=1) + noise * rng.random((n // 2, 2))
        arms.append(points if arm == 0 else -points)
    x = torch.from_numpy(np.concatenate(arms)).float()
    y = torch.arange(2).repeat_interleave(n // 2)
    return x, y


def spiral_split(n: int, stop_angle: float, noise: float, seed: int, train_fraction: float = 0.1) -> Split:
    """`spirals`, shuffled, split 10 % / 90 %, standardised by the training mean and std (section 4.1).

    Raises:
        ValueError: there are too few points for two of them to train on, or as of `spirals`.
    """
    x, y = spirals(n, stop_angle, noise, seed)
    order = torch.from_numpy(np.random.default_rng([seed, 1]).permutation(n))
    train, test = order[: round(n * train_fraction)], order[round(n * train_fraction) :]
    if len(train) < 2:
        raise ValueError(f"{n} points leave {len(train)} to train on: give more")
    mean, std = x[train].mean(0), x[train].std(0)
    x = (x - mean) / std
    return Split(x[train], y[train], x[test], y[test])
