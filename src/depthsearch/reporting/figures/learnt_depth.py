"""Figure of the variations of a learnt depth."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from depthsearch.reporting.figures.style import repeats, titled
from depthsearch.reporting.intervals import interval_of
from depthsearch.reporting.tables.variations import AS_IS, FITS, drawn_depth, with_words
from depthsearch.studies.seeds import CHOOSING

PANELS = (
    ("test_error", 100, "test error of LDN-95 (%)"),
    ("pruned_depth", 1, "d_opt"),
    ("shift_auroc", 1, "AUROC off the data"),
)
COLOURS = {"as learnt": "tab:blue", "refitted": "tab:orange"}


def variations(rows: pd.DataFrame) -> Figure | None:
    """Mean and 95 % interval over the seeds that choose, as learnt and refitted; a line at the paper's, as learnt.

    Of the `drawn_depth`.

    Args:
        rows: what is shown of the table `variations`.
    """
    if rows.empty:
        return None
    rows = rows[rows["max_depth"] == drawn_depth(rows)]
    rows = with_words(rows[(rows["seed"] >= CHOOSING) & rows["diverged_epoch"].isna()])
    names = list(rows["variation"].unique())
    height = 1.6 + 0.3 * len(names)
    figure, axes = plt.subplots(1, len(PANELS), figsize=(3.2 * len(PANELS), height), sharey=True)
    for ax, (column, scale, label) in zip(axes, PANELS, strict=True):
        for fit, aside in zip(FITS, (-0.12, 0.12), strict=True):
            for i, name in enumerate(names):
                part = rows[(rows["variation"] == name) & (rows["fit"] == fit)]
                mean, low, high, _ = (scale * value for value in interval_of(part[column]))
                style = {"color": COLOURS[fit], "label": fit if i == 0 else None, "ms": 4}
                ax.errorbar(mean, i + aside, xerr=[[mean - low], [high - mean]], fmt="o", lw=1.2, capsize=2, **style)
        paper = rows[(rows["variation"] == AS_IS) & (rows["fit"] == FITS[0])]
        ax.axvline(scale * paper[column].mean(), color=COLOURS[FITS[0]], lw=0.8, ls=":")
        if column == "shift_auroc":
            ax.axvline(0.5, color="k", lw=0.8)
        ax.set_xlabel(label)
    axes[0].set_yticks(range(len(names)), names, fontsize="small")
    axes[0].invert_yaxis()
    beside = {"loc": "upper left", "bbox_to_anchor": (1, 1)}
    axes[-1].legend(frameon=False, fontsize="small", title="q", title_fontsize="small", **beside)
    which = f"D = {rows['max_depth'].iloc[0]}, seeds that choose (from {CHOOSING} on), {repeats(rows)}"
    lines = "dotted: the paper's; black: chance"
    return titled(
        figure, f"LDN on spirals, {which}: mean, 95 % interval of each ({lines}); differences in the text are paired"
    )
