"""The comparison of strategies in words and tables, all of it computed: what each costs, what it wins over LDN, when to
use which (`purposes`)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from depthsearch.depth.posteriors import geometric_prior
from depthsearch.reporting.intervals import Interval, interval_of
from depthsearch.reporting.judging.guesses import against_baselines
from depthsearch.reporting.judging.purposes import when_to_use_which
from depthsearch.reporting.judging.tuning import TUNING_BELOW, TUNING_DEPTH, tuned
from depthsearch.reporting.pages.rates import rule_said, tuning_table
from depthsearch.reporting.tables.comparison import (
    MODES,
    ORDER,
    by_repeat,
    families,
    is_reduced,
    of_family,
    off_the_data,
)
from depthsearch.reporting.tables.schema import Tables, stacked
from depthsearch.reporting.words import difference_said, markdown, most_often, not_shown, span, spread
from depthsearch.strategies import METHODS
from depthsearch.strategies.drnas import better_half
from depthsearch.studies.choices import ImageChoice, SpiralChoice
from depthsearch.studies.seeds import CHOOSING

REFERENCE = "LDN"
HOW_TO_READ = """
Every strategy sees the same training and validation points; epochs are chosen by validation log-likelihood, and the
test points are touched once. LDN and the other posteriors over depth (marginal likelihood to normal) choose the first
depth whose probability is above 0.95 of the largest, DARTS and DrNAS the depth of the largest weight, manual search,
random search and the predictor the depth (the last two a width too) of the best validation log-likelihood; a uniform
guess is the mean over all D + 1 depths. [What each is](../experiments/README.md#ways-of-choosing-a-depth). *Searched*:
as the search leaves it, with all depths mixed; *truncated*: cut at the chosen depth, weights inherited: a posterior
moves its mass beyond onto that depth and mixes the heads up to it (of LDN that is LDN-95), of DARTS and DrNAS the one
depth is kept; *retrained*: a deterministic network of the chosen depth trained from scratch on training and validation
points, its epoch the one of the best training loss, since no points are left to choose it by. Regret: log-likelihood
lost, retrained, against the best deterministic depth of the preset width, picked on the test points (another width can
do better: negative). Searches are charged the seconds, block evaluations (blocks run forward x points) and networks of
what they would have trained, a guess those of its one network, by which it is judged as searched too; other work on the
machine may be in the seconds, it is not in the block evaluations. Neither are the passes of image networks that
estimate batch norm's statistics, as many for a network and epoch of any strategy: on images strategies of more than one
pass an epoch are nearer to the others than the block evaluations say. Memory of a step is counted once training is
over: of DrNAS with the half of the depths that it keeps. Mean ± standard deviation over data sets and repeats;
differences are paired over repeats, mean and 95 % t-interval. DARTS and DrNAS give half of the training points to the
weights of depths: as searched and truncated, their networks have learnt from the other half."""

REDUCED = f"""Reduced: {ImageChoice.MOST_IMAGES} training images; D and the epochs were set beforehand by deterministic
networks on seeds 100 and 101."""
WHICH = """When to use which. "Worse" than the best: the whole 95 % interval of the paired difference says so, not
corrected for how many comparisons there are; of few repeats it is wide, and little is seen to be worse."""
REGRET = """Regret of a repeat, its mean over the data sets, and the same minus that of three guesses (below 0: better
than the guess). "Better" or "worse": the interval excludes 0, and p, corrected for all strategies (Holm), is below 0.05
too. "No difference seen once corrected": the interval alone excludes 0:"""

OLDER = """Compared before this rule, and not run again since: {}. There the weights of depths had a rate of 0.02,
chosen without a record, and a network of the pool stopped as soon as its validation points were fitted, where the
others were given half of the epochs."""

EVEN_AT = "2026-11-30T16:45"  # since when the batches of an epoch are of one size on images
UNEVEN = """ The last batch of an epoch had what was left then, a handful of points, and in each half of DARTS and DrNAS
half as many; since 2026-11-30 all batches are of one size. Not all was run again since; digits were (the rows of both
stand in `tables/strategies.csv`)."""

AT_AN_EDGE = """At an edge of what was tried: {}. Another rate may do better: their rows are no bound of what these ways
can do."""


def how_to_read() -> str:
    """What the tables of strategies mean, and on how many points they stand."""
    study = SpiralChoice()
    spiral = study.split(0, Path())
    train, valid, test = (len(y) for y in (spiral.y_train, spiral.y_valid, spiral.y_test))  # type: ignore[arg-type]
    return (
        f"{HOW_TO_READ.strip()} A spiral has {train} training, {valid} validation and {test} test points, noise "
        f"{study.spirals.noise:g};\nof images {ImageChoice.SHARE:.0%} of the training points are for validation."
    )


def differences(rows: pd.DataFrame, column: str) -> dict[str, Interval]:
    """Of each strategy, its value less that of LDN: mean, 95 % interval, number of repeats."""
    values = by_repeat(rows, column)
    if REFERENCE not in values:
        return {}
    others = [name for name in ORDER if name in values and name != REFERENCE]
    return {name: interval_of(values[name] - values[REFERENCE]) for name in others}


def cost_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Chosen depth, regret and cost of each strategy: means over data sets and repeats."""
    table = []
    for name, runs in _in_order(rows):
        table.append(
            {
                "strategy": name,
                "runs": len(runs),
                "diverged": int(runs["diverged_epoch"].notna().sum()),
                "chosen depth": spread(runs["depth"]),
                "width": spread(runs["width"]),
                "regret (nats)": spread(runs["regret"]),
                "seconds": f"{runs['seconds'].mean():.3g}",
                "block evaluations": f"{runs['block_evaluations'].mean():.2e}",
                "networks": f"{runs['networks'].mean():.3g}",
                "memory of a step (MB)": f"{runs['step_bytes'].mean() / 1e6:.3g}",
            }
        )
    return pd.DataFrame(table)


def moved_table(curves: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Where the weights of depths of each method are towards the end, and which depth it chose most often.

    Args:
        curves: entropy and expected depth of each run and logged epoch.
        rows: the runs, with their chosen depths.
    """
    last = curves.sort_values("epoch").groupby(["data_set", "strategy", "seed"]).tail(1)
    table = []
    for name, runs in _in_order(rows):
        ends = last[last["strategy"] == name]
        if len(ends):
            row = {"strategy": name, "entropy (nats)": spread(ends["depth_entropy"])}
            row |= {"mean depth": spread(ends["expected_depth"])}
            table.append(row | {"chosen most often, in a share of runs": most_often(runs["depth"])})
    return pd.DataFrame(table)


def _starts(deepest: int) -> str:
    """Says with what weights of depths each method starts, so that one sees which moved."""
    prior, depths, kept = geometric_prior(deepest), torch.arange(deepest + 1.0), better_half(deepest)
    return (
        "The weights of depths towards the end of training (the epoch that is kept may be before). They start uniform "
        f"({np.log(deepest + 1):.2f} nats, mean depth {deepest / 2:g}), but for exact posterior and marginal "
        "likelihood, which start at the prior "
        f"({prior.entropy():.2f} nats, {prior.probs @ depths.double():.3g}), and Poisson and normal, which start "
        "around the middle. What stays at its start has chosen nothing. DrNAS drops half of the depths on the way: "
        f"where the {kept} that it keeps are alike, it ends at ln {kept} = {np.log(kept):.2f} nats, and only what "
        "is below that was learnt afterwards:"
    )


def quality_table(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A test metric in the three modes, and what it is more or less than LDN's, with intervals."""
    scale = 100 if metric in ("error", "ece") else 1
    found = {mode: differences(rows, f"{mode}_{metric}") for mode in MODES if f"{mode}_{metric}" in rows}
    table = []
    for name, runs in _in_order(rows):
        row = {"strategy": name}
        for mode, others in found.items():
            values = scale * runs[f"{mode}_{metric}"].dropna()
            row[mode] = spread(values)
            row[f"{mode} − LDN"] = difference_said(others[name], scale) if name in others else "-"
        table.append(row)
    return pd.DataFrame(table)


def shift_table(shift: pd.DataFrame) -> pd.DataFrame:
    """Off the data, as searched: means over all amounts of shift, and AUROC less LDN's."""
    rows = off_the_data(shift)
    others = differences(rows, "auroc")
    table = []
    for name, runs in _in_order(rows):
        low, middle, high = runs["log_likelihood"].quantile([0.25, 0.5, 0.75])
        row = {"strategy": name, "log-likelihood (nats), median, quartiles": f"{middle:.3g} [{low:.3g}, {high:.3g}]"}
        row |= {"ECE (%)": spread(100 * runs["ece"]), "AUROC of entropy": spread(runs["auroc"])}
        table.append(row | {"AUROC − LDN": difference_said(others[name], 1) if name in others else "-"})
    return pd.DataFrame(table)


def predictor_table(rows: pd.DataFrame) -> pd.DataFrame:
    """The neural predictor and ridge regression on the settings that neither saw."""
    runs = rows[rows["strategy"] == "predictor"]
    if runs["predictor_tau"].isna().all():
        return pd.DataFrame()
    names = {"predictor": "neural predictor", "ridge": "ridge on depth and log width"}
    return pd.DataFrame(
        [
            {
                "regression": title,
                "n": len(runs),
                "Kendall's tau": spread(runs[f"{name}_tau"]),
                # Where all networks of a sample do alike, normalised labels of others may be anything.
                "mean squared error (labels normalised), median": f"{runs[f'{name}_mse'].median():.3g}",
            }
            for name, title in names.items()
        ]
    )


def strategies_part(tables: Tables, others: Sequence[str]) -> str:
    """The part of results/README.md.

    Args:
        tables: what is shown of the comparison.
        others: a line for each cohort of runs that is not.
    """
    text = [how_to_read()]
    if tables["strategies"]["regret"].notna().any():
        text.append("![Regret of each strategy, and what it costs](figures/strategies_cost.png)")
    if len(tables["strategies"]):
        text.append("![Log-likelihood of each strategy in the three modes](figures/strategies_log_likelihood.png)")
    if len(of_family(tables["strategies"], "spirals")):
        text.append("![Chosen depth against the angle of the spirals](figures/strategies_depth.png)")
    for family, rows in families(tables["strategies"]):
        shift, pool, curves = (
            of_family(tables[name], family) for name in ("strategies_shift", "strategies_pool", "strategies_curves")
        )
        text += [f"### {family}", _what(family, rows, pool), WHICH]
        text.append("\n".join(f"- {s}" for s in when_to_use_which(rows, shift)))
        if rows["regret"].notna().any():
            text += [
                REGRET,
                markdown(against_baselines(by_repeat(rows, "regret"))),
            ]
        text += ["Over all runs, repeats and data sets put together:", markdown(cost_table(rows))]
        moved = moved_table(curves, rows)
        if len(moved):
            text += [_starts(int(rows["max_depth"].max())), markdown(moved)]
        text += ["Test log-likelihood (nats):"]
        text += [markdown(quality_table(rows, "log_likelihood"))]
        predictor = predictor_table(rows)
        text += ["The predictor on settings that it did not see:", markdown(predictor)] if len(predictor) else []
    return "\n\n".join(text) + not_shown(others)


def details(tables: Tables, rates: pd.DataFrame) -> str:
    """The text of results/strategies.md: the other metrics, what happens off the data, how rates were chosen."""
    text = [
        "# Ways of choosing a depth: all metrics",
        "Generated, as [the verdict](README.md) is. " + how_to_read(),
    ]
    for family, rows in families(tables["strategies"]):
        shift, pool = (of_family(tables[name], family) for name in ("strategies_shift", "strategies_pool"))
        text += [f"## {family}", _what(family, rows, pool)]
        for metric, title in (("error", "Test error (%)"), ("brier", "Brier score"), ("ece", "ECE (%)")):
            text += [title, markdown(quality_table(rows, metric))]
        if len(shift):
            text += [
                "Off the data, as searched: of a run the mean over all amounts of shift; of these, over runs:",
                markdown(shift_table(shift)),
                f"![Log-likelihood, ECE and AUROC against the amount of shift](figures/strategies_shift_{family}.png)",
            ]
    text += tuning_part(rates, tables["strategies"]) if len(rates) else []
    return "\n\n".join(text) + "\n"


def tuning_part(rows: pd.DataFrame, compared: pd.DataFrame) -> list[str]:
    """How the learning rates of the strategies were chosen, and which data sets were `compared` before."""
    rows = rows.assign(log_likelihood=-rows["end_loss"])
    by = {"validation log-likelihood (nats)": ("log_likelihood", 4)}
    other = rows["seed"] >= CHOOSING
    rows, again = (rows[~other], rows[other]) if 0 < other.sum() < len(rows) else (rows, rows[:0])
    table = tuning_table(rows, tuned(rows), [*METHODS], by)
    if len(again):
        named = {"n": "n, again", next(iter(by)): "the same, again", "": "taken, again"}
        beside = tuning_table(again, tuned(again), [*METHODS], by).rename(columns=named)
        parts = [part.astype(str).set_index(["method", "setting"]) for part in (table, beside)]
        every = parts[0].index.union(parts[1].index, sort=False)
        table = pd.concat([part.reindex(every) for part in parts], axis=1).fillna("-").reset_index()
    table = table.replace({"method": {"DDN": "pool"}})
    later = rows["started"] >= TUNING_BELOW[0]
    text = ["## Learning rates", rule_said(TUNING_DEPTH, rows["started"][~later])]
    text += [rule_said(TUNING_BELOW, rows["started"][later])] if later.any() else []
    text += [_looked_for_again(rows, again)] if len(again) else []
    text.append(markdown(table))
    edge = sorted(set(table.loc[table[""].str.contains("edge"), "method"]) & set(METHODS), key=[*METHODS].index)
    if edge:
        text.append(AT_AN_EDGE.format(", ".join(edge)))
    older = set(compared.loc[compared["started"] < TUNING_DEPTH[0], "data_set"])
    return [*text, OLDER.format(", ".join(sorted(older)))] if older else text


def _looked_for_again(rows: pd.DataFrame, again: pd.DataFrame) -> str:
    """Whether the rates hang on the seeds, which are among those of the comparison."""
    compared, seeds = tuned(rows), again["seed"]

    def found(runs: pd.DataFrame) -> str:
        taken = {kind: rate for kind, rate in tuned(runs).items() if kind in compared}
        other = [
            f"{'pool' if kind == 'DDN' else kind} {rate:g} instead of {compared[kind]:g}"
            for kind, rate in taken.items()
            if rate != compared[kind]
        ]
        return f"other rates for {len(other)} of {len(taken)} ({', '.join(other)})" if other else "the same rates"

    return (
        f"These are repeats {rows['seed'].min()} to {rows['seed'].max()}, which the comparison has too: of the "
        f"same draws and starts, at other angles. Looked for again on repeats {seeds.min()} to {seeds.max()}, which "
        f"it does not have, the rule takes {found(again)}, over all of these runs {found(stacked([rows, again]))}: so "
        "much hangs on the seeds. The comparison has what was taken first."
    )


def _what(family: str, rows: pd.DataFrame, pool: pd.DataFrame) -> str:
    sets = ", ".join(sorted(rows["data_set"].unique(), key=lambda name: (len(name), name)))
    counts = rows.groupby(["data_set", "strategy"])["seed"].nunique()
    reduced = "" if not is_reduced(family) else f" {REDUCED}"
    own = rows[rows["strategy"].isin(list(METHODS))]  # searches train no networks but those of the pool
    trained = stacked([part[["seconds", "device"]] for part in (own, pool)])
    minutes, where = trained["seconds"].sum() / 60, "; ".join(sorted(trained["device"].unique()))
    uneven = UNEVEN if family != "spirals" and (rows["started"] < EVEN_AT).any() else ""
    included = "" if pool.empty else ", the pool of deterministic networks included"
    return (
        f"{sets}; {span(counts)} repeats, at most {rows['epochs_limit'].max()} epochs; {minutes:.0f} minutes of "
        f"training in all{included} ({where}).{reduced}{uneven}{_best_depth(rows)}"
    )


def _best_depth(rows: pd.DataFrame) -> str:
    """How deep the best networks of the preset's width are, a sentence: whether the grid reaches far enough."""
    best = rows.drop_duplicates(["data_set", "seed"])["best_depth"].dropna()
    if best.empty:
        return ""
    deepest = int(rows["max_depth"].max())
    edge = f"{(best == deepest).sum()} of {len(best)} times the deepest"
    return f" Of the depths 0 to {deepest} the best on the test points is {spread(best)}, {edge}."


def _in_order(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for name in ORDER:
        runs = rows[rows["strategy"] == name]
        if len(runs):
            yield name, runs
