"""What one gets without looking: always the same depth, or any. Each row is taken from the pool of the comparison."""

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from depthsearch.measuring.choices import SHOWN_METRICS

# The depths of which one is taken, each as likely as the others, where the deepest is D.
BASELINES: dict[str, Callable[[int], Iterable[int]]] = {
    "always D": lambda deepest: [deepest],
    "always D/2": lambda deepest: [deepest // 2],
    "uniform guess": lambda deepest: range(deepest + 1),
}
COSTS = ("seconds", "epochs", "block_evaluations", "networks", "step_bytes")


def with_baselines(strategies: pd.DataFrame, pool: pd.DataFrame) -> pd.DataFrame:
    """The table of strategies, and a row for every baseline, data set and repeat: means over the depths it may take.

    Where the pool lacks one of these depths, or one of them diverged, there is no such row.
    """
    keys = ["data_set", "seed", "cohort"]
    pool = pool.sort_values("started", kind="stable").drop_duplicates(
        [*keys, "max_depth", "width", "points"], keep="last"
    )
    shared = [*keys, "epochs_limit", "max_depth", "preset_width", "best_depth", "best_log_likelihood"]
    rows = []
    for _, asked in strategies[shared].dropna().drop_duplicates(keys).iterrows():
        mine = pool[(pool[keys] == asked[keys]).all(axis=1) & (pool["width"] == asked["preset_width"])]
        mine = mine.dropna(subset="test_log_likelihood")
        for name, depths in BASELINES.items():
            of = list(depths(int(asked["max_depth"])))
            looked, again = (mine[(mine["points"] == p) & mine["max_depth"].isin(of)] for p in ("train", "all"))
            if len(looked) < len(of) or len(again) < len(of):
                continue
            row = asked.to_dict() | {"strategy": name, "depth": float(np.mean(of)), "width": asked["preset_width"]}
            row |= {k: looked[k].mean() for k in COSTS} | {"device": looked["device"].iloc[0]}
            row |= {f"searched_{m}": looked[f"test_{m}"].mean() for m in SHOWN_METRICS}
            row |= {f"retrained_{m}": again[f"test_{m}"].mean() for m in SHOWN_METRICS}
            row["regret"] = asked["best_log_likelihood"] - row["retrained_log_likelihood"]
            rows.append(row)
    return pd.concat([strategies, pd.DataFrame(rows)], ignore_index=True) if rows else strategies
