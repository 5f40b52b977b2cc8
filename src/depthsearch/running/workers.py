"""Processes that share a scan. Each takes what nobody else has in hand, from the results folder; nobody hands out work.

So a scan may as well be started several times, on several machines: those processes share it in the same way.
"""

import contextlib
import errno
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch
from tqdm import tqdm

from depthsearch.running.folders import Clash
from depthsearch.running.jobs import Job, train_missing

MOST_DEATHS = 3  # of workers killed from outside, for each: others of them go on with their runs
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

Numbered = tuple[int, Job]  # the number tells the progress bar which job a worker speaks of


class WorkerFailed(Exception):
    """A worker process could not go on: one line that says why."""


def run_jobs(jobs: Sequence[Job], devices: Sequence[torch.device]) -> None:
    """Trains what nobody else has in hand, with one process for each of `devices`, under one progress bar.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came, and all runs stand at a checkpoint; a second signal does not wait.
        OSError: the disk is full, and all runs stand at their last checkpoint.
        Clash: another process began another configuration under the name of one of these.
        WorkerFailed: a worker failed otherwise, or was killed again and again.
    """
    if devices[0].type == "cpu":
        print("no CUDA device here: running on the CPU", file=sys.stderr)
    devices, numbered = devices[: len(jobs)], list(enumerate(jobs))
    with tqdm(total=sum(job.training.epochs for job in jobs), unit="epoch", smoothing=0.05) as bar, _stopping() as stop:
        board = _Board(jobs, bar)
        if len(devices) == 1:
            _work_through(_on(devices[0], numbered), board.show, stop)
        else:
            _supervise(sorted(numbered, key=lambda item: -item[1].setting.cost), devices, board, stop)
        bar.total = bar.n  # without what others did
        bar.refresh()


@dataclass
class _Said:
    """What a worker says of a job: `epoch`s done and how it goes; `end` where it is through with it."""

    job: int
    epoch: int
    line: str
    end: bool = False


class _Board:
    def __init__(self, jobs: Sequence[Job], bar: tqdm) -> None:
        self._epochs, self._done, self._bar = [job.training.epochs for job in jobs], [0] * len(jobs), bar

    def show(self, said: _Said) -> None:
        self._done[said.job] = self._epochs[said.job] if said.end else said.epoch
        self._bar.update(sum(self._done) - self._bar.n)
        if said.end:
            self._bar.write(said.line)
        else:
            self._bar.set_postfix_str(said.line)


def _on(device: torch.device, jobs: Sequence[Numbered]) -> list[Numbered]:
    return [(number, replace(job, device=device)) for number, job in jobs]


def _work_through(jobs: Sequence[Numbered], tell: Callable[[_Said], None], stop: Callable[[], bool]) -> None:
    # Again as long as there was something to do: a run that another process had in hand may be free, its owner dead.
    found = True
    while found:
        found = False
        for number, job in jobs:

            def report(epoch: int, line: str, number: int = number) -> None:
                tell(_Said(number, epoch, line))

            line = train_missing(job, report, stop)
            if line is not None:
                found = True
                tell(_Said(number, 0, line, end=True))


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


# One process a device.


def _supervise(
    jobs: Sequence[Numbered], devices: Sequence[torch.device], board: _Board, stop: Callable[[], bool]
) -> None:
    context = multiprocessing.get_context("spawn")
    workers: dict[Connection, tuple[BaseProcess, torch.device]] = {}

    def start(device: torch.device) -> None:
        here, there = context.Pipe(duplex=False)  # one each: a queue would be locked for all by one that is killed
        process = context.Process(target=_worker, args=(_on(device, jobs), there, os.getpid()))
        process.start()
        there.close()
        workers[here] = (process, device)

    deaths = 0
    try:
        for device in devices:
            start(device)
        while workers:
            if stop():
                raise KeyboardInterrupt
            for pipe in _ready(workers, 0.5):
                try:
                    said = pipe.recv()
                except EOFError:  # it has ended
                    process, device = workers.pop(pipe)
                    process.join()
                    if process.exitcode and process.exitcode < 0:
                        deaths += 1
                        if deaths > MOST_DEATHS * len(devices):
                            raise WorkerFailed(
                                f"workers are killed again and again (signal {-process.exitcode}; out of memory?)"
                            ) from None
                        start(device)
                    elif process.exitcode:
                        raise WorkerFailed("a worker failed, as said above") from None
                    continue
                if isinstance(said, Exception):
                    raise said
                board.show(said)
    finally:
        # Those still at work stop at the end of their epoch. Interrupted once more, they are not waited for.
        try:
            for process, _ in workers.values():
                process.terminate()
            while any(process.is_alive() for process, _ in workers.values()):
                for pipe in _ready(workers, 0.1):
                    try:
                        pipe.recv()
                    except EOFError:
                        workers.pop(pipe)[0].join()
        except KeyboardInterrupt:
            for process, _ in workers.values():
                process.kill()
            raise


def _ready(workers: Iterable[Connection], timeout: float) -> list[Connection]:
    return [pipe for pipe in wait(list(workers), timeout) if isinstance(pipe, Connection)]


def _worker(jobs: Sequence[Numbered], pipe: Connection, parent: int) -> None:
    if jobs[0][1].device.type == "cpu":
        torch.set_num_threads(1)
    else:
        torch.cuda.set_device(jobs[0][1].device)
    with _stopping(signal.SIGINT) as stop:  # a terminal sends SIGINT to all, and the parent then SIGTERM to its workers
        try:
            _work_through(jobs, pipe.send, lambda: stop() or os.getppid() != parent)  # killed, it cannot tell
        except KeyboardInterrupt:
            return
        except OSError as full:
            if full.errno not in DISK_FULL:
                raise
            pipe.send(OSError(full.errno, full.strerror))
        except Clash as clash:
            pipe.send(clash)
