"""Tidy tables to matplotlib figures; no files and no training here.

Tables are those of `tables`. Lines and bars are means over repeats, bands and whiskers one standard
deviation. A figure whose runs do not exist is None.
"""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from depthsearch.reporting.claims import best_ddn
from depthsearch.reporting.parts import ldn_and_ddn, of_scan, reference_depth, timed_runs
from depthsearch.reporting.words import span

COLOURS = {
    "LDN-95": "tab:blue",
    "LDN-E": "tab:cyan",
    "LDN-full": "tab:purple",
    "DDN": "tab:orange",
    "train": "tab:green",
    "test": "tab:blue",
}
LABELS = {
    "max_depth": "maximum depth D",
    "width": "width",
    "n_train": "training points",
    "stop_angle": "angle of each arm (degrees)",
    "pruned_depth": "chosen depth",
    "expected_depth": "expected depth",
    "test_error": "test error (%)",
    "test_log_likelihood": "test log-likelihood (nats)",
    "error": "error (%)",
    "log_likelihood": "log-likelihood (nats)",
}
Tables = Mapping[str, pd.DataFrame]


def scale_of(column: str) -> int:
    """By what a column is multiplied to have the unit of its label: shares are stored, errors drawn in percent."""
    return 100 if column.endswith("error") else 1


def band(ax: Axes, table: pd.DataFrame, x: str, y: str, label: str, colour: str | None = None) -> None:
    """Mean of y over the rows of each x, with a band of one standard deviation."""
    scale = scale_of(y)
    groups = table.groupby(x)[y]
    mean, std = scale * groups.mean(), scale * groups.std().fillna(0)
    # No band where there can be no data: a log-likelihood is at most 0, all else but time saved is at least 0.
    top = 0 if y.endswith("log_likelihood") else np.inf
    bottom = -np.inf if y.endswith(("log_likelihood", "saved")) else 0
    (line,) = ax.plot(mean.index, mean, "o-", ms=3, lw=1.2, color=colour, label=label)
    low, high = (mean - std).clip(lower=bottom), (mean + std).clip(upper=top)
    ax.fill_between(mean.index, low, high, color=line.get_color(), alpha=0.2, lw=0)


def depth_posterior(ax: Axes, depths: pd.DataFrame, other: str = "prior") -> None:
    """Bars of q(d), mean and standard deviation over runs of one setting; the prior (or another column) as a line."""
    groups = depths.groupby("depth")
    q = groups["q"].mean()
    ax.bar(q.index, q, yerr=groups["q"].std().fillna(0), color="tab:blue", alpha=0.7, label="q(d)", capsize=1.5)
    ax.plot(q.index, groups[other].mean(), "k.--", lw=1, label=other.replace("_", " "))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="depth d", ylabel="probability", ylim=(0, None))
    ax.legend(frameon=False)


def per_depth(ax: Axes, depths: pd.DataFrame, metric: str) -> None:
    """A metric of the network cut at each depth, training and test."""
    for split in ("train", "test"):
        band(ax, depths, "depth", f"{split}_{metric}", split, COLOURS[split])
    ax.set(xlabel="depth d", ylabel=LABELS[metric])
    ax.legend(frameon=False)


def reliability(ax: Axes, bins: pd.DataFrame, runs: pd.DataFrame, variants: Sequence[str]) -> None:
    """Reliability diagram of the test set, all repeats pooled; top-label ECE in the legend."""
    ax.plot([0, 1], [0, 1], "k:", lw=1)
    for variant in variants:
        rows = bins[bins["variant"] == variant]
        if rows.empty:
            continue
        weights = rows.groupby("bin")["count"].sum()
        pooled = {k: (rows[k] * rows["count"]).groupby(rows["bin"]).sum() / weights for k in ("confidence", "accuracy")}
        ece = 100 * runs[f"{variant}_test_ece"].dropna()
        label = f"{variant}, ECE {ece.mean():.2f} ± {ece.std():.2f} %"
        ax.plot(pooled["confidence"], pooled["accuracy"], "o-", ms=3, lw=1.2, color=COLOURS[variant], label=label)
    ax.set(xlabel="confidence", ylabel="accuracy", xlim=(0.45, 1.02))
    ax.legend(frameon=False, fontsize="small")


