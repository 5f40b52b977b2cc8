"""Tables of LDN on spirals with one thing other than in the paper."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from depthsearch.hardware import in_words
from depthsearch.reporting.tables.depth_scans import overflowed_last
from depthsearch.reporting.tables.files import cohort_of, known_runs, read_runs
from depthsearch.reporting.tables.schema import Tables, frames
from depthsearch.reporting.tables.shown import VARIED, shown
from depthsearch.studies.variations import Variation

PAPER = {name: getattr(Variation(), name) for name in VARIED}
FITS = ("as learnt", "refitted")
SHIFTED = ("log_likelihood", "auroc")


def collect(results: Path) -> Tables:
    """All finished runs as a tidy table, `variations`.

    One row a run and way to have q, its `fit` of `FITS`: its configuration, data `seed`, chosen depths, KL to the exact
    posterior as learnt (nats), test error and log-likelihood of LDN-95 under `test_<metric>`, of LDN-full the means
    over all amounts of shift but none under `shift_<metric>`, cost; `cohort`, the hash of what all variations share,
    and when the run `started`. One that diverged has its epoch and no more.
    """
    rows = []
    for config, summary in read_runs(results, "variations"):
        asked = config["configuration"]
        key = {"scan": config["scan"], "data_set": asked["data_set"], "max_depth": asked["max_depth"]}
        key |= {name: asked[name] for name in PAPER} | {"epochs_limit": asked["training"]["epochs"]}
        key |= {"configuration": config["hash"], "seed": asked["first_seed"] + config["seed"]}
        making = {"cohort": _cohort(asked), "started": config["started"]}
        cost = {"epochs": summary["epochs"], "seconds": summary["seconds"]["training_seconds"]}
        cost |= {"device": in_words(config["device"]), "diverged_epoch": summary["diverged_epoch"]}
        if summary["diverged_epoch"] is not None:
            rows += [key | making | {"fit": fit} | cost for fit in FITS]
            continue
        for fit, found in zip(FITS, (summary, summary["refitted"]), strict=True):
            rows.append(key | making | {"fit": fit} | cost | _found(found))
            rows[-1]["kl_to_exact"] = summary["kl_to_exact"] if fit == FITS[0] else 0.0
    return frames({"variations": rows})


def _cohort(asked: Mapping) -> str:
    """The hash of what all variations share; of patience and the limit on epochs, their ratio."""
    limited = {**asked, "limit": asked["training"]["epochs"] / asked["patience"]}
    return cohort_of({"configuration": limited}, *PAPER, "first_seed", of_training=("epochs", "patience"))


def _found(found: Mapping) -> dict:
    row = {name: found[name] for name in ("pruned_depth", "expected_depth")}
    row |= {f"test_{name}": found["variants"]["LDN-95"][f"test_{name}"] for name in ("error", "log_likelihood")}
    points = overflowed_last(pd.DataFrame(found["shift"]))
    averages = points.loc[points["shift"] > 0, list(SHIFTED)].astype(float).mean()  # of the AUROC that are known
    return row | {f"shift_{name}": float(averages[name]) for name in SHIFTED}


def drawn_depth(rows: pd.DataFrame) -> int:
    """The D of the figure: that of most runs, of as many the least."""
    return int(rows["max_depth"].mode().min())


def read_tables(results: Path) -> Tables:
    """Of the variations that a results folder knows of what is `shown`; an empty table where nothing is there."""
    return shown(known_runs(results, collect))[0]


def what_varies(run: Mapping) -> str:
    """Of a row of the table, in words: `learning rate of q x 10`; of the paper's `as in the paper`."""
    words = {
        "q_rate": "learning rate of q x {:g}",
        "kl_weight": "KL weight {:g}",
        "prior_ratio": "prior ratio {:g}",
        "patience": "patience {:g} epochs",
    }
    said = [words[name].format(run[name]) for name, value in PAPER.items() if run[name] != value]
    return ", ".join(said) or "as in the paper"


AS_IS = what_varies(PAPER)


def with_words(rows: pd.DataFrame) -> pd.DataFrame:
    """The table with `variation`, as of `what_varies`, the paper's first, then by what varies and how far."""
    rows = rows.assign(variation=[what_varies(run) for run in rows.to_dict("records")])
    changed = pd.DataFrame({f"other {name}": rows[name] != value for name, value in PAPER.items()})
    order = pd.concat([changed, rows[[*PAPER, "fit", "seed"]]], axis=1)
    return rows.loc[order.sort_values(list(order.columns)).index]
