"""What the pages say of how a learning rate was chosen: the rule, and a row a rate."""

from collections.abc import Mapping, Sequence

import pandas as pd

TUNED_BY = {"validation loss in the end": ("end_loss", 4), "entropy, end": ("entropy_end", 3)}


def rule_said(rule: tuple[str, str], started: pd.Series) -> str:
    """What a rule of tuning says, since when, and how many of the runs are older."""
    since, said = rule
    older = int((started < since).sum())
    return f"{said} The rule is of {since.replace('T', ', ')} UTC; {older} of {len(started)} runs are older."


def tuning_table(
    rows: pd.DataFrame,
    taken: Mapping[str, float],
    order: Sequence[str],
    columns: Mapping[str, tuple[str, int]] = TUNED_BY,
) -> pd.DataFrame:
    """A row a strategy and setting, in this order of strategies and all others after them.

    `columns`, by the name that a page has for them, are means of so many decimals.
    """
    table = []
    for kind in sorted(rows["kind"].unique(), key=lambda kind: order.index(kind) if kind in order else len(order)):
        runs = rows[rows["kind"] == kind]
        for setting, part in runs.groupby("setting"):
            row = {"method": kind, "setting": f"{setting:g}", "n": len(part)}
            for name, (column, decimals) in columns.items():
                row[name] = f"{part[column].mean():.{decimals}f}" if part[column].notna().all() else "-"
            edge = setting in (runs["setting"].min(), runs["setting"].max())
            mark = "taken, the edge of what was tried" if edge else "taken"
            table.append(row | {"": mark if setting == taken.get(kind) else ""})
    return pd.DataFrame(table)
