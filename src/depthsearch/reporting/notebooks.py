"""What the notebooks share: the folder of results that they read, and the one where their figures are kept.

`RESULTS` and `FIGURES` in the environment are other folders than those of the clone.
"""

import os
from pathlib import Path

from matplotlib.figure import Figure

from depthsearch.running import folders

RESULTS = Path(os.environ.get("RESULTS", folders.RESULTS))
FIGURES = Path(os.environ.get("FIGURES", RESULTS / "figures"))


def show(name: str, figure: Figure | None) -> None:
    """Keeps a figure as PNG and PDF, for the notebook to show it; says so where there is nothing to draw."""
    if figure is None:
        print(f"{name}: nothing to draw")
        return
    FIGURES.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURES / f"{name}.png", dpi=150)
    figure.savefig(FIGURES / f"{name}.pdf", metadata={"CreationDate": None})
