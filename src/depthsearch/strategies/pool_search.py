"""Searches that train a network for every depth they look at: manual search, random search, the neural predictor.

All look into one *pool*, deterministic networks trained once at every depth and width, and pay for exactly those that
they would have trained. A pool is a table of one data set and repeat with columns `max_depth`, `width`,
`valid_log_likelihood` and those of `COSTS`; what they choose is a row of it, by its validation log-likelihood.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # heavy, and of use only where a pool is searched
    import pandas as pd

COSTS = ("seconds", "block_evaluations", "networks")
SAMPLE, TOP = 16, 4  # networks that the predictor learns from, at most half of all, and that it has trained afterwards
LABEL = "valid_log_likelihood"


@dataclass(frozen=True)
class Picked:
    """What a search chose: the row of the pool, the rows it had trained, and what else is to be reported."""

    chosen: "pd.Series"
    trained: "pd.DataFrame"
    extra: dict[str, float] = field(default_factory=dict)

    def costs(self) -> dict[str, float]:
        """What training these networks has cost, by the columns of `COSTS`."""
        return {name: float(self.trained[name].sum()) for name in COSTS}


def _best_of(trained: "pd.DataFrame", **extra: float) -> Picked:
    # The first of equals, and the pool is in order of depth: the shallower.
    return Picked(trained.iloc[int(trained[LABEL].to_numpy().argmax())], trained, extra)


def manual(pool: "pd.DataFrame", width: int, seed: int) -> Picked:
    """Every depth at the width that all other strategies use."""
    return _best_of(pool[pool["width"] == width])


def random(pool: "pd.DataFrame", width: int, seed: int) -> Picked:
    """As many networks of any depth and width as the predictor has trained."""
    return _best_of(_draw(pool, _sample(pool) + TOP, seed))


def predictor(pool: "pd.DataFrame", width: int, seed: int) -> Picked:
    """Trains a sample, fits the predictor to its labels normalised by the sample, trains the best by prediction.

    Extra: Kendall's tau and the mean squared error (labels normalised) on the networks not in the sample, of the
    predictor and of ridge regression. From a pool of fewer than four there is nothing to learn: it trains them all.
    """
    if _sample(pool) < 2:
        return _best_of(pool)
    import pandas as pd
    from scipy.stats import kendalltau

    from depthsearch.strategies.predictor import fit_predictor, predict_by_ridge, predict_labels

    sample = _draw(pool, _sample(pool), seed)
    rest = pool.drop(sample.index)
    mean, std = sample[LABEL].mean(), sample[LABEL].std() + 1e-9
    known, unknown = (list(zip(t["max_depth"].tolist(), t["width"].tolist(), strict=True)) for t in (sample, rest))
    labels, truth = ((t[LABEL].to_numpy() - mean) / std for t in (sample, rest))
    max_depth, widths = int(pool["max_depth"].max()), sorted(pool["width"].unique().tolist())
    network = fit_predictor(known, labels.tolist(), max_depth, widths, seed)
    predicted = {
        "predictor": predict_labels(network, unknown, max_depth, widths),
        "ridge": predict_by_ridge(known, labels.tolist(), unknown),
    }
    extra = {}
    for name, values in predicted.items():
        extra[f"{name}_tau"] = float(kendalltau(values, truth).statistic)
        extra[f"{name}_mse"] = float(np.mean((values - truth) ** 2))
    top = rest.iloc[np.argsort(-predicted["predictor"], kind="stable")[:TOP]]
    return _best_of(pd.concat([sample, top]).sort_index(), **extra)


def _sample(pool: "pd.DataFrame") -> int:
    return min(SAMPLE, len(pool) // 2)


def _draw(pool: "pd.DataFrame", n: int, seed: int) -> "pd.DataFrame":
    rows = np.random.default_rng([seed, 2]).choice(len(pool), min(n, len(pool)), replace=False)
    return pool.iloc[np.sort(rows)]


PoolSearch = Callable[["pd.DataFrame", int, int], Picked]  # pool, width, seed
SEARCHES: dict[str, PoolSearch] = {
    "manual": manual,
    "random": random,
    "predictor": predictor,
}
