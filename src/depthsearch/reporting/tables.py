"""Tidy tables of many runs: from run folders, and on disk."""

import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pandas as pd

from depthsearch.hardware import in_words
from depthsearch.reporting.joining import in_order_of, join
from depthsearch.reporting.parts import FAIR
from depthsearch.reporting.schema import FAMILIES, RUNS, Tables, as_text, empty, frames
from depthsearch.reporting.shown import shown
from depthsearch.reporting.tuning import DEPTH_SCAN
from depthsearch.running.folders import read_config, read_run, run_folders
from depthsearch.running.study import fingerprint
from depthsearch.studies.spirals import Spirals

# how a study begins -> what `read_runs` calls it
OF = {
    "choice": "choices",
    "cells": "cells",
    "recurrent cells": "cells",
    "chain": "chains",
    "genotype": "genotypes",
    "recurrent genotype": "genotypes",
    "predictor": "predictors",
    "variation": "variations",
}


def collect(results: Path) -> Tables:
    """The finished runs under `results/runs` as the tables of the family `RUNS`; those of the comparison are elsewhere.

    - `runs`: one row a run: its configuration, chosen depths, the metric sets of each variant under
      `<variant>_<split>_<metric>`, parameters, epochs, `largest_rise` of the validation error, seconds, hardware;
      `DDN_predict_seconds` of an LDN run is that of a deterministic network of the same depth.
    - `depths`: one row a run and depth: q, prior, exact posterior, metric sets per depth.
    - `reliability`: one row a run, variant and confidence bin.
    - `curves`: one row a run and logged epoch.
    - `diverged`: one row a run whose loss became infinite or no number, with its `epoch`; it is in no other table.

    All have the values of the configuration and its hash, `configuration`; the two of one row a run also `cohort`, the
    hash of what the settings of a scan share, and when the run `started`. A run that cannot be read is left out, and
    said so.
    """
    tables: dict[str, list[dict]] = {name: [] for name in RUNS.tables}
    for config, summary in read_runs(results, "depth"):
        key = _key(config)
        making = {"cohort": cohort_of(config, config["swept"]), "started": config["started"]}
        if summary.get("diverged_epoch") is not None:
            tables["diverged"].append(key | making | {"epoch": summary["diverged_epoch"]})
            continue
        tables["runs"].append(key | making | _row(config, summary))
        tables["depths"] += [key | depth for depth in summary["depths"]]
        for variant, bins in summary["reliability"].items():
            for i, (count, confidence, accuracy) in enumerate(zip(*bins.values(), strict=True)):
                if count:
                    values = {"bin": i, "count": count, "confidence": confidence, "accuracy": accuracy}
                    tables["reliability"].append(key | {"variant": variant} | values)
        tables["curves"] += [key | point for point in thin(summary["history"])]
    return frames(tables)


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
    return "rates" if config.get("scan") == DEPTH_SCAN else _table_of(config["configuration"].get("study", ""))


def _table_of(study: str) -> str:
    return next((name for start, name in OF.items() if study.startswith(start)), "depth")


def cohort_of(config: Mapping, *varied: str, of_training: Collection[str] = ()) -> str:
    """The hash of a configuration without what varies among the runs of a scan, of its training too."""
    asked = config["configuration"]
    shared = {"training": {k: v for k, v in asked["training"].items() if k not in of_training}} if of_training else {}
    return fingerprint({k: v for k, v in (asked | shared).items() if k not in varied})


def _key(config: Mapping) -> dict:
    asked, training = config["configuration"], config["configuration"]["training"]
    values = {k: v for k, v in asked.items() if not isinstance(v, Mapping) and k != "study"}
    how = {"precision": training["precision"], "configuration": config["hash"], "seed": config["seed"]}
    # What is trained otherwise is another scan, for all that looks for its rows; of images a cohort (`parts.cohorts`).
    fair = asked["study"] == Spirals.name and asked.get("protocol") == "fair"
    scan = f"{config['scan']}{FAIR if fair else ''}"
    return {"scan": scan, **values, **how, "epochs_limit": training["epochs"]}


