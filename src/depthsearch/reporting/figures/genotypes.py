"""Figures of cells trained from scratch: tables of `genotypes` to matplotlib, as in the others."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from depthsearch.reporting.figures.cells import COLOURS as OF_STRATEGIES
from depthsearch.reporting.figures.style import legend_beside, limits, log_ticks, panels, titled
from depthsearch.reporting.intervals import interval_of
from depthsearch.reporting.judging.trained import kinds_in, measure_of, per_cell
from depthsearch.reporting.tables.genotypes import OTHER_CELLS, PUBLISHED, PUBLISHED_CELLS, RANDOM_CELLS
from depthsearch.reporting.tables.schema import TRAININGS
from depthsearch.reporting.words import counts_said
from depthsearch.studies.recurrent_genotypes import LSTM

COLOURS = OF_STRATEGIES | {PUBLISHED_CELLS: "tab:gray", OTHER_CELLS: "tab:gray", RANDOM_CELLS: "k"}
COLOURS |= dict(zip((*PUBLISHED, LSTM), ("tab:gray", "tab:olive", "tab:cyan", "navy"), strict=True))
CURVES: dict[str, tuple[str, Callable[[pd.Series], pd.Series]]] = {
    # column: its label, and how what is stored comes to have its unit; of the history, those that there are
    "train_loss": ("training loss (nats)", lambda loss: loss),
    "train_error": ("training error (%)", lambda share: 100 * share),
    "valid_loss": ("validation perplexity", np.exp),
    "test_error": ("test error (%)", lambda share: 100 * share),
}


def errors(rows: pd.DataFrame) -> Figure | None:
    """What cells are judged by, a dot a cell by where it is from; bars: mean and 95 % interval; band: of random ones.

    What lies far out is an arrow at the edge, with its number.

    Args:
        rows: trainings on one data set, as of `by_origin`.
    """
    if (measure := measure_of(rows)) is None:
        return None
    cells, kinds = per_cell(rows, measure), kinds_in(rows)
    values = {kind: measure.scale * cells[cells["kind"] == kind]["value"] for kind in kinds}
    ends = limits(list(values.values()))
    figure, ax = plt.subplots(figsize=(7, 0.42 * len(kinds) + 1.7))
    for i, (kind, own) in enumerate(values.items()):
        _cells(ax, i, kind, own, ends)
    ax.set_yticks(range(len(kinds)), [_counted(kind, cells) for kind in kinds], fontsize="small")
    ax.set(xlabel=measure.name, xlim=ends, ylim=(len(kinds) - 0.5, -0.5))
    dot = "a cell, or a seed of a published cell or an LSTM" if {LSTM, *PUBLISHED} & set(kinds) else "a cell"
    bars = "mean and 95 % interval, which may reach beyond the edge; gray: interval of random cells"
    return titled(figure, f"{_size(rows)}: a dot is {dot}; {bars}")


def _cells(ax: Axes, i: int, kind: str, values: pd.Series, ends: tuple[float, float]) -> None:
    jitter = 0.14 * np.linspace(-1, 1, len(values)) if len(values) > 1 else np.zeros(len(values))
    _, low, high, _ = interval_of(values)
    if kind == RANDOM_CELLS and not np.isnan(low):
        ax.axvspan(low, high, color="k", alpha=0.12, lw=0)
    colour = COLOURS.get(kind, "tab:gray")
    ax.plot(values, i + jitter, "o", ms=3.5, alpha=0.6, color=colour)
    for value, up in zip(values, jitter, strict=True):
        if not ends[0] <= value <= ends[1]:
            edge, marker, side = (ends[1], ">", "right") if value > ends[1] else (ends[0], "<", "left")
            ax.plot(edge, i + up, marker, ms=5, color=colour, clip_on=False)
            ax.annotate(f"{value:.3g}", (edge, i + up), (-6 if side == "right" else 6, 0), textcoords="offset points",
                        ha=side, va="center", fontsize="x-small")  # fmt: skip
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
    both = rows[["kind", "cell"]].assign(run=TRAININGS.keys(rows)).merge(
        history.assign(run=TRAININGS.keys(history)), on="run"
    )  # fmt: skip
    drawn = [name for name in CURVES if name in both and both[name].notna().any()]
    if not drawn:
        return None
    figure, axes = panels(len(drawn), width=3.9)
    for ax, name in zip(axes, drawn, strict=True):
        label, scale = CURVES[name]
        of_cells = both.groupby(["kind", "epoch", "cell"])[name].mean().dropna()
        for kind in kinds_in(of_cells.reset_index()):
            _curve(ax, kind, of_cells[kind], scale)
        ax.set(xlabel="epoch", ylabel=label, ylim=_ends(scale(of_cells)))
        if name == "valid_loss":  # a perplexity falls by its powers
            ax.set_yscale("log")
            log_ticks(ax.yaxis, (1, 2, 3, 5, 7))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_beside(axes[-1])
    means = "geometric means" if "valid_loss" in drawn else "means"
    kept = "to the last epoch, not to the one that is kept"
    return titled(figure, f"{_size(rows)}: {means} over cells, {kept}; band: one standard deviation of random cells")


def _curve(ax: Axes, kind: str, values: pd.Series, scale: Callable[[pd.Series], pd.Series]) -> None:
    # Of a perplexity the mean of the loss, or one cell that ends far off is the mean.
    by_epoch = values.groupby("epoch")
    mean, colour = by_epoch.mean(), COLOURS.get(kind, "tab:gray")
    ax.plot(mean.index, scale(mean), "o-", ms=2.5, lw=1.2, color=colour, label=kind)
    if kind == RANDOM_CELLS:
        sd = by_epoch.std().fillna(0)
        ax.fill_between(mean.index, scale(mean - sd), scale(mean + sd), color=colour, alpha=0.12, lw=0)


def _ends(of_cells: pd.Series) -> tuple[float, float]:
    """Limits of curves (kind, epoch, cell): what `limits` lets be seen of any epoch."""
    each = [limits([own for _, own in values.groupby("kind")]) for _, values in of_cells.groupby("epoch")]
    return min(low for low, _ in each), max(high for _, high in each)


def _size(rows: pd.DataFrame) -> str:
    """How large the networks and their data are, and what a training costs, in a few words."""
    said = {"channels": "C = {}", "layers": "{} cells", "width": "width {}", "train_images": "{} images"}
    said |= {"n_train": "{} words", "n_words": "vocabulary of {}", "epochs_limit": "{} epochs"}
    spent = f"{rows['seconds'].median():.3g} s a training on {', '.join(rows['device'].unique())}"
    return f"{rows['data_set'].iloc[0]}, {counts_said(rows, said)}; {spent}"
