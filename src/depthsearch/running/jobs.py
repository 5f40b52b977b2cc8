"""Jobs: repeats of one setting trained together, from a setting to finished run folders."""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

import torch

from depthsearch.hardware import can_compile, describe, products_in
from depthsearch.learning.loop import Checkpoint, Progress, train
from depthsearch.learning.method import Training
from depthsearch.running.folders import Clash, Reservation, as_plain, reserve, setting_folder
from depthsearch.running.leases import LeaseLost
from depthsearch.studies.setting import Setting


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
    asked = configuration(job.setting, job.training)
    groups: dict[int, list[tuple[Reservation, dict | None]]] = {}
    for reservation in reservations:
        saved = reservation.saved()
        if saved is not None and saved.get("asked") != asked:
            reservation.set_aside("belongs to another setting")
            saved = None
        groups.setdefault(saved["epoch"] if saved else 0, []).append((reservation, saved))
    trained = [_train_group(job, asked, group, on_progress, stop) for group in groups.values()]
    return [summary for summaries in trained for summary in summaries]


def configuration(setting: Setting, training: Training) -> dict:
    """What makes the runs of a setting comparable, as plain values; part of each `config.json`."""
    return json.loads(json.dumps({"setting": asdict(setting), **asdict(training)}))


def defaults(setting: Setting) -> dict:
    """The same of a setting of this kind with nothing chosen."""
    return configuration(type(setting)(), Training())


def _train_group(
    job: Job, asked: dict, group: Sequence[tuple[Reservation, dict | None]], on_progress, stop
) -> list[dict]:
    setting, training, device = job.setting, job.training, job.device
    seeds = [int(r.folder.name.removeprefix("version_")) for r, _ in group]
    splits = [setting.split(seed, job.data).to(device) for seed in seeds]
    networks = [seeded(seed, setting.network).to(device) for seed in seeds]
    steps = training.epochs * math.ceil(len(splits[0].y_train) / training.batch_size)
    compiled = setting.max_depth * steps >= setting.compile_from and can_compile(device)
    torch.compiler.reset()  # shapes of earlier settings count against a limit on recompilation
    depths = [seeded(seed, setting.posterior).to(device) for seed in seeds]
    fields = [field.name for field in dataclasses.fields(Checkpoint)]
    resume = [Checkpoint(**{name: saved[name] for name in fields}) for _, saved in group if saved]
    before = [saved["seconds"] if saved else 0.0 for _, saved in group]
    written = [saved["epoch"] if saved else 0 for _, saved in group]
    start = last = time.perf_counter()
    progress = {"epoch": 0, "epochs": training.epochs}  # one for all: what `status` shows
    for reservation, _ in group:
        reservation.lease.progress = progress
    if resume:
        progress |= {"epoch": resume[0].epoch, "resumed_at": resume[0].epoch}

    def seconds() -> float:
        return (time.perf_counter() - start) / len(seeds)

    def on_epoch(epoch: int, checkpoints: Callable[[], list[Checkpoint]]) -> None:
        nonlocal last
        progress["epoch"] = epoch
        stopping = stop()
        if stopping or time.perf_counter() - last >= job.checkpoint_seconds:
            for i, checkpoint in enumerate(checkpoints()):
                if checkpoint.epoch != written[i]:  # else that replicate has stopped
                    group[i][0].save(vars(checkpoint) | {"asked": asked, "seconds": before[i] + seconds()})
                    written[i] = checkpoint.epoch
            last = time.perf_counter()
        if stopping:
            raise KeyboardInterrupt

    with products_in(training.precision):
        trained = train(
            networks, depths, splits, training, seeds, on_progress, compiled, resume, on_epoch, setting.method
        )
    spent = [s + seconds() for s in before]
    summaries = []
    for (reservation, _), seed, split, result, s in zip(group, seeds, splits, trained, spent, strict=True):
        diverged = result.diverged_epoch is not None
        summary: dict = {"diverged_epoch": result.diverged_epoch, "seconds": {}}
        if not diverged:
            summary |= setting.evaluate(result, split, training)
        summary |= {"best_epoch": result.best_epoch, "epochs": len(result.elbo), "history": result.history}
        summary["seconds"]["training_seconds"] = s
        config = {
            "scan": job.scan,
            "seed": seed,
            **asked,
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


def train_missing(job: Job, report: Callable[[int, str], None], stop: Callable[[], bool]) -> str | None:
    """Trains the folders that nobody else has; says in a line what came out, None if there were none.

    Args:
        job: what to train.
        report: called with the epoch and a line that says how it goes.
        stop: whether to stop at the end of the epoch.

    Raises:
        KeyboardInterrupt: it was stopped, and its runs stand at a checkpoint.
        Clash: another process began another configuration under the name of this one.
    """

    def show(progress: Progress) -> None:
        report(progress.epoch, f"{job}, ELBO {progress.elbo:.3f}, d_opt {mean(progress.pruned_depths):.1f}")

    if stop():
        raise KeyboardInterrupt
    reservations: list[Reservation] = []
    try:
        asked = configuration(job.setting, job.training)
        for folder in job.folders:
            if (reservation := reserve(folder)) is not None:
                reservations.append(reservation)
                reservation.begin(asked)
        if not reservations:
            return None
        if setting_folder(job.folders[0].parent, asked, defaults(job.setting)) != job.folders[0].parent:
            raise Clash(f"{job} was begun elsewhere in another configuration at the same moment")
        summaries = train_job(job, reservations, show, stop)
    except LeaseLost as lost:
        return f"{job}: {lost}"
    finally:
        for reservation in reservations:
            reservation.release()
    whole = [summary for summary in summaries if summary["diverged_epoch"] is None]
    said = f"{job}: {len(whole)} repeats"
    if whole:
        errors = [100 * next(iter(summary["variants"].values()))["test_error"] for summary in whole]
        depths, epochs = ([summary[key] for summary in whole] for key in ("pruned_depth", "epochs"))
        said += f", d_opt {mean(depths):.1f}, test error {mean(errors):.2f} %, {mean(epochs):.0f} epochs"
    return said if len(whole) == len(summaries) else f"{said}, {len(summaries) - len(whole)} diverged"
