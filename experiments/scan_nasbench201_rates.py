"""The learning rate of the mixing weights at the reduced size: three for each strategy, on seeds kept for this alone.

Random search, which has no such rate, has three lengths of its trainings. What is taken: `TUNING` in
`depthsearch.reporting.judging.tuning`. No table is looked into.
"""

from depthsearch.running.scan import run_scan
from depthsearch.studies.nasbench201 import NASBench201Cell
from depthsearch.studies.random_cells import EQUAL_COST
from depthsearch.studies.seeds import CHOOSING

STRATEGIES = ("DARTS", "DARTS 2nd order", "DrNAS", "DrNAS progressive", "DARTS partial channels")
RATES, TRIAL_EPOCHS = (0.01, 0.03, 0.1), (3, 6, 12)


def grid(sizes: dict, trial_epochs: tuple[int, ...]) -> list[NASBench201Cell]:
    searches = [NASBench201Cell(kind=kind, alpha_rate=rate, **sizes) for kind in STRATEGIES for rate in RATES]
    return searches + [NASBench201Cell(kind=EQUAL_COST, trial_epochs=n, **sizes) for n in trial_epochs]


GRID = grid({**NASBench201Cell.REDUCED, "first_seed": CHOOSING}, TRIAL_EPOCHS)
SMALL = {"data_set": "digits", "channels": 4, "cells": 1, "epochs": 2, "n_train": 256, "first_seed": CHOOSING}
QUICK = grid(SMALL, (1, 2))


def main(argv: list[str] | None = None) -> None:
    run_scan("scan_nasbench201_rates", GRID, "alpha_rate", QUICK, flag="rates", argv=argv, about=__doc__)


if __name__ == "__main__":
    main()
