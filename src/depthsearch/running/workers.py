"""Processes that share a scan: each takes from the results folder what nobody else has in hand, by leases.

A scan may as well be started several times, on several machines: those processes share it in the same way.
"""

import contextlib
import errno
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from depthsearch.hardware import keep_freed_memory
from depthsearch.running.folders import finished, read_run
from depthsearch.running.jobs import Job, outcome, train_missing
from depthsearch.running.leases import holder
from depthsearch.running.study import Problem

MOST_DEATHS = 3  # of workers killed from outside, for each: others of them go on with their runs
LOOKING = 20  # times as long as it took to look at the results folder, which may be slow, until it is done again
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
OK, FAILED, FULL = 0, 2, 28  # exit statuses of a worker


class WorkerFailed(Exception):
    """A worker process could not go on: one line that says why."""


def run_jobs(jobs: Sequence[Job], devices: Sequence[torch.device]) -> None:
    """Trains what nobody else has in hand, with one process for each of `devices`, under one progress bar.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came, and all runs stand at a checkpoint; a second signal does not wait.
        OSError: the disk is full, and all runs stand at their last checkpoint.
        WorkerFailed: a worker failed otherwise, or was killed again and again.
    """
    devices = devices[: len(jobs)]
    with _Board(jobs) as board, _stopping() as stop:
        if len(devices) == 1:
            keep_freed_memory()
            _work_through(_on(devices[0], jobs), board.show, stop)
        else:
            _supervise(jobs, devices, board, stop)


class _Board:
    """A progress bar over all epochs of some jobs, and a line for each that has ended."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        from tqdm import tqdm

        self._left, self._done = {job.folders[0]: job for job in jobs}, dict[Path, int]()
        self._bar = tqdm(total=sum(job.study.most_epochs for job in jobs), unit="epoch", smoothing=0.05)

    def __enter__(self) -> "_Board":
        return self

    def __exit__(self, *_) -> None:
        self._bar.total = self._bar.n  # without what others did
        self._bar.close()

    def show(self, job: Job, epoch: int, words: str, end: bool = False) -> None:
        key, now = job.folders[0], job.study.most_epochs if end else epoch
        new = now - self._done.get(key, 0)
        if end or key not in self._done:  # what was done before, or is not needed any more, took no time
            self._skip(new - 1)
            new = min(new, 1)
        self._done[key] = now
        if end:
            self._bar.write(words)
        else:
            self._bar.set_postfix_str(words, refresh=False)
        self._bar.update(new)

    def _skip(self, epochs: int) -> None:
        """Moves the bar, but not its estimate of the time that is left."""
        for name in ("n", "initial", "last_print_n"):
            setattr(self._bar, name, getattr(self._bar, name) + max(epochs, 0))

    def look(self) -> None:
        """Shows what the results folder says of the jobs, whoever does them."""
        for key, job in list(self._left.items()):
            if all(finished(folder, mend=False) for folder in job.folders):
                del self._left[key]
                summaries = [run[1] for run in map(read_run, job.folders) if run is not None]
                self.show(job, 0, outcome(job, summaries), end=True)
            elif (owner := holder(job.folders[0])) is not None and "epoch" in owner:
                self.show(job, owner["epoch"], str(job))


def _on(device: torch.device, jobs: Sequence[Job]) -> list[Job]:
    return [replace(job, device=device) for job in jobs]


def _work_through(jobs: Sequence[Job], show: Callable[..., None], stop: Callable[[], bool]) -> None:
    # Again as long as there was something to do: a run that another process had in hand may be free, its owner dead.
    found = True
    while found:
        found = False
        for job in jobs:
            line = train_missing(job, lambda epoch, words, job=job: show(job, epoch, words), stop)
            if line is not None:
                found = True
                show(job, 0, line, end=True)


@contextlib.contextmanager
def _stopping(*ignored: signal.Signals) -> Iterator[Callable[[], bool]]:
    """A function that says whether SIGINT or SIGTERM came; a second one interrupts at once."""
    came: list[int] = []

    def note(number: int, frame) -> None:
        came.append(number)
        if ignored:  # a worker: its parent kills it where it does not want to wait
            return
        if len(came) > 1:
            raise KeyboardInterrupt
        print("\nstopping at the end of the epoch; once more to stop at once", file=sys.stderr)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.SIG_IGN if number in ignored else note) for number in numbers}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _supervise(jobs: Sequence[Job], devices: Sequence[torch.device], board: _Board, stop: Callable[[], bool]) -> None:
    """Starts a worker for each device, and another where one is killed from outside; shows how far they are."""
    # Threads of workers that wait sleep. They would spin, which beside the others makes all many times slower; alone on
    # a machine it is a fifth faster. OpenMP reads this when a worker imports torch.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    context = multiprocessing.get_context("spawn")
    workers: dict[BaseProcess, torch.device] = {}

    def start(device: torch.device) -> None:
        process = context.Process(target=_worker, args=(_on(device, jobs), os.getpid()))
        process.start()
        workers[process] = device

    try:
        for device in devices:
            start(device)
        deaths, failed, next_look = 0, False, 0.0
        while workers:
            if stop():
                raise KeyboardInterrupt
            wait([process.sentinel for process in workers], timeout=1.0)
            if (now := time.monotonic()) >= next_look:
                board.look()
                next_look = now + LOOKING * (time.monotonic() - now)
            for process in [process for process in workers if process.exitcode is not None]:
                device, status = workers.pop(process), process.exitcode or OK
                if status < 0:
                    deaths += 1
                    if deaths > MOST_DEATHS * len(devices):
                        raise WorkerFailed(f"workers are killed again and again (signal {-status}; out of memory?)")
                    start(device)
                elif status == FULL:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                elif status == FAILED:  # its device: the others go on, with its runs too
                    failed = True
                elif status != OK:
                    raise WorkerFailed("a worker failed, as said above")
        if failed:
            raise WorkerFailed("a worker failed, as said above")
        board.look()
    finally:
        # Those still at work stop at the end of their epoch. Interrupted once more, they are not waited for.
        try:
            for process in workers:
                process.terminate()
            for process in workers:
                process.join()
        except KeyboardInterrupt:
            for process in workers:
                process.kill()
            raise


def _worker(jobs: Sequence[Job], parent: int) -> None:
    keep_freed_memory()
    with _stopping(signal.SIGINT) as stop:  # a terminal sends SIGINT to all, and the parent then SIGTERM to its workers
        try:
            # A parent that was killed cannot say so.
            _work_through(jobs, lambda *_, **__: None, lambda: stop() or os.getppid() != parent)
        except KeyboardInterrupt:
            return
        except Problem as problem:
            print(problem, file=sys.stderr)
            sys.exit(FAILED)
        except OSError as full:
            if full.errno not in DISK_FULL:
                raise
            sys.exit(FULL)
