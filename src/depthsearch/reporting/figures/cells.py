"""Figures of the searches of cells: tables of `searches` to matplotlib, as in the others."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from depthsearch.cells.nasbench201_strings import OPERATIONS
from depthsearch.data.nasbench import SETS
from depthsearch.measuring.cells import DRAWN
from depthsearch.reporting.figures.style import legend_beside, panels, titled
from depthsearch.reporting.tables.chains import named, side_by_side, size
from depthsearch.reporting.tables.rate_scans import CELL_RATES
from depthsearch.reporting.tables.schema import Tables
from depthsearch.reporting.words import span
from depthsearch.studies.nasbench201 import NASBench201Cell
from depthsearch.studies.plans import NASBENCH201
from depthsearch.studies.random_cells import EQUAL_COST

ORDER = list(NASBench201Cell.PLANS)
COLOURS = dict(zip(NASBENCH201, plt.get_cmap("tab10").colors, strict=True)) | {EQUAL_COST: "k"}  # type: ignore[attr-defined]
TICKS = {"c10": (10, 50, 70, 80, 90, 94), "c100": (10, 30, 50, 60, 70), "in16": (10, 20, 30, 40)}  # percent
FOUND = "cells found by reduced searches; black: random search of equal cost, gray: looked up, nothing trained here"
LOG_ERROR = (lambda a: -np.log(100 - a), lambda v: 100 - np.exp(-v))  # a scale of accuracies in percent, and back


def trajectory(tables: Tables, short: str = "c10") -> Figure | None:
    """True accuracy over the epochs of a search, a column a strategy, medians over repeats: one may end at chance.

    Above as in DrNAS's figure: the range of 100 cells drawn from what is believed, and the cell of the mean weights;
    below exactly, over all cells: quantiles and the mean. The axis is logarithmic in the error.
    """
    rows = _judged(tables["cells_history"])
    if rows[f"{short}_mean"].isna().all():
        return None
    rows = rows[rows[f"{short}_mean"].notna()]
    kinds = _kinds(rows)
    size = (2.5 * len(kinds) + 1.6, 5.4)
    figure, axes = plt.subplots(2, len(kinds), figsize=size, squeeze=False, sharex=True, sharey=True)
    for (above, below), kind in zip(axes.T, kinds, strict=True):
        values = rows[rows["kind"] == kind].groupby("epoch").median(numeric_only=True)
        _drawn(above, values, short)
        _exact(below, values, short)
        above.set_title(kind, fontsize="medium")
        below.set_xlabel("epoch")
        below.xaxis.set_major_locator(MaxNLocator(integer=True))
    for ax in axes[:, 0]:
        ax.set_yscale("function", functions=LOG_ERROR)
        ax.set_yticks(TICKS[short])
        ax.set_ylabel("true accuracy (%)")
    for ax in axes[:, -1]:
        legend_beside(ax)
    name = next(name for name, value in SETS.items() if value == short)
    return titled(
        figure,
        f"what reduced searches believe: {name}, {_n(rows)}; medians over repeats; axes: logarithmic in the error",
    )


def _drawn(ax: Axes, values: pd.DataFrame, short: str) -> None:
    low, high = values[f"{short}_drawn_min"], values[f"{short}_drawn_max"]
    ax.fill_between(values.index, low, high, color="tab:blue", alpha=0.25, lw=0, label=f"range of {DRAWN} drawn")
    ax.plot(values.index, values[short], "k-", lw=1.2, label="cell of the mean weights")


def _exact(ax: Axes, values: pd.DataFrame, short: str) -> None:
    for low, high, alpha in (("05", "95", 0.2), ("25", "75", 0.4)):
        label, ends = f"{int(low)} to {high} %", (values[f"{short}_q{low}"], values[f"{short}_q{high}"])
        ax.fill_between(values.index, *ends, color="tab:green", alpha=alpha, lw=0, label=label)
    ax.plot(values.index, values[f"{short}_q50"], color="tab:green", lw=1.2, label="median over cells")
    ax.plot(values.index, values[f"{short}_mean"], "k--", lw=1, label="mean over cells")


def accuracies(tables: Tables) -> Figure | None:
    """True accuracy of the cells found, a dot a repeat, a panel a data set; axes are logarithmic in the error."""
    rows = _judged(tables["cells"])
    if rows["c10"].isna().all():
        return None
    rows = rows[rows["c10"].notna()]
    kinds = _kinds(rows)
    figure, axes = plt.subplots(1, len(SETS), figsize=(11, 0.3 * len(kinds) + 1.6), squeeze=False, sharey=True)
    for ax, (name, short) in zip(axes[0], SETS.items(), strict=True):
        for i, kind in enumerate(kinds):
            values = rows[rows["kind"] == kind].sort_values("seed")[short]
            jitter = 0.12 * np.linspace(-1, 1, len(values)) if len(values) > 1 else [0.0]
            ax.plot(values, i + np.asarray(jitter), "o", ms=3.5, alpha=0.7, color=COLOURS.get(kind, "tab:gray"))
            ax.plot([values.mean()] * 2, [i - 0.3, i + 0.3], "k-", lw=1.2)
        ax.set_xscale("function", functions=LOG_ERROR)
        ax.set(title=name, xlabel="true accuracy (%)")
        ax.set_xticks([tick for tick in TICKS[short] if rows[short].min() < tick + 1])
        ax.set_yticks(range(len(kinds)), kinds, fontsize="small")
    axes[0, 0].invert_yaxis()
    return titled(figure, f"{FOUND}; {_n(rows)}, means as bars; log of the error")


def entropies(tables: Tables) -> Figure | None:
    """Entropy of the mixing weights and validation loss over the epochs, means over repeats.

    Dotted: the entropy where all options that an edge has are alike. Epochs in which alpha is left alone have no
    validation loss.
    """
    rows = _judged(tables["cells_history"])
    if rows["entropy"].isna().all():
        return None
    rows = rows[rows["entropy"].notna()]
    figure, axes = panels(2, width=4.6)
    labels = {"entropy": "entropy of the mixing weights (nats)", "valid_loss": "validation loss (nats)"}
    for ax, (column, label) in zip(axes, labels.items(), strict=True):
        for kind in _kinds(rows):
            mean = rows[rows["kind"] == kind].groupby("epoch")[column].mean()
            ax.plot(mean.index, mean, "o-", ms=2.5, lw=1.2, color=COLOURS.get(kind), label=kind)
        ax.set(xlabel="epoch", ylabel=label)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    stages = [stage for kind in _kinds(rows) if kind in NASBENCH201 for stage in NASBENCH201[kind].stages()]
    kept = {len(OPERATIONS), *(stage.keep for stage in stages if stage.keep is not None)}
    for n in kept:
        axes[0].axhline(np.log(n), color="k", lw=0.8, ls=":")
    alike = f"dotted: all options of an edge alike, of {' or '.join(map(str, sorted(kept, reverse=True)))}"
    legend_beside(axes[-1])
    return titled(figure, f"searches at the reduced size, {_n(rows)}: means; {alike}")


def depths(tables: Tables) -> Figure | None:
    """Chains of cells: test errors of depth fixed, learnt and retrained, and q(d), means over repeats."""
    runs = side_by_side(tables["chains"])
    if runs.empty:
        return None
    names, order = named(tables["cells"]), list(runs.groupby("cell")["fixed"].mean().sort_values().index)
    figure, (left, right) = panels(2, width=5.0, height=0.9 + 0.32 * len(order))
    for i, (way, marker) in enumerate((("fixed", "s"), ("learnt", "o"), ("retrained", "^"))):
        errors = 100 * runs.groupby("cell")[way].agg(["mean", "std"]).loc[order]
        rows = np.arange(len(order)) + 0.2 * (i - 1)
        left.errorbar(errors["mean"], rows, xerr=errors["std"], fmt=marker, ms=4, lw=1, label=way)
    left.set_yticks(range(len(order)), [names.get(cell, cell) for cell in order], fontsize="small")
    left.set_xlabel("test error (%)")
    left.legend(frameon=False, fontsize="x-small")
    believed = tables["chains_depths"].merge(runs[["cell", "seed"]])
    q = believed.pivot_table(index="cell", columns="depth", values="q").loc[order]
    image = right.imshow(q, aspect="auto", cmap="Blues", vmin=0)
    found = runs.groupby("cell")["depth"].mean().loc[order]
    right.plot(found, range(len(order)), "o", ms=4, mfc="none", color="tab:orange")
    right.set_title("circles: d_opt, mean", fontsize="small")
    right.set(xlabel="depth", ylim=left.get_ylim(), yticks=[])
    left.invert_yaxis()
    right.invert_yaxis()
    figure.colorbar(image, ax=right, label="q(d)")
    n = span(runs.groupby("cell")["seed"].nunique())
    said = f"chains of at most {span(runs['D'])} cells, {size(tables['chains'])}"
    return titled(figure, f"{said}, n = {n} repeats a cell; bars: standard deviation")


def _judged(rows: pd.DataFrame) -> pd.DataFrame:
    """The searches of NAS-Bench-201 but for those that learning rates were tuned on."""
    return rows[(rows["scan"] != CELL_RATES) & (rows["space"] == NASBench201Cell.name)]


def _kinds(rows: pd.DataFrame) -> list[str]:
    return [kind for kind in ORDER if kind in set(rows["kind"])]


def _n(rows: pd.DataFrame) -> str:
    return f"n = {span(rows.groupby('kind')['seed'].nunique())} repeats"
