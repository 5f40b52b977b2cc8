"""Jobs: repeats of one study that learn together, from a study to finished run folders."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from depthsearch.hardware import describe
from depthsearch.running.folders import Reservation, as_plain, reserve
from depthsearch.running.leases import LeaseLost
from depthsearch.running.study import Learner, Problem, Study, fingerprint

Tell = Callable[[int, str], None]  # the epoch, and how it goes
Stop = Callable[[], bool]


@dataclass(frozen=True)
class Job:
    """Repeats of one study to be trained together.

    Attributes:
        scan: its name, the folder under `results/runs`.
        study: what to train.
        swept: which value of its configuration the scan varies.
        folders: run folders, one a repeat.
        device, data: where, and with which folder of data files.
        threads: for a study that does not say how many, on a CPU.
        checkpoint_seconds: how much work may be lost, at most, beside the epoch under way.
    """

    scan: str
    study: Study
    swept: str
    folders: list[Path]
    device: torch.device
    data: Path
    threads: int
    checkpoint_seconds: float = 30.0

    def __str__(self) -> str:
        configuration = self.study.configuration()
        what = " ".join(dict.fromkeys((self.study.group, str(configuration.get("kind", "")))))
        value = configuration.get(self.swept)
        return f"{what.strip()} {self.swept} {value:g}" if isinstance(value, int | float) else self.study.title()


def train_missing(job: Job, tell: Tell, stop: Stop) -> str | None:
    """Trains the folders that nobody else has; says in a line what came out, None if there were none.

    Args:
        job: what to train.
        tell: called with the epoch and words that say how it goes.
        stop: whether to stop at the end of the epoch.

    Raises:
        KeyboardInterrupt: it was stopped, and its runs stand at a checkpoint.
        Problem: a GPU has no memory left, or failed.
    """
    if stop():
        raise KeyboardInterrupt
    reservations: list[Reservation] = []
    try:
        for folder in job.folders:
            if (reservation := reserve(folder)) is not None:
                reservations.append(reservation)
        if not reservations:
            return None
        return outcome(job, train_job(job, reservations, tell, stop))
    except LeaseLost as lost:
        return f"{job}: {lost}"
    except RuntimeError as error:
        if (why := _of_device(error)) is None:
            raise
        raise Problem(f"{job}: {job.device} {why}") from None
    finally:
        for reservation in reservations:
            reservation.release()


def _of_device(error: RuntimeError) -> str | None:
    # What a GPU did that no code here is to blame for. Memory may lack for a context or a library's workspace, too.
    said = str(error)
    memory = re.search(r"CUDA error: out of memory|(CUBLAS|CUDNN|CUSOLVER)_STATUS_ALLOC_FAILED", said)
    if memory or isinstance(error, torch.OutOfMemoryError):
        return "has no memory left; with fewer --workers, or nothing beside it, it may go on"
    return f"failed: {said.splitlines()[0]}" if "CUDA error" in said and "assert" not in said else None


def outcome(job: Job, summaries: Sequence[dict]) -> str:
    """What came out of repeats of a job, in a line."""
    whole = [summary for summary in summaries if summary["diverged_epoch"] is None]
    said = f"{job}: {len(whole)} repeats"
    if whole:
        said += f", {job.study.said(whole)}"
    return said if len(whole) == len(summaries) else f"{said}, {len(summaries) - len(whole)} diverged"


def train_job(job: Job, reservations: Sequence[Reservation], tell: Tell, stop: Stop) -> list[dict]:
    """Trains, evaluates and saves a repeat for each reserved folder; returns the summaries.

    Folders with a checkpoint go on from it, those at the same epoch together.
    """
    if job.device.type == "cpu" or job.study.threads:  # some of which work on the CPU whatever the device
        torch.set_num_threads(job.study.threads or job.threads)
    if job.device.type == "cuda":
        torch.cuda.set_device(job.device)
    asked = fingerprint(job.study.configuration())
    groups: dict[int, list[tuple[Reservation, dict | None]]] = {}
    for reservation in reservations:
        saved = reservation.saved()
        if saved is not None and saved.get("hash") != asked:
            reservation.set_aside("belongs to another configuration")
            saved = None
        groups.setdefault(saved["epoch"] if saved else 0, []).append((reservation, saved))
    return [summary for group in groups.values() for summary in _train_group(job, asked, group, tell, stop)]


def _train_group(
    job: Job, asked: str, group: Sequence[tuple[Reservation, dict | None]], tell: Tell, stop: Stop
) -> list[dict]:
    study, reservations = job.study, [reservation for reservation, _ in group]
    config = {"scan": job.scan, "swept": job.swept, "hash": asked, "configuration": study.configuration()}
    config |= {"required": sorted(study.required), "replicates": len(group), "device": describe(job.device)}
    resume = [saved["learner"] for _, saved in group if saved]
    begun = [r.seed for r in reservations], job.device, job.data
    try:
        learner = study.learner(*begun, resume)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        if not resume or (isinstance(error, RuntimeError) and _of_device(error)):
            raise
        learner = study.learner(*begun, [])  # if this works the checkpoints are to blame, else they are still there
        for reservation in reservations:
            reservation.set_aside("is of another version of the code")
        group = [(reservation, None) for reservation in reservations]
    configs = [reservation.begin(config | learner.about()) for reservation in reservations]
    kept, which = _Kept(learner, group, asked, study), str(job)
    for epoch in learner.epochs():
        stopping = stop()
        kept.after(epoch, at_once=stopping, every=job.checkpoint_seconds)
        tell(epoch, f"{which}, {learner.progress()}")
        if stopping:
            raise KeyboardInterrupt
    summaries, seconds = [], kept.seconds()
    for reservation, own, learned, spent in zip(reservations, configs, learner.learned(), seconds, strict=True):
        summary = study.evaluate(learned, reservation.seed, job.device, job.data)
        summary["seconds"] = summary.get("seconds", {}) | {"training_seconds": spent}
        study.show(learned.history, reservation.folder)
        reservation.finish(own, as_plain(summary), learned.history, learned.state())
        summaries.append(summary)
    return summaries


class _Kept:
    """The checkpoints, the leases' progress and the logs of a group while it learns."""

    def __init__(
        self, learner: Learner, group: Sequence[tuple[Reservation, dict | None]], asked: str, study: Study
    ) -> None:
        self._learner, self._reservations, self._asked = learner, [r for r, _ in group], asked
        self._show = study.show
        self._before = [saved["seconds"] if saved else 0.0 for _, saved in group]
        self._written = [saved["epoch"] if saved else 0 for _, saved in group]
        self._start = self._last = time.perf_counter()
        begun = self._written[0]
        self._progress: dict = {"epoch": begun, "epochs": study.most_epochs} | ({"resumed_at": begun} if begun else {})
        for reservation in self._reservations:
            reservation.lease.progress = self._progress

    def seconds(self) -> list[float]:
        """Of training, of each repeat: its share of the time that all took together."""
        now = (time.perf_counter() - self._start) / len(self._reservations)
        return [before + now for before in self._before]

    def after(self, epoch: int, at_once: bool, every: float) -> None:
        """Writes the checkpoints where they are due."""
        self._progress["epoch"] = epoch
        if not at_once and time.perf_counter() - self._last < every:
            return
        for i, checkpoint in enumerate(self._learner.checkpoint()):
            if checkpoint["epoch"] != self._written[i]:  # else that repeat has stopped
                content = {"epoch": checkpoint["epoch"], "hash": self._asked, "seconds": self.seconds()[i]}
                self._reservations[i].save(content | {"learner": checkpoint})
                self._written[i] = checkpoint["epoch"]
        for reservation, history in zip(self._reservations, self._learner.histories(), strict=True):
            reservation.log.show(history)
            self._show(history, reservation.folder)
        self._last = time.perf_counter()
