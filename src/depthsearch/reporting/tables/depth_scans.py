"""Tables of the scans of depth, and of what else one run of LDN or DDN is varied in, on spirals and images."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pandas as pd

from depthsearch.hardware import in_words
from depthsearch.reporting.tables.files import cohort_of, known_runs, nonempty, read_runs, thin
from depthsearch.reporting.tables.schema import FAIR, RUNS, Tables, frames
from depthsearch.reporting.tables.shown import shown
from depthsearch.studies.spirals import Spirals


def collect(results: Path) -> Tables:
    """The finished runs under `results/runs` as the tables of the family `RUNS`; those of the comparison are elsewhere.

    - `runs`: one row a run: its configuration, chosen depths, the metric sets of each variant under
      `<variant>_<split>_<metric>`, parameters, epochs, `largest_rise` of the validation error, seconds, hardware;
      `DDN_predict_seconds` of an LDN run is that of a deterministic network of the same depth.
    - `depths`: one row a run and depth: q, prior, exact posterior, metric sets per depth.
    - `reliability`: one row a run, variant and confidence bin.
    - `curves`: one row a run on images and logged epoch.
    - `diverged`: one row a run whose loss became infinite or no number, with its `epoch`; it is in no other table.

    All have the values of the configuration and its hash, `configuration`; the two of one row a run also `cohort`, the
    hash of what the settings of a scan share, and when the run `started`. A run that cannot be read is left out, and
    said so.
    """
    tables: dict[str, list[dict]] = {name: [] for name in RUNS.tables}
    for config, summary in read_runs(results, "depth"):
        key = _key(config)
        # Where points fit one batch, whether batches are even is not said.
        cohort = cohort_of(config, config["swept"], of_training=("even_batches",))
        making = {"cohort": cohort, "started": config["started"]}
        if summary.get("diverged_epoch") is not None:
            tables["diverged"].append(key | making | {"epoch": summary["diverged_epoch"]})
            continue
        tables["runs"].append(key | making | _row(config, summary))
        tables["depths"] += [key | depth for depth in summary["depths"]]
        for variant, bins in summary["reliability"].items():
            for i, (count, confidence, accuracy) in enumerate(zip(*bins.values(), strict=True)):
                if count:
                    values = {"bin": i, "count": count, "confidence": confidence, "accuracy": accuracy}
                    tables["reliability"].append(key | {"variant": variant} | values)
        if config["scan"].endswith("_images"):
            tables["curves"] += [key | point for point in thin(summary["history"])]
    return frames(tables)


def _key(config: Mapping) -> dict:
    asked, training = config["configuration"], config["configuration"]["training"]
    values = {k: v for k, v in asked.items() if not isinstance(v, Mapping) and k != "study"}
    how = {"precision": training["precision"], "configuration": config["hash"], "seed": config["seed"]}
    # What is trained otherwise is another scan, for all that looks for its rows; of images a cohort (`parts.cohorts`).
    fair = asked["study"] == Spirals.name and asked.get("protocol") == "fair"
    scan = f"{config['scan']}{FAIR if fair else ''}"
    return {"scan": scan, **values, **how, "epochs_limit": training["epochs"]}


def _row(config: Mapping, summary: Mapping) -> dict:
    row = {k: summary[k] for k in ("pruned_depth", "expected_depth", "kl_to_exact", "parameters")}
    row |= {k: summary[k] for k in ("pruned_parameters", "best_epoch", "epochs")}
    row["selected_by"] = config["configuration"].get("selection", {}).get("by")  # runs of before 2026-11-28 have none
    selected = next((point for point in summary["history"] if point["epoch"] == summary["best_epoch"]), {})
    row |= {k: v for k, v in selected.items() if k.startswith("valid_")}
    row["largest_rise"] = largest_rise(summary["history"])
    row |= summary["seconds"] | {"device": in_words(config["device"]), "replicates": config["replicates"]}
    for variant, values in summary["variants"].items():
        row |= {f"{variant}_{k}": v for k, v in values.items()}
    return row


def largest_rise(history: Sequence[Mapping]) -> float:
    """How far the validation error rose, at most, from one epoch to the next; NaN of no such pair.

    Of the whole history: the curves in the tables are thinned.
    """
    rises = [
        after["valid_error"] - before["valid_error"]
        for before, after in pairwise(history)
        if "valid_error" in before and after["epoch"] == before["epoch"] + 1
    ]
    return max(rises, default=math.nan)


def all_tables(results: Path) -> Tables:
    """All such runs that a results folder knows of: those in `runs`, and in `tables` the rows of runs elsewhere."""
    found = known_runs(results, collect)
    curves = found["curves"]
    found["curves"] = curves[curves["scan"].str.endswith("_images")]  # earlier tables have those of spirals too
    return found | {name: overflowed_last(found[name]) for name in ("runs", "depths")}


def overflowed_last(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a log-likelihood of -inf where there is an error but no likelihood.

    That is of a network whose logits overflow on a test point. A summary has no infinite numbers, and one that is
    missing would be left out of a median where it should come last.
    """
    names = [str(name) for name in table]
    likelihoods = {name: name.replace("log_likelihood", "error") for name in names if name.endswith("log_likelihood")}
    for name, error in likelihoods.items():
        if error in names:
            overflowed = table[name].isna() & table[error].notna()
            table = table.assign(**{name: table[name].mask(overflowed, -math.inf)})
    return table


def read_tables(results: Path) -> Tables:
    """Of `all_tables` what is `shown`.

    Raises:
        FileNotFoundError: there are neither runs nor tables.
    """
    return shown(nonempty(all_tables(results), results))[0]
