"""The command line that all scans share."""

import argparse
import contextlib
import os
import shlex
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from depthsearch.hardware import cores
from depthsearch.running.folders import ROOT, finished
from depthsearch.running.jobs import Job
from depthsearch.running.leases import holder
from depthsearch.running.options import (
    check,
    check_numbers,
    check_writable,
    devices_of,
    for_processes,
    parser_of,
    settle,
)
from depthsearch.running.slurm import FOLDER, INTERRUPTED, Array, submit
from depthsearch.running.study import Problem, Study, folder_name
from depthsearch.running.workers import DISK_FULL, WorkerFailed, run_jobs

KEPT = "Finished runs are kept, the others at their last checkpoint."

Wanted = tuple[Any, list[Path]]  # a study, and the folders of its repeats
Then = Callable[[Sequence[Wanted], Path], Sequence[Study] | None]


def run_scan(
    scan: str,
    studies: Sequence[Study],
    swept: str,
    quick: Sequence[Study],
    flag: str,
    argv: Sequence[str] | None = None,
    then: Then = lambda wanted, data: None,
    about: str | None = None,
) -> list[Job]:
    """The main function of a scan script.

    Args:
        scan: its name, the folder under `results/runs`.
        studies: the grid, in order; all of one kind as far as their options go.
        swept: which field of the studies the grid varies.
        quick: the grid of --quick.
        flag: option that overrides the values of `swept`, e.g. "depths"; where that is "group", whose studies are its
            own, it chooses among them.
        argv: arguments, those of the process if not given.
        then: called when nothing is left to train, with all that was asked for and the folder of the data files; the
            studies that it returns, if any, are trained next, in the same way.
        about: what the scan is for, as `-h` says it.

    Returns:
        of --dry-run what is missing, else nothing.
    """
    parser = parser_of(scan, studies, swept, flag, about)
    options = parser.parse_args(argv)
    options.command = shlex.join(["python", parser.prog, *map(str, sys.argv[1:] if argv is None else argv)])
    with _told(options, f"{scan}.py"):
        settle(options)
        options.devices = devices_of(options)
        grid = _grid(studies, quick, swept, flag, options)
        check_numbers(options)
        check(grid)
        check_writable(Path(options.results))
        options.repeats = options.repeats or (2 if options.quick else 4)
        if not 0 <= options.first_repeat < options.repeats:
            raise Problem(f"--first-repeat must be 0 to {options.repeats - 1}, got {options.first_repeat}")
        work = _Scan(scan, swept, grid, then)
        if options.slurm is None:
            return _run(work, options)
        _submit(work, options)
    return []


@dataclass(frozen=True)
class _Scan:
    name: str
    swept: str
    studies: Sequence[Study]
    then: Then


def _run(scan: _Scan, options: argparse.Namespace) -> list[Job]:
    jobs, wanted = _jobs(scan, options)
    data = Path(options.data)
    if options.dry_run:
        paths = [folder for job in jobs for folder in job.folders]
        print(*paths, f"{len(paths)} runs missing", sep="\n")
        return jobs
    _check_data(jobs, data)
    if jobs:
        if options.uses_gpu and options.devices[0].type == "cpu":
            print("no CUDA device here: running on the CPU", file=sys.stderr)
        processes = for_processes(options, scan.studies)
        if len(processes) > 1 or options.jobs > 1:  # the long ones first: nobody begins one when the others are done
            jobs.sort(key=lambda job: -job.study.cost)
        run_jobs(jobs, processes)
    else:
        _say_finished(scan, options)
    _tell_of_others(wanted)
    if next_scan := _then(scan, wanted, data):
        _run(next_scan, options)
    return []


def _then(scan: _Scan, wanted: Sequence[Wanted], data: Path) -> _Scan | None:
    """What is trained once nothing of a scan is left, if anything is."""
    more = scan.then(wanted, data)
    return replace(scan, studies=more, then=lambda wanted, data: None) if more else None


def _check_data(jobs: Sequence[Job], data: Path) -> None:
    """A missing or damaged file is known before anything is trained, or handed to a cluster."""
    for study in {folder_name(job.study): job.study for job in jobs}.values():
        if problem := study.problem(data):
            raise Problem(problem)


