"""Tables of the searches of cells, of all spaces and of what they are held against."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

import pandas as pd

from depthsearch.hardware import in_words
from depthsearch.reporting.tables.files import cohort_of, read_runs, thin
from depthsearch.reporting.tables.schema import CELLS, Tables, frames
from depthsearch.studies.darts_cells import DartsCell
from depthsearch.studies.nasbench201 import NASBench201Cell

OF_A_STRATEGY = ("kind", "alpha_rate", "partial", "architect", "stages", "trial_epochs", "trial", "training")
SIZES = ("channels", "cells")  # there the paper's progressive search is of another size than the others
ASKED = ("channels", "cells", "n_train", "pixels", "batch_size", "first_seed", "width", "bptt", "n_words")
FOUND = ("architecture", "skip_only", "skips", "c10", "c100", "in16", "parameters", "index", "changes")
LOGGED = ("train_loss", "valid_loss", "valid_error", "trials", "operation_evaluations", "c10", "c100", "in16")
SHORTS = ("c10", "c100", "in16")
STACKED = ("best on CIFAR-10", "random cell")  # of the yardsticks
END = 0.75  # of the epochs: what comes after counts
IN_THE_END = ("_mode", "_sd", "_best")  # what is of no interest before


def collect(results: Path) -> Tables:
    """All finished searches as tidy tables, `CELLS`.

    - `cells`: one row a run: its configuration, of which `setting` is what is tuned (the learning rate of alpha, or how
      long random search trains a cell); the cell found and its true accuracies (percent), where it is of NAS-Bench-201;
      entropy of the mixing weights at the start and the end (nats, a mean over edges and choices), changes of the
      largest option; what the search believes in the end, as in `believed_accuracies`; `end_loss`, of the tuning; cost.
    - `cells_history`: one row a run and epoch, at most forty a run: losses, entropy, the cell and the belief over time.

    Both have the `configuration`, its hash; the first also `cohort`, the hash of what strategies share, and when the
    run `started`.
    """
    rows: dict[str, list[dict]] = {name: [] for name in CELLS.tables}
    for config, summary in read_runs(results, "cells"):
        asked = config["configuration"]
        key = {"scan": config["scan"], "space": asked["study"], "data_set": asked["data_set"], "kind": asked["kind"]}
        key |= {"epochs_limit": asked["training"]["epochs"], "configuration": config["hash"], "seed": config["seed"]}
        varied = OF_A_STRATEGY + (SIZES if asked["study"] == DartsCell.name else ())
        making = {"cohort": cohort_of(config, *varied), "started": config["started"]}
        rows["cells"].append(key | making | _row(config, summary))
        rows["cells_history"] += [key | _point(row) for row in thin(summary["history"])]
    return frames(rows)


def _row(config: Mapping, summary: Mapping) -> dict:
    asked, history = config["configuration"], summary["history"]
    row = {name: asked.get(name) for name in ASKED} | {"setting": asked.get("trial_epochs", asked.get("alpha_rate"))}
    row |= {"precision": asked["training"]["precision"], "diverged_epoch": summary["diverged_epoch"]}
    row |= {name: summary.get(name) for name in FOUND}
    entropy = summary.get("entropy", {})
    row |= {f"entropy_{when}": mean(entropy[when].values()) if when in entropy else None for when in ("start", "end")}
    row |= {"end_loss": _loss(summary), "trials": len(summary["trials"]) if "trials" in summary else None}
    row |= _believed(history[-1]) if history else {}
    row |= {"operation_evaluations": summary["operation_evaluations"]}
    return row | {"seconds": summary["seconds"]["training_seconds"], "device": in_words(config["device"])}


def _loss(summary: Mapping) -> float | None:
    """`end_loss`, of random search that of the cell that it chose; None of a search that diverged."""
    history = summary["history"]
    if summary["diverged_epoch"] is not None:
        return None
    if "trials" in summary:
        return history[-1]["valid_loss"]
    return end_loss(history)


def end_loss(history: Sequence[Mapping]) -> float | None:
    """The validation loss that a search ends with, from its rows; None where alpha was not learnt then."""
    late = [row["valid_loss"] for row in history if row["epoch"] > END * history[-1]["epoch"] and "valid_loss" in row]
    return sum(late) / len(late) if late else None


def _point(row: Mapping) -> dict:
    point = {"epoch": row["epoch"]}
    for name in ("entropy", "changed"):
        values = [value for key, value in row.items() if key.startswith(f"{name}_")]
        point[name] = (mean if name == "entropy" else sum)(values) if values else None
    drawn = {key: value for key, value in _believed(row).items() if not key.endswith(IN_THE_END)}
    return point | {name: row.get(name) for name in LOGGED} | drawn


def _believed(row: Mapping) -> dict:
    return {key: value for key, value in row.items() if key.startswith(tuple(f"{short}_" for short in SHORTS))}


def cells_to_stack(rows: pd.DataFrame) -> dict[str, str]:
    """Cells of NAS-Bench-201 that are worth a chain.

    Args:
        rows: of the table `cells`.

    Returns:
        of each strategy the cell whose search ended with the least validation loss, the first of equals, and of each of
        `STACKED` the one of its first repeat.
    """
    rows = rows[(rows["scan"] == "scan_nasbench201") & (rows["space"] == NASBench201Cell.name)].sort_values("seed")
    searched = rows[rows["end_loss"].notna()]
    best = searched.loc[searched.groupby("kind")["end_loss"].idxmin()]
    known = rows[rows["kind"].isin(STACKED)].groupby("kind").head(1)
    return {**best.set_index("kind")["architecture"], **known.set_index("kind")["architecture"]}
