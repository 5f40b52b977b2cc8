"""Spirals: LDN, angle in degrees that each spiral arm turns."""

from depthsearch.running.jobs import Job
from depthsearch.running.scan import run_scan
from depthsearch.studies.spirals import Spirals

GRID = [Spirals(stop_angle=180.0 * t, noise=0.15) for t in range(1, 9)]
QUICK = [Spirals(stop_angle=180.0 * t, noise=0.15) for t in (1, 4, 8)]


def main(argv: list[str] | None = None) -> list[Job]:
    return run_scan("scan_spiral_complexity", GRID, "stop_angle", QUICK, flag="angles", argv=argv, about=__doc__)


if __name__ == "__main__":
    main()
