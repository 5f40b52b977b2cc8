"""Figures of the comparison of strategies: tables of `comparison` to matplotlib, as in the others."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, MultipleLocator, NullFormatter, SymmetricalLogLocator

from depthsearch.reporting.figures.style import (
    LABELS,
    band,
    legend_beside,
    panels,
    scale_of,
    three_quartiles,
    titled,
)
from depthsearch.reporting.judging.rules import LIKELIHOOD_MARGIN
from depthsearch.reporting.tables.comparison import MODES, ONE_OF_A_KIND, ORDER, families, of_family
from depthsearch.reporting.tables.schema import Tables
from depthsearch.reporting.words import span
from depthsearch.strategies import METHODS, SEARCHES

COLOURS = dict(zip(ORDER, (*plt.get_cmap("tab10").colors, *plt.get_cmap("Dark2").colors), strict=False))  # type: ignore[attr-defined]
DRAWN = dict(zip((*ONE_OF_A_KIND, "marginal likelihood"), ("C0", "C2", "C1", "C4", "k", "C3"), strict=True))
COLUMNS = 4  # data sets side by side
SHIFTS = {"log_likelihood": "log-likelihood (nats)", "ece": "ECE (%)", "auroc": "AUROC of entropy"}


def choices(tables: Tables) -> Figure | None:
    """Chosen depth of every strategy against the difficulty of the spirals, and the best deterministic depth."""
    rows = of_family(tables["strategies"], "spirals")
    if rows.empty:
        return None
    rows = rows.assign(angle=rows["data_set"].str.removeprefix("spirals").astype(float))
    posteriors, mixtures = ([k for k in METHODS if METHODS[k].depthwise == depthwise] for depthwise in (True, False))
    figure, axes = plt.subplots(1, 3, figsize=(3 * 4.8, 3.1), sharey=True)
    for ax, kinds in zip(axes, (posteriors, mixtures, list(SEARCHES)), strict=True):
        for name in kinds:
            runs = rows[rows["strategy"] == name]
            if len(runs):
                band(ax, runs, "angle", "depth", name, COLOURS[name])
        best = rows.groupby("angle")["best_depth"].mean()
        ax.plot(best.index, best, "k:", label="best on the test points, mean")
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        ax.xaxis.set_major_locator(MultipleLocator(180))
        ax.set(xlabel=LABELS["stop_angle"], ylabel="chosen depth")
        ax.tick_params(labelleft=True)
        legend_beside(ax)
    return titled(figure, f"chosen depth on spirals, {_n(rows)}: mean, standard deviation")


def quality(tables: Tables, metric: str = "log_likelihood") -> Figure | None:
    """A test metric of every strategy in the three modes, one panel a data set: median and quartiles of the repeats.

    Where it takes powers of ten, on a scale of these, log-likelihoods negated, so that one bad strategy does not hide
    how the others differ.
    """
    rows = tables["strategies"]
    if rows.empty:
        return None
    sets = sorted(rows["data_set"].unique(), key=lambda name: (len(name), name))
    figure, axes = panels(len(sets), width=3.0, height=4.2, columns=COLUMNS, sharey=True)
    names = [name for name in ORDER if name in set(rows["strategy"])]
    negated = metric == "log_likelihood"
    scale = -1 if negated else scale_of(metric)
    for ax, data_set in zip(axes, sets, strict=True):
        here, ends = rows[rows["data_set"] == data_set], []
        for i, (mode, marker) in enumerate(zip(MODES, "osD", strict=True)):
            column = f"{mode}_{metric}"
            if column in rows:
                each = three_quartiles(scale * here[column], here["strategy"])
                low, middle, high = (of_strategies.reindex(names) for of_strategies in each)
                ends += [*low, *high]
                y = np.arange(len(names)) + 0.22 * (i - 1)
                ax.errorbar(middle, y, xerr=(middle - low, high - middle), fmt=marker, ms=3.5, lw=0.8, label=mode)
        ax.set(title=f"{data_set}, n = {span(here.groupby('strategy')['seed'].nunique())}")
        ax.set(xlabel=f"{'negative ' if negated else ''}{LABELS.get(metric, metric)}")
        wide = np.nanmax(ends) > 10 * np.nanmin(ends)
        if wide and negated:
            ax.set_xscale("log")
        elif wide:
            ax.set_xscale("symlog", linthresh=1)  # an error may be 0
            ax.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1, subs=[1, 3]))
            ax.xaxis.set_major_formatter("{x:g}")
            ax.set_xlabel(f"{ax.get_xlabel()}, linear below 1")
        ax.set_yticks(range(len(names)), names, fontsize="small")
    axes[0].invert_yaxis()
    legend_beside(axes[-1])
    return titled(figure, "test set: median, quartiles over n repeats; logarithmic where values span a power of ten")


def costs(tables: Tables) -> Figure | None:
    """Regret of every strategy, a dot a repeat and a dash at the mean, beside what its search costs; a row a family."""
    found = [(name, rows) for name, rows in families(tables["strategies"]) if rows["regret"].notna().any()]
    if not found:
        return None
    names = [[name for name in ORDER if name in set(rows["strategy"])] for _, rows in found]
    heights = [len(own) for own in names]
    size = (8.5, 1.2 + 0.2 * sum(heights) + 0.7 * len(found))
    figure, axes = plt.subplots(len(found), 2, figsize=size, squeeze=False, height_ratios=heights)
    for (regret, cost), (family, rows), own in zip(axes, found, names, strict=True):
        place = dict(zip(own, range(len(own)), strict=True))
        each = rows.groupby(["strategy", "seed"])["regret"].mean().reset_index()
        regret.plot(each["regret"], each["strategy"].map(place), "o", ms=3.5, mew=0, alpha=0.35, color="tab:blue")
        for ax, column in ((regret, "regret"), (cost, "block_evaluations")):
            means = rows.groupby("strategy")[column].mean().reindex(own)
            marker, size = ("|", 10) if ax is regret else ("o", 4)
            ax.plot(means, range(len(own)), marker, ms=size, mew=2, color="k")
            ax.set_yticks(range(len(own)), own if ax is regret else [], fontsize="small")
            ax.set_ylim(len(own) - 0.5, -0.5)
            ax.grid(axis="y", lw=0.3)
            ax.set_title(f"{family}, {_n(rows)}", fontsize="medium")
        regret.axvspan(-LIKELIHOOD_MARGIN, LIKELIHOOD_MARGIN, color="0.9", lw=0, zorder=0)
        regret.set_xscale("symlog", linthresh=LIKELIHOOD_MARGIN)
        low, high = regret.get_xlim()
        regret.xaxis.set_major_formatter("{x:g}")
        ticks = [t for s in (-1, 1) for t in s * LIKELIHOOD_MARGIN * np.array([1, 5, 25, 100])]
        regret.set_xticks([t for t in [*ticks, 0] if low <= t <= high])
        regret.set_xlim(low, high)
        regret.tick_params(axis="x", labelsize="small")
        regret.set_xlabel(f"regret, retrained (nats); grey, linear: below {LIKELIHOOD_MARGIN:g}", fontsize="small")
        cost.set_xscale("log")
        cost.set_xlabel("cost of the search (blocks run forward x points)", fontsize="small")
        cost.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        cost.xaxis.set_major_formatter("{x:.0e}")
        cost.xaxis.set_minor_formatter(NullFormatter())
        cost.tick_params(labelsize="small")
    return titled(figure, "regret and cost: left a dot a repeat, a dash their mean; right means")


def entropies(tables: Tables) -> Figure | None:
    """Entropy of the weights of the depths over training, one panel a data set."""
    curves = tables["strategies_curves"]
    if curves.empty:
        return None
    sets = sorted(curves["data_set"].unique(), key=lambda name: (len(name), name))
    figure, axes = panels(len(sets), width=3.2, height=3.0, columns=COLUMNS)
    for ax, data_set in zip(axes, sets, strict=True):
        for name in METHODS:
            runs = curves[(curves["data_set"] == data_set) & (curves["strategy"] == name)]
            if len(runs):
                # Repeats are logged at epochs of their own, and those that have stopped stay what they are.
                curves_of_repeats = runs.pivot(index="epoch", columns="seed", values="depth_entropy")
                mean = curves_of_repeats.interpolate(method="index", limit_area="inside").ffill().bfill().mean(axis=1)
                ax.plot(mean.index, mean, lw=1.2, color=COLOURS[name], label=name)
        ax.set(xlabel="epoch", ylabel="entropy over depth (nats)", title=data_set)
    legend_beside(axes[-1])
    said = "means; repeats that have stopped stay as they were"
    return titled(figure, f"entropy of the weights of the depths, {_n(curves)}: {said}")


def shifts(tables: Tables, family: str) -> Figure | None:
    """Log-likelihood, ECE and AUROC of entropy as the test points move off the data, as searched."""
    rows = of_family(tables["strategies_shift"], family)
    if rows.empty:
        return None
    figure, axes = panels(len(SHIFTS), width=4)
    for ax, (metric, label) in zip(axes, SHIFTS.items(), strict=True):
        # Twelve colours can not be told apart: one a kind, and what lies apart; the others in gray behind them.
        for name in sorted(set(rows["strategy"]), key=lambda name: (name in DRAWN, ORDER.index(name))):
            runs = rows[rows["strategy"] == name]
            middle = scale_of(metric) * runs.groupby("shift")[metric].median()
            drawn = {"color": DRAWN[name], "label": name} if name in DRAWN else {"color": "0.75"}
            ax.plot(middle.index, middle, "o-", ms=2.5, lw=1, **drawn)
        ax.plot([], [], "-", color="0.75", label="all others")
        if metric == "auroc":
            ax.axhline(0.5, color="k", lw=0.8, ls=":", label="chance")
        ax.set(xlabel="distance moved (std)" if family == "spirals" else "rotation (degrees)", ylabel=label)
    angles = " and angles" if family == "spirals" else ""
    if family == "spirals":  # whose points can be moved far
        axes[0].set_yscale("symlog", linthresh=1)
    legend_beside(axes[-1])
    return titled(figure, f"{family} under shift, as searched, {_n(rows)}: medians over repeats{angles}")


def _n(rows: pd.DataFrame) -> str:
    counts = rows.groupby(["data_set", "strategy"])["seed"].nunique()
    return f"n = {span(counts)} repeats"