def _jobs(scan: _Scan, options: argparse.Namespace) -> tuple[list[Job], list[Wanted]]:
    """What is missing, in jobs of repeats that learn together; and all that is wanted."""
    jobs, wanted = [], []
    threads = max(1, cores() // len(for_processes(options, scan.studies)))
    for study in scan.studies:
        root = Path(options.results) / "runs" / scan.name / study.group / folder_name(study)
        folders = [root / f"version_{r}" for r in range(options.first_repeat, options.repeats)]
        wanted.append((study, folders))
        missing = [folder for folder in folders if not finished(folder, mend=not options.dry_run)]
        n = study.side_by_side
        for part in (missing[i : i + n] for i in range(0, len(missing), n)):
            how = options.devices[0], Path(options.data), threads, options.checkpoint_seconds
            jobs.append(Job(scan.name, study, scan.swept, part, *how))
    return jobs, wanted


@contextlib.contextmanager
def _told(options: argparse.Namespace, program: str) -> Iterator[None]:
    """Says in a line what ended a scan, and ends the process with the status that fits."""
    again, status = f"{KEPT} To go on: {options.command}", 1
    try:
        yield
        sys.stdout.flush()
        return
    except BrokenPipeError:  # what it prints to, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except Problem as problem:
        line, status = f"{program}: {problem}", 2
    except WorkerFailed as failed:
        line = f"{program}: {failed}. {again}"
    except KeyboardInterrupt:
        line, status = f"\ninterrupted. {again}", INTERRUPTED
    except OSError as full:
        if full.errno not in DISK_FULL:
            raise
        line = f"{program}: {options.results} is on a full disk. {again}"
    print(line, file=sys.stderr)
    raise SystemExit(status)


def _say_finished(scan: _Scan, options: argparse.Namespace) -> None:
    n = options.repeats - options.first_repeat
    print(f"{scan.name}: all {n} repeats of {len(scan.studies)} settings are finished; --repeats N adds more")


def _tell_of_others(wanted: Sequence[Wanted]) -> None:
    # Who else is at work, of whom nobody takes over what they have if they die from now on.
    owners = [owner for _, folders in wanted for folder in folders if (owner := holder(folder)) is not None]
    if owners:
        who = sorted({f"{owner.get('host', '?')}:{owner.get('pid', '?')}" for owner in owners})
        print(f"{len(owners)} runs are in the hands of {', '.join(who)}; the same command goes on with them if need be")


def _grid(
    studies: Sequence[Study], quick: Sequence[Study], swept: str, flag: str, options: argparse.Namespace
) -> list[Study]:
    grid, values = list(quick if options.quick else studies), getattr(options, flag)
    chosen = type(grid[0]).chosen
    if values is None:
        return chosen(grid, options)
    if swept == "group":
        grid = chosen(grid, options)
        return [study for value in values for study in _of_group(grid, value)]
    bases = {replace(study, **{swept: values[0]}) for study in grid}  # type: ignore[type-var]
    return chosen([replace(base, **{swept: v}) for base in sorted(bases, key=str) for v in values], options)


def _of_group(grid: Sequence[Study], name: str) -> list[Study]:
    found = [study for study in grid if study.group == name]
    if not found:
        there = ", ".join(dict.fromkeys(study.group for study in grid))
        raise Problem(f"no data set {name!r} in this grid; there are {there}")
    return found


def _submit(scan: _Scan, options: argparse.Namespace) -> None:
    """Has the cluster run the scan: the grid is the one made here, whatever machines its jobs get."""
    array = Array(options.slurm, options.jobs, options.time, options.gpus_per_job, options.cpus_per_job)
    own = argparse.Namespace(**vars(options))
    own.results, own.device = str(Path(options.results).resolve()), ",".join(map(str, range(max(1, array.gpus))))
    own.data = str(Path(options.data).resolve())
    if array.gpus == 0 and own.workers is None:
        own.workers = array.cpus
    if options.dry_run:
        _run(scan, options)
        print(*(f"{key}: {value}" for key, value in array.parameters(scan.name).items()), sep="\n")
        return
    (jobs, wanted), data = _jobs(scan, options), Path(options.data)
    if not jobs:
        _say_finished(scan, options)
        if next_scan := _then(scan, wanted, data):
            _submit(next_scan, options)
        return
    _check_data(jobs, data)
    how_far = shlex.join(["python", "-m", "depthsearch.running.status", own.results])
    ids = submit(array, scan.name, ROOT / FOLDER, partial(_as_job, scan, own))
    print(f"{len(ids)} jobs: {' '.join(ids)}; logs in {ROOT / FOLDER}; how far: {how_far}")


def _as_job(scan: _Scan, options: argparse.Namespace) -> None:
    with _told(options, f"{scan.name}.py"):
        options.slurm = None
        options.devices = devices_of(options)
        if options.gpus_per_job and options.devices[0].type == "cpu":  # it would hold runs that others do in no time
            raise Problem(f"no GPU on {socket.gethostname()}, where the job has {options.gpus_per_job}")
        _run(scan, options)
