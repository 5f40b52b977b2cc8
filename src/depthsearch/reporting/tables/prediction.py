"""Tables of the neural predictor, whose runs lie in `results/runs/scan_predictor`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from depthsearch.hardware import in_words
from depthsearch.measuring.yardsticks import NAMES
from depthsearch.reporting.tables.files import cohort_of, known_runs, nonempty, read_runs
from depthsearch.reporting.tables.schema import PREDICTIONS, Tables, frames
from depthsearch.reporting.tables.shown import shown
from depthsearch.studies.predictor_table import CHOSEN, CLASSIFIER, ENSEMBLE, ONE_STEP, PUBLISHED
from depthsearch.studies.trained_pools import POOLS

ORDER = (*NAMES, PUBLISHED, *ONE_STEP, CHOSEN, ENSEMBLE, CLASSIFIER)  # of predictors
SELECTION = "selection"  # how the `split` of a run of that study begins
MARKS = (1, 10, 50)  # networks that a predictor has trained, at which curves are kept whatever they are thinned to


def collect(results: Path) -> Tables:
    """All finished runs of the predictor as tidy tables, `PREDICTIONS`.

    - `predictor_runs`: one row a run: what it learnt from, which setting cross validation has `chosen`, what its labels
      are (`label`).
    - `predictor`: one row a run, predictor and evaluated set: mean squared error (percent squared), rank correlation.
    - `predictor_selection`: one row a run, search, score and number of trained networks; curves are thinned.
    - `predictor_points`: true and predicted accuracies of some architectures, of repeat 0 of each table.

    All have the `configuration`, its hash; the first also `cohort`, the hash of what all splits share, and when the
    run `started`. The split of a run of selection is `selection` and how many it learns from.
    """
    rows: dict[str, list[dict]] = {name: [] for name in PREDICTIONS.tables}
    for config, summary in read_runs(results, "predictors"):
        asked = config["configuration"]
        split = asked.get("split", f"{SELECTION}-{asked.get('n_train')}")
        key = {"data_set": asked["data_set"], "split": split, "seed": config["seed"]}
        key |= {"epochs_limit": asked["training"]["epochs"], "configuration": config["hash"]}
        making = {"cohort": cohort_of(config, "split"), "started": config["started"]}
        spent = {"seconds": summary["seconds"]["training_seconds"], "device": in_words(config["device"])}
        found = {"ensemble": asked["ensemble"], "chosen": summary["chosen"], "label": summary["label"]}
        rows["predictor_runs"].append(key | making | found | spent)
        rows["predictor"] += [key | row for row in summary.get("rows", [])]
        rows["predictor_selection"] += [key | row for row in _curves(asked, summary.get("curves", {}))]
        if config["seed"] == 0 and "points" in summary:
            rows["predictor_points"] += pd.DataFrame(summary["points"]).assign(**key).to_dict("records")
    return {name: table.map(_as_written) for name, table in frames(rows).items()}


def _as_written(value: Any) -> Any:
    # With the digits of a table on disk, so that pages are the same from there.
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _curves(asked: Mapping, curves: Mapping) -> list[dict]:
    n, budget = asked.get("n_train", 0), asked.get("budget", 0)
    kept = sorted({*range(10, budget + 1, 10), n, budget, *(n + more for more in MARKS if n + more <= budget)})
    return [
        {"search": search, "scored": scored, "n_train": n, "trained": count, "accuracy": values[count - 1]}
        for search, own in curves.items()
        for scored, values in own.items()
        for count in kept
    ]


def read_tables(results: Path) -> Tables:
    """Of the runs of the predictor that a results folder knows of what is `shown`.

    Raises:
        FileNotFoundError: there are neither runs nor tables.
    """
    return shown_tables(nonempty(known_runs(results, collect), results))[0]


def shown_tables(tables: Tables) -> tuple[Tables, list[str]]:
    """What is `shown` of the predictor, pool by pool and small splits first, and a line for each cohort left out."""
    found, lines = shown({name: tables[name] for name in PREDICTIONS.tables})
    return {name: _in_order(table) for name, table in found.items()}, lines


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    places = [(POOLS.index(data_set), *_size(split)) for data_set, split in table[["data_set", "split"]].to_numpy()]
    return table.iloc[sorted(range(len(table)), key=places.__getitem__)].reset_index(drop=True)


def _size(split: str) -> tuple[int, bool, bool]:
    """How many cells a split is of, whether it is nested, whether only those above 91 %."""
    return int(split.rpartition("-")[2]), "nested-" in split, split.startswith("91-")
