"""Figures of the scans on spirals."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from depthsearch.reporting.figures.style import (
    COLOURS,
    LABELS,
    Tables,
    band,
    chosen_depth,
    depth_posterior,
    panels,
    per_depth,
    probability_map,
    quartiles,
    reliability,
    repeats,
    titled,
)
from depthsearch.reporting.parts import FAIR, ldn_and_ddn, of_scan


def spiral_run(tables: Tables, max_depth: int = 20) -> Figure | None:
    """q(d) with its prior, and log-likelihood and error of every depth."""
    depths = _at(tables["depths"], "scan_max_depth_spirals", max_depth)
    if depths.empty:
        return None
    figure, axes = panels(3)
    depth_posterior(axes[0], depths)
    per_depth(axes[1], depths, "log_likelihood")
    per_depth(axes[2], depths, "error")
    axes[1].set_yscale("symlog", linthresh=1e-2)
    return titled(figure, f"LDN on spirals, D = {max_depth}, {repeats(depths)}")


def spiral_maps(maps: Mapping[str, np.ndarray]) -> Figure:
    """Predictive of the pruned network with the training points, and uncertainty as entropy."""
    figure, axes = panels(3, width=3.2)
    probs, extent = maps["predictive"].astype(float), float(maps["extent"])
    probability_map(axes[0], probs, extent)
    axes[0].set_title("predictive p(arm 1), LDN-95")
    probability_map(axes[1], probs, extent)
    for arm, colour in enumerate(("navy", "darkred")):
        points = maps["x_train"][maps["y_train"] == arm]
        axes[1].scatter(*points.T, s=6, color=colour, edgecolors="w", linewidths=0.3)
    axes[1].set(title="with the training points", xlim=(-2.5, 2.5), ylim=(-2.5, 2.5))
    p = probs.clip(1e-12, 1 - 1e-7)
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p))
    image = axes[2].imshow(entropy, origin="lower", extent=(-extent, extent, -extent, extent), cmap="viridis")
    axes[2].set(title="predictive entropy (nats)", xticks=[], yticks=[])
    figure.colorbar(image, ax=axes[2], shrink=0.8)
    return titled(figure, f"LDN on spirals, D = {len(maps['per_depth']) - 1}, repeat 0, one run")


def spiral_depth_functions(maps: Mapping[str, np.ndarray]) -> Figure:
    """The function that the network computes at each depth: p(arm 1)."""
    per_depth = maps["per_depth"].astype(float)
    columns = 7
    figure, axes = plt.subplots(
        -(-len(per_depth) // columns), columns, figsize=(10, 1.6 * -(-len(per_depth) // columns)), squeeze=False
    )
    for depth, ax in enumerate(axes.flat):
        if depth < len(per_depth):
            probability_map(ax, per_depth[depth], float(maps["extent"]))
            ax.set_title(f"d = {depth}, q = {maps['q'][depth]:.2f}", fontsize="small")
        else:
            ax.axis("off")
    return titled(figure, "p(arm 1) at each depth, LDN on spirals, repeat 0, one run")


def spiral_calibration(tables: Tables, max_depth: int = 20) -> Figure | None:
    """Reliability of LDN, pruned and full, and of the DDN of the same maximum depth."""
    bins, runs = (
        pd.concat(
            [_at(tables[t], s, max_depth) for s in ("scan_max_depth_spirals", "scan_deterministic_depth_spirals")]
        )
        for t in ("reliability", "runs")
    )
    if bins.empty:
        return None
    figure, axes = panels(1, width=4.2)
    reliability(axes[0], bins, runs, ("LDN-95", "LDN-full", "DDN"))
    return titled(figure, f"calibration on spirals, D = {max_depth}, {repeats(runs)}")


def spiral_depths(tables: Tables, family: str = "spirals") -> Figure | None:
    """Against the maximum depth: chosen depth; log-likelihood and error of LDN-95 and DDN.

    Scales that let the depths be seen between which one chooses: linear up to depth 10 and logarithmic beyond, errors
    and negative log-likelihoods logarithmic, and of these the quartiles: a deep DDN may give one point 1e-30. `family`
    as in `ldn_and_ddn`.
    """
    ldn, ddn = ldn_and_ddn(tables["runs"], family)
    if ldn.empty:
        return None
    figure, axes = panels(3)
    chosen_depth(axes[0], ldn, "max_depth")
    axes[0].set_ylim(0, 1.6 * ldn["expected_depth"].max())
    axes[0].legend(fontsize="small", loc="upper left")
    for ax, metric in ((axes[1], "test_nll"), (axes[2], "test_error")):
        for variant, table in (("LDN-95", ldn), ("DDN", ddn)):
            if not table.empty:
                losses = table.assign(**{f"{variant}_test_nll": -table[f"{variant}_test_log_likelihood"]})
                quartiles(ax, losses, "max_depth", f"{variant}_{metric}", variant, COLOURS[variant])
        medians = np.concatenate([np.asarray(line.get_ydata()) for line in ax.lines])
        drawn = medians[(medians > 0) & np.isfinite(medians)]
        limits = (drawn.min() / 3, 3 * drawn.max()) if len(drawn) else None
        ax.set(xlabel="depth D", ylabel=LABELS[metric], yscale="log", ylim=limits)
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_locator(NullLocator())
        ax.set_xscale("symlog", linthresh=10, linscale=0.8)
        ax.set_xlim(-0.5, 1.1 * max(table["max_depth"].max() for table in (ldn, ddn) if not table.empty))
        ax.set_xticks([0, 2, 5, 10, 20, 50, 100], ["0", "2", "5", "10", "20", "50", "100"])
        ax.legend(frameon=False, fontsize="small")
    held = _held_out(family)
    return titled(figure, f"spirals{held}, LDN {repeats(ldn)}, DDN {repeats(ddn)}; losses: median, quartiles")


def spiral_variants(tables: Tables) -> Figure | None:
    """Against the maximum depth: log-likelihood and error of LDN-95, LDN-E and LDN-full."""
    runs = of_scan(tables["runs"], "scan_max_depth_spirals")
    if runs.empty:
        return None
    figure, axes = panels(2, width=4)
    for ax, metric in zip(axes, ("test_log_likelihood", "test_error"), strict=True):
        for variant in ("LDN-full", "LDN-E", "LDN-95"):
            quartiles(ax, runs, "max_depth", f"{variant}_{metric}", variant, COLOURS[variant])
        ax.set(xlabel="maximum depth D", ylabel=LABELS[metric])
        ax.legend(frameon=False)
    return titled(figure, f"pruning on spirals, {repeats(runs)}: median, quartiles")


def spiral_scan(tables: Tables, scan: str, swept: str) -> Figure | None:
    """Against another swept quantity: chosen depth; log-likelihood and error of LDN-95."""
    runs = of_scan(tables["runs"], scan)
    if runs.empty:
        return None
    runs = runs.assign(n_train=runs["n"] // 10)
    figure, axes = panels(3)
    chosen_depth(axes[0], runs, swept)
    axes[0].legend(frameon=False)
    for ax, metric in ((axes[1], "test_log_likelihood"), (axes[2], "test_error")):
        band(ax, runs, swept, f"LDN-95_{metric}", "LDN-95", COLOURS["LDN-95"])
        ax.set(xlabel=LABELS[swept], ylabel=LABELS[metric])
    if swept == "width":
        for ax in axes:
            ax.set_xscale("log")
            apart: list[float] = []  # widths whose names do not run into each other
            for v in sorted(runs["width"].unique()):
                if not apart or v > 1.8 * apart[-1]:
                    apart.append(v)
            ax.set_xticks(apart, [f"{v:g}" for v in apart])
            ax.minorticks_off()
    depth, held = int(runs["max_depth"].max()), _held_out(scan)
    return titled(figure, f"LDN on spirals, D = {depth}{held}, {repeats(runs)}: mean, standard deviation")


def spiral_posterior_gap(tables: Tables, max_depth: int = 20) -> Figure | None:
    """How far the learnt q(d) is from the exact posterior over depth given the trained weights."""
    depths = _at(tables["depths"], "scan_max_depth_spirals", max_depth)
    runs = of_scan(tables["runs"], "scan_max_depth_spirals")
    if depths.empty:
        return None
    figure, axes = panels(2, width=4)
    depth_posterior(axes[0], depths, other="exact_posterior")
    axes[0].set_title(f"D = {max_depth}", fontsize="medium")
    quartiles(axes[1], runs, "max_depth", "kl_to_exact", "KL(q || exact)")
    axes[1].set(xlabel="maximum depth D", ylabel="KL(q || exact posterior) (nats)")
    axes[1].set_title("median, quartiles", fontsize="medium")
    return titled(figure, f"learnt and exact posterior over depth, {repeats(runs)}")


def _held_out(scan: str) -> str:
    return ", a quarter of the training points held out" if scan.endswith(FAIR) else ""


def _at(table: pd.DataFrame, scan: str, max_depth: int) -> pd.DataFrame:
    rows = of_scan(table, scan)
    return rows[rows["max_depth"] == max_depth] if len(rows) else rows
