"""The table of the learning rates that were tried for each way of choosing a depth."""

from pathlib import Path

from depthsearch.hardware import in_words
from depthsearch.reporting.tables.files import cohort_of, read_runs
from depthsearch.reporting.tables.schema import Tables, frames


def collect(results: Path) -> Tables:
    """All finished runs of `scan_strategy_rates.py` as a tidy table, `strategies_tuning`.

    One row a run: data set, kind, depth, seed, the rate as `setting`, and as `end_loss` minus the validation
    log-likelihood as searched (nats), infinite of a run that diverged.
    """
    rows = []
    for config, summary in read_runs(results, "rates"):
        asked = config["configuration"]
        row = {"scan": config["scan"]} | {k: asked[k] for k in ("data_set", "kind", "max_depth")}
        row |= {"setting": asked["rate"], "seed": config["seed"], "epochs_limit": asked["training"]["epochs"]}
        found = summary.get("variants", {}).get("searched", {"valid_log_likelihood": float("-inf")})
        row |= {"end_loss": -found["valid_log_likelihood"], "device": in_words(config["device"])}
        shared = cohort_of(config, "kind", "max_depth", "rate", of_training=("learning_rate",))
        rows.append(row | {"configuration": config["hash"], "cohort": shared, "started": config["started"]})
    return frames({"strategies_tuning": rows})
