"""Figures of the scans on images: one panel or column a data set; the tables are one of `parts.cohorts`."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from depthsearch.reporting.figures.style import (
    COLOURS,
    FEW_LEFT_OUT,
    LABELS,
    depth_posterior,
    legend_above,
    legend_beside,
    log_ticks,
    panels,
    points,
    reliability_diagrams,
    repeats,
    scale_of,
    titled,
)
from depthsearch.reporting.judging.manual_search import ManualSearch, chosen_on, is_search
from depthsearch.reporting.parts import claimed_depth, ldn_and_ddn, shared_depth, timed_runs
from depthsearch.reporting.tables.schema import Tables

SETTING = ["data_set", "kind", "max_depth"]
MEASURED = {  # label, metric, scale
    "error (%)": ("error", 100),
    "negative log-likelihood (nats)": ("log_likelihood", -1),
}


def image_posteriors(tables: Tables) -> Figure | None:
    """q(d) of LDN of the `claimed_depth`, d_opt as a band; below it, at the same depths, likelihoods of LDN-95 and DDN.

    The paper's `image_depth_dist_exps`.
    """
    ldn, ddn = ldn_and_ddn(tables["runs"], "images")
    depths, _ = ldn_and_ddn(tables["depths"], "images")
    if ldn.empty:
        return None
    sets, drawn = ldn["data_set"].unique(), []
    figure, axes = plt.subplots(2, len(sets), figsize=(4.2 * len(sets), 5.2), sharex="col", squeeze=False)
    for (ax, likelihood), name in zip(axes.T, sets, strict=True):
        here, rows, other = (t[t["data_set"] == name] for t in (ldn, depths, ddn))
        max_depth = claimed_depth(here, other)
        here, rows = (t[t["max_depth"] == max_depth] for t in (here, rows))
        drawn.append(here)
        depth_posterior(ax, rows)
        chosen = here["pruned_depth"]
        for part in (ax, likelihood):
            part.axvspan(chosen.min() - 0.4, chosen.max() + 0.4, color="tab:red", alpha=0.15, lw=0, label="d_opt")
        ax.set_title(f"{name}, D = {max_depth}", pad=18)
        ax.set_xlabel("")
        metric = "test_log_likelihood"
        value, spread = here[f"LDN-95_{metric}"].mean(), here[f"LDN-95_{metric}"].std()
        likelihood.axhspan(value - spread, value + spread, color=COLOURS["LDN-95"], alpha=0.25, lw=0)
        likelihood.axhline(value, color=COLOURS["LDN-95"], lw=1, label="LDN-95")
        if len(blocks := with_blocks(other)):
            points(likelihood, blocks, "max_depth", f"DDN_{metric}", "DDN of this depth", COLOURS["DDN"])
        likelihood.set(xlabel="depth d", ylabel=LABELS[metric])
        for part in (ax, likelihood):
            legend_above(part)
    beside = f"; DDN {repeats(ddn)}" if len(ddn) else ""
    bands = "red: range of d_opt; blue: one standard deviation of LDN-95"
    return titled(figure, f"q(d) of LDN, {_made(pd.concat(drawn))}{beside}; {bands}{_without(ddn)}")


def image_depths(tables: Tables) -> Figure | None:
    """Against D: chosen depth; log-likelihood, then error, of DDN and LDN-95 and of the LDN variants.

    The paper's `image_depth_dist_exps2`, and the DDN that manual search would choose (`ManualSearch`).
    """
    ldn, ddn = ldn_and_ddn(tables["runs"], "images")
    if ldn.empty:
        return None
    sets = ldn["data_set"].unique()
    figure, axes = plt.subplots(5, len(sets), figsize=(3.8 * len(sets), 12), sharex="col", squeeze=False)
    for column, name in zip(axes.T, sets, strict=True):
        here, other = (with_blocks(t[t["data_set"] == name]) for t in (ldn, ddn))
        for variant, depth, label in (("LDN-95", "pruned", "LDN-95 (d_opt)"), ("LDN-E", "expected", "LDN-E (mean)")):
            points(column[0], here, "max_depth", f"{depth}_depth", label, COLOURS[variant])
        column[0].plot([0, here["max_depth"].max()], [0, here["max_depth"].max()], "k:", lw=1, label="d = D")
        column[0].set_title(name, pad=16)
        column[0].set_ylabel("chosen depth")
        column[0].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        column[-1].set_xlabel(LABELS["max_depth"])
        for ax, metric, variants in (
            (column[1], "test_log_likelihood", ("DDN", "LDN-95")),
            (column[2], "test_log_likelihood", ("LDN-E", "LDN-95", "LDN-full")),
            (column[3], "test_error", ("DDN", "LDN-95")),
            (column[4], "test_error", ("LDN-E", "LDN-95", "LDN-full")),
        ):
            for i, variant in enumerate(variants):
                table = other if variant == "DDN" else here
                if len(table):
                    beside = 0.35 * (i - (len(variants) - 1) / 2)
                    points(ax, table, "max_depth", f"{variant}_{metric}", variant, COLOURS[variant], beside)
            if "DDN" in variants and is_search(other):
                best = ManualSearch(other, metric.removeprefix("test_"))
                value = scale_of(metric) * best.values(f"DDN_{metric}").mean()
                label = f"manual search (D = {best.depths()})"
                ax.axhline(value, color=COLOURS["DDN"], ls="--", lw=1, label=label)
            ax.set_ylabel(LABELS[metric])
        for ax in column:
            legend_above(ax)
    search = f"; manual search: the DDN chosen on {chosen_on(ddn)}" if is_search(ddn) else ""
    return titled(figure, f"LDN {_made(ldn)}, DDN {repeats(ddn)}{search}{_without(ldn, ddn)}")


def image_curves(tables: Tables) -> Figure | None:
    """Error and log-likelihood over the epochs on the points that select one, means over repeats, a line a depth.

    A mean ends where the first repeat does. Circles and diamonds: of each run the epoch that was kept, and what it had
    there. The scales are logarithmic, log-likelihoods negated.
    """
    every = pd.concat(ldn_and_ddn(tables["runs"], "images"))
    runs, curves = with_blocks(every), with_blocks(pd.concat(ldn_and_ddn(tables["curves"], "images")))
    if runs.empty or curves.empty:
        return None
    which = "test" if runs["protocol"].iloc[0] == "paper" else "validation"
    sets, shades = runs["data_set"].unique(), {}
    for kind, name, ends in (("DDN", "viridis", (0.0, 0.9)), ("LDN", "Reds", (0.9, 0.5))):
        depths = sorted(runs.loc[runs["kind"] == kind, "max_depth"].unique())
        shades[kind] = dict(zip(depths, plt.get_cmap(name)(np.linspace(*ends, len(depths))), strict=True))
    size = (4.2 * len(sets) + 1.4, 5.4)
    figure, axes = plt.subplots(2, len(sets), figsize=size, sharex=True, squeeze=False)
    drawn = sorted(set(zip(curves["kind"], curves["max_depth"], strict=True)))  # of all data sets, as the legend is
    for column, name in zip(axes.T, sets, strict=True):
        for ax, (label, (metric, scale)) in zip(column, MEASURED.items(), strict=True):
            for kind, depth in drawn:
                logged, own = (t[t[SETTING].eq([name, kind, depth]).all(axis=1)] for t in (curves, runs))
                _curve(ax, logged, own, f"valid_{metric}", scale, f"{kind}, D = {depth}", shades[kind][depth])
            ax.set_yscale("log")
            log_ticks(ax.yaxis, (1, 2, 5))
            ax.set_ylabel(label)
        column[0].set_title(name)
        column[1].set_xlabel("epoch")
    legend_beside(axes[0, -1])
    marks = "circles (DDN) and diamonds (LDN): the epoch that each run kept"
    said = f"on {which} points, {_made(runs)}: means while all repeats train; {marks}"
    return titled(figure, said + _without(every))


def _curve(ax: Axes, curves: pd.DataFrame, runs: pd.DataFrame, y: str, scale: int, label: str, colour) -> None:
    """One line of `image_curves`, and its dots, from what is logged of the repeats of one setting."""
    # Repeats are logged at epochs of their own.
    logged = scale * curves.pivot_table(index="epoch", columns="seed", values=y)
    each = logged.interpolate(method="index", limit_area="inside")
    mean = each.dropna().mean(axis=1)
    line, dot = ("--", "D") if label.startswith("LDN") else ("-", "o")
    ax.plot(mean.index, mean, line, lw=1.3, color=colour, label=label)
    kept = runs[runs["seed"].isin(each)].set_index("seed")["best_epoch"]
    at = [np.interp(epoch, own.index, own) for seed, epoch in kept.items() for own in [each[seed].dropna()]]
    ax.plot(kept, at, dot, ms=4, mfc="none", color=colour)


def image_calibration(tables: Tables, data_set: str) -> Figure | None:
    """Reliability of DDN, LDN up to d_opt and LDN up to D; the paper's `calibration_<data set>`."""
    bins, runs = (t[t["data_set"] == data_set] for t in (tables["reliability"], tables["runs"]))
    max_depth = shared_depth(runs)
    if max_depth is None:
        return None
    bins, runs = (t[t["max_depth"] == max_depth] for t in (bins, runs))
    figure = reliability_diagrams(bins, runs, least=0)
    return titled(figure, f"calibration on {data_set}, D = {max_depth}, {_made(runs)}; {FEW_LEFT_OUT}")


