"""Strategies that search a cell of NAS-Bench-201, and with its table what their cells are worth beside yardsticks."""

from depthsearch.measuring.cells import YARDSTICKS
from depthsearch.running.scan import run_scan
from depthsearch.studies.nasbench201 import NASBench201Cell
from depthsearch.studies.random_cells import EQUAL_COST

STRATEGIES = ("DARTS", "DARTS 2nd order", "DrNAS", "DrNAS progressive", "DARTS partial channels", EQUAL_COST)
GRID = [NASBench201Cell(kind=kind) for kind in (*STRATEGIES, *YARDSTICKS)]
SMALL = {"data_set": "digits", "channels": 4, "cells": 1, "epochs": 5, "alpha_rate": 0.1, "n_train": 256}
QUICK = [NASBench201Cell(kind=kind, **SMALL) for kind in (*STRATEGIES, *YARDSTICKS)]


def main(argv: list[str] | None = None) -> None:
    run_scan("scan_nasbench201", GRID, "kind", QUICK, flag="strategies", argv=argv, about=__doc__)


if __name__ == "__main__":
    main()
