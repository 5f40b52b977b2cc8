"""Strategies held against what one gets without looking, by their regret.

Paired over repeats, p-values corrected by Holm's procedure over the strategies.
"""

import pandas as pd

from depthsearch.reporting.intervals import intervals_and_p
from depthsearch.reporting.judging.rules import LIKELIHOOD_MARGIN, difference_seen
from depthsearch.reporting.tables.baselines import BASELINES
from depthsearch.reporting.words import difference_said, spread


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
