"""Ways of choosing a depth side by side: spirals of five difficulties, digits, Fashion-MNIST (reduced)."""

from depthsearch.running.scan import run_scan
from depthsearch.studies.choices import ImageChoice, SpiralChoice, every_way
from depthsearch.studies.pools import search_pools

SPIRALS = [SpiralChoice(stop_angle=float(angle), max_depth=20, width=20) for angle in (180, 360, 540, 720, 900)]
# Fashion-MNIST: on seeds 100 and 101 the best of the depths 4 to 12 was 8 or 10 at 10 epochs, of 4 to 8 it was 6 at 20;
# 15 epochs are some 640 steps, digits' 40 some 440.
GRID = [
    *(study for preset in SPIRALS for study in every_way(preset, {10: range(0, 21, 2), 40: range(0, 21, 4)})),
    *every_way(ImageChoice(data_set="digits", max_depth=8, width=32), {16: range(0, 9, 2)}),
    *every_way(ImageChoice(data_set="Fashion-MNIST", max_depth=10, width=32, epochs=15), {16: range(0, 11, 2)}),
]
QUICK = [
    *every_way(SpiralChoice(stop_angle=360.0, max_depth=6, width=10), {20: range(0, 7, 2)}),
    *every_way(ImageChoice(data_set="digits", max_depth=2, width=8), {16: range(3)}),
]


def main(argv: list[str] | None = None) -> None:
    run_scan("scan_strategies", GRID, "group", QUICK, flag="datasets", argv=argv, about=__doc__, then=search_pools)


if __name__ == "__main__":
    main()
