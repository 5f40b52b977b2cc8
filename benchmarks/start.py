"""How soon a scan starts, and what a busy process beside it costs: ratios of things timed in one run.

    python start.py [--rounds 5] [--busy 1]

First `-h`, a refused argument and a dry run against `python -c "import torch"`, taking turns. Then quick scans alone
and beside as many processes that keep a core busy each, until the scan ends.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from depthsearch.hardware import benchmark_header, cores

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
STARTS = {
    "-h": ["scan_max_depth_spirals.py", "-h"],
    "a refused argument": ["scan_max_depth_images.py", "0", "--epochs", "0"],
    "a refused argument, strategies": ["scan_strategies.py", "banana"],
    "--dry-run": ["scan_max_depth_spirals.py", "0", "--dry-run"],
    "--dry-run, strategies": ["scan_strategies.py", "0", "--dry-run"],
}
SCANS = {
    "spirals": ["scan_max_depth_spirals.py", "0", "--quick"],
    "digits": ["scan_max_depth_images.py", "0", "--quick", "--datasets", "digits"],
}


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=EXPERIMENTS, capture_output=True, check=False)
    return time.perf_counter() - start


def scanned(command: list[str], busy: int) -> float:
    """Seconds of a scan beside so many processes that do nothing but keep busy."""
    beside = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        with tempfile.TemporaryDirectory() as results:
            return seconds([*command, "--results", results])
    finally:
        for process in beside:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--busy", type=int, default=1)
    options = parser.parse_args()
    print(benchmark_header(torch.device("cpu")))

    commands = {"import torch": ["-c", "import torch"], **STARTS}
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(options.rounds):
        for name, command in commands.items():
            taken[name].append(seconds(command))
    floor = median(taken["import torch"])
    print(f"\n{'median of ' + str(options.rounds):32} {'seconds':>8} {'/ import torch':>15}")
    for name, values in taken.items():
        print(f"{name:32} {median(values):8.2f} {median(values) / floor:15.2f}")

    print(f"\n{'--quick, of ' + str(cores()) + ' cores':32} {'alone':>8} {f'beside {options.busy}':>15} {'ratio':>8}")
    for name, command in SCANS.items() if options.busy else ():
        alone, beside = scanned(command, 0), scanned(command, options.busy)
        print(f"{name:32} {alone:8.1f} {beside:15.1f} {beside / alone:8.2f}", flush=True)


if __name__ == "__main__":
    main()
