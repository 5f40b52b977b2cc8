"""The command line that all scans share."""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from submitit.core.utils import FailedJobError

from depthsearch.data.images import IMAGE_SETS, DataError
from depthsearch.learning.method import Training
from depthsearch.running.folders import Clash, finished, setting_folder
from depthsearch.running.jobs import Job, configuration, defaults
from depthsearch.running.leases import holder
from depthsearch.running.slurm import FOLDER, INTERRUPTED, Array, submit
from depthsearch.running.workers import DISK_FULL, WorkerFailed, run_jobs
from depthsearch.studies.images import Images
from depthsearch.studies.setting import Setting

ROOT = Path(__file__).parents[3]
RESULTS, DATA = ROOT / "results", ROOT / "data"
KEPT = "Finished runs are kept, the others at their last checkpoint."

Wanted = tuple[Setting, Training, list[Path]]  # a setting, how it is trained, and the folders of its repeats


class Problem(argparse.ArgumentTypeError):
    """Bad input: one line that says what is wrong and what to do."""


def run_scan(
    scan: str,
    settings: Sequence[Setting],
    swept: str,
    quick: Sequence[Setting],
    flag: str,
    argv: Sequence[str] | None = None,
    then: Callable[[Sequence[Wanted], Path], None] = lambda wanted, data: None,
) -> None:
    """The main function of a scan script.

    Args:
        scan: its name, the folder under `results/runs`.
        settings: the grid, in order.
        swept: which field of the settings the grid varies.
        quick: the grid of --quick.
        flag: option that overrides the values of `swept`, e.g. "depths"; where that is the data set, whose settings
            are its own, it chooses among them.
        argv: arguments, those of the process if not given.
        then: called when nothing is left to train, with all that was asked for and the folder of the image files.
    """
    parser = _parser(scan, settings[0], swept, flag)
    options = parser.parse_args(argv)
    options.command = shlex.join(["python", parser.prog, *map(str, sys.argv[1:] if argv is None else argv)])
    _run(_Scan(scan, settings, swept, quick, flag, then), options)


@dataclass(frozen=True)
class _Scan:
    # The arguments of `run_scan`.
    name: str
    settings: Sequence[Setting]
    swept: str
    quick: Sequence[Setting]
    flag: str
    then: Callable[[Sequence[Wanted], Path], None]


def _run(scan: _Scan, options: argparse.Namespace) -> None:
    program, results = f"{scan.name}.py", Path(options.results)
    try:
        devices = _pick_devices(options, isinstance(scan.settings[0], Images))
        grid = _grid(scan, options)
        repeats = (2 if options.quick else 4) if options.repeats is None else options.repeats
        _check(grid, {"--repeats": repeats} | {f"--{name}": getattr(options, name) for name in ("epochs", "jobs")})
        data = Path(getattr(options, "data", DATA))
        _check_writable(results)
        jobs, wanted = [], []
        for setting in grid:
            training = _training(setting, options, devices[0])
            asked = configuration(setting, training)
            root = results / "runs" / scan.name / setting.data_set / setting.folder(training)
            root = setting_folder(root, asked, defaults(setting))
            wanted.append((setting, training, [root / f"version_{r}" for r in range(repeats)]))
            missing = [f for f in wanted[-1][-1] if not finished(f, mend=not options.dry_run)]
            n = setting.side_by_side
            for folders in (missing[i : i + n] for i in range(0, len(missing), n)):
                how = (training, devices[0], data, options.checkpoint_seconds)
                jobs.append(Job(scan.name, setting, scan.swept, folders, *how))
        if options.dry_run:
            paths = [folder for job in jobs for folder in job.folders]
            print(*paths, f"{len(paths)} runs missing", sep="\n")
        else:
            for setting in {job.setting.data_set: job.setting for job in jobs}.values():
                setting.split(0, data)  # a missing or damaged file is known before anything is trained
        if not jobs:
            print(f"{scan.name}: all {repeats} repeats of {len(grid)} settings are finished; --repeats N adds more")
        elif options.slurm is not None:
            _submit(scan, options)
        elif not options.dry_run:
            run_jobs(jobs, devices)
        if not options.dry_run and options.slurm is None:
            _tell_of_others(wanted)
            scan.then(wanted, data)
    except (Problem, DataError) as problem:
        print(f"{program}: {problem}", file=sys.stderr)
        raise SystemExit(2) from None
    except (WorkerFailed, Clash) as failed:
        print(f"{program}: {failed}. {KEPT} To go on: {options.command}", file=sys.stderr)
        raise SystemExit(1) from None
    except (KeyboardInterrupt, OSError) as stopped:
        if isinstance(stopped, OSError) and stopped.errno not in DISK_FULL:
            raise
        full = isinstance(stopped, OSError)
        why = f"{program}: {results} is on a full disk." if full else "\ninterrupted."
        print(f"{why} {KEPT} To go on: {options.command}", file=sys.stderr)
        raise SystemExit(1 if full else INTERRUPTED) from None


