"""Tidy tables of many runs: from run folders, on disk."""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from depthsearch.hardware import in_words
from depthsearch.reporting.joining import join, newest, with_cohorts
from depthsearch.running.folders import read_run, run_folders
from depthsearch.running.study import fingerprint

TABLES = ("runs", "depths", "reliability", "curves", "diverged")


def collect(results: Path) -> dict[str, pd.DataFrame]:
    """The finished runs under `results/runs` as tidy tables, keyed by `TABLES`.

    - `runs`: one row a run: its configuration, chosen depths, the metric sets of each variant under
      `<variant>_<split>_<metric>`, parameters, epochs, seconds, hardware; `DDN_predict_seconds` of an LDN run is that
      of a deterministic network of the same depth.
    - `depths`: one row a run and depth: q, prior, exact posterior, metric sets per depth.
    - `reliability`: one row a run, variant and confidence bin.
    - `curves`: one row a run and logged epoch.
    - `diverged`: one row a run whose loss became infinite or no number, with its `epoch`; it is in no other table.

    Columns that all share: `scan`, the values of the configuration, `configuration`, its hash, `cohort`, the hash of
    what the settings of a scan share, `started` and `seed`. A run that cannot be read is left out, and said so.
    """
    tables: dict[str, list[dict]] = {name: [] for name in TABLES}
    for config, summary in read_runs(results, comparison=False):
        key = key_of(config)
        if summary.get("diverged_epoch") is not None:
            tables["diverged"].append(key | {"epoch": summary["diverged_epoch"]})
            continue
        tables["runs"].append(key | _row(config, summary))
        tables["depths"] += [key | depth for depth in summary["depths"]]
        for variant, bins in summary["reliability"].items():
            for i, (count, confidence, accuracy) in enumerate(zip(*bins.values(), strict=True)):
                if count:
                    values = {"bin": i, "count": count, "confidence": confidence, "accuracy": accuracy}
                    tables["reliability"].append(key | {"variant": variant} | values)
        tables["curves"] += [key | point for point in thin(summary["history"])]
    return {name: _table(rows) for name, rows in tables.items()}


def read_runs(results: Path, comparison: bool) -> list[tuple[dict, dict]]:
    """Configuration and summary of every finished run: of the comparison of strategies, or of all other scans."""
    found = []
    for folder in run_folders(results):
        run = read_run(folder)
        if run is None:
            print(f"{folder} is damaged: left out", file=sys.stderr)
        elif run[0]["configuration"].get("study", "").startswith("choice") == comparison:
            found.append(run)
    return found


def key_of(config: Mapping) -> dict:
    """The columns that all tables of a run share."""
    asked = config["configuration"]
    values = {k: v for k, v in asked.items() if not isinstance(v, Mapping) and k != "study"}
    shared = {k: v for k, v in asked.items() if k not in ("kind", config["swept"])}
    training = {"precision": asked["training"]["precision"], "epochs_limit": asked["training"]["epochs"]}
    which = {"configuration": config["hash"], "cohort": fingerprint(shared), "started": config["started"]}
    return {"scan": config["scan"], **values, **training, **which, "seed": config["seed"]}


def _row(config: Mapping, summary: Mapping) -> dict:
    row = {k: summary[k] for k in ("pruned_depth", "expected_depth", "kl_to_exact", "parameters")}
    row |= {k: summary[k] for k in ("pruned_parameters", "best_epoch", "epochs")}
    selected = next((point for point in summary["history"] if point["epoch"] == summary["best_epoch"]), {})
    row |= {k: v for k, v in selected.items() if k.startswith("valid_")}
    row |= summary["seconds"] | {"device": in_words(config["device"]), "replicates": config["replicates"]}
    for variant, values in summary["variants"].items():
        row |= {f"{variant}_{k}": v for k, v in values.items()}
    return row


def _table(rows: list[dict]) -> pd.DataFrame:
    # Where there are none, with the columns that all tables share: an empty file cannot be read back.
    shared = ["scan", "data_set", "kind", "max_depth", "configuration", "cohort", "started", "seed", "epochs_limit"]
    return pd.DataFrame(rows, columns=None if rows else shared)


def thin(history: list[dict], most: int = 40) -> list[dict]:
    """Every so many of the evaluations of a run, that at most so many are left."""
    return history[:: math.ceil(len(history) / most)] if history else []


def all_tables(results: Path) -> dict[str, pd.DataFrame]:
    """Every run that a results folder knows of: those in `runs`, and the rows of `tables` whose runs are elsewhere.

    Raises:
        FileNotFoundError: there are neither runs nor tables.
    """
    collected, stored = collect(results), stored_tables(results, TABLES)
    if stored is None and collected["runs"].empty and collected["diverged"].empty:
        raise FileNotFoundError(f"no finished runs in {results / 'runs'} and no tables in {results / 'tables'}")
    return collected if stored is None else join(collected, stored)[0]


def read_tables(results: Path) -> dict[str, pd.DataFrame]:
    """Of `all_tables` what is to be shown: of each scan and data set the `newest` complete cohort.

    Raises:
        FileNotFoundError: there are neither runs nor tables.
    """
    return newest(all_tables(results))[0]


# On disk.


def write_tables(results: Path, tables: Mapping[str, pd.DataFrame]) -> list[Path]:
    """Writes `results/tables/<name>.csv`; returns the paths."""
    (results / "tables").mkdir(parents=True, exist_ok=True)
    paths = {results / "tables" / f"{name}.csv": table for name, table in tables.items()}
    for path, table in paths.items():
        table.to_csv(path, index=False, float_format="%.6g")
    return list(paths)


def stored_tables(results: Path, names: Sequence[str]) -> dict[str, pd.DataFrame] | None:
    """The tables of `results/tables`; None unless all of them are there. Those of earlier versions get a cohort."""
    paths = {name: results / "tables" / f"{name}.csv" for name in names}
    if not all(path.exists() for path in paths.values()):
        return None
    # An empty table is an empty line on disk.
    kinds = {"configuration": str, "cohort": str, "started": str}
    read = {
        name: pd.read_csv(path, dtype=kinds) if path.stat().st_size > 1 else pd.DataFrame()  # type: ignore[arg-type]
        for name, path in paths.items()
    }
    return {name: with_cohorts(table) for name, table in read.items()}
