"""The text of results/predictor.md: the neural predictor on tables of trained cells."""

from collections.abc import Sequence

import pandas as pd

from depthsearch.measuring.yardsticks import NAMES
from depthsearch.reporting.claims import paired
from depthsearch.reporting.joining import Tables
from depthsearch.reporting.prediction import MARKS, ORDER
from depthsearch.reporting.rules import FEWEST, Interval
from depthsearch.reporting.words import markdown, span
from depthsearch.studies.predictor_selection import ORACLE, PREDICTOR, RANDOM_SEARCH, WITH_CLASSIFIER
from depthsearch.studies.predictor_table import CHOSEN, CLASSIFIER, ENSEMBLE, ONCE, PUBLISHED
from depthsearch.studies.trained_pools import NB101

SAID = {  # mean squared error (percent squared): of the paper, of its reproduction by ultmaster
    ("172", "all"): ("1.95", "3.62"),
    ("860", "all"): ("", "2.94"),
    ("172", "denoise-80"): ("", "1.90"),
    ("91-172", "denoise-91"): ("0.66", "0.74"),
}


def predictor_page(tables: Tables, others: Sequence[str]) -> str:
    """The text of results/predictor.md.

    Args:
        tables: what is shown of the predictor's.
        others: a line for each cohort of runs that is not.
    """
    left_out = "\n".join(f"- not shown: {line}." for line in others)
    return (
        f"""# The neural predictor on NAS-Bench

Generated from the saved runs by `make figures`; no measured number here is typed.

{HOW_TO_READ.strip()}

{_labels(tables["predictor_runs"])}

## Beside the published numbers

Mean squared error (percent squared) on NAS-Bench-101. The numbers of the paper and of its reproduction are of single
seeds, whose accuracies are noisier, and of all 423,624 cells; those here are of the labels above and of the cells of
the table at hand. So compare within the columns to the right. The best yardstick is the one with the least error here,
which favours it; the difference is paired over repeats, mean and 95 % t-interval.

{markdown(published_table(tables))}

## How well accuracies are predicted

{_splits(tables)}

## What single steps change

Difference of the mean squared error, paired over repeats, mean and 95 % t-interval; below 0 the step helps.

{markdown(step_table(tables))}

## Selection from end to end

{SELECTION.strip()}

{markdown(selection_table(tables))}

## What was run

Minutes are wall time; other work ran beside these runs, and some of them stood still meanwhile, so they are upper
bounds.

{markdown(_costs(tables["predictor_runs"]))}
{left_out}
""".rstrip()
        + "\n"
    )


HOW_TO_READ = """
A predictor learns from the accuracies of a few trained cells and predicts those of all others (Wen et al. 2020, arXiv
1912.00848). *As published*: the paper's network and training. *Chosen*: networks that also see what can be counted on a
graph, with a nonlinear head, of the setting that five-fold cross validation within the training cells chooses; no other
cell enters that choice. There are two settings to choose from: accuracies are fitted as they are ("counts"), or as the
logarithm of how far they lie below a bound ("counts, bounded"); the width, 32, was fixed by the cross-validated error
within split 172 and by what it costs. *Ensemble*: the mean of several of them. *Classifier in front*: the paper's first
stage, which keeps what it expects above 91 %. Yardsticks learn from the same cells; ridge, random forest and gradient
boosting see the same counts as the chosen networks. Cells that were learnt from are not scored, nor are those without
a label.

Splits 172, 334, 860 are permutations of the rows of the table at hand, drawn as in the original: of a part of the table
they are other cells than the original's. They are the same for all repeats, which differ in the networks' seeds alone;
a repeat of a nested split has a permutation of its own. `91-`: of those cells the ones above 91 %; `denoise-80`,
`denoise-91`: all cells above 80 or 91 %. Mean ± standard deviation over n repeats.
"""
SELECTION = """
Each search trains cells one after the other and in the end takes the one with the best label; the table says how good
that is. The predictor learns from the first cells, drawn as in random search, ranks all others and trains the best;
cells that the table does not know are passed over, as if the whole space had been ranked. Random search and evolution
have trained as many cells in all. Accuracy in percent after so many trained cells, those learnt from included, and the
difference to random search of equal cost, paired over repeats, mean and 95 % t-interval. Where the table has no test
accuracy the score is the label itself. The oracle has the best label at once.
"""


def _labels(runs: pd.DataFrame) -> str:
    labels = runs.groupby("label", sort=False)["data_set"].unique()
    return "\n".join(f"- Labels of {', '.join(sets)}: {label}." for label, sets in labels.items())


def _mse(tables: Tables, data_set: str, split: str, evaluated: str) -> pd.DataFrame:
    """Mean squared errors, a row a repeat, a column a predictor."""
    rows = tables["predictor"]
    if rows.empty:
        return pd.DataFrame()
    rows = rows[(rows["data_set"] == data_set) & (rows["split"] == split) & (rows["evaluated"] == evaluated)]
    return rows.pivot(index="seed", columns="predictor", values="mse")


