"""DrNAS held against what it should beat, on the cells of NAS-Bench-201: paired over repeats, by `BETTER_CELLS`."""

import pandas as pd

from depthsearch.data.nasbench import SETS
from depthsearch.reporting.intervals import intervals_and_p
from depthsearch.reporting.judging.rules import difference_seen
from depthsearch.reporting.words import difference_said, number
from depthsearch.studies.random_cells import EQUAL_COST

JUDGED = ("DrNAS", "DrNAS progressive")
RIVALS = ("DARTS", EQUAL_COST)


def against(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a data set and difference, in points of true accuracy, with its interval, Holm's p and a word.

    `cost`: operation evaluations of the first, as a multiple of those of the second.

    Args:
        rows: one a run, of one configuration a kind.
    """
    table, cost = [], rows.groupby("kind")["operation_evaluations"].mean()
    for name, short in SETS.items():
        by_seed = rows.pivot_table(index="seed", columns="kind", values=short)
        pairs = {f"{a} − {b}": (a, b) for a in JUDGED for b in RIVALS if {a, b} <= set(by_seed)}
        gaps = {words: by_seed[a] - by_seed[b] for words, (a, b) in pairs.items()}
        for words, (interval, p) in intervals_and_p(gaps).items():
            row = {"data": name, "difference": words, "points": difference_said(interval, how="+.2f")}
            row |= {"n": interval.n, "above 0": f"{int((gaps[words] > 0).sum())} of {interval.n}"}
            row |= {"cost": f"{cost[pairs[words][0]] / cost[pairs[words][1]]:.2g}", "Holm's p": number(p, ".2g")}
            table.append(row | {"word": difference_seen(interval.negated(), p)})
    return pd.DataFrame(table, columns=["data", "difference", "points", "n", "above 0", "cost", "Holm's p", "word"])
