"""Spirals: LDN, depth of the chain."""

from depthsearch.running.jobs import Job
from depthsearch.running.scan import run_scan
from depthsearch.studies.spirals import Spirals

GRID = [Spirals(max_depth=d) for d in (5, 10, 15, 20, 25, 30, 35, 40, 50, 60, 70, 80, 90, 100)]
QUICK = [Spirals(max_depth=d) for d in (5, 10, 20)]


def main(argv: list[str] | None = None) -> list[Job]:
    return run_scan("scan_max_depth_spirals", GRID, "max_depth", QUICK, flag="depths", argv=argv, about=__doc__)


if __name__ == "__main__":
    main()
