"""Images: DDN, one network a depth."""

from depthsearch.running.jobs import Job
from depthsearch.running.scan import run_scan
from depthsearch.studies.images import Images

DEPTHS = (0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 60, 70, 80, 90, 100)
GRID = [Images(kind="DDN", data_set=name, max_depth=d) for name in ("MNIST", "Fashion-MNIST", "SVHN") for d in DEPTHS]
QUICK = [Images(kind="DDN", data_set="digits", max_depth=d) for d in (0, 5, 10)]


def main(argv: list[str] | None = None) -> list[Job]:
    return run_scan(
        "scan_deterministic_depth_images", GRID, "max_depth", QUICK, flag="depths", argv=argv, about=__doc__
    )


if __name__ == "__main__":
    main()
