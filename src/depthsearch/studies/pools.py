"""Searches of the pool: manual search, random search, the neural predictor look at networks that are trained by then.

Networks that several strategies would train are trained once, as the *pool*: deterministic networks (kind "DDN"). A
search looks into those on the training points. Those on all points but the test points are every strategy's depth
retrained from scratch, and say how good the best depth is.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from depthsearch.hardware import in_words
from depthsearch.learning.method import PAPER
from depthsearch.measuring.choices import SHOWN_METRICS, under_shift
from depthsearch.running.folders import Reservation, as_plain, finished, load_weights, read_run, reserve
from depthsearch.running.scan import Wanted
from depthsearch.running.study import fingerprint, folder_name
from depthsearch.strategies.pool_search import LABEL, SEARCHES, Picked
from depthsearch.studies.choices import Choice
from depthsearch.studies.saved import study_of

_NAMES = ", ".join(SEARCHES)


def search_pools(wanted: Sequence[Wanted], data: Path) -> None:
    """Makes the runs of `SEARCHES` whose pools are finished.

    Args:
        wanted: every study of the scan, and the folders of its repeats.
        data: folder of the image files.
    """
    choices = [(study, folders) for study, folders in wanted if isinstance(study, Choice)]
    presets = [(study, folders) for study, folders in choices if study.kind == "LDN"]
    if choices and not presets:
        print(f"{_NAMES} need LDN among the strategies: they take its settings")
    for preset, folders in presets:
        mine = {s: f for s, f in choices if (s.group, s.kind, s.points) == (preset.group, "DDN", "train")}
        if not mine:
            print(f"{preset.group}: {_NAMES} need DDN among the strategies, the networks that they look at")
            continue
        which = fingerprint({"networks": sorted((s.max_depth, s.width) for s in mine)})
        for i, folder in enumerate(folders):
            pool = [others[i] for others in mine.values()]
            waiting = sum(not finished(f) for f in pool)
            if waiting:
                print(f"{preset.group}, {folder.name}: {waiting} networks of the pool are not there yet")
                continue
            for kind in SEARCHES:
                study = replace(preset, kind=kind, pool=which, rate=None)
                _search(study, folder.parents[1] / folder_name(study) / folder.name, pool, data)


def _search(study: Choice, place: Path, pool: Sequence[Path], data: Path) -> None:
    import pandas as pd

    reservation = None if finished(place) else reserve(place)
    if reservation is None:
        return
    try:
        table = pd.DataFrame([pool_row(*_finished(f)) | {"folder": str(f)} for f in pool])
        table = table.sort_values(["max_depth", "width"], ignore_index=True)
        table[LABEL] = table[LABEL].fillna(table[LABEL].min())  # one that diverged is as bad as any
        _save(reservation, study, SEARCHES[study.kind](table, study.width, reservation.seed), data)
    finally:
        reservation.release()


def _save(reservation: Reservation, study: Choice, found: Picked, data: Path) -> None:
    at = Path(found.chosen["folder"])
    config, summary = _finished(at)
    chosen = study_of(config["configuration"])
    network, depth = chosen.network(), chosen.posterior()
    load_weights(at, network, depth)
    summary |= {
        "costs": found.costs() | {"step_bytes": int(found.trained["step_bytes"].max())},
        "seconds": {"training_seconds": found.costs()["seconds"]},
        "shift": under_shift(PAPER, network, depth, study.split(reservation.seed, data)),
        "width": int(found.chosen["width"]),
        "extra": found.extra,
    }
    asked = study.configuration()
    own = {"configuration": asked, "hash": fingerprint(asked)}  # the device is that of the networks: they took the time
    config = reservation.begin(config | own)
    state = {"network": network, "depth": depth}
    reservation.finish(config, as_plain(summary), summary["history"], state)


def _finished(folder: Path) -> tuple[dict, dict]:
    run = read_run(folder)
    assert run is not None, folder
    return run


def pool_row(config: dict, summary: dict) -> dict:
    """A network of the pool as a row of a table: its size, its metrics, what it cost."""
    asked = config["configuration"]
    row = {"seed": config["seed"], "epochs_limit": asked["training"]["epochs"]}
    row |= {"device": in_words(config["device"])}
    row |= {k: asked[k] for k in ("data_set", "max_depth", "width", "points")}
    found = summary.get("variants", {}).get("searched", {})  # nothing of one that diverged
    row |= {f"{name}_{m}": found.get(f"{name}_{m}") for name in ("valid", "test") for m in SHOWN_METRICS}
    spent = {"seconds": summary["seconds"]["training_seconds"], "epochs": summary["epochs"]}
    return row | spent | summary.get("costs", {})
