"""What was run, and what it took."""

import pandas as pd

from depthsearch.reporting.parts import of_scan
from depthsearch.reporting.tables.schema import Tables
from depthsearch.reporting.words import listed, span


def costs(tables: Tables) -> pd.DataFrame:
    """What each scan is made of and what it took."""
    rows = []
    for scan in sorted({*tables["runs"]["scan"], *tables["diverged"]["scan"]}):
        runs, diverged = (of_scan(tables[name], scan) for name in ("runs", "diverged"))
        if runs.empty:
            rows.append({"scan": scan, "diverged": diverged_runs(diverged)})
            continue
        keys = ("data_set", "protocol", "precision", "max_depth", "width", "n", "stop_angle", "epochs_limit")
        settings = runs.groupby([key for key in keys if key in runs], dropna=False)["seed"].nunique()
        rows.append(
            {
                "scan": scan,
                "settings": len(settings),
                "repeats": span(settings),
                "epochs: mean, limit, runs that reached it": f"{runs['epochs'].mean():.0f}, "
                f"{span(runs['epochs_limit'])}, {100 * (runs['epochs'] == runs['epochs_limit']).mean():.0f} %",
                "swept": _swept(runs),
                "diverged": diverged_runs(diverged),
                "minutes of training": f"{runs['training_seconds'].sum() / 60:.1f}",
                "hardware": ", ".join(runs["device"].unique()),
            }
        )
    return pd.DataFrame(rows).fillna("")


def diverged_runs(runs: pd.DataFrame) -> str:
    """Which runs diverged and when, `none` of none."""
    rows = runs.to_dict("records")
    return "; ".join(f"D = {r['max_depth']}, repeat {r['seed']} at epoch {r['epoch']}" for r in rows) or "none"


def _swept(runs: pd.DataFrame) -> str:
    for column in ("max_depth", "width", "n", "stop_angle"):
        values = sorted(runs[column].dropna().unique()) if column in runs else []
        if len(values) > 1:
            return f"{column} = {listed(values)}"
    return ""
