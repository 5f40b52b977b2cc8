"""Training settings into run folders, and the command line that all scans share."""

import argparse
import contextlib
import dataclasses
import errno
import json
import math
import multiprocessing
import os
import platform
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from tqdm import tqdm

from depthsearch.data import IMAGE_SETS, DataError
from depthsearch.runs import Reservation, as_plain, finished, reserve
from depthsearch.settings import Images, Setting
from depthsearch.training import Checkpoint, Progress, Training, train

ROOT = Path(__file__).parents[2]
RESULTS, DATA = ROOT / "results", ROOT / "data"


class Problem(Exception):
    """Bad input: one line that says what is wrong and what to do."""


@dataclass(frozen=True)
class Job:
    """Repeats of one setting to be trained together.

    Attributes:
        scan: its name, the folder under `results/runs`.
        setting: what to train.
        swept: which field of the setting the scan varies.
        folders: run folders, one a repeat.
        training, device, data: how, where, and with which folder of image files.
        checkpoint_seconds: how much work may be lost, at most, beside the epoch under way.
    """

    scan: str
    setting: Setting
    swept: str
    folders: list[Path]
    training: Training
    device: torch.device
    data: Path
    checkpoint_seconds: float = 30.0

    def __str__(self) -> str:
        where = "" if self.setting.data_set == "spirals" else f"{self.setting.data_set} "
        swept = "max_depth" if self.swept == "data_set" else self.swept
        return f"{where}{self.setting.kind} {swept} {getattr(self.setting, swept):g}"


def train_job(
    job: Job, reservations: Sequence[Reservation], on_progress=lambda progress: None, stop=lambda: False
) -> list[dict]:
    """Trains, evaluates and saves a replicate for each reserved folder; returns the summaries.

    Folders with a checkpoint go on from it, those at the same epoch together. Where `stop()` says so, checkpoints are
    written at the end of the epoch.

    Raises:
        KeyboardInterrupt: it was stopped.
    """
    asked = json.dumps([asdict(job.setting), asdict(job.training)], sort_keys=True)
    groups: dict[int, list[tuple[Reservation, dict | None]]] = {}
    for reservation in reservations:
        saved = reservation.saved()
        if saved is not None and saved.get("asked") != asked:
            reservation.set_aside("belongs to another setting")
            saved = None
        groups.setdefault(saved["epoch"] if saved else 0, []).append((reservation, saved))
    return [summary for group in groups.values() for summary in _train_group(job, asked, group, on_progress, stop)]


