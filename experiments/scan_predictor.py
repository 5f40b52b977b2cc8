"""The neural predictor on tables of trained cells: how well it predicts, how good a cell it finds, beside yardsticks.

Nothing is trained but predictors. The tables are files of yours (`--table`); `--quick` needs none.
"""

from collections.abc import Sequence
from pathlib import Path

from depthsearch.reporting.figures.predictor import save_scatter
from depthsearch.running.scan import Wanted, run_scan
from depthsearch.studies.predictor_selection import PredictorSelection
from depthsearch.studies.predictor_table import Prediction
from depthsearch.studies.trained_pools import MADE_UP, NB101, NB201, ON

SPLITS = ("172", "91-172", "nested-172", "334", "860")
GRID = [
    *(Prediction(data_set=NB101, split=split) for split in SPLITS),
    PredictorSelection(data_set=NB101, n_train=172, budget=300),
    *(Prediction(data_set=name, split="nested-100") for name in ON),
    PredictorSelection(data_set=NB201, n_train=100, budget=200),
]
QUICK = [
    *(Prediction(data_set=MADE_UP, split=split, epochs=30, ensemble=2) for split in ("80", "91-nested-80")),
    PredictorSelection(data_set=MADE_UP, n_train=60, budget=90, epochs=30, ensemble=2),
]


def draw(wanted: Sequence[Wanted], data: Path) -> None:
    """Predicted against true, into the folders of the runs that ask for it."""
    for study, folders in wanted:
        if study.visualize and isinstance(study, Prediction):
            for folder in folders:
                save_scatter(folder)


def main(argv: list[str] | None = None) -> None:
    run_scan("scan_predictor", GRID, "group", QUICK, flag="datasets", argv=argv, about=__doc__, then=draw)


if __name__ == "__main__":
    main()
