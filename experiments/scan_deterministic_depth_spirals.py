"""Spirals: DDN, depth of the network."""

from depthsearch.running.jobs import Job
from depthsearch.running.scan import run_scan
from depthsearch.studies.spirals import Spirals

GRID = [Spirals(kind="DDN", max_depth=d) for d in range(101)]
QUICK = [Spirals(kind="DDN", max_depth=d) for d in (0, 1, 2, 3, 5, 7, 10, 20)]


def main(argv: list[str] | None = None) -> list[Job]:
    return run_scan(
        "scan_deterministic_depth_spirals", GRID, "max_depth", QUICK, flag="depths", argv=argv, about=__doc__
    )


if __name__ == "__main__":
    main()
