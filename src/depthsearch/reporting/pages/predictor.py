"""The text of results/predictor.md: the neural predictor on tables of trained cells."""

from collections.abc import Iterable, Sequence

import pandas as pd

from depthsearch.cells.nasbench201_graphs import FUNCTIONS
from depthsearch.data.nasbench_official import N_CELLS
from depthsearch.reporting.pages.predictor_tables import (
    compared,
    cost_table,
    from_what,
    lead_over_published,
    lead_over_yardsticks,
    selection_leads,
    selection_table,
    split_table,
    step_table,
    verdict,
    yardstick_table,
)
from depthsearch.reporting.tables.schema import Tables
from depthsearch.reporting.words import markdown, not_shown, span
from depthsearch.strategies.graph_predictor import PAPER, RECOMMENDED, Setting
from depthsearch.studies.prediction import POPULATION, TOURNAMENT
from depthsearch.studies.predictor_table import CHOSEN, ENSEMBLE
from depthsearch.studies.trained_pools import NB101, ON


def predictor_page(tables: Tables, others: Sequence[str]) -> str:
    """The text of results/predictor.md.

    Args:
        tables: what is shown of the predictor's.
        others: a line for each cohort of runs that is not.
    """
    return (
        f"""# The neural predictor on NAS-Bench

Generated from the saved runs by `make figures`; no measured number here is typed.

## Outcome

Names of predictors, splits and sets are explained [below](#how-to-read-it).

{_of_what(tables)}
{_same_functions(tables)}{outcome(tables)}

## How to read it

{HOW_TO_READ.strip()}

{_labels(tables["predictor_runs"])}

## Beside yardsticks and published numbers

Mean squared error (percent squared). The numbers of the paper and of its reproduction are of single seeds, whose
accuracies are noisier, and of all 423,624 cells; those here are of the labels above and of the cells of the table at
hand. So compare within the columns to the right. The best yardstick is the one with the least error here, which favours
it; the difference is paired over repeats, mean and 95 % t-interval.

{markdown(yardstick_table(tables))}
## How well accuracies are predicted

{_splits(tables)}

## What single steps change

Difference of the mean squared error, paired over repeats, mean and 95 % t-interval; below 0 the step helps.

{markdown(step_table(tables))}

## Selection from end to end

{SELECTION.strip()}

{markdown(selection_table(tables))}

{_pictures(tables)}

## What was run

Minutes are wall time; other work ran beside these runs, and some of them stood still meanwhile, so they are upper
bounds.

{markdown(cost_table(tables["predictor_runs"]))}{not_shown(others)}
""".rstrip()
        + "\n"
    )


def _recipe(setting: Setting) -> str:
    return (
        f"{setting.epochs} epochs at a rate of {setting.learning_rate:g} in batches of {setting.batch_size}, "
        f"width {setting.width}"
    )


