"""The text of results/cells.md: searches of cells, and what their cells are worth."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from depthsearch.data.nasbench import SETS
from depthsearch.measuring.cells import ALWAYS_THE_SAME, YARDSTICKS
from depthsearch.reporting.intervals import interval_of
from depthsearch.reporting.judging.against import RIVALS, against
from depthsearch.reporting.judging.rules import BETTER_CELLS, rules_table
from depthsearch.reporting.judging.tuning import TUNING, tuned
from depthsearch.reporting.pages.chains import chains_part
from depthsearch.reporting.pages.rates import rule_said, tuning_table
from depthsearch.reporting.tables.rate_scans import CELL_RATES
from depthsearch.reporting.tables.schema import Tables
from depthsearch.reporting.words import between, images_said, markdown, not_shown, number, span, spread
from depthsearch.studies.nasbench201 import NASBench201Cell
from depthsearch.studies.random_cells import EQUAL_COST

# At full size, as DrNAS (arXiv 2006.10355) reports them for NAS-Bench-201: test accuracy, percent.
PAPERS = {"DARTS": (54.30, 38.97, 18.41), "DrNAS": (94.36, 73.51, 46.34)}
REDUCED = "**Ours are reduced searches: they stand beside the papers', which are of full size, not against them.**"
YARDSTICKS_SAID = """Yardsticks are looked up in the table, nothing is trained for them here. A look is at the
validation accuracy of a cell after 12 epochs at full size: ten looks are ten such trainings, more than a search of few
epochs spends. "Most parameters" and "all 3x3" take no look; "best on CIFAR-10" is the best by the accuracies shown, out
of reach for any search. They are shown beside; the rule below judges searches against each other alone."""
ACCURACIES = "![True accuracies of the cells found](figures/cells_accuracy.png)"
FIGURE = "![Trajectories of the searches](figures/cells_trajectory_c10.png)"


def cells_page(tables: Tables, others: Sequence[str]) -> str:
    """The text of results/cells.md.

    Args:
        tables: what is shown of the searches, and of the chains of what they found.
        others: a line for each cohort of runs that is not.
    """
    rows = tables["cells"]
    tuning = rows[rows["scan"] == CELL_RATES]
    judged = rows[rows["scan"] != CELL_RATES]
    text = [
        "# Searching a cell",
        "Generated from the saved runs by `make figures`; no number here is typed but those of the papers. Differences "
        "are paired over repeats, mean and 95 % t-interval; ± is a standard deviation over repeats.",
    ]
    known = judged[judged["space"] == NASBench201Cell.name]
    if known["c10"].notna().any():
        text += _worth(known)
    searched = _searched(known)
    if len(searched):
        text += [f"## How far the searches went, and what they cost: {NASBench201Cell.name}", sizes(searched), MOVED]
        text.append(markdown(moved_table(searched)))
        text.append(SECOND_ORDER)
    text += chains_part(tables)
    text += _tuning(tuning) if len(tuning) else []
    text += ["## What is not here", NO_ELBO] if len(known) else []
    return "\n\n".join(text) + not_shown(others) + "\n"


NO_ELBO = """An ELBO in closed form over the choices of a cell, as there is over depth. All depths of a chain are read
off one pass, so the expected log-likelihood is a sum of D + 1 terms. Of a cell of six edges with five operations it is
a sum over 15,625 networks, and one pass with mixed activations gives none of them: its log-likelihood bounds the
expectation from neither side, because the network is not linear in what is mixed. Sampling whole cells would be sound,
at the price of noise in the gradient. How many cells stand in a row is learnt in closed form: see above."""
BY_MEANS = """The rule, since when it holds, and what it says of each difference. It is about means: where one search
ends far from the others the interval is wide, and "no difference seen" can stand beside differences that are all of one
sign. So how many are above 0 stands there too. "Once corrected": the interval alone excludes 0. Cost: operation
evaluations of the first as a multiple of those of the second:"""
MOVED = """Entropy of the mixing weights, nats, a mean over edges (ln 5 = 1.609 where all of five options are alike; of
the three that the progressive search keeps, ln 3 = 1.099). Changes: how often, over all epochs, the largest option of
an edge became another. Operation evaluations: operations that images pass, forward, all told; one on 1/K of the
channels counts 1/K. The progressive search leaves alpha alone for a fifth of each stage, in whole epochs: a stage of
few epochs has more, and opens its new channels nearly at once. Seconds are wall time beside other work on the machine,
so they are upper bounds, and far apart from run to run; random search trains many small networks, whose stems,
classifiers and steps are in its seconds and not in its evaluations."""
SECOND_ORDER = """How near the second order of DARTS comes to the gradient that it stands for, and both to what alpha
does over a step of its own: `benchmarks/second_order.py`."""


def _worth(rows: pd.DataFrame) -> list[str]:
    searched, own = _searched(rows), rows[rows["kind"].isin(["DrNAS", "DrNAS progressive", *RIVALS])]
    how = [sizes(searched)] if len(searched) else ["No search was run yet."]
    how += [REDUCED] if len(searched) and _is_reduced(searched) else []
    return [
        "## What the cells found on NAS-Bench-201 are worth",
        "Test accuracy (%) of the cell after 200 epochs, from the table of all 15,625. " + " ".join(how),
        YARDSTICKS_SAID,
        markdown(worth_table(rows)),
        ACCURACIES,
        _in_words(own),
        _cost_of_random_search(own),
        BY_MEANS,
        markdown(rules_table(own, [BETTER_CELLS])),
        markdown(against(own)),
        "## What the searches believe in the end",
        "The accuracy on CIFAR-10 of a cell drawn edge by edge from the final mixing weights, exactly, over all 15,625 "
        "cells (for DrNAS an option has the probability that it is the largest of a draw); means over repeats. Mode: "
        "the most likely cell. Near the best: within 0.5 points of it.",
        markdown(belief_table(searched)),
        "By epoch, medians over repeats. Upper row: the range of 100 drawn cells and the cell of the "
        "mean weights, as in DrNAS's figure; lower row: the exact quantiles.",
        FIGURE,
    ]


def _is_reduced(rows: pd.DataFrame) -> bool:
    """Whether searches had fewer epochs than the papers'."""
    return rows["epochs_limit"].max() < NASBench201Cell().plan.epochs


