"""Run folders: reserve one, finish it whole or not at all, read it back.

`<results>/runs/<scan>/<data set>/<title>-<hash of the configuration>/version_<r>/` with r = the repeat = the seed. A
run is finished when its `summary.json` exists; that file is written last, under a temporary name first. Who works on a
run has the lease of its folder. Until the end `checkpoint.pt` holds what it takes to go on; whoever has the lease next
does.
"""

import contextlib
import io
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from depthsearch.hardware import went_on
from depthsearch.running.leases import Lease, LeaseLost, is_claim, remove_dead, take
from depthsearch.running.logs import Log

ROOT = Path(__file__).parents[3]  # of the clone
RESULTS, DATA = ROOT / "results", ROOT / "data"
CHECKPOINT, SUMMARY, CONFIG, ASIDE = "checkpoint.pt", "summary.json", "config.json", "set_aside_"
ALWAYS = ("epochs", "history", "seconds")  # in the summary of every run


@dataclass
class Reservation:
    """A run folder that belongs to this process until `finish` or `release`."""

    folder: Path
    lease: Lease
    log: Log

    @property
    def seed(self) -> int:
        """The number of the repeat."""
        return int(self.folder.name.removeprefix("version_"))

    def begin(self, config: dict) -> dict:
        """Writes `config.json`, with the time at which the run started (UTC); returns it.

        Where the run goes on from a checkpoint, its device names what it had before, too (`went_on`).
        """
        before = _read_json(self.folder / CONFIG) or {}
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        config = config | {"seed": self.seed, "started": before.get("started", now)}
        if "device" in config and (self.folder / CHECKPOINT).exists():
            config["device"] = went_on(before.get("device"), config["device"])
        write_json(self.folder / CONFIG, config)
        self.log.tags = {k: v for k, v in config["configuration"].items() if not isinstance(v, Mapping)}
        return config

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

    def finish(self, config: dict, summary: dict, history: list[dict], state: dict[str, nn.Module]) -> None:
        """Writes everything, `summary.json` last, and gives the folder up.

        Raises:
            LeaseLost: the run belongs to another process by now.
        """
        self.lease.check()
        write_json(self.folder / CONFIG, config)
        self.log.finish(history)
        _write(self.folder / "weights.pt", _as_bytes({name: module.state_dict() for name, module in state.items()}))
        write_json(self.folder / SUMMARY, summary)
        (self.folder / CHECKPOINT).unlink(missing_ok=True)
        self.lease.release()

    def release(self) -> None:
        """Gives the folder up; an unfinished one is removed unless there is something to go on from."""
        self.log.close()
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
    return Reservation(folder, lease, Log(folder))


def _clear(folder: Path) -> None:
    # All but what an unfinished run goes on from, and what a file server keeps of a file that is open elsewhere (.nfs).
    kept = (CHECKPOINT, CONFIG) if (folder / CHECKPOINT).exists() else ()
    for entry in folder.iterdir():
        if not (entry.name in kept or entry.name.startswith((ASIDE, ".nfs")) or is_claim(entry)):
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


def read_config(folder: Path) -> dict | None:
    """`config.json` of a run, which unlike its summary is small; None where it is damaged."""
    config = _read_json(folder / CONFIG)
    return config if config is not None and isinstance(config.get("configuration"), dict) else None


def read_run(folder: Path) -> tuple[dict, dict] | None:
    """Configuration (`config.json`) and summary of a finished run; None where one of them is damaged.

    A summary is sound where it has the keys that its study requires, or of a run whose loss was no longer finite
    (`diverged_epoch`) those that every run has.
    """
    config, summary = read_config(folder), _read_json(folder / SUMMARY)
    if config is None or summary is None:
        return None
    needed = set(ALWAYS)
    if summary.get("diverged_epoch") is None:
        needed |= set(config.get("required", ()))
    return (config, summary) if needed <= summary.keys() else None


def _read_json(path: Path) -> dict | None:
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return content if isinstance(content, dict) else None


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


def run_folders(results: Path) -> Iterator[Path]:
    """The folders of all finished runs, in order."""
    return (path.parent for path in sorted((results / "runs").glob(f"*/*/*/version_*/{SUMMARY}")))


def load_weights(folder: Path, *modules: nn.Module) -> None:
    """Loads the saved state of a run into modules of its kind, in the order in which they were saved.

    Nothing is unpickled.
    """
    state = torch.load(folder / "weights.pt", weights_only=True)
    for module, name in zip(modules, state, strict=True):
        module.load_state_dict(state[name])


def as_plain(value: Any) -> Any:
    """JSON-ready copy: numpy and torch scalars to Python, non-finite floats to None."""
    if isinstance(value, dict):
        return {k: as_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(v) for v in value]
    if isinstance(value, np.generic | torch.Tensor):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