def _tell_of_others(wanted: Sequence[Wanted]) -> None:
    # Who else is at work, of whom nobody takes over what they have if they die from now on.
    owners = [owner for _, _, folders in wanted for folder in folders if (owner := holder(folder)) is not None]
    if owners:
        who = sorted({f"{owner.get('host', '?')}:{owner.get('pid', '?')}" for owner in owners})
        print(f"{len(owners)} runs are in the hands of {', '.join(who)}; the same command goes on with them if need be")


def _grid(scan: _Scan, options: argparse.Namespace) -> list[Setting]:
    grid = list(scan.quick if options.quick else scan.settings)
    images = [setting for setting in grid if isinstance(setting, Images)]
    if images:
        grid = _choose_images(images, options.datasets, options.protocol)
    values = getattr(options, scan.flag)
    if values is None:
        return grid
    if scan.swept == "data_set":
        return [setting for value in values for setting in _of_data_set(grid, value)]
    bases = {replace(setting, **{scan.swept: values[0]}) for setting in grid}
    return [replace(base, **{scan.swept: value}) for base in sorted(bases, key=str) for value in values]


def _of_data_set(grid: Sequence[Setting], name: str) -> list[Setting]:
    found = [setting for setting in grid if setting.data_set == name]
    if not found:
        there = ", ".join(dict.fromkeys(setting.data_set for setting in grid))
        raise Problem(f"no data set {name!r} in this grid; there are {there}")
    return found


def _training(setting: Setting, options: argparse.Namespace, device: torch.device) -> Training:
    default_epochs = setting.quick_epochs if options.quick else setting.training.epochs
    epochs = default_epochs if options.epochs is None else options.epochs
    precision = precision_of(getattr(options, "precision", "float32"), device)
    return replace(setting.training, precision=precision, epochs=epochs)


def _pick_devices(options: argparse.Namespace, images: bool) -> list[torch.device]:
    """One for each process that is to work."""
    if options.workers is not None and options.workers < 1:
        raise Problem(f"--workers must be 1 or more, got {options.workers}")
    if options.slurm is not None:  # the devices are those of the jobs
        return [torch.device("cuda" if options.gpus_per_job else "cpu")]
    devices = [pick_device(name) for name in options.device.split(",")]
    # Small networks use one core well and several badly
    in_parallel = devices[0].type == "cpu" and not options.quick and not images
    each = options.workers or (_cores() if in_parallel else 1)
    return [device for device in devices for _ in range(each)]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _submit(scan: _Scan, options: argparse.Namespace) -> None:
    array = Array(options.slurm, options.jobs, options.time, options.gpus_per_job, options.cpus_per_job)
    own = argparse.Namespace(**vars(options))
    own.slurm, own.results = None, str(Path(options.results).resolve())
    own.device = ",".join(map(str, range(max(1, array.gpus))))
    if array.gpus == 0 and own.workers is None:
        own.workers = array.cpus
    if options.dry_run:
        print(*(f"{key}: {value}" for key, value in array.parameters(scan.name).items()), sep="\n")
        return
    try:
        ids = submit(array, scan.name, ROOT / FOLDER, partial(_run, scan, own))
    except (RuntimeError, FailedJobError) as refused:
        raise Problem(f"Slurm does not take the jobs ({' '.join(str(refused).split())})") from None
    print(f"{len(ids)} jobs: {' '.join(ids)}; logs in {ROOT / FOLDER}; how far: python -m depthsearch.running.status")


def precision_of(name: str, device: torch.device) -> str:
    """`auto` is bfloat16 where the hardware multiplies matrices in it."""
    if name == "tf32" and device.type != "cuda":
        raise Problem("--precision tf32 needs a CUDA device; give float32 or auto")
    if name != "auto":
        return name
    if device.type == "cuda" and not torch.cuda.is_available():
        raise Problem("no GPU here to tell what those of the jobs can do; give --precision bfloat16 or float32")
    if device.type == "cuda":
        with torch.cuda.device(device):
            return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # not in older versions of torch
    return "bfloat16" if capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") else "float32"