def _in_words(rows: pd.DataFrame) -> str:
    """Whether DrNAS is better, a sentence."""
    table = against(rows)
    said = [
        f"{row['difference']}: {row['word']}, above 0 in {row['above 0']}"
        for row in table[table["data"] == "CIFAR-10"].to_dict("records")
    ]
    return f"**Is DrNAS better?** On CIFAR-10, which is searched on: {'; '.join(said)}." if said else ""


def _cost_of_random_search(rows: pd.DataFrame) -> str:
    """To which strategies random search is equal in cost, a sentence."""
    means = rows.groupby("kind")["operation_evaluations"].mean()
    if EQUAL_COST not in means:
        return ""
    others = ", ".join(
        f"{means[EQUAL_COST] / cost:.2g} times those of {kind}" for kind, cost in means.items() if kind != EQUAL_COST
    )
    return (
        f"*{EQUAL_COST[0].upper()}{EQUAL_COST[1:]}* may spend the operation evaluations of DARTS of first order; "
        f"it spent {others}."
    )


def worth_table(rows: pd.DataFrame) -> pd.DataFrame:
    """The paper's table: a row a strategy, then what one gets without a search, then the papers' own."""
    table = []
    for kind, runs in _in_order(rows):
        what = "yardstick" if kind in YARDSTICKS else f"ours{', reduced' if _is_reduced(runs) else ''}"
        one = kind in ALWAYS_THE_SAME
        row = {"method": kind, "": what, "n": "-" if one else runs["seed"].nunique()}
        said = (lambda accuracies: f"{accuracies.iloc[0]:.2f}") if one else _interval
        table.append(row | {name: said(runs[short]) for name, short in SETS.items()})
    for kind, values in PAPERS.items():
        row = {"method": kind, "": "arXiv 2006.10355, full size", "n": "-"}
        table.append(row | dict(zip(SETS, (f"{value:.2f}" for value in values), strict=True)))
    return pd.DataFrame(table)


