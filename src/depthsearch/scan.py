"""Run configurations, the paper's spiral settings, and the command line that all scans share."""

import argparse
import multiprocessing
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from depthsearch.data import spiral_split
from depthsearch.evaluation import evaluate
from depthsearch.networks import DepthNetwork, mlp_resnet
from depthsearch.posteriors import CategoricalDepth, DepthPosterior, FixedDepth, geometric_prior
from depthsearch.runs import Reservation, as_plain, finished, reserve
from depthsearch.training import Progress, Trained, Training, train

RESULTS = Path(__file__).parents[2] / "results"
SIDE_BY_SIDE = 16  # replicates trained together at most
COMPILE_FROM = 40_000  # blocks x epochs from which compiling costs less than it saves


@dataclass(frozen=True)
class Spirals:
    """One setting of the spiral experiments. The defaults are the paper's (protocol of section 4.1).

    Attributes:
        kind: "LDN" (learnt depth) or "DDN" (deterministic depth, the baseline).
        max_depth, width: of the network.
        n: data points, 10 % of them for training.
        stop_angle: degrees that each arm turns.
        noise: width of the uniform noise.
    """

    kind: str = "LDN"
    max_depth: int = 20
    width: int = 20
    n: int = 2000
    stop_angle: float = 720.0
    noise: float = 0.2

    def folder(self, epochs: int) -> str:
        """Name of its run folders; everything that the command line can change is in it."""
        name = f"{self.kind}_depth{self.max_depth}_width{self.width}_n{self.n}"
        return f"{name}_angle{self.stop_angle:g}_noise{self.noise:g}_epochs{epochs}"

    def network(self) -> DepthNetwork:
        return mlp_resnet(self.max_depth, self.width)

    def posterior(self) -> DepthPosterior:
        return FixedDepth(self.max_depth) if self.kind == "DDN" else CategoricalDepth(geometric_prior(self.max_depth))


class Problem(Exception):
    """Bad input: one line that says what is wrong and what to do."""


def train_setting(
    scan: str,
    setting: Spirals,
    reservations: Sequence[Reservation],
    training: Training,
    device: torch.device,
    on_progress=lambda progress: None,
) -> list[Trained]:
    """Trains, evaluates and saves one setting, a replicate for each reserved folder."""
    seeds = [int(r.folder.name.removeprefix("version_")) for r in reservations]
    splits = [spiral_split(setting.n, setting.stop_angle, setting.noise, seed).to(device) for seed in seeds]
    networks = [seeded(seed, setting.network).to(device) for seed in seeds]
    compiled = device.type == "cpu" and setting.max_depth * training.epochs >= COMPILE_FROM and can_compile()
    torch.compiler.reset()  # shapes of earlier settings count against a limit on recompilation
    start = time.perf_counter()
    depths = [setting.posterior().to(device) for _ in seeds]
    trained = train(networks, depths, splits, training, seeds, on_progress, compiled)
    seconds = (time.perf_counter() - start) / len(seeds)
    for reservation, seed, split, result in zip(reservations, seeds, splits, trained, strict=True):
        summary = evaluate(
            result.network,
            result.depth,
            {"train": (split.x_train, split.y_train), "test": (split.x_test, split.y_test)},
        )
        summary |= {"best_epoch": result.best_epoch, "epochs": len(result.elbo), "history": result.history}
        summary["seconds"] = {"training_seconds": seconds}
        config = {
            "scan": scan,
            "setting": asdict(setting),
            "seed": seed,
            **asdict(training),
            "compiled": compiled,
            "replicates": len(seeds),
            "device": describe(device),
        }
        reservation.finish(
            config,
            as_plain(summary),
            result.history,
            {"network": result.network.cpu(), "depth": result.depth.cpu()},
            tags={**asdict(setting), "seed": seed, **asdict(training)},
        )
    return trained


