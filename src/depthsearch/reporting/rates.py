"""The table of the learning rates that were tried for each way of choosing a depth, and which are taken."""

from pathlib import Path

import pandas as pd

from depthsearch.hardware import in_words
from depthsearch.reporting.joining import Tables
from depthsearch.reporting.tables import cohort_of, read_runs, with_stored
from depthsearch.reporting.tuning import TUNING_BELOW, TUNING_DEPTH, rule_said, tuned, tuning_table
from depthsearch.reporting.words import markdown
from depthsearch.strategies import METHODS

TABLES = ("strategies_tuning",)
OLDER = """Compared before this rule, and not run again since: {}. There the weights of depths had a rate of 0.02,
chosen without a record, and a network of the pool stopped as soon as its validation points were fitted, where the
others were given half of the epochs."""

AT_AN_EDGE = """At an edge of what was tried: {}. Another rate may do better: their rows are no bound of what these ways
can do."""


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
    return {"strategies_tuning": pd.DataFrame(rows)}


def all_tables(results: Path) -> Tables:
    """Every such run that a results folder knows of, as in `tables.all_tables`.

    Raises:
        FileNotFoundError: there are neither runs nor tables.
    """
    return with_stored(results, collect(results), TABLES)


def tuning_part(rows: pd.DataFrame, compared: pd.DataFrame) -> list[str]:
    """How the learning rates of the strategies were chosen, and which data sets were `compared` before."""
    rows = rows.assign(log_likelihood=-rows["end_loss"])
    by = {"validation log-likelihood (nats)": ("log_likelihood", 4)}
    table = tuning_table(rows, tuned(rows), [*METHODS], by).replace({"method": {"DDN": "pool"}})
    later = rows["started"] >= TUNING_BELOW[0]
    text = ["## Learning rates", rule_said(TUNING_DEPTH, rows["started"][~later])]
    text += [rule_said(TUNING_BELOW, rows["started"][later])] if later.any() else []
    text.append(markdown(table))
    edge = sorted(set(table.loc[table[""].str.contains("edge"), "method"]) & set(METHODS), key=[*METHODS].index)
    if edge:
        text.append(AT_AN_EDGE.format(", ".join(edge)))
    older = set(compared.loc[compared["started"] < TUNING_DEPTH[0], "data_set"]) if len(compared) else set()
    return [*text, OLDER.format(", ".join(sorted(older)))] if older else text