def published_table(tables: Tables) -> pd.DataFrame:
    """Errors of the published splits, here and there."""
    found = []
    for (split, evaluated), (paper, reproduction) in SAID.items():
        errors = _mse(tables, NB101, split, evaluated)
        if errors.empty:
            continue
        best = str(errors[[name for name in NAMES if name in errors]].mean().idxmin())
        found.append(
            {
                "train → evaluation": f"{split} → {evaluated}",
                "paper": paper,
                "reproduction": reproduction,
                "n": len(errors),
                PUBLISHED: spread(errors[PUBLISHED]),
                ENSEMBLE: spread(errors[ENSEMBLE]),
                "best yardstick": f"{spread(errors[best])} ({best})",
                f"{ENSEMBLE}, minus best yardstick": interval(paired(errors[ENSEMBLE] - errors[best])),
            }
        )
    return pd.DataFrame(found)


def _splits(tables: Tables) -> str:
    rows = tables["predictor"]
    if rows.empty:
        return "(no runs)"
    parts = []
    for (data_set, split), group in rows.groupby(["data_set", "split"], sort=False):
        runs = tables["predictor_runs"]
        runs = runs[(runs["data_set"] == data_set) & (runs["split"] == split)]
        chosen = ", ".join(f"{name} ({n})" for name, n in runs["chosen"].value_counts().items())
        about = f"{span(group['n_train'])} cells; {span(runs.groupby('split')['seed'].nunique())} repeats; "
        parts.append(f"### {data_set}, {split}\n\n{about}chosen: {chosen}.\n\n{markdown(split_table(group))}")
    return "\n\n".join(parts)


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
                f"{title}, {evaluated}": spread(group[column]) if group[column].notna().any() else ""
                for evaluated, group in own.groupby("evaluated", sort=False)
            }
        found.append(row)
    return pd.DataFrame(found)


STEPS = {
    "the transpose normalised once, not twice": (ONCE, PUBLISHED),
    "counts, a nonlinear head, a chosen setting": (CHOSEN, PUBLISHED),
    "an ensemble": (ENSEMBLE, CHOSEN),
    "a classifier in front": (CLASSIFIER, ENSEMBLE),
}


def step_table(tables: Tables) -> pd.DataFrame:
    """Paired differences between predictors that differ in one step."""
    found = []
    keys = ["data_set", "split", "evaluated"]
    rows = tables["predictor"]
    for row in rows[keys].drop_duplicates().to_dict("records") if len(rows) else ():
        errors = _mse(tables, row["data_set"], row["split"], row["evaluated"])
        row["n"] = len(errors)
        for step, (new, old) in STEPS.items():
            row[step] = interval(paired(errors[new] - errors[old])) if {new, old} <= set(errors) else ""
        found.append(row)
    return pd.DataFrame(found)


def selection_table(tables: Tables) -> pd.DataFrame:
    """Accuracy of each search after as many trained cells, and the predictor's lead over random search."""
    rows = tables["predictor_selection"]
    found = []
    keys = ["data_set", "split", "scored"]
    for (data_set, _, scored), group in rows.groupby(keys, sort=False) if len(rows) else ():
        n = int(group["n_train"].iloc[0])
        ends = [*(n + more for more in MARKS), int(group["trained"].max())]
        for trained in sorted(set(ends) & set(group["trained"])):
            at = group[group["trained"] == trained].pivot(index="seed", columns="search", values="accuracy")
            row = {"table": data_set, "scored": scored, "learnt from": n, "trained": trained, "n": len(at)}
            for name in (RANDOM_SEARCH, *(s for s in at if s not in (RANDOM_SEARCH, ORACLE)), ORACLE):
                row[str(name)] = f"{at[name].mean():.2f} ± {at[name].std() if at[name].nunique() > 1 else 0:.2f}"
            lead = paired(at[PREDICTOR] - at[RANDOM_SEARCH])
            row |= {f"{PREDICTOR} − random": interval(lead), "better than random search": verdict(lead)}
            row |= {f"{WITH_CLASSIFIER} − random": interval(paired(at[WITH_CLASSIFIER] - at[RANDOM_SEARCH]))}
            found.append(row)
    return pd.DataFrame(found)


def verdict(lead: Interval) -> str:
    """Of a difference that should lie above 0."""
    _, low, high, n = lead
    if n < FEWEST:
        return f"undecided: needs {FEWEST} repeats"
    return "yes" if low > 0 else "no" if high < 0 else "undecided"


def spread(values: pd.Series) -> str:
    """Mean and standard deviation; of values that are all the same, none."""
    return f"{values.mean():.3g} ± {values.std() if values.nunique() > 1 else 0:.2g}"


def interval(difference: Interval) -> str:
    mean, low, high, _ = difference
    return f"{mean:+.3g} [{low:+.3g}, {high:+.3g}]"


def _costs(runs: pd.DataFrame) -> pd.DataFrame:
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