HOW_TO_READ = f"""
A predictor learns from the accuracies of a few trained cells and predicts those of all others (Wen et al. 2020, arXiv
1912.00848). *As published*: the paper's network, trained as its reproduction (ultmaster/neuralpredictor.pytorch) does
it; labels of NAS-Bench-101 are normalised by the mean and deviation written there, elsewhere by those of the training
cells. *Chosen*: networks that also see what can be counted on a graph, with a nonlinear head, labels normalised by
those of the training cells, another training ({_recipe(RECOMMENDED)}; as published {_recipe(PAPER)}), of the setting
that five-fold cross validation within the training cells chooses; no other cell enters that choice, but cells that
compute the same can lie in several folds. There are two settings to choose from: accuracies are fitted as they are
("counts"), or as the logarithm of how far they lie below a bound ("counts, bounded"); the width was fixed by the
cross-validated error within split 172 and by what it costs. `fit_ensemble` does the same. *Ensemble*: the mean of
several of them. *Classifier in front*: the paper's first stage, which keeps what it expects above 91 %, on
NAS-Bench-201 above the median of the cells learnt from. Yardsticks learn from the same cells; ridge, random forest and
gradient boosting see the same counts as the chosen networks, and the number of parameters. Not scored are cells without
a label, cells that were learnt from, and those that compute the same function of input and weights as one of these: the
{N_CELLS:,} cells of NAS-Bench-201 are {FUNCTIONS:,} functions, since operations that no way from input to output passes
do nothing (but for a constant, of batch norm after a convolution of nothing) and a skip connection can stand in many
places.
*Yes*: the whole interval is on the side that is said; *no*: it is on the other.

Other designs were tried on 28 November 2026 by cross validation within split 172 and on two or three draws of 172 cells
of NAS-Bench-201, whose labels are scored here too; of these trials there is no table. None of three changes (the number
of parameters as an input, the mean over both settings, the squared error of accuracies, not of their logarithms)
predicted better in both places, and the chosen networks were left as they were.

Splits 172, 334, 860 are permutations of the rows of the table at hand, drawn as in the original: of a part of the table
they are other cells than the original's. They are the same for all repeats, which differ in the networks' seeds alone,
so that their intervals say nothing of other training cells; a repeat of a nested split has a permutation of its own.
`91-`: of those cells the ones above 91 %; `denoise-80`, `denoise-91`: all cells above 80 or 91 %. Mean ± standard
deviation over n repeats. No verdict above is corrected for how many there are: where there is no difference, one
interval in twenty says yes or no all the same. Nor are they independent: sets and budgets that contain each other, and
the data sets of NAS-Bench-201, judge the same networks and searches again.
"""
SELECTION = f"""
Each search trains cells one after the other and in the end takes the one with the best label; the table says how good
that is. The predictor, the chosen ensemble, learns from the first cells, drawn as in random search, ranks all others
and trains the best; cells that the table does not know are passed over, as if the whole space had been ranked. *With
classifier*: the paper's two stages. Random search and evolution have trained as many cells in all. Regularised
evolution (Real et al. 2019) has a population of {POPULATION} and tournaments of {TOURNAMENT}; a child is drawn among
the untrained cells of the table that take the fewest edits from its parent, so that no cell is trained twice and each
is known; on NAS-Bench-101 these are not the mutations of Ying et al. 2019, whose population is 100. On NAS-Bench-201
any search may train a graph again that it has, under another name. Accuracy in percent after so many trained cells,
those learnt from included, and the differences to random search and to evolution of equal cost, paired over repeats,
mean and 95 % t-interval. Where the table has no test accuracy the score is the label itself. The oracle has the best
label at once; where the score is another one than the label, a cell with a lower label can score higher.
"""
AS_PUBLISHED = "the network as published, or of what differs from it in one thing where that was run and is better"


def _labels(runs: pd.DataFrame) -> str:
    labels = runs.groupby("label", sort=False)["data_set"].unique()
    return "\n".join(f"- Labels of {', '.join(sets)}: {label}." for label, sets in labels.items())


def outcome(tables: Tables) -> str:
    """Where the chosen networks are better than the best yardstick and the paper's network, and their picks better."""
    leads: dict[tuple[str, str], dict[str, list]] = {}
    for key, errors in compared(tables):
        differences = {
            (ENSEMBLE, "the best yardstick"): lead_over_yardsticks(errors)[1],
            (ENSEMBLE, AS_PUBLISHED): lead_over_published(errors, ENSEMBLE),
        }
        if CHOSEN in errors:
            differences[f"{CHOSEN}, one network", AS_PUBLISHED] = lead_over_published(errors, CHOSEN)
        for which, difference in differences.items():
            word = verdict(difference.negated())
            leads.setdefault(which, {}).setdefault(word, []).append((key["data_set"], from_what(key)))
    lines = [
        f"- Mean squared error of *{ours}* less than that of {other} (whole 95 % interval below 0): {_said(found)}."
        for (ours, other), found in leads.items()
    ]
    picks = selection_leads(tables)
    lines += [
        f"- Selection: the cell that the {predictor} picks is better than that of {rival} of equal cost (whole "
        f"interval above 0): {_said(_picked(own))}."
        for (rival, predictor), own in (picks.groupby(["rival", "predictor"], sort=False) if len(picks) else ())
    ]
    return "\n".join(lines)


