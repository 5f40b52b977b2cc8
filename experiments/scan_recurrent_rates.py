"""The learning rate of the mixing weights of recurrent cells at the reduced size: three a strategy, on a seed apart.

What is taken: `TUNING_TEXT` in `depthsearch.reporting.judging.tuning`.
"""

from depthsearch.running.scan import run_scan
from depthsearch.studies.recurrent_cells import RecurrentCell
from depthsearch.studies.seeds import CHOOSING
from depthsearch.studies.texts import GENERATED

STRATEGIES, RATES = ("DARTS", "DARTS 2nd order", "DrNAS"), (0.03, 0.1, 0.3)
REDUCED = {**RecurrentCell.REDUCED, "n_train": 25_000, "first_seed": CHOOSING}  # half as long as the search itself
SMALL = {"data_set": GENERATED, "width": 8, "batch_size": 20, "bptt": 10, "n_train": 600, "epochs": 2}


def grid(sizes: dict) -> list[RecurrentCell]:
    return [RecurrentCell(kind=kind, **{**sizes, "alpha_rate": rate}) for kind in STRATEGIES for rate in RATES]


GRID = grid(REDUCED)
QUICK = grid({**SMALL, "dropout": 0.1, "first_seed": CHOOSING})


def main(argv: list[str] | None = None) -> None:
    run_scan("scan_recurrent_rates", GRID, "alpha_rate", QUICK, flag="rates", argv=argv, about=__doc__)


if __name__ == "__main__":
    main()