def seeded(seed: int, build):
    """build() with torch's global generator seeded, and left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def can_compile() -> bool:
    """Whether torch.compile has the C++ compiler it needs on a CPU."""
    from torch._inductor import cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except exc.InvalidCxxCompiler:
        return False
    return True


def describe(device: torch.device) -> dict:
    """The hardware and versions that a run was made with."""
    cuda = device.type == "cuda"
    return {
        "name": torch.cuda.get_device_name(device) if cuda else f"CPU ({platform.machine()})",
        "threads": None if cuda else torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


# The command line.


def run_scan(
    scan: str,
    settings: Sequence[Spirals],
    swept: str,
    quick: Sequence[Spirals],
    flag: str,
    argv: Sequence[str] | None = None,
) -> None:
    """The main function of a scan script.

    Args:
        scan: its name, the folder under `results/runs`.
        settings: the grid, in order.
        swept: which field of `Spirals` the grid varies.
        quick: the grid of --quick.
        flag: option that overrides the grid, e.g. "depths".
        argv: arguments, those of the process if not given.
    """
    parser = _parser(scan, swept, flag)
    options = parser.parse_args(argv)
    try:
        device = pick_device(options.device)
        grid = quick if options.quick else settings
        values = getattr(options, flag)
        if values is not None:
            grid = [replace(settings[0], **{swept: value}) for value in values]
        default_epochs, default_repeats = (300, 2) if options.quick else (Training.epochs, 4)
        training = Training(epochs=default_epochs if options.epochs is None else options.epochs)
        repeats = default_repeats if options.repeats is None else options.repeats
        _check(grid, training, repeats)
        results = _writable(Path(options.results))
        default_workers = os.cpu_count() or 1 if device.type == "cpu" and not options.quick else 1
        workers = default_workers if options.workers is None else options.workers
        if workers < 1:
            raise Problem(f"--workers must be 1 or more, got {workers}")
        run_grid(scan, grid, swept, training, repeats, results, device, workers, options.dry_run)
    except Problem as problem:
        print(f"{parser.prog}: {problem}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("\ninterrupted: finished runs are kept; run the same command again to go on", file=sys.stderr)
        raise SystemExit(130) from None


def run_grid(
    scan: str,
    grid: Sequence[Spirals],
    swept: str,
    training: Training,
    repeats: int,
    results: Path,
    device: torch.device,
    workers: int = 1,
    dry_run: bool = False,
) -> None:
    """Trains whatever is missing of `repeats` versions of each setting, on `workers` processes."""
    root = results / "runs" / scan / "spirals"
    jobs: list[tuple[Spirals, list[Path]]] = []
    for setting in grid:
        versions = [root / setting.folder(training.epochs) / f"version_{r}" for r in range(repeats)]
        missing = [folder for folder in versions if not finished(folder)]
        jobs += [(setting, missing[i : i + SIDE_BY_SIDE]) for i in range(0, len(missing), SIDE_BY_SIDE)]
    if not jobs:
        print(f"{scan}: all {repeats} repeats of {len(grid)} settings are finished; --repeats N adds more")
        return
    if dry_run:
        paths = [folder for _, folders in jobs for folder in folders]
        print(*paths, f"{len(paths)} runs missing", sep="\n")
        return
    if device.type == "cpu":
        print("no CUDA device here: running on the CPU", file=sys.stderr)
    workers = min(workers, len(jobs))
    with tqdm(total=training.epochs * len(jobs), unit="epoch", smoothing=0.05) as bar:
        if workers == 1:
            for number, (setting, folders) in enumerate(jobs):
                before = training.epochs * number

                def report(epoch: int, said: str, before: int = before) -> None:
                    bar.update(before + epoch - bar.n)
                    bar.set_postfix_str(said)

                _tell(
                    bar,
                    _train_missing(scan, setting, swept, folders, training, device, report),
                    before + training.epochs,
                )
        else:
            _share_out(scan, jobs, swept, training, device, workers, bar)


def _train_missing(scan, setting, swept, folders, training, device, report) -> str | None:
    """Trains the folders that nobody else has; says in a line what came out, None if there were none."""

    def show(progress: Progress) -> None:
        depths = sum(progress.pruned_depths) / len(progress.pruned_depths)
        value = getattr(setting, swept)
        report(progress.epoch, f"{swept} {value:g}, ELBO {progress.elbo:.3f}, d_opt {depths:.1f}")

    reservations: list[Reservation] = []
    try:
        for folder in folders:
            if (reservation := reserve(folder)) is not None:
                reservations.append(reservation)
        if not reservations:
            return None
        trained = train_setting(scan, setting, reservations, training, device, show)
    except BaseException:
        for reservation in reservations:
            if not finished(reservation.folder):
                reservation.release()
        raise
    rows = [t.history[-1] for t in trained]
    error = sum(row["test_error"] for row in rows) / len(rows)
    depth = sum(row["pruned_depth"] for row in rows) / len(rows)
    epochs = sum(len(t.elbo) for t in trained) / len(trained)
    return (
        f"{setting.kind} {swept} {getattr(setting, swept):g}: {len(trained)} repeats, d_opt {depth:.1f}, "
        f"test error {100 * error:.2f} %, {epochs:.0f} epochs"
    )


# Worker processes. Small networks use one core well and several badly, so a CPU scan trains one setting a core.


def _share_out(scan, jobs, swept, training, device, workers, bar) -> None:
    context = multiprocessing.get_context("spawn")
    queue, stop = context.Queue(), context.Event()
    done = dict.fromkeys(range(len(jobs)), 0)  # epochs of each job
    longest_first = sorted(range(len(jobs)), key=lambda i: -jobs[i][0].max_depth * jobs[i][0].width * jobs[i][0].n)
    with ProcessPoolExecutor(workers, context, _start_worker, (queue, stop)) as pool:
        futures = {
            pool.submit(_work, number, scan, jobs[number][0], swept, jobs[number][1], training, device): number
            for number in longest_first
        }
        pending = set(futures)
        try:
            while pending:
                finished_now, pending = wait(pending, timeout=0.5)
                while not queue.empty():
                    number, epoch, said = queue.get()
                    done[number] = epoch
                    bar.set_postfix_str(said)
                for future in finished_now:
                    done[futures[future]] = training.epochs
                    _tell(bar, future.result(), sum(done.values()))
                bar.update(sum(done.values()) - bar.n)
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _tell(bar: tqdm, said: str | None, epochs: int) -> None:
    if said:
        bar.write(said)
    bar.update(epochs - bar.n)


_shared: Any = None  # of this worker: the queue of its progress, and the event that stops it


def _start_worker(queue, stop) -> None:
    global _shared
    _shared = queue, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, and stops us
    torch.set_num_threads(1)


def _work(number, scan, setting, swept, folders, training, device) -> str | None:
    queue, stop = _shared

    def report(epoch: int, said: str) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        queue.put((number, epoch, said))

    return None if stop.is_set() else _train_missing(scan, setting, swept, folders, training, device, report)


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


def _parser(scan: str, swept: str, flag: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"{scan}.py", description=f"Scans {swept} on spirals.")
    parser.add_argument("device", nargs="?", default="0", help="CUDA device index (default 0; the CPU where no GPU is)")
    parser.add_argument("--repeats", type=int, help="finished versions of each setting that should exist (default 4)")
    parser.add_argument("--epochs", type=int, help=f"at most this many (default {Training.epochs})")
    parser.add_argument("--results", default=str(RESULTS), help="results folder (default %(default)s)")
    kind = float if isinstance(getattr(Spirals, swept), float) else int
    parser.add_argument(f"--{flag}", type=kind, nargs="+", help=f"override the grid of {swept}")
    parser.add_argument("--workers", type=int, help="processes that share the scan (default: the cores; 1 on a GPU)")
    parser.add_argument("--quick", action="store_true", help="a small grid, 2 repeats, 300 epochs")
    parser.add_argument("--dry-run", action="store_true", help="print the runs that are missing and stop")
    return parser


def _check(grid: Sequence[Spirals], training: Training, repeats: int) -> None:
    if repeats < 1:
        raise Problem(f"--repeats must be 1 or more, got {repeats}")
    if training.epochs < 1:
        raise Problem(f"--epochs must be 1 or more, got {training.epochs}")
    for s in grid:
        if s.max_depth < 0:
            raise Problem(f"depth must be 0 or more, got {s.max_depth}")
        if s.width < 1:
            raise Problem(f"width must be 1 or more, got {s.width}")
        if s.n < 20 or s.n % 2:
            raise Problem(f"n must be an even number of at least 20 points (10 % train), got {s.n}")
        if not s.stop_angle > 0:
            raise Problem(f"stop angle must be positive (degrees), got {s.stop_angle:g}")


def _writable(results: Path) -> Path:
    if results.exists() and not results.is_dir():
        raise Problem(f"results path {results} is a file; give a folder")
    try:
        (results / "runs").mkdir(parents=True, exist_ok=True)
        probe = results / "runs" / f".probe-{time.time_ns()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise Problem(f"cannot write to results folder {results}: {error.strerror}") from None
    return results
