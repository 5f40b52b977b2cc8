"""Runs and tables on disk: which runs a results folder has, what its tables know besides, and how they are written."""

import math
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd

from depthsearch.reporting.tables.joining import in_order_of, join
from depthsearch.reporting.tables.rate_scans import DEPTH_RATES
from depthsearch.reporting.tables.schema import FAMILIES, Tables, as_text, empty
from depthsearch.running.folders import read_config, read_run, run_folders
from depthsearch.running.study import fingerprint

# how a study begins -> what `read_runs` calls it
KINDS = {
    "choice": "choices",
    "cells": "cells",
    "recurrent cells": "cells",
    "chain": "chains",
    "genotype": "genotypes",
    "recurrent genotype": "genotypes",
    "predictor": "predictors",
    "variation": "variations",
}


def read_runs(results: Path, of: str) -> list[tuple[dict, dict]]:
    """`config.json` and summary of every finished run.

    Args:
        of: "choices" for the comparison of strategies, "rates" for the runs that chose its learning rates, "cells" for
            searches of cells, "chains" for the depth of chains of these, "genotypes" for their training, "predictors"
            for the neural predictor, "variations" for those of a learnt depth, "depth" for all others.
    """
    found = []
    for folder in run_folders(results):
        config = read_config(folder)
        if config is not None and of != _kind_of(config):
            continue  # a summary is read once, not by each kind of table
        run = read_run(folder)
        if run is None:
            print(f"{folder} is damaged: left out", file=sys.stderr)
        else:
            found.append(run)
    return found


def _kind_of(config: Mapping) -> str:
    study = config["configuration"].get("study", "")
    kind = next((name for start, name in KINDS.items() if study.startswith(start)), "depth")
    return "rates" if config.get("scan") == DEPTH_RATES else kind


def cohort_of(config: Mapping, *varied: str, of_training: Collection[str] = ()) -> str:
    """The hash of a configuration without what varies among the runs of a scan, of its training too."""
    asked = config["configuration"]
    shared = {"training": {k: v for k, v in asked["training"].items() if k not in of_training}} if of_training else {}
    return fingerprint({k: v for k, v in (asked | shared).items() if k not in varied})


def thin(history: list[dict], most: int = 40) -> list[dict]:
    """Every so many of the evaluations of a run, and its last, that at most so many are left."""
    every = math.ceil(max(len(history) - 1, 1) / (most - 1))
    return history[:-1:every] + history[-1:]


def known_runs(results: Path, collect: Callable[[Path], Tables]) -> Tables:
    """What one `collect`s, with what `results/tables` knows besides; a run that is at hand is taken as it is."""
    collected = collect(results)
    stored = stored_tables(results, tuple(collected))
    return in_order_of(stored, join(collected, stored)[0])


def nonempty(tables: Tables, results: Path) -> Tables:
    """The tables, of which one has rows.

    Raises:
        FileNotFoundError: none has.
    """
    if all(table.empty for table in tables.values()):
        raise FileNotFoundError(f"no finished runs in {results / 'runs'} and no tables in {results / 'tables'}")
    return tables


def stored_tables(results: Path, names: Sequence[str]) -> Tables:
    """These tables of `results/tables`; where one is missing, an empty one."""
    return {name: _read(results / "tables" / f"{name}.csv", name) for name in names}


def _read(path: Path, name: str) -> pd.DataFrame:
    if not path.exists():
        return empty(name)
    kinds = {"configuration": str, "cohort": str, "started": str, "split": str, "protocol": str}
    try:  # one kind a column, not a piece
        table = pd.read_csv(path, dtype=kinds, low_memory=False)  # type: ignore[arg-type]
    except pd.errors.EmptyDataError:  # so an earlier version wrote an empty table
        return empty(name)
    if table.empty:
        return empty(name)
    return _from_earlier(table.fillna({"started": ""}) if "started" in table else table, name)


def _from_earlier(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """A table of a version without hashes: `configuration` is a number there, and of one with none it is 1."""
    if "configuration" not in table:
        table = table.assign(configuration="1")
    if "cohort" in table or name not in ("runs", "diverged", "strategies", "strategies_pool"):
        return table
    making = as_text(table, ("protocol", "precision", "epochs_limit", "configuration")).map(
        lambda t: fingerprint({"": t})
    )
    return table.assign(cohort=making, started="")


def write_tables(results: Path, tables: Tables) -> list[Path]:
    """Writes `results/tables/<name>.csv` of each family that has runs, zero without a sign; returns the paths."""
    (results / "tables").mkdir(parents=True, exist_ok=True)
    known = [[name for name in family.tables if name in tables] for family in FAMILIES]
    names = [name for own in known if any(len(tables[other]) for other in own) for name in own]
    paths = {name: results / "tables" / f"{name}.csv" for name in names}
    parts = {name: path.with_suffix(".part") for name, path in paths.items()}
    # A table may be all that is left of runs: it is there whole, or as it was; and with it those of the same runs, or
    # `--add` would take those for known of which one table tells. So all are written before any is replaced.
    try:
        for name, part in parts.items():
            # Numbers beside nothing, of several kinds of runs, as numbers: so they are written as they are read back.
            table = tables[name].infer_objects()
            table[table.select_dtypes("float").columns] += 0.0  # -0.0 + 0.0 is 0.0
            with part.open("w", newline="", encoding="utf-8") as file:
                table.to_csv(file, index=False, float_format="%.6g")
                file.flush()
                os.fsync(file.fileno())
    except OSError:
        for part in parts.values():
            part.unlink(missing_ok=True)
        raise
    for name, part in parts.items():
        part.replace(paths[name])
    return list(paths.values())
