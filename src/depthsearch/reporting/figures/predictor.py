"""Figures of the neural predictor: tables of `prediction` to matplotlib, as in the others."""

import json
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from depthsearch.reporting.figures.style import legend_beside, panels, three_quartiles, titled
from depthsearch.reporting.tables.prediction import ORDER
from depthsearch.reporting.tables.schema import Tables
from depthsearch.reporting.words import span
from depthsearch.studies.predictor_selection import EVOLUTION, ORACLE, PREDICTOR, RANDOM_SEARCH, WITH_CLASSIFIER
from depthsearch.studies.predictor_table import ENSEMBLE, PUBLISHED

COLOURS = {PUBLISHED: "tab:orange", ENSEMBLE: "tab:blue"}
SEARCHES = {
    RANDOM_SEARCH: "tab:gray",
    EVOLUTION: "tab:green",
    PREDICTOR: "tab:blue",
    WITH_CLASSIFIER: "tab:purple",
    ORACLE: "black",
}


def scatter(tables: Tables, data_set: str, split: str) -> Figure | None:
    """Predicted against true accuracy of some cells that were not learnt from, of repeat 0."""
    points = _of_split(tables["predictor_points"], data_set, split)
    if points.empty:
        return None
    title = f"{data_set}, learnt from {split}, repeat 0"
    return _scatter({name: points[name].to_numpy() for name in ("true", *COLOURS)}, title, _label(tables, data_set))


def _of_split(table: pd.DataFrame, data_set: str, split: str) -> pd.DataFrame:
    return table[(table["data_set"] == data_set) & (table["split"] == split)]


def _label(tables: Tables, data_set: str) -> str:
    """What accuracies there are."""
    runs = tables["predictor_runs"]
    return "; ".join(runs[runs["data_set"] == data_set]["label"].unique())


def save_scatter(folder: Path) -> None:
    """The same from the summary of a finished run, as `predicted.png` in its folder."""
    path = folder / "summary.json"
    if not path.exists():
        return
    summary = json.loads(path.read_text())
    points = {name: np.array(values) for name, values in summary["points"].items()}
    figure = _scatter(points, f"{folder.parents[1].name}, {folder.parent.name}, {folder.name}", summary["label"])
    figure.savefig(folder / "predicted.png", dpi=150)
    plt.close(figure)


def _scatter(points: Mapping[str, np.ndarray], title: str, label: str) -> Figure:
    figure, axes = panels(len(COLOURS))
    # All but the worst twentieth, which would press the others into a corner.
    low, high = np.quantile(points["true"], 0.05) - 0.5, points["true"].max() + 0.5
    for ax, (name, colour) in zip(axes, COLOURS.items(), strict=True):
        ax.plot([low, high], [low, high], "k:", lw=1)
        ax.scatter(points["true"], points[name].clip(low, high), s=5, lw=0, alpha=0.6, color=colour)
        ax.set(xlabel="true accuracy (%)", ylabel="predicted accuracy (%)", title=name)
        ax.set(xlim=(low, high), ylim=(low, high))
    n = len(points["true"])
    inside = f"of a sample of {n} other cells the {(points['true'] >= low).sum()} above {low:.1f} %"
    return titled(figure, f"{title}: {inside}; predictions beyond the edge stand at it; {label}")


def errors(tables: Tables, data_set: str, split: str) -> Figure | None:
    """Mean squared error of every predictor, a panel for each set of cells that is predicted."""
    rows = _of_split(tables["predictor"], data_set, split)
    if rows.empty:
        return None
    sets, names = list(rows["evaluated"].unique()), [name for name in ORDER if name in set(rows["predictor"])]
    figure, axes = plt.subplots(1, len(sets), figsize=(2.9 * len(sets) + 2.2, 3.6), squeeze=False, sharey=True)
    for ax, evaluated in zip(axes[0], sets, strict=True):
        here = rows[rows["evaluated"] == evaluated]
        each = [values.reindex(names) for values in three_quartiles(here["mse"], here["predictor"])]
        for i, (name, low, middle, high) in enumerate(zip(names, *each, strict=True)):
            style = {"color": COLOURS.get(name, "0.35"), "ms": 5, "lw": 1.2, "capsize": 2}
            ax.errorbar(middle, i, xerr=[[middle - low], [high - middle]], fmt="o", **style)
        ax.set_yticks(range(len(names)), names, fontsize="small")
        ax.grid(axis="y", lw=0.3)
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set(title=evaluated, xlabel="mean squared error (%²)")
    axes[0, 0].invert_yaxis()
    n = span(rows.groupby("predictor")["seed"].nunique())
    return titled(
        figure, f"{data_set}, learnt from {split}, n = {n} repeats: median, quartiles; {_label(tables, data_set)}"
    )


def selection(tables: Tables, data_set: str, split: str) -> Figure | None:
    """Accuracy of what each search would choose against how many cells it has trained, a panel a score."""
    rows = _of_split(tables["predictor_selection"], data_set, split)
    if rows.empty:
        return None
    scored = list(rows["scored"].unique())
    figure, axes = panels(len(scored), width=4.2 if len(scored) > 1 else 7)
    for ax, score in zip(axes, scored, strict=True):
        _curves(ax, rows[rows["scored"] == score])
        ax.set(xlabel="trained cells", ylabel=f"accuracy, {score} (%)")
    legend_beside(axes[-1])
    n = span(rows.groupby("search")["seed"].nunique())
    return titled(figure, f"{data_set}, n = {n} repeats: median, quartiles; chosen by {_label(tables, data_set)}")


def _curves(ax: Axes, rows: pd.DataFrame) -> None:
    first = rows["n_train"].iloc[0]
    for name, colour in SEARCHES.items():
        own = rows[rows["search"] == name]
        if name in (PREDICTOR, WITH_CLASSIFIER):  # before, both are the random search
            own = own[own["trained"] >= first]
        low, middle, high = three_quartiles(own["accuracy"], own["trained"])
        ax.plot(middle.index, middle, lw=1.2, color=colour, ls=":" if name == ORACLE else "-", label=name)
        if name != ORACLE:
            ax.fill_between(middle.index, low, high, color=colour, alpha=0.12, lw=0)
    ax.axvline(first, color="k", lw=0.6, ls="--", label="from here the predictor chooses")
    # From where anything is to be seen: the first networks that any search trains are as good as drawn.
    ax.set_ylim(rows[rows["trained"] >= 50].groupby(["search", "trained"])["accuracy"].mean().min() - 0.2)
