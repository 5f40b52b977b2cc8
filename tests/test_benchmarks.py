"""The benchmarks run, at the least size; that of images is too long for a test."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("cells", "--quick", "times as fast"),
        ("overhead", "--depths 2 --epochs 200", "checkpoints and leases"),
        ("spirals", "--depths 2 --seconds 0.01 --rounds 1", "times as fast"),
        ("precision", "--depth 1 --epochs 1 --seeds 2", "default minus float32"),
        ("gpu", "--depth 2 --batch 8 --steps 1", "NAS-Bench-201 space"),
        ("nasbench201", "--quick --rounds 1", "times as fast"),
        ("recurrent", "--quick", "times as fast"),
        ("second_order", "--quick --seeds 2 --pairs 1", "n = 2 searches"),
        ("predictor", "--seeds 2 --epochs 1 --graphs 20 --loop-seeds 1", "times as fast"),
    ],
)
def test_it_runs(name, options, says):
    script = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    out = subprocess.run([sys.executable, str(script), *options.split()], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert says in out.stdout and "FAILED" not in out.stdout
    if name in (
        "cells",
        "nasbench201",
        "recurrent",
    ):  # of medians, rounded to thousandths
        printed = re.findall(r"^(ours|original)\b.*?([\d.]+) s a step", out.stdout, re.M)
        seconds = {way: float(median) for way, median in printed}
        least, most = ((seconds["original"] + e) / (seconds["ours"] - e) for e in (-0.0006, 0.0006))
        ratio = float(out.stdout.partition(f" {says}")[0].split()[-1])
        assert least - 0.01 <= ratio <= most + 0.01


def test_a_device_that_does_not_exist_is_one_line():
    script = Path(__file__).parents[1] / "benchmarks" / "images.py"
    out = subprocess.run([sys.executable, str(script), "--device", "x"], capture_output=True, text=True)
    assert out.returncode == 2 and out.stderr.endswith("device 'x' is not a CUDA device index such as 0\n")
