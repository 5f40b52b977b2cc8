"""Spirals: LDN, depth of the chain."""

from depthsearch.scan import Spirals, run_scan

GRID = [Spirals(max_depth=d) for d in (5, 10, 15, 20, 25, 30, 35, 40, 50, 60, 70, 80, 90, 100)]
QUICK = [Spirals(max_depth=d) for d in (5, 10, 20)]

if __name__ == "__main__":
    run_scan("scan_max_depth_spirals", GRID, "max_depth", QUICK, flag="depths")
