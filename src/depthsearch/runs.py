"""Run folders: reserve one, finish it whole or not at all, read many back as tidy tables.

`<results>/runs/<scan>/<data set>/<setting>/version_<r>/` with r = the repeat = the seed. A run is finished when its
`summary.json` exists; that file is written last, under a temporary name first. Who works on a run has the lease of its
folder. Until the end `checkpoint.pt` holds what it takes to go on; whoever has the lease next does.

Runs with the name of a setting but another configuration than the one asked for (as `config.json` tells) are of
another setting: the one asked for goes into `<setting>~2`, and so on.
"""

import contextlib
import io
import itertools
import json
import math
import os
import pickle
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from depthsearch.leases import Lease, LeaseLost, is_claim, take

TABLES = ("runs", "depths", "reliability", "curves", "diverged")
CHECKPOINT, SUMMARY, CONFIG, ASIDE = "checkpoint.pt", "summary.json", "config.json", "set_aside_"


@dataclass
class Reservation:
    """A run folder that belongs to this process until `finish` or `release`."""

    folder: Path
    lease: Lease

    def save(self, checkpoint: dict) -> None:
        """Writes a checkpoint of tensors and plain values, whole or not at all.

        Raises:
            LeaseLost: the run belongs to another process by now.
        """
        self.lease.check()
        _write(self.folder / CHECKPOINT, _as_bytes(checkpoint))

    def saved(self) -> dict | None:
        """The last checkpoint, if there is one. Nothing in it is unpickled; a damaged one is set aside."""
        path = self.folder / CHECKPOINT
        if not path.exists():
            return None
        content = read_checkpoint(path)
        if content is None:
            self.set_aside("is damaged")
        return content

    def set_aside(self, why: str) -> None:
        """Renames a checkpoint that is of no use, and says so."""
        _set_aside(self.folder / CHECKPOINT, why)

    def finish(self, config: dict, summary: dict, history: list[dict], state: dict[str, nn.Module], tags: dict) -> None:
        """Writes everything, `summary.json` last, and gives the folder up.

        Raises:
            LeaseLost: the run belongs to another process by now.
        """
        self.lease.check()
        write_json(self.folder / CONFIG, config)
        _log(self.folder, history, tags)
        _write(self.folder / "weights.pt", _as_bytes({name: module.state_dict() for name, module in state.items()}))
        write_json(self.folder / SUMMARY, summary)
        (self.folder / CHECKPOINT).unlink(missing_ok=True)
        self.lease.release()

    def release(self) -> None:
        """Gives the folder up; an unfinished one is removed unless there is something to go on from."""
        if not self.lease.held:
            return
        with contextlib.suppress(LeaseLost):
            self.lease.check()
            if not (self.folder / SUMMARY).exists():
                _clear(self.folder, CHECKPOINT)
        self.lease.release()
        with contextlib.suppress(OSError):
            self.folder.rmdir()  # if it is empty


def reserve(folder: Path) -> Reservation | None:
    """Makes a run folder ours; None if the run is finished or another process works on it.

    A folder that a process left unfinished is taken over; all but its checkpoint is removed.

    Raises:
        OSError: the folder cannot be written.
    """
    if (folder / SUMMARY).exists() or (lease := take(folder)) is None:
        return None
    if (folder / SUMMARY).exists():  # its owner finished it just now
        lease.release()
        return None
    _clear(folder, CHECKPOINT)
    return Reservation(folder, lease)


def _clear(folder: Path, *kept: str) -> None:
    for entry in folder.iterdir():
        if not (entry.name in kept or entry.name.startswith(ASIDE) or is_claim(entry)):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def read_checkpoint(path: Path) -> dict | None:
    """A checkpoint, None if it is damaged or would run code."""
    try:
        content = torch.load(path, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError):
        return None
    return content if isinstance(content, dict) else None


def finished(folder: Path) -> bool:
    """Whether a run is finished. A summary that cannot be read is set aside, and the run is not.

    A checkpoint that a kill at the last moment left beside the summary is removed.
    """
    if not (folder / SUMMARY).exists():
        return False
    if read_run(folder) is None:
        _set_aside(folder / SUMMARY, "or its config.json is damaged")
        return False
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return True


def read_run(folder: Path) -> tuple[dict, dict] | None:
    """Configuration and summary of a finished run; None where one of them is damaged."""
    try:
        config, summary = (json.loads((folder / name).read_text()) for name in (CONFIG, SUMMARY))
    except (OSError, ValueError):
        return None
    whole = isinstance(config, dict) and isinstance(summary, dict) and "setting" in config and "epochs" in summary
    return (config, summary) if whole else None


