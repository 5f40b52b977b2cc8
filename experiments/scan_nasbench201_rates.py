"""The learning rate of the mixing weights at the reduced size: three for each strategy, on seeds kept for this alone.

Which one is taken: `TUNING` in `depthsearch.reporting.tuning`. No table is looked into.
"""

from depthsearch.running.scan import run_scan
from depthsearch.studies.nasbench201 import NASBench201Cell

STRATEGIES = ("DARTS", "DARTS 2nd order", "DrNAS", "DrNAS progressive", "DARTS partial channels")
RATES = (0.01, 0.03, 0.1)
GRID = [
    NASBench201Cell(kind=kind, alpha_rate=rate, first_seed=100, **NASBench201Cell.REDUCED)
    for kind in STRATEGIES
    for rate in RATES
]
SMALL = {"data_set": "digits", "channels": 4, "cells": 1, "epochs": 3, "n_train": 256, "first_seed": 100}
QUICK = [NASBench201Cell(kind="DARTS", alpha_rate=rate, **SMALL) for rate in RATES]


def main(argv: list[str] | None = None) -> None:
    run_scan("scan_nasbench201_rates", GRID, "alpha_rate", QUICK, flag="rates", argv=argv)


if __name__ == "__main__":
    main()
