"""DrNAS held against what it should beat, on the cells of NAS-Bench-201: paired over repeats, by `BETTER_CELLS`."""

import numpy as np
import pandas as pd

from depthsearch.data.nasbench import SETS
from depthsearch.reporting.baselines import intervals_and_p
from depthsearch.reporting.rules import Interval, difference_seen, negated
from depthsearch.reporting.words import between
from depthsearch.studies.random_cells import EQUAL_COST

JUDGED = ("DrNAS", "DrNAS progressive")
RIVALS = ("DARTS", EQUAL_COST)


def against(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a data set and difference, in points of true accuracy, with its interval, Holm's p and a word.

    Args:
        rows: one a run, of one configuration a kind.
    """
    table = []
    for name, short in SETS.items():
        by_seed = rows.pivot_table(index="seed", columns="kind", values=short)
        pairs = {f"{a} − {b}": (a, b) for a in JUDGED for b in RIVALS if {a, b} <= set(by_seed)}
        gaps = {words: by_seed[a] - by_seed[b] for words, (a, b) in pairs.items()}
        for words, (interval, p) in intervals_and_p(gaps).items():
            mean, low, high, n = interval
            row = {"data": name, "difference": words, "points": f"{mean:+.2f}{between(low, high, '+.2f')}", "n": n}
            row |= {"above 0": f"{int((gaps[words] > 0).sum())} of {n}"}
            table.append(row | {"Holm's p": "-" if np.isnan(p) else f"{p:.2g}", "word": word(interval, p)})
    return pd.DataFrame(table, columns=["data", "difference", "points", "n", "above 0", "Holm's p", "word"])


def word(interval: Interval, p: float) -> str:
    """Of a difference of accuracies, by the rule `BETTER_CELLS`: the more the better."""
    return difference_seen(negated(interval), p)
