"""Spirals: LDN, width of the chain."""

from depthsearch.scan import Spirals, run_scan

GRID = [Spirals(width=w) for w in (5, 10, 20, 40, 50, 60, 70, 80, 100, 150, 200, 500, 1000)]
QUICK = [Spirals(width=w) for w in (10, 20, 40)]

if __name__ == "__main__":
    run_scan("scan_width_spirals", GRID, "width", QUICK, flag="widths")