def belief_table(rows: pd.DataFrame) -> pd.DataFrame:
    """What each strategy believes in the end, on CIFAR-10."""
    table = []
    for kind, runs in _in_order(rows[rows["c10_mean"].notna()]):
        row = {"method": kind, "n": runs["seed"].nunique(), "mode": spread_of(runs["c10_mode"])}
        row |= {"mean": spread_of(runs["c10_mean"])}
        row |= {f"{int(q)} %": f"{runs[f'c10_q{q}'].mean():.2f}" for q in ("05", "50", "95")}
        near = {"P(near the best)": "near_best", "P(best)": "best"}
        table.append(row | {name: f"{runs[f'c10_{short}'].mean():.2g}" for name, short in near.items()})
    return pd.DataFrame(table)


def moved_table(rows: pd.DataFrame) -> pd.DataFrame:
    """How far the mixing weights of each strategy moved, how often it ends with skip connections alone, its cost."""
    table = []
    for kind, runs in _in_order(rows):
        ends = [runs[f"entropy_{when}"].dropna() for when in ("start", "end")]
        row = {"method": kind, "n": runs["seed"].nunique(), "diverged": int(runs["diverged_epoch"].notna().sum())}
        tried = sorted(runs["setting"].unique())
        row["rate of alpha (random search: epochs)"] = ", ".join(f"{setting:g}" for setting in tried)
        row |= {"entropy, start": number(ends[0].mean(), ".3f")}
        row |= {"entropy, end": spread(ends[1])}
        row |= {"changes": spread(runs["changes"])}
        if runs["skip_only"].notna().any():  # a recurrent cell has no such operation
            row |= {"only skips": f"{int(runs['skip_only'].sum())} of {len(runs)}"}
        row |= {"skips": spread(runs["skips"])} if runs["skips"].notna().any() else {}
        row |= {"operation evaluations": f"{runs['operation_evaluations'].mean():.3g}"}
        row |= {"seconds, median": f"{runs['seconds'].median():.3g}"}
        table.append(row | {"hardware": ", ".join(runs["device"].unique())})
    return pd.DataFrame(table)


def _tuning(rows: pd.DataFrame) -> list[str]:
    return [
        "## The learning rate of alpha at the reduced size",
        f"{rule_said(TUNING, rows['started'])} Of random search the setting is how many epochs it trains a cell. "
        f"{sizes(rows)}",
        markdown(tuning_table(rows, tuned(rows), list(NASBench201Cell.PLANS))),
    ]


def spread_of(values: pd.Series) -> str:
    """Mean and standard deviation of accuracies in percent."""
    return spread(values, ".2f", ".2f")


def _interval(values: pd.Series) -> str:
    _, low, high, n = interval_of(values)
    if n == 0:
        return "-"
    if low < 0 or high > 100:  # of percent: far from normal, one cell at chance, say
        return f"{spread_of(values)}, median {values.median():.2f}, {values.min():.2f} to {values.max():.2f}"
    return spread_of(values) + ("" if low == high else between(low, high, ".2f"))


def sizes(rows: pd.DataFrame) -> str:
    """Of which size the searches are, in a sentence."""
    said = {name: span(rows[name].dropna().astype(int)) for name in ("channels", "cells", "batch_size", "epochs_limit")}
    return (
        f"Searches on {', '.join(rows['data_set'].unique())}: C = {said['channels']}, N = {said['cells']}, "
        f"{said['epochs_limit']} epochs, {images_said(rows)} (half of the images for alpha), "
        f"batches of {said['batch_size']}."
    )


def _searched(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[~rows["kind"].isin(list(YARDSTICKS))]


def _in_order(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    order: Mapping = {name: i for i, name in enumerate(NASBench201Cell.PLANS)}
    for kind in sorted(rows["kind"].unique(), key=lambda name: order.get(name, len(order))):
        yield kind, rows[rows["kind"] == kind]
