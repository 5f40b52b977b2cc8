"""Strategies that search the cells of the DARTS space."""

from depthsearch.running.scan import run_scan
from depthsearch.studies.darts_cells import DartsCell

STRATEGIES = ("DARTS", "DARTS 2nd order", "DrNAS", "DrNAS progressive")
GRID = [DartsCell(kind=kind) for kind in STRATEGIES]
SMALL = {"data_set": "digits", "channels": 12, "cells": 3, "epochs": 4, "alpha_rate": 0.03, "n_train": 256}
QUICK = [DartsCell(kind=kind, **SMALL) for kind in STRATEGIES]


def main(argv: list[str] | None = None) -> None:
    run_scan("scan_darts_cells", GRID, "kind", QUICK, flag="strategies", argv=argv, about=__doc__)


if __name__ == "__main__":
    main()
