"""Tables and numbers as text."""

import pandas as pd


def markdown(table: pd.DataFrame) -> str:
    """A pipe table."""
    if table.empty:
        return "(no runs)"
    rows = [list(table.columns), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def span(counts: pd.Series) -> str:
    """The number that all counts are, or the least and the largest: `4`, `4 to 16`."""
    low, high = counts.min(), counts.max()
    return f"{low}" if low == high else f"{low} to {high}"


def spread(values: pd.Series) -> str:
    """Mean and standard deviation."""
    return f"{values.mean():.3g} ± {values.std():.2g}"


def images_said(rows: pd.DataFrame) -> str:
    """How many images of which size the runs had: `2400 images, 16 pixels a side`."""
    images, pixels = (rows[name].dropna().astype(int) for name in ("n_train", "pixels"))
    said = f"{span(images)} images" if len(images) else "all images"
    return said + (f", {span(pixels)} pixels a side" if len(pixels) else "")
