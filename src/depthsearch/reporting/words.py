"""Tables and numbers as text."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from depthsearch.reporting.intervals import Interval

MANY = 4  # whole numbers in a row that are listed one by one


def markdown(table: pd.DataFrame) -> str:
    """A pipe table."""
    if table.empty:
        return "(no runs)"
    rows = [list(table.columns), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def span(counts: pd.Series, how: str = "") -> str:
    """The number that all counts are, or the least and the largest: `4`, `4 to 16`; `how` they are formatted."""
    low, high = counts.min(), counts.max()
    return f"{low:{how}}" if low == high else f"{low:{how}} to {high:{how}}"


def listed(values: Iterable[float]) -> str:
    """Rising numbers, of which many that follow each other are told by the first and the last: `0 to 20, 50`."""
    steps: list[list[float]] = []
    for value in values:
        if steps and value == steps[-1][-1] + 1:
            steps[-1].append(value)
        else:
            steps.append([value])
    parts = [[f"{s[0]:g} to {s[-1]:g}"] if len(s) > MANY else [f"{v:g}" for v in s] for s in steps]
    return ", ".join(part for some in parts for part in some)


def counts_said(rows: pd.DataFrame, words: Mapping[str, str]) -> str:
    """Of whole numbers in some columns those that there are, in `words` such as {"layers": "{} cells"}."""
    known = {name: rows[name].dropna().astype(int) for name in words if name in rows}
    return ", ".join(words[name].format(span(values, ",")) for name, values in known.items() if len(values))


def spread(values: pd.Series, how: str = ".3g", how_far: str = ".2g") -> str:
    """Mean and standard deviation; of one value that value, of infinite ones no deviation, of none a dash."""
    mean = values.mean()
    if not values.count():
        return "-"
    return f"{mean:{how}}" + (f" ± {values.std():{how_far}}" if values.count() > 1 and not np.isinf(mean) else "")


def number(value: float, how: str) -> str:
    """A number, or a dash where there is none."""
    return "-" if np.isnan(value) else f"{value:{how}}"


def between(low: float, high: float, how: str = "+.3g") -> str:
    """An interval, to follow its mean: ` [-0.1, +1.1]`; nothing where there is none, of a single value."""
    return "" if np.isnan(low) else f" [{low:{how}}, {high:{how}}]"


def most_often(depths: pd.Series) -> str:
    """The most frequent of whole numbers and its share: `10 in 81 %`; of equals `5 and 6 in 50 % each`, or how many."""
    counts = depths.value_counts().sort_index()
    if counts.empty:
        return "-"
    best = [f"{depth:g}" for depth in counts.index[counts == counts.max()]]
    share = f"in {100 * counts.max() / len(depths):.0f} %"
    if len(best) == 1:
        return f"{best[0]} {share}"
    several = f"{', '.join(best[:-1])} and {best[-1]}" if len(best) < MANY else f"{len(best)} depths"
    return f"{several} {share} each"


def difference_said(interval: Interval, scale: float = 1, unit: str = "", how: str = "+.3g") -> str:
    """A difference with its interval, of a single one without, in a unit of which `scale` make one.

    `+0.5 [-0.1, +1.1] points`
    """
    mean, low, high = (scale * value for value in interval[:3])
    return "-" if np.isnan(mean) else f"{mean:{how}}{between(low, high, how)} {unit}".rstrip()


def images_said(rows: pd.DataFrame) -> str:
    """How many images of which size the runs had: `2400 images, 16 pixels a side`."""
    images, pixels = (rows[name].dropna().astype(int) for name in ("n_train", "pixels"))
    said = f"{span(images)} images" if len(images) else "all images"
    return said + (f", {span(pixels)} pixels a side" if len(pixels) else "")


def not_shown(others: Sequence[str]) -> str:
    """The runs in the tables that a page leaves out, as a list."""
    intro = (
        "\n\nOf these there are runs of other configurations in the tables, less complete or older and not shown:\n\n"
    )
    return intro + "\n".join(f"- {line}." for line in others) if others else ""