def _of_what(tables: Tables) -> str:
    """Of how many cells the table of NAS-Bench-101 is, and what an interval does not know."""
    rows, runs = tables["predictor"], tables["predictor_runs"]
    whole = rows[(rows["data_set"] == NB101) & (rows["evaluated"] == "all")]
    if whole.empty:
        return ""
    cells = int((whole["n"] + whole["n_train"]).max())
    return (
        f"- NAS-Bench-101 is {cells:,} of its 423,624 cells here. Of its errors, but for *nested* splits, yes and no "
        "are of one draw of training cells, the same in all repeats. *As published* is one network, an ensemble the "
        f"mean of {span(runs['ensemble'])}."
    )


def _same_functions(tables: Tables) -> str:
    """Which share of the cells of NAS-Bench-201 is not scored because a predictor has learnt from the same."""
    rows = tables["predictor"]
    rows = rows[rows["data_set"].isin(list(ON)) & (rows["evaluated"] == "all")]
    shares = (100 * (1 - rows["n"] / (N_CELLS - rows["n_train"]))).round()
    if not shares.any():
        return ""
    return (
        f"- Of the other cells of NAS-Bench-201 {span(shares, '.0f')} % compute the same as one that was learnt from, "
        "and are not scored.\n"
    )


def _pictures(tables: Tables) -> str:
    """The figures of what searches find."""
    places = tables["predictor_selection"][["data_set", "split"]].drop_duplicates().to_numpy().tolist()
    title = "Accuracy of the best cell against the number of trained cells"
    return "\n\n".join(f"![{title}](figures/predictor_{split}_{data_set}.png)" for data_set, split in places)


def _picked(leads: pd.DataFrame) -> dict[str, list]:
    found: dict[str, list] = {}
    for (table, scored), group in leads.groupby(["table", "scored"], sort=False):
        by_verdict = group.groupby("verdict", sort=False)["trained"]
        for word, trained in by_verdict:
            after = "at every budget" if len(trained) == len(group) else f"after {', '.join(map(str, trained))}"
            found.setdefault(str(word), []).append((table, f"{scored} {after}"))
    return found


def _said(found: dict[str, list]) -> str:
    """Verdicts, each with its places (table, what of it), put together by table."""
    words = sorted(found, key=("yes", "undecided", "no", *found).index)
    return "; ".join(f"**{word}** for {_places(found[word])}" for word in words) or "no runs"


def _places(places: Iterable[tuple[str, str]]) -> str:
    by_table: dict[str, list[str]] = {}
    for table, what in places:
        by_table.setdefault(table, []).append(what)
    return ", ".join(f"{table} ({', '.join(own)})" for table, own in by_table.items())


def _splits(tables: Tables) -> str:
    rows = tables["predictor"]
    if rows.empty:
        return "(no runs)"
    parts = []
    for (data_set, split), group in rows.groupby(["data_set", "split"], sort=False):
        runs = tables["predictor_runs"]
        runs = runs[(runs["data_set"] == data_set) & (runs["split"] == split)]
        chosen = ", ".join(f"{name} ({n})" for name, n in runs["chosen"].value_counts().items())
        scored = group[group["evaluated"] == "all"]["n"]
        repeats = span(runs.groupby("split")["seed"].nunique())
        about = f"{span(group['n_train'])} cells, {span(scored, ',')} others scored; {repeats} repeats; "
        parts.append(f"### {data_set}, {split}\n\n{about}chosen: {chosen}.\n\n{markdown(split_table(group))}")
        parts.append(f"![Errors of every predictor](figures/predictor_error_{data_set}_{split}.png)")
    return "\n\n".join(parts)
