"""What the page of the neural predictor shows in tables: errors beside yardsticks, single steps, selection, costs."""

from collections.abc import Iterator, Mapping

import pandas as pd

from depthsearch.measuring.yardsticks import NAMES
from depthsearch.reporting.intervals import Interval, interval_of
from depthsearch.reporting.judging.rules import FEWEST
from depthsearch.reporting.tables.prediction import MARKS, ORDER
from depthsearch.reporting.tables.schema import Tables
from depthsearch.reporting.words import difference_said, span
from depthsearch.studies.predictor_selection import EVOLUTION, ORACLE, PREDICTOR, RANDOM_SEARCH, WITH_CLASSIFIER
from depthsearch.studies.predictor_table import CHOSEN, CLASSIFIER, ENSEMBLE, ONCE, ONE_STEP, PUBLISHED, SCALED, XAVIER
from depthsearch.studies.trained_pools import NB101

PUBLISHED_ERRORS = {  # mean squared error (percent squared): of the paper, of its reproduction by ultmaster
    ("172", "all"): ("1.95", "3.62"),
    ("860", "all"): ("", "2.94"),
    ("172", "denoise-80"): ("", "1.90"),
    ("91-172", "denoise-91"): ("0.66", "0.74"),
}


KEYS = ["data_set", "split", "evaluated"]
FROM = "train → evaluation"
LEAD = f"{ENSEMBLE}, minus best yardstick"


def compared(tables: Tables) -> list[tuple[dict, pd.DataFrame]]:
    """What is predicted from what (`KEYS`), and the mean squared errors there, a row a repeat, a column a predictor."""
    rows = tables["predictor"]
    groups = rows.groupby(KEYS, sort=False)
    return [
        (dict(zip(KEYS, key, strict=True)), group.pivot(index="seed", columns="predictor", values="mse"))
        for key, group in groups
    ]


def from_what(key: Mapping[str, str]) -> str:
    """`172 → denoise-91`: what is learnt from, and what is predicted."""
    return f"{key['split']} → {key['evaluated']}"


def lead_over_yardsticks(errors: pd.DataFrame) -> tuple[str, Interval]:
    """The yardstick with the least mean error (repeats,), and the paired difference of the ensemble to it."""
    best = str(errors[[name for name in NAMES if name in errors]].mean().idxmin())
    return best, interval_of(errors[ENSEMBLE] - errors[best])


def lead_over_published(errors: pd.DataFrame, ours: str) -> Interval:
    """The paired difference of ours to the network as published, or to the best that differs from it in one thing."""
    theirs = errors[[name for name in (PUBLISHED, *ONE_STEP) if name in errors]]
    return interval_of(errors[ours] - theirs[theirs.mean().idxmin()])


def yardstick_table(tables: Tables) -> pd.DataFrame:
    """Errors beside those of the best yardstick, and beside the published ones where there are such."""
    found = []
    for key, errors in compared(tables):
        on101 = key["data_set"] == NB101
        paper, reproduction = PUBLISHED_ERRORS.get((key["split"], key["evaluated"]), ("", "")) if on101 else ("", "")
        best, lead = lead_over_yardsticks(errors)
        found.append(
            {
                "table": key["data_set"],
                FROM: from_what(key),
                "paper": paper,
                "reproduction": reproduction,
                "n": len(errors),
                PUBLISHED: spread_and_median(errors[PUBLISHED]),
                ENSEMBLE: spread_and_median(errors[ENSEMBLE]),
                "best yardstick": f"{spread_and_median(errors[best])} ({best})",
                LEAD: difference_said(lead),
                "better than it": verdict(lead.negated()),
            }
        )
    return pd.DataFrame(found)


