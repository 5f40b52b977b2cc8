"""Tables of several machines and several configurations: joined, and what of them is shown."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

# What tells one run from another, as far as a table has it: the configuration's hash, and for tables of earlier
# versions, which have none, all that it could vary.
IDENTITY = (
    *("scan", "data_set", "kind", "strategy", "max_depth", "width", "n", "stop_angle", "noise", "points"),
    *("protocol", "precision", "epochs_limit", "configuration", "seed"),
)
# What two runs of one seed need not share: time, machine, and who trained beside it.
LOOSE = ("seconds", "device", "replicates", "started", "cohort", "step_bytes")
# Ways of training images that pages show side by side
SIDE_BY_SIDE = ("protocol", "precision")

Tables = dict[str, pd.DataFrame]


def with_cohorts(table: pd.DataFrame) -> pd.DataFrame:
    """A table of an earlier version with the columns that it lacks: such rows are older than any others."""
    if table.empty or "cohort" in table:
        return table
    known = [c for c in ("protocol", "precision", "epochs_limit", "configuration") if c in table]
    cohort = [" ".join(map(_plain, row)).strip() for row in table[known].to_numpy(dtype=object)]
    configuration = table["configuration"].astype(str) if "configuration" in table else "1"
    return table.assign(configuration=configuration, cohort=cohort, started="")


def join(ours: Mapping[str, pd.DataFrame], theirs: Mapping[str, pd.DataFrame]) -> tuple[Tables, list[str]]:
    """Their runs beside ours, each run once; where both have one, ours stays.

    Returns:
        the tables, and a line for each run that both have with other numbers.
    """
    tables, conflicts = {}, []
    for name, table in ours.items():
        other = theirs.get(name, pd.DataFrame())
        if table.empty or other.empty:
            tables[name] = other if table.empty else table
            continue
        mine, yours = _identities(table, other)
        new = other[~yours.isin(set(mine)).to_numpy()]
        tables[name] = pd.concat([table, new], ignore_index=True) if len(new) else table
        if mine.is_unique and yours.is_unique:
            conflicts += _conflicts(name, table.set_axis(mine, axis=0), other.set_axis(yours, axis=0))
    return tables, conflicts


def _identities(*tables: pd.DataFrame) -> list[pd.Series]:
    columns = [c for c in IDENTITY if any(c in table for table in tables)]
    rows = [table.reindex(columns=columns).to_numpy(dtype=object) for table in tables]
    return [pd.Series(["|".join(map(_plain, row)) for row in part], dtype=str) for part in rows]


def _plain(value: Any) -> str:
    # 720 and 720.0 are one value
    return "" if pd.isna(value) else f"{value:g}" if isinstance(value, int | float | np.number) else str(value)


def _conflicts(name: str, ours: pd.DataFrame, theirs: pd.DataFrame) -> list[str]:
    both = ours.index.intersection(theirs.index)
    columns = [c for c in ours if c in theirs and not any(word in str(c) for word in LOOSE)]
    numbers = [c for c in columns if pd.api.types.is_numeric_dtype(ours[c])]
    a, b = (table.loc[both, numbers].to_numpy(dtype=float) for table in (ours, theirs))
    differ = ~np.isclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True)
    return [
        f"{name}: {key.replace('|', ' ')} has another {numbers[int(row.argmax())]} elsewhere; ours is kept"
        for key, row in zip(both, differ, strict=True)
        if row.any()
    ]


def newest(tables: Mapping[str, pd.DataFrame]) -> tuple[Tables, list[str]]:
    """What is shown where a scan was run in several configurations.

    Of each scan, data set and way of training images it is the cohort with the highest limit on epochs, of those the
    one with most runs, of those the newest. So a scan that was begun anew with another learning rate is shown as soon
    as it is complete, and a --quick one never hides a long one.

    Returns:
        the tables, and a line for each cohort that is not shown.
    """
    runs = tables.get("runs", pd.DataFrame())
    if runs.empty:
        return dict(tables), []
    groups = ["scan", "data_set", *(c for c in SIDE_BY_SIDE if c in runs)]
    images = "protocol" in runs
    facts = runs.assign(n=1).fillna({c: "" for c in groups if c != "scan"})
    if images:  # pages show short and long ones side by side
        limit = np.where(facts["protocol"] != "", facts["epochs_limit"].astype(str), "")
        facts, groups = facts.assign(limit=limit), [*groups, "limit"]
    sums = facts.groupby([*groups, "cohort"], as_index=False).agg(
        epochs=("epochs_limit", "max"), n=("n", "sum"), started=("started", "max")
    )
    ordered = sums.sort_values(["epochs", "n", "started"])
    shown = ordered.groupby(groups, as_index=False).tail(1)
    others = ordered.drop(shown.index)
    lines = [
        f"{row['scan']}, {row['data_set']}: {row['n']} runs of another configuration (cohort {row['cohort']}, "
        f"{row['epochs']} epochs) are not shown"
        for row in others.to_dict("records")
    ]
    keep = set(zip(shown["scan"], shown["data_set"], shown["cohort"], strict=True))
    return {name: _of(table, keep) for name, table in tables.items()}, lines


def _of(table: pd.DataFrame, keep: set[tuple]) -> pd.DataFrame:
    if table.empty:
        return table
    which = zip(table["scan"], table["data_set"], table["cohort"], strict=True)
    known = {(scan, data_set) for scan, data_set, _ in keep}
    return table[[row in keep or row[:2] not in known for row in which]]


def told(lines: Sequence[str]) -> str:
    """Lines as a list in Markdown, or nothing."""
    return "".join(f"- {line}\n" for line in lines)
