"""Tables of several machines put together: each run once.

Tables come in families, whose rows belong to the same runs. What tells one run from another is its scan, data set,
configuration, setting and seed; of tables of earlier versions, whose configurations have no hash, the setting.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from depthsearch.reporting.tables.schema import FAMILIES, Family, Tables, empty, stacked

# What two machines need not agree on: time, hardware, who trained beside it; and what is looked up in other tables.
LOOSE = ("seconds", "replicates", "step_bytes", "retrained_", "best_depth", "best_log_likelihood", "regret")


def join(ours: Tables, theirs: Tables) -> tuple[Tables, list[str]]:
    """Their runs after ours, each run once; where both have one, ours stays.

    Returns:
        the tables, and a line for each run that both have with other numbers.
    """
    tables, conflicts = dict(ours), []
    for family in FAMILIES:
        known: set[str] = set().union(*(family.keys(ours[name]) for name in family.mains if name in ours))
        for name in family.tables:
            if name in theirs:
                new = theirs[name][~family.keys(theirs[name]).isin(known)]
                tables[name] = stacked([ours.get(name, empty(name)), new])
        conflicts += _conflicts(family, ours, theirs)
    return tables, conflicts


def in_order_of(first: Mapping[str, pd.DataFrame], tables: Tables) -> Tables:
    """The tables with the runs of `first` first, in its order: what was written once stays where it is."""
    ordered = dict(tables)
    for family in FAMILIES:
        for name in family.tables:
            if name in tables and name in first:
                before = {key: i for i, key in enumerate(dict.fromkeys(family.keys(first[name])))}
                rank = family.keys(tables[name]).map(before).fillna(len(before))
                ordered[name] = tables[name].loc[rank.sort_values(kind="stable").index].reset_index(drop=True)
    return ordered


def _conflicts(family: Family, ours: Tables, theirs: Tables) -> list[str]:
    a, b = (
        {name: tables[name].set_axis(family.keys(tables[name])) for name in family.mains if name in tables}
        for tables in (ours, theirs)
    )
    lines = []
    for mine, table in a.items():
        for yours, other in b.items():
            both = table.index.intersection(other.index)
            if mine == yours:
                lines += _differences(table.loc[both], other.loc[both])
            else:  # a run that came to an end, and that diverged
                lines += [f"{_readable(key)}: in {mine} here, in {yours} there; ours is kept" for key in both]
    return lines


def _differences(table: pd.DataFrame, other: pd.DataFrame) -> list[str]:
    columns = [c for c in table if c in other and not any(word in str(c) for word in LOOSE)]
    numbers = [c for c in columns if all(pd.api.types.is_numeric_dtype(t[c]) for t in (table, other))]
    a, b = (t[numbers].to_numpy(dtype=float) for t in (table, other))
    differ = ~np.isclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True)  # tables hold six digits
    lines = []
    for key, row, x, y in zip(table.index, differ, a, b, strict=True):
        if row.any():
            i = int(row.argmax())
            lines.append(f"{_readable(key)}: {numbers[i]} is {x[i]:g} here, {y[i]:g} there; ours is kept")
    return lines


def _readable(key: str) -> str:
    return " ".join(part for part in key.split("|") if part)
