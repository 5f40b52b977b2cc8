"""The comparison of strategies: searches of the pool, and runs as tidy tables.

Runs lie in `results/runs/scan_strategies/<data set>/`. Networks that several strategies would train are trained once,
as the *pool*: deterministic networks (kind "DDN"). Manual search, random search and the neural predictor look into
those on the training points. Those on all points but the test points are every strategy's depth retrained from scratch,
and say how good the best depth is.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd

from depthsearch.data.split import Split
from depthsearch.hardware import in_words
from depthsearch.learning.method import PAPER, Training
from depthsearch.measuring.choices import under_shift
from depthsearch.reporting.tables import stored_tables, thin
from depthsearch.running.folders import (
    Reservation,
    as_plain,
    configuration_number,
    finished,
    load_weights,
    read_run,
    reserve,
    run_folders,
    setting_folder,
)
from depthsearch.running.jobs import configuration, defaults
from depthsearch.strategies import METHODS, SEARCHES
from depthsearch.strategies.search import LABEL, Found
from depthsearch.studies.choices import Strategy
from depthsearch.studies.setting import Setting

TABLES = ("strategies", "strategies_pool", "strategies_shift", "strategies_curves")
METRICS = ("error", "log_likelihood", "brier", "ece")
MODES = ("searched", "truncated", "retrained")


# The searches of a pool.


def search_pools(wanted: Sequence[tuple[Setting, Training, list[Path]]], data: Path) -> None:
    """Makes the runs of `SEARCHES` whose pools are finished.

    Args:
        wanted: every setting of the scan, how it is trained, and the folders of its repeats.
        data: folder of the image files.
    """
    strategies = [(s, t, f) for s, t, f in wanted if isinstance(s, Strategy)]
    for preset, training, folders in (row for row in strategies if row[0].kind == "LDN"):
        mine = [(s, f) for s, _, f in strategies if (s.data_set, s.kind, s.points) == (preset.data_set, "DDN", "train")]
        for repeat, folder in enumerate(folders):
            pool = [others[repeat] for _, others in mine]
            waiting = sum(not finished(f) for f in pool)
            if waiting or not pool:
                print(f"{preset.data_set}, repeat {repeat}: {waiting} networks of the pool are not there yet")
                continue
            table = pd.DataFrame([_pool_row(f) for f in pool]).sort_values(["max_depth", "width"], ignore_index=True)
            table[LABEL] = table[LABEL].fillna(table[LABEL].min())  # one that diverged is as bad as any
            for kind, search in SEARCHES.items():
                setting = replace(preset, kind=kind)
                root, asked = folder.parents[1] / setting.folder(training), configuration(setting, training)
                place = setting_folder(root, asked, defaults(setting)) / folder.name
                reservation = None if finished(place) else reserve(place)
                if reservation is None:
                    continue
                try:
                    found = search(table, preset.width, repeat)
                    _save(reservation, setting, training, repeat, found, pool, setting.split(repeat, data))
                finally:
                    reservation.release()


def _save(
    reservation: Reservation,
    setting: Strategy,
    training: Training,
    seed: int,
    found: Found,
    pool: Sequence[Path],
    split: Split,
) -> None:
    chosen = found.chosen
    at = next(f for f in pool if str(f) == chosen["folder"])
    config, summary = _finished(at)
    ddn = Strategy(**config["setting"])
    network, depth = ddn.network(), ddn.posterior()
    load_weights(at, network, depth)
    summary |= {
        "costs": found.costs() | {"step_bytes": int(found.trained["step_bytes"].max())},
        "seconds": {"training_seconds": found.costs()["seconds"]},
        "shift": under_shift(PAPER, network, depth, split),
        "width": int(chosen["width"]),
        "extra": found.extra,
    }
    config |= configuration(setting, training)
    tags = {**asdict(setting), "seed": seed, **asdict(training)}
    state = {"network": network, "depth": depth}
    reservation.finish(config, as_plain(summary), summary["history"], state, tags)


def _finished(folder: Path) -> tuple[dict, dict]:
    run = read_run(folder)
    assert run is not None, folder
    return run


def _pool_row(folder: Path) -> dict:
    config, summary = _finished(folder)
    row = {"folder": str(folder), "seed": config["seed"], "epochs_limit": config["epochs"]}
    row |= {"device": in_words(config["device"])}
    row |= {k: config["setting"][k] for k in ("data_set", "max_depth", "width", "points")}
    found = summary.get("variants", {}).get("searched", {})  # nothing of one that diverged
    row |= {f"{name}_{m}": found.get(f"{name}_{m}") for name in ("valid", "test") for m in METRICS}
    return (
        row
        | {"seconds": summary["seconds"]["training_seconds"], "epochs": summary["epochs"]}
        | summary.get("costs", {})
    )


# Tables.


def collect(results: Path) -> dict[str, pd.DataFrame]:
    """All finished runs of the comparison as tidy tables, keyed by `TABLES`.

    - `strategies`: one row a run: chosen depth and width, costs, test metrics under `<mode>_<metric>`, of which
      `retrained` is looked up in the pool; `regret`: how far its retrained log-likelihood lies below that of
      `best_depth`, the best of the preset's width on the test points; Kendall's tau and mean squared error of the
      predictor. Of a run whose loss was no longer finite there is `diverged_epoch` and nothing else.
    - `strategies_pool`: one row a deterministic network.
    - `strategies_shift`: one row a run and amount of shift.
    - `strategies_curves`: one row a run and logged epoch: entropy of q, expected depth.
    """
    rows: dict[str, list[dict]] = {name: [] for name in TABLES}
    for folder in run_folders(results, comparison=True):
        run = read_run(folder)
        if run is None or configuration_number(folder) > 1:
            print(f"{folder} is {'damaged' if run is None else 'of another configuration'}: left out", file=sys.stderr)
            continue
        config, summary = run
        setting = config["setting"]
        if setting["kind"] == "DDN":
            pool_row = _pool_row(folder)
            del pool_row["folder"]
            rows["strategies_pool"].append(pool_row)
            continue
        key = {"data_set": setting["data_set"], "strategy": setting["kind"], "seed": config["seed"]}
        key |= {"epochs_limit": config["epochs"]}
        row = key | {"max_depth": setting["max_depth"], "preset_width": setting["width"]}
        row |= {"device": in_words(config["device"])}
        diverged = summary.get("diverged_epoch")
        row |= {"diverged_epoch": math.nan if diverged is None else diverged}
        if diverged is not None:
            rows["strategies"].append(row)
            continue
        row |= {"depth": summary["pruned_depth"], "width": summary.get("width", setting["width"])}
        row |= {"expected_depth": summary["expected_depth"], "epochs": summary["epochs"]}
        row |= {"seconds": summary["seconds"]["training_seconds"]} | summary["costs"]
        for mode, found in summary["variants"].items():
            row |= {f"{mode}_{m}": found[f"test_{m}"] for m in METRICS}
        rows["strategies"].append(row | summary.get("extra", {}))
        rows["strategies_shift"] += [key | point for point in summary["shift"]]
        for point in thin(summary["history"]) if setting["kind"] in METHODS else []:
            columns = ("epoch", "depth_entropy", "expected_depth", "pruned_depth", "valid_log_likelihood")
            rows["strategies_curves"].append(key | {k: point[k] for k in columns})
    tables = {name: pd.DataFrame(found) for name, found in rows.items()}
    return tables | {"strategies": _with_retrained(tables["strategies"], tables["strategies_pool"])}


def _with_retrained(strategies: pd.DataFrame, pool: pd.DataFrame) -> pd.DataFrame:
    if "depth" not in strategies or pool.empty:
        return strategies
    keys = ["data_set", "seed", "epochs_limit"]
    retrained = pool[pool["points"] == "all"].rename(columns={f"test_{m}": f"retrained_{m}" for m in METRICS})
    retrained = retrained.rename(columns={"max_depth": "depth"})
    columns = [*keys, "depth", "width"]
    table = strategies.merge(retrained[columns + [f"retrained_{m}" for m in METRICS]], on=columns, how="left")
    at_preset = retrained.merge(strategies[[*keys, "preset_width"]].drop_duplicates(), on=keys)
    at_preset = at_preset[at_preset["width"] == at_preset["preset_width"]].dropna(subset="retrained_log_likelihood")
    if at_preset.empty:
        return table
    best = at_preset.loc[at_preset.groupby(keys)["retrained_log_likelihood"].idxmax()]
    names = {"depth": "best_depth", "retrained_log_likelihood": "best_log_likelihood"}
    table = table.merge(best.rename(columns=names)[[*keys, *names.values()]], on=keys, how="left")
    return table.assign(regret=table["best_log_likelihood"] - table["retrained_log_likelihood"])


def read_tables(results: Path) -> dict[str, pd.DataFrame]:
    """The same from the runs, or from `results/tables` where there are none; of each data set the longest runs.

    Raises:
        FileNotFoundError: there is neither.
    """
    there = next(run_folders(results, comparison=True), None) is not None
    tables = collect(results) if there else stored_tables(results, TABLES)
    return {name: _longest(table) for name, table in tables.items()}


def _longest(table: pd.DataFrame) -> pd.DataFrame:
    if table.empty:
        return table
    limit = table.groupby("data_set")["epochs_limit"].transform("max")
    return table[table["epochs_limit"] == limit].reset_index(drop=True)
