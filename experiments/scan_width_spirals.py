"""Spirals: LDN, width of the chain."""

from depthsearch.running.jobs import Job
from depthsearch.running.scan import run_scan
from depthsearch.studies.spirals import Spirals

GRID = [Spirals(width=w) for w in (5, 10, 20, 40, 50, 60, 70, 80, 100, 150, 200, 500, 1000)]
QUICK = [Spirals(width=w) for w in (10, 20, 40)]


def main(argv: list[str] | None = None) -> list[Job]:
    return run_scan("scan_width_spirals", GRID, "width", QUICK, flag="widths", argv=argv, about=__doc__)


if __name__ == "__main__":
    main()