def _train_group(
    job: Job, asked: str, group: Sequence[tuple[Reservation, dict | None]], on_progress, stop
) -> list[dict]:
    setting, training, device = job.setting, job.training, job.device
    seeds = [int(r.folder.name.removeprefix("version_")) for r, _ in group]
    splits = [setting.split(seed, job.data).to(device) for seed in seeds]
    networks = [seeded(seed, setting.network).to(device) for seed in seeds]
    steps = training.epochs * math.ceil(len(splits[0].y_train) / training.batch_size)
    compiled = setting.max_depth * steps >= setting.compile_from and device.type == "cpu" and can_compile()
    torch.compiler.reset()  # shapes of earlier settings count against a limit on recompilation
    tf32 = training.precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    depths = [seeded(seed, setting.posterior).to(device) for seed in seeds]
    fields = [field.name for field in dataclasses.fields(Checkpoint)]
    resume = [Checkpoint(**{name: saved[name] for name in fields}) for _, saved in group if saved]
    before = [saved["seconds"] if saved else 0.0 for _, saved in group]
    written = [saved["epoch"] if saved else 0 for _, saved in group]
    start = last = time.perf_counter()

    def seconds() -> float:
        return (time.perf_counter() - start) / len(seeds)

    def on_epoch(checkpoints) -> None:
        nonlocal last
        stopping = stop()
        if stopping or time.perf_counter() - last >= job.checkpoint_seconds:
            for i, checkpoint in enumerate(checkpoints()):
                if checkpoint.epoch != written[i]:  # else that replicate has stopped
                    group[i][0].save(vars(checkpoint) | {"asked": asked, "seconds": before[i] + seconds()})
                    written[i] = checkpoint.epoch
            last = time.perf_counter()
        if stopping:
            raise KeyboardInterrupt

    trained = train(networks, depths, splits, training, seeds, on_progress, compiled, resume, on_epoch, setting.method)
    spent = [s + seconds() for s in before]
    summaries = []
    for (reservation, _), seed, split, result, s in zip(group, seeds, splits, trained, spent, strict=True):
        summary = setting.evaluate(result, split, training)
        summary |= {"best_epoch": result.best_epoch, "epochs": len(result.elbo), "history": result.history}
        summary["seconds"]["training_seconds"] = s
        config = {
            "scan": job.scan,
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
        summaries.append(summary)
    return summaries


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
    settings: Sequence[Setting],
    swept: str,
    quick: Sequence[Setting],
    flag: str,
    argv: Sequence[str] | None = None,
    then: Callable[[Sequence[tuple[Setting, Training, list[Path]]]], None] = lambda wanted: None,
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
        then: called at the end with every setting, how it is trained and the folders of its repeats.
    """
    parser = _parser(scan, settings[0], swept, flag)
    options = parser.parse_args(argv)
    results = Path(options.results)
    try:
        device = pick_device(options.device)
        grid = list(quick if options.quick else settings)
        images = [setting for setting in grid if isinstance(setting, Images)]
        if images:
            grid = _choose_images(images, options.datasets, options.protocol)
        values = getattr(options, flag)
        if values is not None and swept == "data_set":
            grid = [setting for value in values for setting in _of_data_set(grid, value)]
        elif values is not None:
            bases = {replace(setting, **{swept: values[0]}) for setting in grid}
            grid = [replace(base, **{swept: value}) for base in sorted(bases, key=str) for value in values]
        repeats = (2 if options.quick else 4) if options.repeats is None else options.repeats
        in_parallel = device.type == "cpu" and not options.quick and not images
        workers = (os.cpu_count() or 1 if in_parallel else 1) if options.workers is None else options.workers
        _check(grid, options.epochs, repeats, workers)
        data = Path(getattr(options, "data", DATA))
        _check_writable(results)
        precision = precision_of(getattr(options, "precision", "float32"), device)
        jobs, wanted = [], []
        for setting in grid:
            default_epochs = setting.quick_epochs if options.quick else setting.training.epochs
            epochs = default_epochs if options.epochs is None else options.epochs
            training = replace(setting.training, precision=precision, epochs=epochs)
            root = results / "runs" / scan / setting.data_set / setting.folder(training)
            wanted.append((setting, training, [root / f"version_{r}" for r in range(repeats)]))
            missing = [f for f in wanted[-1][-1] if not finished(f)]
            n = setting.side_by_side
            for folders in (missing[i : i + n] for i in range(0, len(missing), n)):
                jobs.append(Job(scan, setting, swept, folders, training, device, data, options.checkpoint_seconds))
        if not jobs:
            print(f"{scan}: all {repeats} repeats of {len(grid)} settings are finished; --repeats N adds more")
        elif options.dry_run:
            paths = [folder for job in jobs for folder in job.folders]
            print(*paths, f"{len(paths)} runs missing", sep="\n")
        else:
            for setting in {job.setting.data_set: job.setting for job in jobs}.values():
                setting.split(0, data)  # a missing or damaged file is known before anything is trained
            run_jobs(jobs, workers)
        if not options.dry_run:
            then(wanted)
    except (Problem, DataError) as problem:
        print(f"{parser.prog}: {problem}", file=sys.stderr)
        raise SystemExit(2) from None
    except (KeyboardInterrupt, OSError) as stopped:
        if isinstance(stopped, OSError) and stopped.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        full = isinstance(stopped, OSError)
        command = shlex.join(["python", parser.prog, *map(str, sys.argv[1:] if argv is None else argv)])
        why = f"{parser.prog}: {results} is on a full disk" if full else "\ninterrupted"
        kept = "finished runs are kept, the others at their last checkpoint"
        print(f"{why}: {kept}. To go on: {command}", file=sys.stderr)
        raise SystemExit(1 if full else 130) from None


def precision_of(name: str, device: torch.device) -> str:
    """`auto` is bfloat16 where the hardware multiplies matrices in it."""
    if name == "tf32" and device.type != "cuda":
        raise Problem("--precision tf32 needs a CUDA device; give float32 or auto")
    if name != "auto":
        return name
    if device.type == "cuda":
        with torch.cuda.device(device):
            return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # not in older versions of torch
    return "bfloat16" if capabilities.get("amx_bf16") else "float32"


def _of_data_set(grid: Sequence[Setting], name: str) -> list[Setting]:
    found = [setting for setting in grid if setting.data_set == name]
    if not found:
        there = ", ".join(dict.fromkeys(setting.data_set for setting in grid))
        raise Problem(f"no data set {name!r} in this grid; there are {there}")
    return found


def _choose_images(grid: list[Images], names: list[str] | None, protocol: str) -> list[Setting]:
    """The grid of the data sets that were asked for, under one protocol."""
    wrong = [name for name in names or [] if name not in IMAGE_SETS]
    if wrong:
        raise Problem(f"no image data set {wrong[0]!r}; there are {', '.join(IMAGE_SETS)}")
    if names:
        first = [s for s in grid if s.data_set == grid[0].data_set]
        grid = [replace(setting, data_set=name) for name in names for setting in first]
    return [replace(setting, protocol=protocol) for setting in grid]


def run_jobs(jobs: Sequence[Job], workers: int = 1) -> None:
    """Trains what nobody else has in hand, on `workers` processes, under one progress bar.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came, and all runs stand at a checkpoint; a second signal does not wait.
    """
    if jobs[0].device.type == "cpu":
        print("no CUDA device here: running on the CPU", file=sys.stderr)
    workers = min(workers, len(jobs))
    with tqdm(total=sum(job.training.epochs for job in jobs), unit="epoch", smoothing=0.05) as bar, _stopping() as stop:
        if workers > 1:
            _share_out(jobs, workers, bar, stop)
            return
        before = 0
        for job in jobs:

            def report(epoch: int, said: str, before: int = before) -> None:
                bar.update(before + epoch - bar.n)
                bar.set_postfix_str(said)

            said = _train_missing(job, report, stop)
            before += job.training.epochs
            _tell(bar, said, before)


@contextlib.contextmanager
def _stopping():
    """A function that says whether SIGINT or SIGTERM came; a second one interrupts at once."""
    came: list[int] = []

    def note(number: int, frame) -> None:
        came.append(number)
        if len(came) > 1:
            raise KeyboardInterrupt
        print("\nstopping at the end of the epoch; once more to stop at once", file=sys.stderr)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _train_missing(job: Job, report, stop) -> str | None:
    """Trains the folders that nobody else has; says in a line what came out, None if there were none."""

    def show(progress: Progress) -> None:
        report(progress.epoch, f"{job}, ELBO {progress.elbo:.3f}, d_opt {mean(progress.pruned_depths):.1f}")

    if stop():
        raise KeyboardInterrupt
    reservations: list[Reservation] = []
    try:
        for folder in job.folders:
            if (reservation := reserve(folder)) is not None:
                reservations.append(reservation)
        if not reservations:
            return None
        summaries = train_job(job, reservations, show, stop)
    except BaseException:
        for reservation in reservations:
            if not finished(reservation.folder):
                reservation.release()
        raise
    errors = [100 * next(iter(summary["variants"].values()))["test_error"] for summary in summaries]
    depths, epochs = ([summary[key] for summary in summaries] for key in ("pruned_depth", "epochs"))
    return (
        f"{job}: {len(summaries)} repeats, d_opt {mean(depths):.1f}, "
        f"test error {mean(errors):.2f} %, {mean(epochs):.0f} epochs"
    )


# Worker processes. Small networks use one core well and several badly, so a CPU scan trains one setting a core.


def _share_out(jobs: Sequence[Job], workers: int, bar: tqdm, stopping) -> None:
    context = multiprocessing.get_context("spawn")
    queue, stop = context.Queue(), context.Event()
    done = [0] * len(jobs)  # epochs of each job
    longest_first = sorted(range(len(jobs)), key=lambda i: -jobs[i].setting.cost)
    with ProcessPoolExecutor(workers, context, _start_worker, (queue, stop, os.getpid())) as pool:
        futures = {pool.submit(_work, number, jobs[number]): number for number in longest_first}
        pending = set(futures)
        try:
            while pending:
                if stopping():
                    raise KeyboardInterrupt
                finished_now, pending = wait(pending, timeout=0.5)
                while not queue.empty():
                    number, epoch, said = queue.get()
                    done[number] = epoch
                    bar.set_postfix_str(said)
                for future in finished_now:
                    done[futures[future]] = jobs[futures[future]].training.epochs
                    _tell(bar, future.result(), sum(done))
                bar.update(sum(done) - bar.n)
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _tell(bar: tqdm, said: str | None, epochs: int) -> None:
    if said:
        bar.write(said)
    bar.update(epochs - bar.n)


_shared: Any = None  # of this worker: the queue of its progress, and the event that stops it


def _start_worker(queue, stop, parent: int) -> None:
    global _shared
    _shared = queue, stop, parent
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the parent is interrupted, and stops us
    torch.set_num_threads(1)


def _work(number: int, job: Job) -> str | None:
    queue, stop, parent = _shared

    def report(epoch: int, said: str) -> None:
        queue.put((number, epoch, said))

    try:
        return _train_missing(job, report, lambda: stop.is_set() or os.getppid() != parent)  # killed, it cannot tell
    except KeyboardInterrupt:
        return None  # the parent knows


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
    parser.add_argument("device", nargs="?", default="0", help="CUDA device index (default 0; the CPU where no GPU is)")
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
        "--workers", type=int, help="processes that share the scan (default: the cores; images, --quick: 1)"
    )
    parser.add_argument("--quick", action="store_true", help="a small grid, 2 repeats, few epochs")
    parser.add_argument("--dry-run", action="store_true", help="print the runs that are missing and stop")
    return parser


def _check(grid: Sequence[Setting], epochs: int | None, repeats: int, workers: int) -> None:
    for option, value in (("--workers", workers), ("--repeats", repeats), ("--epochs", epochs)):
        if value is not None and value < 1:
            raise Problem(f"{option} must be 1 or more, got {value}")
    problems = [setting.problem() for setting in grid]
    if any(problems):
        raise Problem(next(problem for problem in problems if problem))


def _check_writable(results: Path) -> None:
    if results.exists() and not results.is_dir():
        raise Problem(f"results path {results} is a file; give a folder")
    try:
        (results / "runs").mkdir(parents=True, exist_ok=True)
        probe = results / "runs" / f".probe-{time.time_ns()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise Problem(f"cannot write to results folder {results}: {error.strerror}") from None