def probability_map(ax: Axes, probs: np.ndarray, extent: float) -> None:
    """p(arm 1) on the square [-extent, extent]^2: probs (pixels, pixels), first axis vertical."""
    box = (-extent, extent, -extent, extent)
    ax.imshow(probs, origin="lower", extent=box, cmap="coolwarm", vmin=0, vmax=1, interpolation="bilinear")
    ax.set(xticks=[], yticks=[])


# Whole figures.


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
    return titled(figure, f"LDN on spirals, D = {max_depth}, {_repeats(depths)}")


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
    return titled(figure, f"calibration on spirals, D = {max_depth}, {_repeats(runs)}")


def spiral_depths(tables: Tables) -> Figure | None:
    """Against the maximum depth: chosen depth; log-likelihood and error of LDN-95 and DDN."""
    ldn, ddn = ldn_and_ddn(tables["runs"], "spirals")
    if ldn.empty:
        return None
    figure, axes = panels(3)
    _chosen(axes[0], ldn, "max_depth")
    axes[0].set_ylim(0, 1.6 * ldn["expected_depth"].max())
    axes[0].legend(fontsize="small", loc="upper left")
    for ax, metric in ((axes[1], "test_log_likelihood"), (axes[2], "test_error")):
        for variant, table in (("LDN-95", ldn), ("DDN", ddn)):
            if not table.empty:
                band(ax, table, "max_depth", f"{variant}_{metric}", variant, COLOURS[variant])
        ax.set(xlabel="depth D", ylabel=LABELS[metric])
        ax.legend(frameon=False)
    _focus(axes[1], ldn["LDN-95_test_log_likelihood"])
    return titled(figure, f"spirals, LDN {_repeats(ldn)}, DDN {_repeats(ddn)}")


def spiral_variants(tables: Tables) -> Figure | None:
    """Against the maximum depth: log-likelihood and error of LDN-95, LDN-E and LDN-full."""
    runs = of_scan(tables["runs"], "scan_max_depth_spirals")
    if runs.empty:
        return None
    figure, axes = panels(2, width=4)
    for ax, metric in zip(axes, ("test_log_likelihood", "test_error"), strict=True):
        for variant in ("LDN-full", "LDN-E", "LDN-95"):
            band(ax, runs, "max_depth", f"{variant}_{metric}", variant, COLOURS[variant])
        ax.set(xlabel="maximum depth D", ylabel=LABELS[metric])
        ax.legend(frameon=False)
    return titled(figure, f"pruning on spirals, {_repeats(runs)}")


