"""Kills a scan at random moments until it is done, and compares it with one left in peace.

    python tests/kills.py [--kills 30]          one process, a checkpoint after every epoch
    python tests/kills.py --processes 4         four that share the folder, one of them killed every --every seconds

Spirals, several depths, 2 repeats, SIGKILL; what is killed is started again. Exit status 0 where all summaries are the
same but for their timings and neither folder has a file that the other lacks; of several processes also each run must
have been finished once, and the epochs trained in all be at most 15 % more than in peace.
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
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
ALONE = ("--depths", "3", "6", "--checkpoint-seconds", "0")
TOGETHER = ("--depths", "3", "5", "7", "9", "11", "13", "--checkpoint-seconds", "0.2")


def scan(results: Path, epochs: int, options: tuple[str, ...]) -> list[str]:
    command = [sys.executable, str(HERE / "counted.py"), f"{results}.counts", "0", "--results", str(results)]
    return [*command, "--workers", "1", "--repeats", "2", "--epochs", str(epochs), *options]


def timed(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def start(command: list[str]) -> subprocess.Popen:
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)


def kill(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def summaries(results: Path) -> dict[str, dict]:
    found = {}
    for path in sorted(results.rglob("summary.json")):
        found[str(path.relative_to(results))] = json.loads(path.read_text()) | {"seconds": None}
    return found


def files(results: Path) -> set[str]:
    # TensorBoard names its files by time and process
    return {str(p.relative_to(results)) for p in results.rglob("*") if p.is_file() and "tfevents" not in p.name}


def counted(results: Path) -> tuple[int, Counter]:
    """Epochs trained, and how often each run was finished."""
    lines = [line.split() for line in Path(f"{results}.counts").read_text().splitlines()]
    epochs = sum(int(value) for what, value in lines if what == "epoch")
    return epochs, Counter(str(Path(value).relative_to(results)) for what, value in lines if what == "finish")


def written_since(results: Path, begun: float) -> bool:
    with contextlib.suppress(FileNotFoundError):  # it is renamed or removed meanwhile
        return any(path.stat().st_mtime > begun for path in results.rglob("checkpoint.pt"))
    return False


def kill_alone(command: list[str], killed: Path, kills: int, seconds: float, idle: float, rng: random.Random) -> int:
    for done in range(kills):
        begun, process = time.time(), start(command)
        if rng.random() < 0.1:
            time.sleep(idle * rng.random())  # before it has begun
        else:
            while process.poll() is None and not written_since(killed, begun):
                time.sleep(0.01)
            time.sleep((seconds - idle) / kills * rng.random())  # all kills come before it is done
        if process.poll() is not None:
            return done
        kill(process)
    subprocess.run(command, check=True, capture_output=True)
    return kills


def kill_one_of(command: list[str], n: int, every: float, rng: random.Random) -> int:
    kills, processes = 0, [start(command) for _ in range(n)]
    while any(process.poll() is None for process in processes):
        time.sleep(every * (0.5 + rng.random()))
        i = rng.randrange(n)
        if processes[i].poll() is None:
            kill(processes[i])
            processes[i] = start(command)
            kills += 1
    subprocess.run(command, check=True, capture_output=True)  # nothing is left, or what one killed at the end had
    return kills


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--every", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=3000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    folder, rng, together = (
        options.folder or Path(tempfile.mkdtemp()),
        random.Random(options.seed),
        options.processes > 1,
    )
    peace, killed = folder / "peace", folder / "killed"
    commands = [scan(results, options.epochs, TOGETHER if together else ALONE) for results in (peace, killed)]
    seconds = timed(commands[0])
    idle = timed(commands[0])  # nothing is left to do
    print(f"left in peace {seconds:.1f} s, {idle:.1f} s of it to start", flush=True)
    if together:
        kills = kill_one_of(commands[1], options.processes, options.every, rng)
    else:
        kills = kill_alone(commands[1], killed, options.kills, seconds, idle, rng)

    same, stray = summaries(killed) == summaries(peace), files(killed) ^ files(peace)
    (epochs, finished), (alone, expected) = counted(killed), counted(peace)
    print(f"{kills} kills, {len(expected)} summaries {'equal' if same else 'DIFFER'}, stray files: {stray or 'none'}")
    print(f"epochs trained {epochs}, in peace {alone}: {100 * (epochs / alone - 1):+.1f} %")
    good = same and not stray
    if together:
        print("each run finished once" if finished == expected else f"finished: {finished}")
        good = good and finished == expected and epochs <= 1.15 * alone
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
