"""Ways of choosing a depth side by side: spirals of five difficulties, digits, Fashion-MNIST (reduced)."""

from depthsearch.reporting.comparison import search_pools
from depthsearch.running.scan import run_scan
from depthsearch.strategies import METHODS
from depthsearch.studies.choices import Strategy


def grid(data_set: str, max_depth: int, width: int, other_widths: dict[int, range]) -> list[Strategy]:
    """Every method at the preset depth and width, and the pool: all depths at that width, some at others."""
    depths = {width: range(max_depth + 1), **other_widths}
    methods = [Strategy(kind=kind, data_set=data_set, max_depth=max_depth, width=width) for kind in METHODS]
    return methods + [
        Strategy(kind="DDN", data_set=data_set, max_depth=d, width=w, points=points)
        for points in ("train", "all")
        for w in sorted(depths)
        for d in depths[w]
    ]


SPIRALS = [f"spirals{angle}" for angle in (180, 360, 540, 720, 900)]
GRID = [
    *(setting for name in SPIRALS for setting in grid(name, 16, 20, {10: range(0, 17, 2), 40: range(0, 17, 4)})),
    *grid("digits", 8, 32, {16: range(0, 9, 2)}),
    *grid("Fashion-MNIST", 6, 32, {16: range(0, 7, 2)}),
]
QUICK = [*grid("spirals360", 6, 10, {20: range(0, 7, 2)}), *grid("digits", 2, 8, {16: range(3)})]


def main(argv: list[str] | None = None) -> None:
    run_scan("scan_strategies", GRID, "data_set", QUICK, flag="datasets", argv=argv, then=search_pools)


if __name__ == "__main__":
    main()
