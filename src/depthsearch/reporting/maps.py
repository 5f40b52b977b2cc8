"""The predictive map on the plane, from the saved weights of one run."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from depthsearch.data.files import written_whole
from depthsearch.depth.objectives import log_predictive
from depthsearch.depth.pruning import prune, pruned_depth
from depthsearch.measuring.depths import predict
from depthsearch.reporting.parts import of_scan
from depthsearch.reporting.tables.schema import SETTING
from depthsearch.running.folders import load_weights
from depthsearch.studies.spirals import Spirals

EXTENT, PIXELS = 5.5, 110
PRESET, SEED = Spirals(), 0
STORED = "spiral_maps.npz"


def draw_maps(results: Path, runs: pd.DataFrame) -> dict[str, np.ndarray] | None:
    """p(arm 1) on a grid, per depth and pruned, of repeat 0 of the paper's preset; from its weights, or as stored.

    Args:
        results: the folder of `runs` and `tables`.
        runs: the table of the runs that are shown.

    Returns:
        `per_depth` (D + 1, pixels, pixels), `predictive` (pixels, pixels), `q` (D + 1,), `x_train`, `y_train` and
        `extent`; None where there is neither the run nor what was stored of it.
    """
    folder = _folder(results, runs)
    if folder is not None:
        return _drawn(folder)
    stored = results / "tables" / STORED
    if not stored.exists():
        return None
    with np.load(stored, allow_pickle=False) as file:
        return dict(file)


def store_maps(results: Path, runs: pd.DataFrame) -> None:
    """Writes the maps among the tables, if the run is on this machine; what is stored stays as it is if not."""
    folder = _folder(results, runs)
    if folder is not None:
        drawn = _drawn(folder)
        with written_whole(results / "tables" / STORED) as part, part.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **drawn)


def _folder(results: Path, runs: pd.DataFrame) -> Path | None:
    """The folder of the run, if it is on this machine."""
    rows = of_scan(runs, "scan_max_depth_spirals")
    for field in SETTING:
        rows = rows[rows[field] == getattr(PRESET, field)]
    for name in rows["configuration"].unique():
        for folder in (results / "runs" / "scan_max_depth_spirals").glob(f"*/*-{name}/version_{SEED}"):
            if (folder / "weights.pt").exists():
                return folder
    return None


def _drawn(folder: Path) -> dict[str, np.ndarray]:
    network, depth = PRESET.network(), PRESET.posterior()
    load_weights(folder, network, depth)
    axis = torch.linspace(-EXTENT, EXTENT, PIXELS)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)
    logits = predict(network, depth, grid)
    q = depth().probs.detach()
    small, small_depth = prune(network, depth, pruned_depth(q))
    predictive = log_predictive(predict(small, small_depth, grid), small_depth).detach()
    split = PRESET.split(SEED)
    shape = (-1, PIXELS, PIXELS)
    return {
        "per_depth": logits.softmax(-1)[..., 1].reshape(shape).numpy().astype(np.float16),
        "predictive": predictive.exp()[..., 1].reshape(shape)[0].numpy().astype(np.float16),
        "q": q.numpy(),
        "x_train": split.x_train.numpy(),
        "y_train": split.y_train.numpy(),
        "extent": np.array(EXTENT),
    }