def image_speedups(tables: Tables) -> Figure | None:
    """100 (1 - t_pruned / t_DDN) against D, predicting the whole test set: the time that pruning saves.

    Both networks of a run were timed on one machine; depths may have been run on different ones.
    """
    ldn, _ = ldn_and_ddn(tables["runs"], "images")
    ldn = timed_runs(ldn)
    sets = ldn["data_set"].unique()
    if not len(sets):
        return None
    figure, axes = panels(len(sets), sharey=True)
    colours = {device: f"C{i}" for i, device in enumerate(sorted(ldn["device"].unique()))}
    for ax, name in zip(axes, sets, strict=True):
        here = ldn[ldn["data_set"] == name]
        for device, colour in colours.items():
            points(ax, here[here["device"] == device], "max_depth", "saved", str(device), colour)
        ax.set_xlim(-0.1 * ldn["max_depth"].max(), 1.1 * ldn["max_depth"].max())
        ax.axhline(0, color="k", lw=0.8, ls=":")
        ax.set(xlabel=LABELS["max_depth"], ylabel="time saved (%)", title=name)
    legend_beside(axes[-1])
    return titled(figure, f"time to predict the test set, LDN-95 against DDN on one machine each, {_made(ldn)}")


def _made(runs: pd.DataFrame) -> str:
    protocol, precision, epochs = (runs[column].iloc[0] for column in ("protocol", "precision", "epochs_limit"))
    return f"{protocol} protocol, {precision}, at most {epochs} epochs, {repeats(runs)}"


def _without(*runs: pd.DataFrame) -> str:
    """What a title says of networks without blocks, where there are some."""
    without = any((table["max_depth"] == 0).any() for table in runs)
    return "; D = 0, the stem alone, is far off and left out" if without else ""


def with_blocks(runs: pd.DataFrame) -> pd.DataFrame:
    """All but D = 0: the stem alone would flatten everything else."""
    return runs[runs["max_depth"] > 0]