def _row(config: Mapping, summary: Mapping) -> dict:
    row = {k: summary[k] for k in ("pruned_depth", "expected_depth", "kl_to_exact", "parameters")}
    row |= {k: summary[k] for k in ("pruned_parameters", "best_epoch", "epochs")}
    selected = next((point for point in summary["history"] if point["epoch"] == summary["best_epoch"]), {})
    row |= {k: v for k, v in selected.items() if k.startswith("valid_")}
    row["largest_rise"] = largest_rise(summary["history"])
    row |= summary["seconds"] | {"device": in_words(config["device"]), "replicates": config["replicates"]}
    for variant, values in summary["variants"].items():
        row |= {f"{variant}_{k}": v for k, v in values.items()}
    return row


def largest_rise(history: Sequence[Mapping]) -> float:
    """How far the validation error rose, at most, from one epoch to the next; NaN of no such pair.

    Of the whole history: the curves in the tables are thinned.
    """
    rises = [
        after["valid_error"] - before["valid_error"]
        for before, after in pairwise(history)
        if "valid_error" in before and after["epoch"] == before["epoch"] + 1
    ]
    return max(rises, default=math.nan)


def thin(history: list[dict], most: int = 40) -> list[dict]:
    """Every so many of the evaluations of a run, that at most so many are left."""
    return history[:: math.ceil(len(history) / most)] if history else []


def all_tables(results: Path) -> Tables:
    """All such runs that a results folder knows of: those in `runs`, and in `tables` the rows of runs elsewhere."""
    found = known_runs(results, collect)
    return found | {name: overflowed_last(found[name]) for name in ("runs", "depths")}


def overflowed_last(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a log-likelihood of -inf where there is an error but no likelihood.

    That is of a network whose logits overflow on a test point. A summary has no infinite numbers, and one that is
    missing would be left out of a median where it should come last.
    """
    names = [str(name) for name in table]
    likelihoods = {name: name.replace("log_likelihood", "error") for name in names if name.endswith("log_likelihood")}
    for name, error in likelihoods.items():
        if error in names:
            overflowed = table[name].isna() & table[error].notna()
            table = table.assign(**{name: table[name].mask(overflowed, -math.inf)})
    return table


def read_tables(results: Path) -> Tables:
    """Of `all_tables` what is `shown`.

    Raises:
        FileNotFoundError: there are neither runs nor tables.
    """
    return shown(some(all_tables(results), results))[0]


def some(tables: Tables, results: Path) -> Tables:
    """The tables.

    Raises:
        FileNotFoundError: there is no row in them.
    """
    if all(table.empty for table in tables.values()):
        raise FileNotFoundError(f"no finished runs in {results / 'runs'} and no tables in {results / 'tables'}")
    return tables


# On disk.


def known_runs(results: Path, collect: Callable[[Path], Tables]) -> Tables:
    """What one `collect`s, with what `results/tables` knows besides; a run that is at hand is taken as it is."""
    collected = collect(results)
    stored = stored_tables(results, tuple(collected))
    return in_order_of(stored, join(collected, stored)[0])


def stored_tables(results: Path, names: Sequence[str]) -> Tables:
    """These tables of `results/tables`; where one is missing, an empty one."""
    return {name: _read(results / "tables" / f"{name}.csv", name) for name in names}


def _read(path: Path, name: str) -> pd.DataFrame:
    if not path.exists() or path.stat().st_size <= 1:  # of an earlier version an empty table is an empty line
        return empty(name)
    kinds = {"configuration": str, "cohort": str, "started": str, "split": str, "protocol": str}
    table = pd.read_csv(path, dtype=kinds, low_memory=False)  # type: ignore[arg-type] # one kind a column, not a piece
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


def write_tables(results: Path, tables: Mapping[str, pd.DataFrame]) -> list[Path]:
    """Writes `results/tables/<name>.csv` of each family that has runs, zero without a sign; returns the paths."""
    (results / "tables").mkdir(parents=True, exist_ok=True)
    known = [[name for name in family.tables if name in tables] for family in FAMILIES]
    names = [name for own in known if any(len(tables[other]) for other in own) for name in own]
    paths = {results / "tables" / f"{name}.csv": tables[name] for name in names}
    for path, table in paths.items():
        # Numbers beside nothing, of several kinds of runs, as numbers: so they are written as they will be read back.
        table = table.infer_objects()
        table[table.select_dtypes("float").columns] += 0.0  # -0.0 + 0.0 is 0.0
        part = path.with_suffix(".part")
        table.to_csv(part, index=False, float_format="%.6g")
        part.replace(path)  # a table may be all that is left of runs: it is there whole, or as it was
    return list(paths)
