"""What the figures share: colours, labels, and the parts that are drawn on axes."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from depthsearch.reporting.words import span, spread

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
    "test_nll": "negative test\nlog-likelihood (nats)",
    "error": "error (%)",
    "log_likelihood": "log-likelihood (nats)",
}

FEW = 1e-3  # of the test points: a bin with fewer says nothing of calibration
FEW_LEFT_OUT = f"repeats pooled, bins of less than {100 * FEW:g} % of the points left out; ECE: a mean over runs"


def scale_of(column: str) -> int:
    """By what a column is multiplied to have the unit of its label: shares are stored, errors drawn in percent."""
    return 100 if column.endswith(("error", "ece")) else 1


def band(ax: Axes, table: pd.DataFrame, x: str, y: str, label: str, colour: str) -> None:
    """Mean of a depth y over the rows of each x, with a band of one standard deviation."""
    groups = table.groupby(x)
    mean, std = groups[y].mean(), groups[y].std().fillna(0)
    ax.plot(mean.index, mean, "o-", ms=3, lw=1.2, color=colour, label=label)
    low, high = (mean - std).clip(lower=0), (mean + std).clip(upper=groups["max_depth"].max())  # no band beyond 0..D
    ax.fill_between(mean.index, low, high, color=colour, alpha=0.2, lw=0)


def quartiles(ax: Axes, table: pd.DataFrame, x: str, y: str, label: str, colour: str | None = None) -> None:
    """Median of y over the rows of each x, with a band between the quartiles.

    For what differs by powers of ten from run to run, where a mean is that of the largest.
    """
    low, middle, high = three_quartiles(scale_of(y) * table[y], table[x])
    few = len(middle) <= 50
    (line,) = ax.plot(middle.index, middle, "o-" if few else "-", ms=3, lw=1.2, color=colour, label=label)
    ax.fill_between(middle.index, low, high, color=line.get_color(), alpha=0.2, lw=0)


def three_quartiles(values: pd.Series, groups: pd.Series) -> Iterator[pd.Series]:
    """First quartile, median and third quartile of the values of each group."""
    return (values.groupby(groups).quantile(q) for q in (0.25, 0.5, 0.75))


def points(ax: Axes, table: pd.DataFrame, x: str, y: str, label: str, colour: str, aside: float = 0.0) -> None:
    """Of a few settings that were run: each run as a dot, their mean as a dash; nothing is drawn between settings.

    `aside` moves all of it along x, so that several of these can stand beside each other.
    """
    rows = table.dropna(subset=y)
    mean = scale_of(y) * rows.groupby(x)[y].mean()
    ax.plot(rows[x] + aside, scale_of(y) * rows[y], "o", ms=3.5, mew=0, alpha=0.6, color=colour)
    ax.plot(mean.index + aside, mean, "_", ms=11, mew=2, color=colour, label=label)


def depth_posterior(ax: Axes, depths: pd.DataFrame, other: str = "prior") -> None:
    """Bars of q(d), mean and standard deviation over runs of one setting; the prior (or another column) as a line."""
    groups = depths.groupby("depth")
    q = groups["q"].mean()
    ax.bar(q.index, q, yerr=groups["q"].std().fillna(0), color="tab:blue", alpha=0.7, label="q(d)", capsize=1.5)
    ax.plot(q.index, groups[other].mean(), "k.--", lw=1, label=other.replace("_", " "))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    ax.set(xlabel="depth d", ylabel="probability", ylim=(0, None))
    ax.legend(frameon=False)


def per_depth(ax: Axes, depths: pd.DataFrame, metric: str) -> None:
    """A metric of the network cut at each depth, training and test: median and quartiles over runs."""
    for split in ("train", "test"):
        quartiles(ax, depths, "depth", f"{split}_{metric}", split, COLOURS[split])
    ax.set(xlabel="depth d", ylabel=LABELS[metric])
    ax.legend(frameon=False)


def reliability_diagrams(bins: pd.DataFrame, runs: pd.DataFrame, least: float) -> Figure:
    """Reliability of DDN, LDN up to d_opt and LDN up to D on the test set, confidence from `least` on.

    The repeats are pooled, bins with too few points to say anything (`FEW`) are not drawn; in the legend the top-label
    ECE of the runs.
    """
    figure, axes = panels(3, width=3.2)
    lowest = least
    for ax, variant in zip(axes, ("DDN", "LDN-95", "LDN-full"), strict=True):
        ax.plot([0, 1], [0, 1], "k:", lw=1)
        rows = bins[bins["variant"] == variant]
        if len(rows):
            count = rows.groupby("bin")["count"].sum()
            share = count[count > FEW * count.sum()] / count.sum()
            x, y = (
                ((rows[k] * rows["count"]).groupby(rows["bin"]).sum() / count).loc[share.index]
                for k in ("confidence", "accuracy")
            )
            ece = spread(100 * runs[f"{variant}_test_ece"].dropna(), ".2f", ".2f")
            ax.plot(x, y, lw=0.8, color=COLOURS[variant])
            ax.scatter(x, y, s=3 + 120 * share, color=COLOURS[variant], alpha=0.7, label=f"{variant}, ECE {ece} %")
            ax.legend(frameon=False, fontsize="small")
            lowest = min(lowest, y.min() - 0.05)
        ax.set(xlabel="confidence (area: share of the points)", ylabel="accuracy", xlim=(least, 1.02))
    for ax in axes:
        ax.set_ylim(lowest, 1.05)
    return figure


def probability_map(ax: Axes, probs: np.ndarray, extent: float) -> AxesImage:
    """Draws p(arm 1) on the square [-extent, extent]^2: probs (pixels, pixels), first axis vertical."""
    box = (-extent, extent, -extent, extent)
    ax.set(xticks=[], yticks=[])
    return ax.imshow(probs, origin="lower", extent=box, cmap="coolwarm", vmin=0, vmax=1, interpolation="bilinear")


def chosen_depth(ax: Axes, runs: pd.DataFrame, x: str) -> None:
    band(ax, runs, x, "pruned_depth", "LDN-95 (d_opt)", COLOURS["LDN-95"])
    band(ax, runs, x, "expected_depth", "LDN-E (mean depth)", COLOURS["LDN-E"])
    if x == "max_depth":
        ax.plot([0, runs[x].max()], [0, runs[x].max()], "k:", lw=1, label="d = D")
    ax.set(xlabel=LABELS[x], ylabel="chosen depth")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))


def repeats(table: pd.DataFrame) -> str:
    if table.empty:
        return "no runs"
    keys = ("kind", "data_set", "max_depth", "width", "n", "stop_angle")
    counts = table.groupby([key for key in keys if key in table], dropna=False)["seed"].nunique()
    return f"n = {span(counts)} repeats"


def panels(
    n: int, width: float = 3.6, height: float = 3.1, columns: int | None = None, **how: Any
) -> tuple[Figure, np.ndarray]:
    """n axes, each so many inches wide and high, in a row or in rows of so many; `how` they are shared."""
    columns = min(n, columns or n)
    rows = -(-n // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False, **how)
    for ax in axes.flat[n:]:
        ax.axis("off")
    return figure, axes.flat[:n]


def legend_beside(ax: Axes) -> None:
    """A legend of many names, to the right of the panel, where it hides nothing."""
    ax.legend(frameon=False, fontsize="x-small", loc="upper left", bbox_to_anchor=(1, 1))


def legend_above(ax: Axes) -> None:
    """A legend of at most three names, above the panel, where no point is."""
    above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "borderaxespad": 0.1, "columnspacing": 1.0}
    ax.legend(**above, ncols=3, frameon=False, fontsize="x-small", handlelength=1.2)


def log_ticks(axis: Axis, subs: Sequence[int]) -> None:
    """Ticks of a logarithmic axis at so many times each power of ten, as plain numbers; of what is drawn already.

    Where it ends before it is five times as large as where it begins, there would be hardly any: then evenly spaced.
    """
    low, high = axis.get_view_interval()
    axis.set_major_locator(MaxNLocator(5) if high < 5 * low else LogLocator(subs=subs))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def limits(groups: Sequence[pd.Series]) -> tuple[float, float]:
    """Ends of an axis on which one value that lies far out does not hide the others.

    In it are the medians of all groups, but for those above twice the median of these, and what lies no further beyond
    them than three times as far as they lie apart, or as the quartiles of all values do.
    """
    medians = pd.Series([own.median() for own in groups])
    near = medians <= 2 * medians.median()
    medians, values = medians[near], pd.concat([own for own, is_near in zip(groups, near, strict=True) if is_near])
    reach = 3 * max(medians.max() - medians.min(), values.quantile(0.75) - values.quantile(0.25))
    inside = values[(values >= medians.min() - reach) & (values <= medians.max() + reach)]
    low, high = min(inside.min(), medians.min()), max(inside.max(), medians.max())
    pad = 0.05 * (high - low) or 0.01 * abs(high) or 1.0
    return low - pad, high + pad


def titled(figure: Figure, title: str) -> Figure:
    """The figure, with a title that is broken into lines of its width, but not at an equals sign."""
    whole = title.replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")
    lines = textwrap.fill(whole, int(13 * figure.get_figwidth())).replace("\N{NO-BREAK SPACE}", " ")
    figure.suptitle(lines, fontsize="medium")
    figure.tight_layout()
    return figure