def _choose_images(grid: list[Images], names: list[str] | None, protocol: str) -> list[Setting]:
    """The grid of the data sets that were asked for, under one protocol."""
    wrong = [name for name in names or [] if name not in IMAGE_SETS]
    if wrong:
        raise Problem(f"no image data set {wrong[0]!r}; there are {', '.join(IMAGE_SETS)}")
    if names:
        first = [s for s in grid if s.data_set == grid[0].data_set]
        grid = [replace(setting, data_set=name) for name in names for setting in first]
    return [replace(setting, protocol=protocol) for setting in grid]


def pick_device(name: str) -> torch.device:
    """The device of the command line: a CUDA index, or the CPU on a machine without CUDA.

    Raises:
        Problem: the name is no index, or no such device exists.
    """
    if not name.isdigit():
        raise Problem(f"device {name!r} is not a CUDA device index such as 0")
    count = torch.cuda.device_count()
    if int(name) < count:
        return torch.device("cuda", int(name))
    if count == 0 and int(name) == 0:
        return torch.device("cpu")
    there = ", ".join(f"{i} ({torch.cuda.get_device_name(i)})" for i in range(count))
    raise Problem(f"no CUDA device {name}; there is {there or 'none: give 0 to run on the CPU'}")


def _parser(scan: str, example: Setting, swept: str, flag: str) -> argparse.ArgumentParser:
    images = isinstance(example, Images)
    parser = argparse.ArgumentParser(
        prog=f"{scan}.py", description=f"Scans {swept} on {'images' if images else 'spirals'}."
    )
    parser.add_argument(
        "device", nargs="?", default="0", help="CUDA device index, or several as 0,1,2 (default 0; without GPU the CPU)"
    )
    if images:
        parser.add_argument("--datasets", nargs="+", help=f"some of {', '.join(IMAGE_SETS)}")
        parser.add_argument(
            "--protocol",
            choices=("paper", "fair"),
            default="paper",
            help="select epochs on the test set as the original does, or on a held-out tenth (default %(default)s)",
        )
        parser.add_argument(
            "--precision",
            choices=("auto", "float32", "tf32", "bfloat16"),
            default="auto",
            help="of stem and blocks; auto: bfloat16 where the hardware multiplies in it; tf32: on CUDA",
        )
    if images or swept == "data_set":
        parser.add_argument("--data", default=str(DATA), help="folder of the image files (default %(default)s)")
    parser.add_argument(
        "--checkpoint-seconds", type=float, default=30.0, help="work that a kill may cost (default %(default)s)"
    )
    parser.add_argument("--repeats", type=int, help="finished versions of each setting that should exist (default 4)")
    parser.add_argument("--epochs", type=int, help=f"at most this many (default {example.training.epochs})")
    parser.add_argument("--results", default=str(RESULTS), help="results folder (default %(default)s)")
    kind = type(getattr(example, swept))
    parser.add_argument(f"--{flag}", type=kind, nargs="+", help=f"override the grid of {swept}")
    parser.add_argument(
        "--workers", type=int, help="processes a device (default 1; on a CPU the cores, but for images and --quick)"
    )
    parser.add_argument("--quick", action="store_true", help="a small grid, 2 repeats, few epochs")
    parser.add_argument("--dry-run", action="store_true", help="print the runs that are missing and stop")
    cluster = parser.add_argument_group("on a Slurm cluster")
    cluster.add_argument("--slurm", metavar="PARTITION", help="submit the scan to it")
    cluster.add_argument("--jobs", type=int, default=1, metavar="N", help="that share the scan (default 1)")
    cluster.add_argument("--time", type=int, default=1440, metavar="MINUTES", help="of a job (default 1440)")
    cluster.add_argument("--gpus-per-job", type=int, default=1, metavar="N", help="0 for the CPU (default 1)")
    cluster.add_argument("--cpus-per-job", type=int, default=1, metavar="N", help="(default 1)")
    return parser


def _check(grid: Sequence[Setting], counts: dict[str, int | None]) -> None:
    for option, value in counts.items():
        if value is not None and value < 1:
            raise Problem(f"{option} must be 1 or more, got {value}")
    problems = [setting.problem() for setting in grid]
    if any(problems):
        raise Problem(next(problem for problem in problems if problem))


def _check_writable(results: Path) -> None:
    """Nothing is made before there is something to put there."""
    runs = results / "runs"
    there = next(folder for folder in (runs, *runs.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise Problem(f"results path {there} is a file; give a folder")
    try:
        probe = there / f".probe-{time.time_ns()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise Problem(f"cannot write to results folder {results}: {error.strerror}") from None
