"""What one gets without looking: always the same depth, or any. Each row is taken from the pool of the comparison.

A strategy is held against each of these by its regret: paired over repeats, p-values corrected by Holm's procedure
over the strategies.
"""

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from depthsearch.measuring.choices import METRICS
from depthsearch.reporting.intervals import intervals_and_p
from depthsearch.reporting.rules import LIKELIHOOD_MARGIN, difference_seen
from depthsearch.reporting.words import difference_said, spread

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
            row |= {f"searched_{m}": looked[f"test_{m}"].mean() for m in METRICS}
            row |= {f"retrained_{m}": again[f"test_{m}"].mean() for m in METRICS}
            row["regret"] = asked["best_log_likelihood"] - row["retrained_log_likelihood"]
            rows.append(row)
    return pd.concat([strategies, pd.DataFrame(rows)], ignore_index=True) if rows else strategies


def against_baselines(regrets: pd.DataFrame) -> pd.DataFrame:
    """One row a strategy: its regret, how far that is above each baseline's, with an interval, and a word for that.

    Args:
        regrets: (repeats, strategies), the baselines among them; nats.
    """
    names = [str(name) for name in regrets]
    there = [name for name in BASELINES if name in names]
    others = [name for name in names if name not in BASELINES and regrets[name].notna().any()]
    words: dict[str, dict[str, str]] = {name: {} for name in others}
    for baseline in there:
        gaps = {name: regrets[name] - regrets[baseline] for name in others}
        for name, (interval, p) in intervals_and_p(gaps).items():
            word = difference_seen(interval, p, LIKELIHOOD_MARGIN)
            words[name][f"minus {baseline}"] = f"{word}: {difference_said(interval, how='+.3f')}"
    rows = [{"strategy": n, "n": regrets[n].count(), "regret (nats)": spread(regrets[n])} | words[n] for n in others]
    rows += [{"strategy": n, "n": regrets[n].count(), "regret (nats)": spread(regrets[n])} for n in there]
    return pd.DataFrame(rows).fillna("-")


def as_good(regrets: pd.DataFrame) -> list[str]:
    """The baselines that no strategy is better than."""
    table = against_baselines(regrets)
    columns = {name: f"minus {name}" for name in BASELINES}
    return [n for n, c in columns.items() if c in table and not table[c].str.startswith("better").any()]
