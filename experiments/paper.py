"""Every scan of the paper, in the order in which its figures fill up: `python paper.py 0`, or `make paper`.

What is finished is skipped, so the same command goes on after an interruption. First it says what is missing, how long
that would take here at most, and where the files of each data set are; --dry-run stops there. A data set whose files
are neither there nor to be downloaded is left out, and said so.
"""

import argparse
import contextlib
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import scan_data_amount
import scan_deterministic_depth_images
import scan_deterministic_depth_spirals
import scan_max_depth_images
import scan_max_depth_spirals
import scan_spiral_complexity
import scan_width_spirals
import torch

from depthsearch.data.images import where
from depthsearch.running.folders import DATA
from depthsearch.running.jobs import Job
from depthsearch.running.options import pick_device
from depthsearch.running.slurm import INTERRUPTED
from depthsearch.running.study import Problem
from depthsearch.studies.estimates import training_seconds

SCANS = {
    "max_depth_spirals": scan_max_depth_spirals.main,
    "deterministic_depth_spirals": scan_deterministic_depth_spirals.main,
    "spiral_complexity": scan_spiral_complexity.main,
    "data_amount": scan_data_amount.main,
    "width_spirals": scan_width_spirals.main,
    "max_depth_images": scan_max_depth_images.main,
    "deterministic_depth_images": scan_deterministic_depth_images.main,
}
SETS = ("MNIST", "Fashion-MNIST", "SVHN")
SPIRALS = ("max_depth_spirals", "deterministic_depth_spirals", "spiral_complexity", "data_amount", "width_spirals")
# First the D of the paper's figures, then all depths.
IMAGES = (
    ("max_depth_images", ("--depths", "50")),
    ("deterministic_depth_images", ("--depths", "5", "10", "20", "30", "50")),
    ("max_depth_images", ()),
    ("deterministic_depth_images", ()),
)


def scans(repeats: int) -> Iterator[tuple[str, list[str]]]:
    """The names of the scans, and their arguments."""
    n = ["--repeats", str(repeats)]
    for name in SPIRALS:
        yield name, n
    for name, depths in IMAGES:
        for protocol in ("fair", "paper"):
            for data_set in SETS:
                yield name, ["--datasets", data_set, "--protocol", protocol, *depths, *n]


def missing(name: str, arguments: list[str]) -> list[Job]:
    """The jobs that a scan has not finished."""
    with contextlib.redirect_stdout(io.StringIO()):
        return SCANS[name]([*arguments, "--dry-run"])


def said(name: str, arguments: list[str], jobs: list[Job], counted: set[Path]) -> float:
    """Says what a scan would do; hours of it. Runs in `counted` belong to an earlier scan; these are added."""
    seconds, runs = 0.0, 0
    for job in jobs:
        new = [folder for folder in job.folders if folder not in counted]
        counted.update(new)
        runs += len(new)
        seconds += training_seconds(job.study, len(new), job.device) if new else 0.0  # type: ignore[arg-type]
    print(f"{runs:6d} runs {seconds / 3600:9.1f} h  scan_{name}.py {' '.join(arguments)}", flush=True)
    return seconds / 3600


def say_all(wanted: list[tuple[str, list[str]]], shared: list[str], devices: list[torch.device], data: Path) -> None:
    """Says what each scan would do, how long all would take, and where the files of the data sets are."""
    counted: set[Path] = set()
    hours = sum([said(name, own, missing(name, shared + own), counted) for name, own in wanted])
    print(f"{len(counted):6d} runs {hours / len(devices):9.1f} h  in all, on {', '.join(map(str, devices))}, at most:")
    compiled = ", and image networks are compiled, unlike those timed here" if devices[0].type == "cpu" else ""
    print(f"       most runs stop before their last epoch{compiled}")
    print(*(where(name, data) for name in SETS), sep="\n", flush=True)


def main(argv: list[str] | None = None) -> None:
    about, _, more = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser("paper.py", description=about, epilog=more)
    parser.add_argument("device", nargs="?", default="0", help="CUDA device index, or several as 0,1,2 (default 0)")
    parser.add_argument("--repeats", type=int, default=4, help="of each setting (default %(default)s)")
    parser.add_argument("--data", default=str(DATA), help="folder of the data files (default %(default)s)")
    parser.add_argument("--results", help="results folder (default that of the clone)")
    parser.add_argument("--dry-run", action="store_true", help="say what is missing and how long it takes, and stop")
    options = parser.parse_args(argv)
    shared = [options.device, "--data", options.data, *(["--results", options.results] if options.results else [])]
    try:
        devices = [pick_device(name) for name in options.device.split(",")]
    except Problem as problem:
        print(f"paper.py: {problem}", file=sys.stderr)
        raise SystemExit(2) from None
    wanted = list(scans(options.repeats))
    if options.dry_run:
        say_all(wanted, shared, devices, Path(options.data))
        return
    # Steps are timed by a process that ends before the scans: some cards take one process at a time.
    told = subprocess.run([sys.executable, __file__, *(sys.argv[1:] if argv is None else argv), "--dry-run"])
    if told.returncode:
        raise SystemExit(told.returncode)
    left_out = []
    for name, own in wanted:
        print(f"scan_{name}.py {' '.join(own)}", flush=True)
        try:
            SCANS[name](shared + own)
        except SystemExit as ended:
            if ended.code == INTERRUPTED:
                raise
            left_out.append(f"scan_{name}.py {' '.join(own)}")
    if left_out:
        print("paper.py: not finished, see above:", *left_out, sep="\n", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
