"""Spirals: LDN, number of data points (a tenth of them for training)."""

from depthsearch.running.jobs import Job
from depthsearch.running.scan import run_scan
from depthsearch.studies.spirals import Spirals

GRID = [Spirals(n=500 * t, noise=0.15) for t in range(1, 17)]
QUICK = [Spirals(n=500 * t, noise=0.15) for t in (1, 4, 8)]


def main(argv: list[str] | None = None) -> list[Job]:
    return run_scan("scan_data_amount", GRID, "n", QUICK, flag="amounts", argv=argv, about=__doc__)


if __name__ == "__main__":
    main()
