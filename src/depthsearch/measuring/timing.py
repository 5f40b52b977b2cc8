"""Seconds to predict a test set."""

import time
from collections.abc import Mapping

import torch

from depthsearch.data.split import Split
from depthsearch.depth.networks import DepthNetwork
from depthsearch.depth.objectives import log_predictive
from depthsearch.depth.posteriors import DepthPosterior
from depthsearch.hardware import products_in, synchronise

BATCH = 1024  # of a prediction on a CPU; smaller ones are mostly overhead, larger ones no faster


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
    for network, _ in networks.values():
        network.eval()
    # Within one autocast the parameters are cast once.
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"), products_in(precision):
        for i in range(passes + 1):
            for part in split.x_test.split(BATCH if device.type == "cpu" else 8 * BATCH):
                for name, (network, depth) in networks.items():
                    start = time.perf_counter()
                    log_predictive(network(split.inputs(part), min_depth=depth.min_depth), depth)
                    synchronise(device)
                    times[name][i] += time.perf_counter() - start
    return {name: values[1:] for name, values in times.items()}