def setting_folder(folder: Path, asked: Mapping, defaults: Mapping) -> Path:
    """The folder of a setting's runs: `folder`, or `<folder>~2`, ... where runs made otherwise have that name.

    Args:
        asked: the configuration, of plain values.
        defaults: of the same keys, for runs from the time before there was such a key.
    """
    for n in itertools.count(1):
        candidate = folder if n == 1 else folder.with_name(f"{folder.name}~{n}")
        made = (read_run(path.parent) for path in candidate.glob(f"version_*/{SUMMARY}"))
        if all(run is None or _agree(run[0], asked, defaults) for run in made):
            return candidate
    raise AssertionError


def _agree(config: Mapping, asked: Mapping, defaults: Mapping) -> bool:
    return all(
        _agree(config.get(key, {}), value, defaults[key])
        if isinstance(value, Mapping)
        else config.get(key, defaults[key]) == value
        for key, value in asked.items()
    )


def _set_aside(path: Path, why: str) -> None:
    aside = path.with_name(f"{ASIDE}{time.time_ns()}{path.suffix}")
    with contextlib.suppress(FileNotFoundError):  # another process was faster
        path.rename(aside)
        print(f"{path} {why}: kept as {aside.name}, the run starts anew", file=sys.stderr)


def write_json(path: Path, content: dict) -> None:
    """Writes JSON whole or not at all; keys keep their order, NaN is an error."""
    _write(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def _as_bytes(content: dict) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    # Whole or not at all, and on the disk when this returns: a name may otherwise be there after a power cut without
    # what it names.
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _log(folder: Path, history: list[dict], tags: dict) -> None:
    """metrics.csv, meta_tags.csv and TensorBoard events through test-tube, which gets its version from us."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # test-tube 0.7.5 uses calls that Python 3.12 deprecates
        from test_tube import Experiment

        setting = folder.parent
        experiment = Experiment(
            save_dir=str(setting.parent), name=setting.name, version=int(folder.name.removeprefix("version_"))
        )
        experiment.tag(tags)
        for row in history:
            experiment.log(dict(row), global_step=row["epoch"])
        experiment.save()
        experiment.close()


def run_folders(results: Path) -> Iterator[Path]:
    """The folders of all finished runs, in order, but those of the comparison of strategies (`comparison.py`)."""
    paths = sorted((results / "runs").glob(f"*/*/*/version_*/{SUMMARY}"))
    return (path.parent for path in paths if path.parents[3].name != "scan_strategies")


def collect(results: Path) -> dict[str, pd.DataFrame]:
    """All finished runs of a results folder as tidy tables, keyed by `TABLES`.

    - `runs`: one row a run: its configuration, chosen depths, the metric sets of each variant under
      `<variant>_<split>_<metric>`, parameters, epochs, seconds, hardware.
    - `depths`: one row a run and depth: q, prior, exact posterior, metric sets per depth.
    - `reliability`: one row a run, variant and confidence bin.
    - `curves`: one row a run and logged epoch.
    - `diverged`: one row a run whose loss became infinite or no number, with its `epoch`; it is in no other table.

    A run that cannot be read is left out, and said so. `configuration` is the n of a `<setting>~n`.
    """
    tables: dict[str, list[dict]] = {name: [] for name in TABLES}
    for folder in run_folders(results):
        run = read_run(folder)
        if run is None:
            print(f"{folder} is damaged: left out", file=sys.stderr)
            continue
        config, summary = run
        key = {"scan": config["scan"], "data_set": folder.parents[1].name, **config["setting"]}
        key |= {"precision": config.get("precision", "float32")}
        key |= {"configuration": int(folder.parent.name.partition("~")[2] or 1)}
        key |= {"seed": config["seed"], "epochs_limit": config["epochs"]}
        if summary.get("diverged_epoch") is not None:
            tables["diverged"].append(key | {"epoch": summary["diverged_epoch"]})
            continue
        row = dict(key)
        row |= {k: summary[k] for k in ("pruned_depth", "expected_depth", "kl_to_exact", "parameters")}
        row |= {k: summary[k] for k in ("pruned_parameters", "best_epoch", "epochs")}
        selected = next((point for point in summary["history"] if point["epoch"] == summary["best_epoch"]), {})
        row |= {k: v for k, v in selected.items() if k.startswith("valid_")}
        row |= summary["seconds"] | {"device": _hardware(config["device"]), "replicates": config["replicates"]}
        for variant, values in summary["variants"].items():
            row |= {f"{variant}_{k}": v for k, v in values.items()}
        tables["runs"].append(row)
        tables["depths"] += [key | depth for depth in summary["depths"]]
        for variant, bins in summary["reliability"].items():
            for i, (count, confidence, accuracy) in enumerate(zip(*bins.values(), strict=True)):
                if count:
                    values = {"bin": i, "count": count, "confidence": confidence, "accuracy": accuracy}
                    tables["reliability"].append(key | {"variant": variant} | values)
        tables["curves"] += [key | point for point in _thin(summary["history"])]
    empty = ["scan", "data_set", "seed", "epochs_limit", "epoch"]
    return {name: pd.DataFrame(rows) if rows else pd.DataFrame(columns=empty) for name, rows in tables.items()}


def _hardware(device: dict) -> str:
    threads = device["threads"]
    return device["name"] if threads is None else f"{device['name']}, {threads} thread{'s' if threads > 1 else ''}"


def _thin(history: list[dict], most: int = 40) -> list[dict]:
    return history[:: math.ceil(len(history) / most)] if history else []


def read_tables(results: Path) -> dict[str, pd.DataFrame]:
    """Tables of the finished runs under `results`; those in `results/tables` if there are no runs.

    Of runs that share a name, those of the first configuration: the rows of `<setting>~2`, ... are in the files alone.

    Raises:
        FileNotFoundError: there is neither.
    """
    if next(run_folders(results), None) is not None:
        tables = collect(results)
    else:
        paths = {name: results / "tables" / f"{name}.csv" for name in TABLES}
        if not all(path.exists() for path in paths.values()):
            raise FileNotFoundError(f"no finished runs in {results / 'runs'} and no tables in {results / 'tables'}")
        tables = {name: pd.read_csv(path) for name, path in paths.items()}
    return {name: _longest(_first_configuration(name, table)) for name, table in tables.items()}


def _first_configuration(name: str, table: pd.DataFrame) -> pd.DataFrame:
    if table.empty or "configuration" not in table:
        return table
    first = table["configuration"] == 1
    if name == "runs" and not first.all():
        print(f"{(~first).sum()} runs of another configuration (folders ~2, ...) are left out", file=sys.stderr)
    return table[first]


def _longest(table: pd.DataFrame) -> pd.DataFrame:
    """Where a spiral scan was run with several limits on epochs (--quick), the rows of the longest: they never mix."""
    if table.empty:
        return table
    longest = table["epochs_limit"] == table.groupby("scan")["epochs_limit"].transform("max")
    return table[longest | table["scan"].str.endswith("_images")]


# Parts of tables.


def of_scan(table: pd.DataFrame, scan: str) -> pd.DataFrame:
    """The rows of one scan."""
    return table if table.empty else table[table["scan"] == scan]


def ldn_and_ddn(table: pd.DataFrame, family: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the depth scans on "spirals" or "images"."""
    return of_scan(table, f"scan_max_depth_{family}"), of_scan(table, f"scan_deterministic_depth_{family}")


def cohorts(tables: Mapping[str, pd.DataFrame]) -> dict[str, dict[str, pd.DataFrame]]:
    """The image runs by protocol, precision and limit on epochs, which never mix; fair and long ones first.

    Returns:
        by a name such as `fair_bfloat16_500epochs`, the tables of those runs alone.
    """
    keys = ["protocol", "precision", "epochs_limit"]
    if "protocol" not in tables["runs"]:
        return {}
    ways = tables["runs"][keys].dropna().drop_duplicates().sort_values(keys, ascending=[True, True, False])
    parts = {}
    for way in ways.to_dict("records"):
        name = f"{way['protocol']}_{way['precision']}_{way['epochs_limit']}epochs"
        parts[name] = {
            key: table[(table[keys] == pd.Series(way)).all(axis=1)]
            for key, table in tables.items()
            if "protocol" in table
        }
    return parts


def of_data_sets(runs: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Of each image data set with LDN runs: its name, its LDN and its DDN rows."""
    ldn, ddn = ldn_and_ddn(runs, "images")
    for name in ldn["data_set"].unique():
        yield name, ldn[ldn["data_set"] == name], ddn[ddn["data_set"] == name]


def reference_depth(*tables: pd.DataFrame) -> int | None:
    """Of the depths that all tables have, the one of the paper's image figures, 50, or else the deepest."""
    shared = set.intersection(*(set(table["max_depth"]) for table in tables))
    return 50 if 50 in shared else max(map(int, shared), default=None)


def write_tables(results: Path) -> list[Path]:
    """Writes `results/tables/*.csv` from the finished runs; returns the paths."""
    (results / "tables").mkdir(parents=True, exist_ok=True)
    paths = []
    for name, table in collect(results).items():
        path = results / "tables" / f"{name}.csv"
        table.to_csv(path, index=False, float_format="%.6g")
        paths.append(path)
    return paths


def load_weights(folder: Path, network: nn.Module, depth: nn.Module) -> None:
    """Loads the saved state of a run into a network and posterior of its architecture; nothing is unpickled."""
    state = torch.load(folder / "weights.pt", weights_only=True)
    network.load_state_dict(state["network"])
    depth.load_state_dict(state["depth"])


def as_plain(value: Any) -> Any:
    """JSON-ready copy: numpy and torch scalars to Python, non-finite floats to None."""
    if isinstance(value, dict):
        return {k: as_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(v) for v in value]
    if isinstance(value, np.generic | torch.Tensor):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
