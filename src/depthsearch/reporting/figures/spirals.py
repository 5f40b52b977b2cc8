"""Figures of the scans on spirals."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator, SymmetricalLogLocator

from depthsearch.reporting.figures.style import (
    COLOURS,
    FEW_LEFT_OUT,
    LABELS,
    chosen_depth,
    depth_posterior,
    legend_beside,
    log_ticks,
    panels,
    per_depth,
    probability_map,
    quartiles,
    reliability_diagrams,
    repeats,
    titled,
)
from depthsearch.reporting.intervals import interval_of
from depthsearch.reporting.parts import held_out, ldn_and_ddn, of_scan
from depthsearch.reporting.tables.schema import FAIR, Tables
from depthsearch.studies.spirals import HELD_OUT, Spirals


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
    return titled(figure, f"LDN on spirals, D = {max_depth}, {repeats(depths)}: q mean and deviation, losses quartiles")


def spiral_maps(maps: Mapping[str, np.ndarray] | None) -> Figure | None:
    """Predictive of the pruned network with the training points, and uncertainty as entropy."""
    if maps is None:
        return None
    figure, axes = panels(3, width=3.2)
    probs, extent = maps["predictive"].astype(float), float(maps["extent"])
    figure.colorbar(probability_map(axes[0], probs, extent), ax=axes[0], shrink=0.8)
    axes[0].set_title("predictive p(arm 1), LDN-95")
    probability_map(axes[1], probs, extent)
    for arm, colour in enumerate(("navy", "darkred")):
        points = maps["x_train"][maps["y_train"] == arm]
        axes[1].scatter(*points.T, s=6, color=colour, edgecolors="w", linewidths=0.3)
    axes[1].set(title="the middle of it, training points", xlim=(-2.5, 2.5), ylim=(-2.5, 2.5))
    p = probs.clip(1e-12, 1 - 1e-7)
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p))
    image = axes[2].imshow(entropy, origin="lower", extent=(-extent, extent, -extent, extent), cmap="viridis")
    axes[2].set(title="predictive entropy (nats)", xticks=[], yticks=[])
    figure.colorbar(image, ax=axes[2], shrink=0.8)
    return titled(figure, f"LDN on spirals, D = {len(maps['per_depth']) - 1}, repeat 0, one run")


def spiral_depth_functions(maps: Mapping[str, np.ndarray] | None) -> Figure | None:
    """The function that the network computes at each depth: p(arm 1)."""
    if maps is None:
        return None
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
    """Reliability of the DDN, and of LDN, pruned and full, of the same maximum depth."""
    bins, runs = (
        pd.concat(
            [_at(tables[t], s, max_depth) for s in ("scan_max_depth_spirals", "scan_deterministic_depth_spirals")]
        )
        for t in ("reliability", "runs")
    )
    if bins.empty:
        return None
    figure = reliability_diagrams(bins, runs, least=0.45)
    return titled(figure, f"calibration on spirals, D = {max_depth}, {repeats(runs)}; {FEW_LEFT_OUT}")


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
        log_ticks(ax.yaxis, (1, 2, 5))
        ax.set_xscale("symlog", linthresh=10, linscale=0.8)
        ax.set_xlim(-0.5, 1.1 * max(table["max_depth"].max() for table in (ldn, ddn) if not table.empty))
        ax.set_xticks([0, 2, 5, 10, 20, 50, 100], ["0", "2", "5", "10", "20", "50", "100"])
        ax.legend(frameon=False, fontsize="small")
    return titled(
        figure,
        f"spirals{held_out(family)}, LDN {repeats(ldn)}, DDN {repeats(ddn)}; chosen depth: mean, standard "
        "deviation; losses: median, quartiles, their depths D linear to 10, then logarithmic",
    )


def spiral_variants(tables: Tables) -> Figure | None:
    """Against the maximum depth: what LDN-95 and LDN-E cost against LDN-full, paired over repeats."""
    runs = of_scan(tables["runs"], "scan_max_depth_spirals")
    if runs.empty:
        return None
    figure, axes = panels(2, width=4.4)
    for ax, metric, sign, label in zip(
        axes,
        ("log_likelihood", "error"),
        (-1, 100),
        ("negative test\nlog-likelihood (nats)", "test error (points)"),
        strict=True,
    ):
        for i, variant in enumerate(("LDN-95", "LDN-E")):
            costs = sign * (runs[f"{variant}_test_{metric}"] - runs[f"LDN-full_test_{metric}"])
            found = {depth: interval_of(group) for depth, group in costs.groupby(runs["max_depth"])}
            mean, low, high = np.array([interval[:3] for interval in found.values()]).T
            x = np.array(list(found)) + 0.8 * (i - 0.5)
            style = {"color": COLOURS[variant], "label": variant, "ms": 3.5, "lw": 1}
            ax.errorbar(x, mean, yerr=(mean - low, high - mean), fmt="o", **style)
        ax.axhline(0, color="k", lw=0.8, ls=":")
        ax.set(xlabel="maximum depth D", ylabel=f"{label},\nminus LDN-full")
    legend_beside(axes[-1])
    return titled(figure, f"what pruning costs on spirals, {repeats(runs)}: paired differences, mean, 95 % interval")


def spiral_scan(tables: Tables, scan: str, swept: str) -> Figure | None:
    """Against another swept quantity: chosen depth; log-likelihood and error of LDN-95.

    Losses by their quartiles, on scales that are logarithmic above a thousandth of a nat and a tenth of a percent.
    """
    runs = of_scan(tables["runs"], scan)
    if runs.empty:
        return None
    runs = runs.assign(n_train=runs["n"] // 10, **{"LDN-95_test_nll": -runs["LDN-95_test_log_likelihood"]})
    figure, axes = panels(3)
    chosen_depth(axes[0], runs, swept)
    for ax, metric, least in ((axes[1], "test_nll", 1e-3), (axes[2], "test_error", 0.1)):
        quartiles(ax, runs, swept, f"LDN-95_{metric}", "LDN-95", COLOURS["LDN-95"])
        ax.set(xlabel=LABELS[swept], ylabel=LABELS[metric])
        ax.set_yscale("symlog", linthresh=least, linscale=0.3)
        ax.set_ylim(0, None)
        ax.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=least, subs=[1, 3]))
        ax.yaxis.set_major_formatter("{x:g}")
    if swept == "stop_angle":
        for ax in axes:
            ax.xaxis.set_major_locator(MultipleLocator(360))
    if swept == "width":
        for ax in axes:
            ax.set_xscale("log")
            apart: list[float] = []  # widths whose names do not run into each other
            for v in sorted(runs["width"].unique(), reverse=True):
                if not apart or v < apart[-1] / 1.8:
                    apart.append(v)
            ax.set_xticks(apart, [f"{v:g}" for v in apart])
            ax.minorticks_off()
    batch = Spirals().training.batch_size
    one_step = batch / (1 - HELD_OUT) if scan.endswith(FAIR) else batch
    if swept == "n_train" and runs["n_train"].max() > one_step:
        axes[0].axvline(one_step, color="k", lw=0.8, ls=":", label=f"a batch ({batch}) is full")
    axes[0].legend(facecolor="w", framealpha=0.9, edgecolor="none", fontsize="small")
    said = f"LDN on spirals, D = {int(runs['max_depth'].max())}{held_out(scan)}, {repeats(runs)}"
    return titled(
        figure,
        f"{said}; depths: mean, standard deviation; losses: median, quartiles, axes logarithmic but for what is near 0",
    )


def spiral_posterior_gap(tables: Tables, max_depth: int = 20) -> Figure | None:
    """How far the learnt q(d) is from the exact posterior over depth given the trained weights."""
    depths = _at(tables["depths"], "scan_max_depth_spirals", max_depth)
    runs = of_scan(tables["runs"], "scan_max_depth_spirals")
    if depths.empty:
        return None
    figure, axes = panels(2, width=4)
    depth_posterior(axes[0], depths, other="exact_posterior")
    axes[0].set_title(f"D = {max_depth}, means over repeats", fontsize="medium")
    quartiles(axes[1], runs, "max_depth", "kl_to_exact", "KL(q || exact)")
    axes[1].set(xlabel="maximum depth D", ylabel="KL(q || exact posterior) (nats)")
    axes[1].set_title("median, quartiles", fontsize="medium")
    return titled(figure, f"learnt and exact posterior over depth, {repeats(runs)}")


def _at(table: pd.DataFrame, scan: str, max_depth: int) -> pd.DataFrame:
    rows = of_scan(table, scan)
    return rows[rows["max_depth"] == max_depth]
