"""Tables of several machines put together: each run once.

Tables come in families, whose rows belong to the same runs. What tells one run from another is its scan, data set,
configuration, setting and seed; of tables of earlier versions, whose configurations have no hash, the setting.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

Tables = dict[str, pd.DataFrame]
SETTING = ("max_depth", "width", "n", "stop_angle", "noise")
# What two machines need not agree on: time, hardware, who trained beside it; and what is looked up in other tables.
LOOSE = ("seconds", "replicates", "step_bytes", "retrained_", "best_depth", "best_log_likelihood", "regret")


@dataclass(frozen=True)
class Family:
    """Tables about the same runs.

    Attributes:
        key: columns that tell one run from another.
        mains: tables with one row a run.
        details: tables with several.
    """

    key: tuple[str, ...]
    mains: tuple[str, ...]
    details: tuple[str, ...] = ()

    def keys(self, table: pd.DataFrame) -> pd.Series:
        """The runs that the rows are of, as text."""
        return as_text(table, self.key)


RUNS = Family(
    ("scan", "data_set", "kind", *SETTING, "protocol", "precision", "epochs_limit", "configuration", "seed"),
    mains=("runs", "diverged"),
    details=("depths", "reliability", "curves"),
)
CHOICES = Family(
    ("data_set", "strategy", "epochs_limit", "configuration", "seed"),
    mains=("strategies",),
    details=("strategies_shift", "strategies_curves"),
)
POOL = Family(
    ("data_set", "max_depth", "width", "points", "epochs_limit", "configuration", "seed"), mains=("strategies_pool",)
)
TUNINGS = Family(
    ("data_set", "kind", "max_depth", "setting", "epochs_limit", "configuration", "seed"), mains=("strategies_tuning",)
)
CELLS = Family(
    ("scan", "data_set", "kind", "epochs_limit", "configuration", "seed"), mains=("cells",), details=("cells_history",)
)
CHAINS = Family(
    ("scan", "data_set", "kind", "max_depth", "epochs_limit", "configuration", "seed"),
    mains=("chains",),
    details=("chains_depths",),
)
PREDICTIONS = Family(
    ("data_set", "split", "epochs_limit", "configuration", "seed"),
    mains=("predictor_runs",),
    details=("predictor", "predictor_selection", "predictor_points"),
)
GENOTYPES = Family(
    ("scan", "data_set", "epochs_limit", "configuration", "seed"),
    mains=("genotypes",),
    details=("genotypes_history",),
)
VARIATIONS = Family(
    ("scan", "data_set", "max_depth", "epochs_limit", "configuration", "seed", "fit"), mains=("variations",)
)
FAMILIES = (RUNS, CHOICES, POOL, TUNINGS, CELLS, CHAINS, PREDICTIONS, GENOTYPES, VARIATIONS)


def join(ours: Mapping[str, pd.DataFrame], theirs: Mapping[str, pd.DataFrame]) -> tuple[Tables, list[str]]:
    """Their runs after ours, each run once; where both have one, ours stays.

    Returns:
        the tables, and a line for each run that both have with other numbers.
    """
    tables, conflicts = dict(ours), []
    for family in FAMILIES:
        known: set[str] = set().union(*(family.keys(ours[name]) for name in family.mains if name in ours))
        for name in (*family.mains, *family.details):
            if name in theirs:
                new = theirs[name][~family.keys(theirs[name]).isin(known)]
                tables[name] = stacked([ours.get(name, pd.DataFrame()), new])
        conflicts += _conflicts(family, ours, theirs)
    return tables, conflicts


def in_order_of(first: Mapping[str, pd.DataFrame], tables: Mapping[str, pd.DataFrame]) -> Tables:
    """The tables with the runs of `first` first, in its order: what was written once stays where it is."""
    ordered = dict(tables)
    for family in FAMILIES:
        for name in (*family.mains, *family.details):
            if name in tables and name in first:
                before = {key: i for i, key in enumerate(dict.fromkeys(family.keys(first[name])))}
                rank = family.keys(tables[name]).map(before).fillna(len(before))
                ordered[name] = tables[name].loc[rank.sort_values(kind="stable").index].reset_index(drop=True)
    return ordered


def as_text(table: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """Of each row the values of some columns as one text; of columns that the table lacks, nothing."""
    words = [_words(table[c]) if c in table else [""] * len(table) for c in columns]
    texts = map("|".join, zip(*words, strict=True)) if words else [""] * len(table)
    return pd.Series(list(texts), index=table.index, dtype=object)


def _words(column: pd.Series) -> list[str]:
    which, values = pd.factorize(column, use_na_sentinel=False)
    words = [_plain(value) for value in values]
    return [words[i] for i in which]


def stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables one below the other; an empty one adds no rows and no doubt about what its columns hold."""
    full = [table for table in tables if len(table)]
    return pd.concat(full, ignore_index=True) if full else next((t for t in tables if t.shape[1]), tables[0])


def _conflicts(family: Family, ours: Mapping[str, pd.DataFrame], theirs: Mapping[str, pd.DataFrame]) -> list[str]:
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


def _plain(value: Any) -> str:
    # 720 and 720.0 are one value
    return "" if pd.isna(value) else f"{value:g}" if isinstance(value, int | float | np.number) else str(value)