def split_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean squared error, rank correlation and R² of every predictor, for the rows of one split."""
    found = []
    for name in ORDER:
        own = rows[rows["predictor"] == name]
        if own.empty:
            continue
        row = {"predictor": name, "n": own["seed"].nunique()}
        for title, column in (("MSE", "mse"), ("Kendall's tau", "kendall_tau"), ("R²", "r2")):
            row |= {
                f"{title}, {evaluated}": spread_and_median(group[column]) if group[column].notna().any() else ""
                for evaluated, group in own.groupby("evaluated", sort=False)
            }
        found.append(row)
    return pd.DataFrame(found)


STEPS = {
    "the transpose normalised once, not twice": (ONCE, PUBLISHED),
    "the head starts Xavier uniform": (XAVIER, PUBLISHED),
    "labels normalised by those learnt from": (SCALED, PUBLISHED),
    "all that *chosen* changes": (CHOSEN, PUBLISHED),
    "an ensemble": (ENSEMBLE, CHOSEN),
    "a classifier in front": (CLASSIFIER, ENSEMBLE),
}


def step_table(tables: Tables) -> pd.DataFrame:
    """Paired differences between predictors that differ in one step, or in all of those of the chosen one."""
    found = []
    for key, errors in compared(tables):
        row = {"table": key["data_set"], FROM: from_what(key), "n": len(errors)}
        for step, (new, old) in STEPS.items():
            row[step] = difference_said(interval_of(errors[new] - errors[old])) if {new, old} <= set(errors) else ""
        found.append(row)
    return pd.DataFrame(found)


RIVALS = {RANDOM_SEARCH: "random", EVOLUTION: "evolution"}  # of the predictors, and how a column calls them
PREDICTORS = (PREDICTOR, WITH_CLASSIFIER)


def selection_table(tables: Tables) -> pd.DataFrame:
    """Accuracy of each search after as many trained cells, and the lead of the `PREDICTORS` over their `RIVALS`."""
    found = []
    for place, n, at in _stages(tables):
        row = {"table": place["table"], "accuracy on": place["scored"], "learnt from": n}
        row |= {"trained": place["trained"], "n": len(at)}
        for name in (RANDOM_SEARCH, *(s for s in at if s not in (RANDOM_SEARCH, ORACLE)), ORACLE):
            row[str(name)] = f"{at[name].mean():.2f} ± {at[name].std() if at[name].nunique() > 1 else 0:.2f}"
        for rival, predictor, lead in _leads(at):
            row[f"{predictor} − {RIVALS[rival]}"] = f"{difference_said(lead)}, {verdict(lead)}"
        found.append(row)
    return pd.DataFrame(found)


def selection_leads(tables: Tables) -> pd.DataFrame:
    """The leads of `selection_table`, a row each: `table`, `scored`, `trained`, `rival`, `predictor`, `verdict`."""
    return pd.DataFrame(
        [
            place | {"rival": rival, "predictor": predictor, "verdict": verdict(lead)}
            for place, _, at in _stages(tables)
            for rival, predictor, lead in _leads(at)
        ]
    )


def _stages(tables: Tables) -> Iterator[tuple[dict, int, pd.DataFrame]]:
    """The numbers of trained cells at which searches are compared: where that is, how many cells a predictor learnt
    from, and accuracies, a row a repeat, a column a search."""
    rows = tables["predictor_selection"]
    for (data_set, _, scored), group in rows.groupby(["data_set", "split", "scored"], sort=False):
        n = int(group["n_train"].iloc[0])
        ends = [*(n + more for more in MARKS), int(group["trained"].max())]
        for trained in sorted(set(ends) & set(group["trained"])):
            at = group[group["trained"] == trained].pivot(index="seed", columns="search", values="accuracy")
            yield {"table": data_set, "scored": scored, "trained": trained}, n, at


def _leads(at: pd.DataFrame) -> Iterator[tuple[str, str, Interval]]:
    for rival in (name for name in RIVALS if name in at):
        for predictor in PREDICTORS:
            yield rival, predictor, interval_of(at[predictor] - at[rival])


def verdict(lead: Interval) -> str:
    """Of a difference that should lie above 0."""
    _, low, high, n = lead
    if n < FEWEST:
        return f"undecided: needs {FEWEST} repeats"
    return "yes" if low > 0 else "no" if high < 0 else "undecided"


def spread_and_median(values: pd.Series) -> str:
    """Mean and standard deviation; of values that are all the same, none; of errors, one far off, the median too."""
    deviation = values.std() if values.nunique() > 1 else 0
    said = f"{values.mean():.3g} ± {deviation:.2g}"
    return f"{said}, median {values.median():.3g}" if values.min() >= 0 and deviation > values.mean() else said


def cost_table(runs: pd.DataFrame) -> pd.DataFrame:
    groups = runs.groupby(["data_set", "split"], sort=False)
    return pd.DataFrame(
        [
            {
                "table": data_set,
                "split": split,
                "repeats": group["seed"].nunique(),
                "networks of an ensemble": span(group["ensemble"]),
                "minutes, all repeats": f"{group['seconds'].sum() / 60:.1f}",
                "hardware": ", ".join(group["device"].unique()),
            }
            for (data_set, split), group in groups
        ]
    )
