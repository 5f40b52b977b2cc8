"""Figures of cells trained from scratch: tables of `genotypes` to matplotlib, as in the others."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from depthsearch.reporting.figures.cells import COLOURS as OF_STRATEGIES
from depthsearch.reporting.figures.style import panels, titled
from depthsearch.reporting.genotypes import OTHER_CELLS, PUBLISHED_CELLS, RANDOM_CELLS
from depthsearch.reporting.joining import GENOTYPES
from depthsearch.reporting.trained import interval_of, kinds_in, measure_of, per_cell

COLOURS = OF_STRATEGIES | {PUBLISHED_CELLS: "tab:gray", OTHER_CELLS: "tab:gray", RANDOM_CELLS: "k"}
CURVES = {  # column: its label and scale; of the history, those that there are
    "train_loss": ("training loss (nats)", 1),
    "train_error": ("training error (%)", 100),
    "valid_perplexity": ("validation perplexity", 1),
    "test_error": ("test error (%)", 100),
}


def errors(rows: pd.DataFrame) -> Figure | None:
    """What cells are judged by, a dot a cell by where it is from; bars: mean and 95 % interval; band: of random ones.

    Args:
        rows: trainings on one data set, as of `by_origin`.
    """
    if (measure := measure_of(rows)) is None:
        return None
    cells, kinds = per_cell(rows, measure), kinds_in(rows)
    figure, ax = plt.subplots(figsize=(7, 0.42 * len(kinds) + 1.7))
    for i, kind in enumerate(kinds):
        _cells(ax, i, kind, measure.scale * cells[cells["kind"] == kind]["value"])
    ax.set_yticks(range(len(kinds)), [_counted(kind, cells) for kind in kinds], fontsize="small")
    ax.set(xlabel=measure.name, ylim=(len(kinds) - 0.5, -0.5))
    return titled(figure, f"{_size(rows)}: a dot a cell, mean and 95 % interval; gray: interval of random cells")


def _cells(ax: Axes, i: int, kind: str, values: pd.Series) -> None:
    jitter = 0.14 * np.linspace(-1, 1, len(values)) if len(values) > 1 else np.zeros(len(values))
    low, high = interval_of(values)
    if kind == RANDOM_CELLS and not np.isnan(low):
        ax.axvspan(low, high, color="k", alpha=0.12, lw=0)
    ax.plot(values, i + jitter, "o", ms=3.5, alpha=0.6, color=COLOURS.get(kind, "tab:gray"))
    if not np.isnan(low):
        ax.plot([low, high], [i + 0.28] * 2, "k-", lw=1.2)
        ax.plot(values.mean(), i + 0.28, "k|", ms=8)


def _counted(kind: str, cells: pd.DataFrame) -> str:
    return f"{kind} (n = {(cells['kind'] == kind).sum()})"


def curves(rows: pd.DataFrame, history: pd.DataFrame) -> Figure | None:
    """What was measured over the epochs, means over cells by where they are from; a band of one standard deviation
    for random ones.

    Args:
        rows: trainings on one data set, as of `by_origin`.
        history: the table `genotypes_history`.
    """
    drawn = [name for name in CURVES if name in history and history[name].notna().any()]
    if rows.empty or not drawn:
        return None
    both = rows[["kind", "cell"]].assign(run=GENOTYPES.keys(rows)).merge(
        history.assign(run=GENOTYPES.keys(history)), on="run"
    )  # fmt: skip
    figure, axes = panels(len(drawn), width=3.9)
    for ax, name in zip(axes, drawn, strict=True):
        label, scale = CURVES[name]
        for kind in kinds_in(both):
            _curve(ax, kind, scale * both[both["kind"] == kind].groupby(["epoch", "cell"])[name].mean().dropna())
        ax.set(xlabel="epoch", ylabel=label)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[-1].legend(frameon=False, fontsize="x-small", loc="upper left", bbox_to_anchor=(1, 1))
    return titled(figure, f"{_size(rows)}: means over cells; band: one standard deviation of random cells")


def _curve(ax: Axes, kind: str, values: pd.Series) -> None:
    by_epoch = values.groupby("epoch")
    mean, colour = by_epoch.mean(), COLOURS.get(kind, "tab:gray")
    ax.plot(mean.index, mean, "o-", ms=2.5, lw=1.2, color=colour, label=kind)
    if kind == RANDOM_CELLS:
        sd = by_epoch.std().fillna(0)
        ax.fill_between(mean.index, mean - sd, mean + sd, color=colour, alpha=0.12, lw=0)


def _size(rows: pd.DataFrame) -> str:
    """How large the networks and their data are, and what a training costs, in a few words."""
    said = {"channels": "C = {}", "layers": "{} cells", "train_images": "{} images", "epochs_limit": "{} epochs"}
    known = {name: rows[name].dropna().unique() for name in said if name in rows}
    words = [said[name].format(f"{values[0]:g}") for name, values in known.items() if len(values) == 1]
    spent = f"{rows['seconds'].median():.3g} s a training on {', '.join(rows['device'].unique())}"
    return f"{rows['data_set'].iloc[0]}, {', '.join(words)}; {spent}"
