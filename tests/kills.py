"""Kills a scan at random moments until it is done, and compares it with one left in peace.

    python tests/kills.py [--kills 30] [--epochs 3000] [--seed 0] [--folder DIR]

Spirals, two depths, 2 repeats, a checkpoint after every epoch, SIGKILL to all processes at once. Exit status 0 where
all summaries are the same but for their timings, and neither folder has a file that the other lacks.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCAN = Path(__file__).parents[1] / "experiments" / "scan_max_depth_spirals.py"
OPTIONS = ("0", "--depths", "3", "6", "--repeats", "2", "--workers", "1", "--checkpoint-seconds", "0")


def scan(results: Path, epochs: int) -> list[str]:
    return [sys.executable, str(SCAN), *OPTIONS, "--epochs", str(epochs), "--results", str(results)]


def timed(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def summaries(results: Path) -> dict[str, dict]:
    found = {}
    for path in sorted(results.rglob("summary.json")):
        found[str(path.relative_to(results))] = json.loads(path.read_text()) | {"seconds": None}
    return found


def files(results: Path) -> set[str]:
    # TensorBoard names its files by time and process
    return {str(p.relative_to(results)) for p in results.rglob("*") if p.is_file() and "tfevents" not in p.name}


def written_since(results: Path, begun: float) -> bool:
    with contextlib.suppress(FileNotFoundError):  # it is renamed or removed meanwhile
        return any(path.stat().st_mtime > begun for path in results.rglob("checkpoint.pt"))
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=3000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    folder, rng, kills = options.folder or Path(tempfile.mkdtemp()), random.Random(options.seed), 0
    peace, killed = (scan(folder / name, options.epochs) for name in ("peace", "killed"))
    seconds = timed(peace)
    start = timed(peace)  # nothing is left to do
    print(f"left in peace {seconds:.1f} s, {start:.1f} s of it to start", flush=True)
    while True:
        begun = time.time()
        process = subprocess.Popen(killed, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
        if kills == options.kills:
            process.wait()
            break
        if rng.random() < 0.1:
            time.sleep(start * rng.random())  # before it has begun
        else:
            while process.poll() is None and not written_since(folder / "killed", begun):
                time.sleep(0.01)
            time.sleep((seconds - start) / options.kills * rng.random())  # all kills come before it is done
        if process.poll() is not None:
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    same = summaries(folder / "killed") == summaries(folder / "peace")
    stray = files(folder / "killed") ^ files(folder / "peace")
    verdict = f"{len(summaries(folder / 'peace'))} summaries {'equal' if same else 'DIFFER'}"
    print(f"{kills} kills, exit status {process.returncode}, {verdict}, stray files: {stray or 'none'}")
    sys.exit(0 if same and not stray and process.returncode == 0 else 1)


if __name__ == "__main__":
    main()
