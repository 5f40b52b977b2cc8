"""Run folders: reserve one, finish it whole or not at all, read it back.

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
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from depthsearch.running.leases import Lease, LeaseLost, is_claim, remove_dead, take

COMPARISON = "scan_strategies"
CHECKPOINT, SUMMARY, CONFIG, ASIDE = "checkpoint.pt", "summary.json", "config.json", "set_aside_"


class Clash(Exception):
    """Two configurations were begun under the same name at the same moment; the next attempt sees both."""


@dataclass
class Reservation:
    """A run folder that belongs to this process until `finish` or `release`."""

    folder: Path
    lease: Lease

    def begin(self, config: dict) -> None:
        """Says what the run is of, for others who are asked for something else under the same name."""
        write_json(self.folder / CONFIG, config)

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
                _clear(self.folder)
        self.lease.release()
        with contextlib.suppress(OSError):
            self.folder.rmdir()  # if it is empty


def reserve(folder: Path) -> Reservation | None:
    """Makes a run folder ours; None if the run is finished or another process works on it.

    A folder that a process left unfinished is taken over; all but its checkpoint and configuration is removed.

    Raises:
        OSError: the folder cannot be written.
    """
    if (folder / SUMMARY).exists() or (lease := take(folder)) is None:
        return None
    if (folder / SUMMARY).exists():  # its owner finished it just now
        lease.release()
        return None
    try:
        _clear(folder)
    except BaseException:
        lease.release()
        raise
    return Reservation(folder, lease)


def _clear(folder: Path) -> None:
    # All but what an unfinished run goes on from.
    kept = (CHECKPOINT, CONFIG) if (folder / CHECKPOINT).exists() else ()
    for entry in folder.iterdir():
        if not (entry.name in kept or entry.name.startswith(ASIDE) or is_claim(entry)):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> dict | None:
    """A checkpoint, None if it is damaged or would run code."""
    read = io.BytesIO(path.read_bytes())  # a disk that cannot be read is another matter
    try:
        content = torch.load(read, weights_only=True)
    except Exception:  # torch raises whatever the damage leads to
        return None
    return content if isinstance(content, dict) else None


def finished(folder: Path, mend: bool = True) -> bool:
    """Whether a run is finished. A summary that cannot be read is set aside (if `mend`), and the run is not.

    What a kill at the last moment left beside the summary, a checkpoint or a claim, is removed.
    """
    if not (folder / SUMMARY).exists():
        return False
    whole = read_run(folder) is not None
    if mend and whole:
        (folder / CHECKPOINT).unlink(missing_ok=True)
        remove_dead(folder)
    elif mend:
        _set_aside(folder / SUMMARY, "or its config.json is damaged")
    return whole


def read_run(folder: Path) -> tuple[dict, dict] | None:
    """Configuration and summary of a finished run; None where one of them is damaged."""
    config, summary = _read_config(folder), _read_json(folder / SUMMARY)
    if config is None or summary is None:
        return None
    needed = {"epochs", "best_epoch", "history", "seconds"}
    if summary.get("diverged_epoch") is None:
        needed |= {"pruned_depth", "variants"}
    return (config, summary) if needed <= summary.keys() else None


def _read_config(folder: Path) -> dict | None:
    config = _read_json(folder / CONFIG)
    return config if config is not None and isinstance(config.get("setting"), dict) else None


def _read_json(path: Path) -> dict | None:
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def setting_folder(folder: Path, asked: Mapping, defaults: Mapping) -> Path:
    """The folder of a setting's runs: `folder`, or `<folder>~2`, ... where runs made otherwise have that name.

    Args:
        asked: the configuration, of plain values.
        defaults: of the same keys, for runs from the time before there was such a key.
    """
    for n in itertools.count(1):
        candidate = folder if n == 1 else folder.with_name(f"{folder.name}~{n}")
        made = (_read_config(folder) for folder in candidate.glob("version_*"))
        if all(config is None or _agree(config, asked, defaults) for config in made):
            return candidate
    raise AssertionError


def configuration_number(folder: Path) -> int:
    """The n of `<setting>~n` of a run folder, 1 where the name has none."""
    return int(folder.parent.name.partition("~")[2] or 1)


def _agree(config: Mapping, asked: Mapping, defaults: Mapping) -> bool:
    return all(
        _agree(config[key], value, defaults[key])
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


def run_folders(results: Path, comparison: bool = False) -> Iterator[Path]:
    """The folders of all finished runs, in order: those of the comparison of strategies, or all others."""
    paths = sorted((results / "runs").glob(f"*/*/*/version_*/{SUMMARY}"))
    return (path.parent for path in paths if (path.parents[3].name == COMPARISON) == comparison)


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
