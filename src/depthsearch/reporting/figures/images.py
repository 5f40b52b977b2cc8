"""Figures of the scans on images: one panel or column a data set; the tables are one of `parts.cohorts`."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from depthsearch.reporting.claims import best_ddn, depths_of
from depthsearch.reporting.figures.style import (
    COLOURS,
    LABELS,
    Tables,
    band,
    chosen_depth,
    depth_posterior,
    panels,
    reliability,
    repeats,
    scale_of,
    titled,
)
from depthsearch.reporting.parts import ldn_and_ddn, reference_depth, timed_runs


def image_posteriors(tables: Tables) -> Figure | None:
    """q(d) of LDN with a band at d_opt; test log-likelihood of LDN-95 as a band, and of DDN at every depth.

    The paper's `image_depth_dist_exps`.
    """
    ldn, ddn = ldn_and_ddn(tables["runs"], "images")
    depths, _ = ldn_and_ddn(tables["depths"], "images")
    if ldn.empty:
        return None
    sets = ldn["data_set"].unique()
    figure, axes = panels(len(sets), width=4.2)
    for ax, name in zip(axes, sets, strict=True):
        here, rows, other = (t[t["data_set"] == name] for t in (ldn, depths, ddn))
        max_depth = reference_depth(here)
        here, rows = (t[t["max_depth"] == max_depth] for t in (here, rows))
        depth_posterior(ax, rows)
        chosen = here["pruned_depth"]
        ax.axvspan(chosen.min() - 0.4, chosen.max() + 0.4, color="tab:red", alpha=0.15, lw=0, label="d_opt")
        ax.legend(loc="upper left", fontsize="x-small")
        ax.set_title(f"{name}, D = {max_depth}")
        likelihood = ax.twinx()
        value, spread = here["LDN-95_test_log_likelihood"].mean(), here["LDN-95_test_log_likelihood"].std()
        likelihood.axhspan(value - spread, value + spread, color=COLOURS["LDN-95"], alpha=0.25, lw=0)
        likelihood.axhline(value, color=COLOURS["LDN-95"], lw=1, label="LDN-95")
        if len(other):
            band(likelihood, other, "max_depth", "DDN_test_log_likelihood", "DDN", COLOURS["DDN"])
            _frame_blocks(likelihood, {"LDN-95": here, "DDN": other}, "test_log_likelihood")
        likelihood.set_ylabel(LABELS["test_log_likelihood"])
        likelihood.legend(loc="lower right", fontsize="x-small")
    beside = ", DDN at each depth (scale fitted to D > 0)" if len(ddn) else ""
    return titled(figure, f"q(d) of LDN{beside}, {_made(ldn)}")


def image_depths(tables: Tables) -> Figure | None:
    """Against D: chosen depth; log-likelihood, then error, of DDN and LDN-95 and of the LDN variants.

    The paper's `image_depth_dist_exps2`, and the DDN that manual search would choose (`claims.best_ddn`).
    """
    ldn, ddn = ldn_and_ddn(tables["runs"], "images")
    if ldn.empty:
        return None
    sets = ldn["data_set"].unique()
    figure, axes = plt.subplots(5, len(sets), figsize=(3.8 * len(sets), 12), squeeze=False)
    for column, name in zip(axes.T, sets, strict=True):
        here, other = (t[t["data_set"] == name] for t in (ldn, ddn))
        chosen_depth(column[0], here, "max_depth")
        column[0].set_title(name)
        for ax, metric, variants in (
            (column[1], "test_log_likelihood", ("DDN", "LDN-95")),
            (column[2], "test_log_likelihood", ("LDN-E", "LDN-95", "LDN-full")),
            (column[3], "test_error", ("DDN", "LDN-95")),
            (column[4], "test_error", ("LDN-E", "LDN-95", "LDN-full")),
        ):
            shown = {variant: other if variant == "DDN" else here for variant in variants}
            for variant, table in shown.items():
                if len(table):
                    band(ax, table, "max_depth", f"{variant}_{metric}", variant, COLOURS[variant])
            if "DDN" in shown and len(other):
                best = best_ddn(other, metric.removeprefix("test_"))
                value = scale_of(metric) * best[f"DDN_{metric}"].mean()
                label = f"best DDN (D = {depths_of(best)})"
                ax.axhline(value, color=COLOURS["DDN"], ls="--", lw=1, label=label)
            _frame_blocks(ax, shown, metric)
            ax.set(xlabel=LABELS["max_depth"], ylabel=LABELS[metric])
        for ax in column:
            ax.legend(frameon=False, fontsize="small")
    return titled(figure, f"LDN {_made(ldn)}, DDN {repeats(ddn)}; scales fitted to D > 0")


def image_calibration(tables: Tables, data_set: str) -> Figure | None:
    """Reliability of DDN, LDN up to d_opt and LDN up to D; the paper's `calibration_<data set>`."""
    bins, runs = (t[t["data_set"] == data_set] for t in (tables["reliability"], tables["runs"]))
    max_depth = reference_depth(*(runs[runs["kind"] == kind] for kind in ("LDN", "DDN")))
    if max_depth is None:
        return None
    bins, runs = (t[t["max_depth"] == max_depth] for t in (bins, runs))
    figure, axes = panels(3, width=3.2)
    for ax, variant in zip(axes, ("DDN", "LDN-95", "LDN-full"), strict=True):
        reliability(ax, bins, runs, (variant,))
        ax.set_xlim(0, 1.02)
    return titled(figure, f"calibration on {data_set}, D = {max_depth}, {_made(runs)}")


def image_speedups(tables: Tables) -> Figure | None:
    """100 (1 - t_pruned / t_DDN) against D, predicting the whole test set: the time that pruning saves."""
    ldn, _ = ldn_and_ddn(tables["runs"], "images")
    ldn = timed_runs(ldn)
    sets = ldn["data_set"].unique()
    if not len(sets):
        return None
    figure, axes = panels(len(sets))
    for ax, name in zip(axes, sets, strict=True):
        for device, rows in ldn[ldn["data_set"] == name].groupby("device"):
            band(ax, rows, "max_depth", "saved", str(device))
        ax.legend(frameon=False, fontsize="x-small", title="LDN-95 against DDN, on", title_fontsize="x-small")
        ax.axhline(0, color="k", lw=0.8, ls=":")
        ax.set(xlabel=LABELS["max_depth"], ylabel="time saved (%)", title=name)
    return titled(figure, f"prediction of the test set, {_made(ldn)}")


def _made(runs: pd.DataFrame) -> str:
    protocol, precision, epochs = (runs[column].iloc[0] for column in ("protocol", "precision", "epochs_limit"))
    return f"{protocol} protocol, {precision}, at most {epochs} epochs, {repeats(runs)}"


def _frame_blocks(ax: Axes, shown: Mapping[str, pd.DataFrame], metric: str) -> None:
    """Fits the y axis to the networks with blocks: D = 0, the stem alone, would flatten everything else."""
    columns = [table[table["max_depth"] > 0][f"{variant}_{metric}"] for variant, table in shown.items() if len(table)]
    values = scale_of(metric) * pd.concat(columns)
    if len(values):
        margin = 0.1 * (values.max() - values.min()) or 0.1 * abs(values.max())
        ax.set_ylim(values.min() - margin, values.max() + margin)
