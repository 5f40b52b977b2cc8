"""Spirals: LDN, angle in degrees that each spiral arm turns."""

from depthsearch.scan import Spirals, run_scan

GRID = [Spirals(stop_angle=180.0 * t, noise=0.15) for t in range(1, 9)]
QUICK = [Spirals(stop_angle=180.0 * t, noise=0.15) for t in (1, 4, 8)]

if __name__ == "__main__":
    run_scan("scan_spiral_complexity", GRID, "stop_angle", QUICK, flag="angles")
