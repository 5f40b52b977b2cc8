"""How long a run of the depth experiments would take here, from a step of training that is timed."""

import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from depthsearch.data.images import IMAGE_SETS
from depthsearch.hardware import products_in, synchronise
from depthsearch.learning.replicates import Replicates
from depthsearch.studies.depth import DepthStudy, seeded
from depthsearch.studies.images import Images

DEPTH, STEPS = 4, 3  # of the network that is timed, and how many steps


def training_seconds(study: DepthStudy, n: int, device: torch.device) -> float:
    """Seconds that n repeats take to train together, if none stops before its last epoch.

    A step of a shallow network is timed, on images uncompiled, and grows with the number of blocks. Evaluations are
    left out.
    """
    points = _points(study)
    sizes = study.training.batch_sizes(points)
    blocks = (study.max_depth + 1) / (DEPTH + 1)
    timed = replace(study, max_depth=DEPTH)
    steps = study.training.epochs * len(sizes)
    return steps * blocks * _step_seconds(timed, n, sizes[0], device)


def _points(study: DepthStudy) -> int:
    if isinstance(study, Images):  # whose files need not be there yet
        return round(IMAGE_SETS[study.data_set].n_train * (0.9 if study.protocol == "fair" else 1.0))
    return len(study.split(0, Path()).y_train)


@cache
def _step_seconds(study: DepthStudy, n: int, batch: int, device: torch.device) -> float:
    networks = [seeded(seed, study.network).to(device) for seed in range(n)]
    posteriors = [seeded(seed, study.posterior).to(device) for seed in range(n)]
    compiled = not isinstance(study, Images) and study.compiles(device)
    replicates = Replicates(networks, posteriors, study.training, compiled)
    shape = (2,)
    if isinstance(study, Images):
        known = IMAGE_SETS[study.data_set]
        shape = (known.channels, known.size, known.size)
    x, y = torch.rand(n, batch, *shape, device=device), torch.randint(2, (n, batch), device=device)
    seconds = []
    with products_in(study.precision):
        for _ in range(STEPS + 1):
            start = time.perf_counter()
            replicates.step(x, y, batch)
            synchronise(device)
            seconds.append(time.perf_counter() - start)
    return min(seconds[1:])  # what else runs here makes the others longer
