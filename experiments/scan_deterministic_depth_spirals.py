"""Spirals: DDN, depth of the network."""

from depthsearch.scan import Spirals, run_scan

GRID = [Spirals(kind="DDN", max_depth=d) for d in range(101)]
QUICK = [Spirals(kind="DDN", max_depth=d) for d in (0, 1, 2, 3, 5, 7, 10, 20)]

if __name__ == "__main__":
    run_scan("scan_deterministic_depth_spirals", GRID, "max_depth", QUICK, flag="depths")