def spiral_scan(tables: Tables, scan: str, swept: str) -> Figure | None:
    """Against another swept quantity: chosen depth; log-likelihood and error of LDN-95."""
    runs = of_scan(tables["runs"], scan)
    if runs.empty:
        return None
    runs = runs.assign(n_train=runs["n"] // 10)
    figure, axes = panels(3)
    _chosen(axes[0], runs, swept)
    axes[0].legend(frameon=False)
    for ax, metric in ((axes[1], "test_log_likelihood"), (axes[2], "test_error")):
        band(ax, runs, swept, f"LDN-95_{metric}", "LDN-95", COLOURS["LDN-95"])
        ax.set(xlabel=LABELS[swept], ylabel=LABELS[metric])
    if swept == "width":
        for ax in axes:
            values = sorted(runs["width"].unique())
            ax.set_xscale("log")
            apart = [v for i, v in enumerate(values) if i == len(values) - 1 or values[i + 1] > 1.2 * v]
            ax.set_xticks(apart, [f"{v:g}" for v in apart])
            ax.minorticks_off()
    return titled(figure, f"LDN on spirals, D = {int(runs['max_depth'].max())}, {_repeats(runs)}")


def spiral_posterior_gap(tables: Tables, max_depth: int = 20) -> Figure | None:
    """How far the learnt q(d) is from the exact posterior over depth given the trained weights."""
    depths = _at(tables["depths"], "scan_max_depth_spirals", max_depth)
    runs = of_scan(tables["runs"], "scan_max_depth_spirals")
    if depths.empty:
        return None
    figure, axes = panels(2, width=4)
    depth_posterior(axes[0], depths, other="exact_posterior")
    axes[0].set_title(f"D = {max_depth}", fontsize="medium")
    band(axes[1], runs, "max_depth", "kl_to_exact", "KL(q || exact)")
    axes[1].set(xlabel="maximum depth D", ylabel="KL(q || exact posterior) (nats)", yscale="log")
    return titled(figure, f"learnt and exact posterior over depth, {_repeats(runs)}")


# Images: one panel or column a data set; the tables are one of `tables.cohorts`.


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
        _chosen(column[0], here, "max_depth")
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
                label = f"best DDN (D = {best['max_depth'].iloc[0]})"
                ax.axhline(value, color=COLOURS["DDN"], ls="--", lw=1, label=label)
            _frame_blocks(ax, shown, metric)
            ax.set(xlabel=LABELS["max_depth"], ylabel=LABELS[metric])
        for ax in column:
            ax.legend(frameon=False, fontsize="small")
    return titled(figure, f"LDN {_made(ldn)}, DDN {_repeats(ddn)}; scales fitted to D > 0")


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
    return f"{protocol} protocol, {precision}, at most {epochs} epochs, {_repeats(runs)}"


def _at(table: pd.DataFrame, scan: str, max_depth: int) -> pd.DataFrame:
    rows = of_scan(table, scan)
    return rows[rows["max_depth"] == max_depth] if len(rows) else rows


def _chosen(ax: Axes, runs: pd.DataFrame, x: str) -> None:
    band(ax, runs, x, "pruned_depth", "LDN-95 (d_opt)", COLOURS["LDN-95"])
    band(ax, runs, x, "expected_depth", "LDN-E (mean depth)", COLOURS["LDN-E"])
    if x == "max_depth":
        ax.plot([0, runs[x].max()], [0, runs[x].max()], "k:", lw=1, label="d = D")
    ax.set(xlabel=LABELS[x], ylabel="chosen depth")


def _focus(ax: Axes, values: pd.Series, factor: float = 4) -> None:
    """Keeps shallow networks that cannot fit the data from flattening everything else."""
    low = factor * values.min()
    ax.set_ylim(low, 0.02 * abs(low))


def _frame_blocks(ax: Axes, shown: Mapping[str, pd.DataFrame], metric: str) -> None:
    """Fits the y axis to the networks with blocks: D = 0, the stem alone, would flatten everything else."""
    columns = [table[table["max_depth"] > 0][f"{variant}_{metric}"] for variant, table in shown.items() if len(table)]
    values = scale_of(metric) * pd.concat(columns)
    if len(values):
        margin = 0.1 * (values.max() - values.min()) or 0.1 * abs(values.max())
        ax.set_ylim(values.min() - margin, values.max() + margin)


def _repeats(table: pd.DataFrame) -> str:
    if table.empty:
        return "no runs"
    keys = ("kind", "data_set", "max_depth", "width", "n", "stop_angle")
    counts = table.groupby([key for key in keys if key in table], dropna=False)["seed"].nunique()
    return f"n = {span(counts)} repeats"


def panels(n: int, width: float = 3.6) -> tuple[Figure, np.ndarray]:
    """A row of n axes, each so many inches wide."""
    figure, axes = plt.subplots(1, n, figsize=(width * n, 3.1), squeeze=False)
    return figure, axes[0]


def titled(figure: Figure, title: str) -> Figure:
    """The figure, with a title that is broken into lines of its width."""
    figure.suptitle(textwrap.fill(title, int(13 * figure.get_figwidth())), fontsize="medium")
    figure.tight_layout()
    return figure
