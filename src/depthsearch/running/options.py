"""The options that all scans share: what can be said, and what is wrong with it."""

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from depthsearch.hardware import cores, precision_of
from depthsearch.running.folders import DATA, RESULTS
from depthsearch.running.study import Problem, Study

LONG = 40  # characters: values that the help of an option does not list


def parser_of(
    scan: str, studies: Sequence[Study], swept: str, flag: str, about: str | None = None
) -> argparse.ArgumentParser:
    """The command line of a scan of these studies."""
    example, what = studies[0], "data sets" if swept == "group" else swept.replace("_", " ")
    parser = argparse.ArgumentParser(
        prog=f"{scan}.py", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(uses_gpu=example.uses_gpu)
    device = (
        "CUDA device index, or several as 0,1,2 (default 0; without GPU the CPU)" if example.uses_gpu else "not used"
    )
    parser.add_argument("device", nargs="?", default="0", help=device)
    type(example).add_options(parser)
    parser.add_argument("--data", default=str(DATA), help="folder of the data files (default %(default)s)")
    parser.add_argument(
        "--checkpoint-seconds", type=float, default=30.0, help="work that a kill may cost (default %(default)s)"
    )
    parser.add_argument("--repeats", type=int, help="finished versions of each setting that should exist (default 4)")
    parser.add_argument(
        "--first-repeat", type=int, default=0, metavar="N", help="those before version N are made elsewhere (default 0)"
    )
    parser.add_argument("--epochs", type=int, help="of a training, at most (default those of each study)")
    parser.add_argument("--results", default=str(RESULTS), help="results folder (default %(default)s)")
    kind = str if swept == "group" else type(getattr(example, swept))
    values = [str(value) for value in dict.fromkeys(getattr(study, swept) for study in studies)]
    known = f": {'; '.join(values)}" if max(map(len, values)) < LONG else ""
    parser.add_argument(f"--{flag}", type=kind, nargs="+", help=f"{what}, instead of the grid's{known}")
    parser.add_argument("--workers", type=int, help="processes a device (default 1; for small networks the cores)")
    parser.add_argument("--quick", action="store_true", help="a small grid, 2 repeats, few epochs")
    parser.add_argument("--dry-run", action="store_true", help="print the runs that are missing and stop")
    cluster = parser.add_argument_group("on a Slurm cluster")
    cluster.add_argument("--slurm", metavar="PARTITION", help="submit the scan to it")
    cluster.add_argument("--jobs", type=int, metavar="N", help="that share the scan (default 1)")
    cluster.add_argument("--time", type=int, metavar="MINUTES", help="of a job (default 1440)")
    gpus = f"0 for the CPU (default {int(example.uses_gpu)})"
    cluster.add_argument("--gpus-per-job", type=int, metavar="N", help=gpus)
    cluster.add_argument("--cpus-per-job", type=int, metavar="N", help="(default 1)")
    return parser


OF_SLURM = {"jobs": 1, "time": 1440, "gpus_per_job": 1, "cpus_per_job": 1}  # and what they are where nothing is said


def settle(options: argparse.Namespace) -> None:
    """Makes sure that options fit together, and gives those of Slurm their defaults.

    Raises:
        Problem: one is given that has no meaning beside the others.
    """
    if options.slurm is not None and options.device != "0":
        raise Problem(f"a job of Slurm has the GPUs that it is given: --gpus-per-job N instead of {options.device}")
    if options.quick and getattr(options, "reduced", False):
        raise Problem("--quick is smaller than --reduced: give one of them")
    for name, value in OF_SLURM.items():
        if options.slurm is None and getattr(options, name) is not None:
            instead = "; here --workers says how many processes share the scan" if name == "jobs" else ""
            raise Problem(f"--{name.replace('_', '-')} is for --slurm PARTITION{instead}")
        if getattr(options, name) is None:
            setattr(options, name, 0 if name == "gpus_per_job" and not options.uses_gpu else value)
    if options.slurm is not None and options.gpus_per_job and not options.uses_gpu:
        raise Problem("this scan uses no GPU: leave --gpus-per-job out, and say --cpus-per-job N")


def check(grid: Sequence[Study]) -> None:
    """Makes sure that what was asked for can be run.

    Raises:
        Problem: a number is not finite, or a study cannot be.
    """
    for study in grid:
        if problem := study.problem():
            raise Problem(problem)
        if strange := _not_finite(study.configuration()):
            raise Problem(f"{strange[0]} must be a finite number")


def _not_finite(configuration: Mapping[str, Any]) -> list[str]:
    """Names of the values that are infinite or no numbers."""
    found = []
    for name, value in configuration.items():
        if isinstance(value, Mapping):
            found += _not_finite(value)
        elif isinstance(value, float) and not math.isfinite(value):
            found.append(name)
    return found


def check_numbers(options: argparse.Namespace) -> None:
    """Makes sure that the numbers that are no part of a study make sense.

    Raises:
        Problem: one is too small.
    """
    counts = ("repeats", "epochs", "workers", "jobs", "time", "cpus_per_job")
    for name, least in {**dict.fromkeys(counts, 1), "gpus_per_job": 0, "checkpoint_seconds": 0}.items():
        value = getattr(options, name)
        if value is not None and not value >= least:
            raise Problem(f"--{name.replace('_', '-')} must be {least} or more, got {value}")


def check_writable(results: Path) -> None:
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


def devices_of(options: argparse.Namespace) -> list[torch.device]:
    """Those of the command line, or the CPU for work that is not for a GPU; of a scan that is handed to a cluster, the
    kind that its jobs have.

    Raises:
        Problem: a name is no index, or no such device exists.
    """
    if options.slurm is not None:
        return [torch.device("cuda" if options.gpus_per_job else "cpu")]
    named = list(dict.fromkeys(pick_device(name) for name in options.device.split(",")))
    return named if options.uses_gpu else [torch.device("cpu")]


def for_processes(options: argparse.Namespace, studies: Sequence[Study]) -> list[torch.device]:
    """A device for each process that is to work: on a CPU, networks of one thread share the cores."""
    small = options.devices[0].type == "cpu" and all(study.threads == 1 for study in studies)
    each = options.workers or (cores() if small and not options.quick else 1)
    return [device for _ in range(each) for device in options.devices]  # fewer than all are spread over the devices


def pick_device(name: str) -> torch.device:
    """The device of the command line: a CUDA index; on a machine without CUDA the CPU, whatever the index.

    Raises:
        Problem: the name is no index, or no such device exists.
    """
    if not name.isdigit():
        raise Problem(f"device {name!r} is not a CUDA device index such as 0")
    count = torch.cuda.device_count()
    if count == 0:
        return torch.device("cpu")
    if int(name) < count:
        return torch.device("cuda", int(name))
    there = ", ".join(f"{i} ({torch.cuda.get_device_name(i)})" for i in range(count))
    raise Problem(f"no CUDA device {name}; there is {there}")


def precision_asked(options: argparse.Namespace) -> str:
    """`--precision` of the command line, resolved.

    Raises:
        Problem: a device cannot do it, `auto` is not the same on all, or is asked of GPUs that jobs of Slurm will have.
    """
    if options.slurm is not None and options.gpus_per_job and options.precision == "auto":
        raise Problem("what the GPUs of the jobs can do is not known here; give --precision bfloat16 or float32")
    try:
        found = {precision_of(options.precision, device) for device in options.devices}
    except ValueError as cannot:
        raise Problem(str(cannot)) from None
    if len(found) > 1:
        raise Problem(f"{options.device}: not all can do the same; give --precision {' or '.join(sorted(found))}")
    return found.pop()
