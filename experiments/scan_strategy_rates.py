"""The learning rate of every way of choosing a depth: three for each, on spirals that the comparison does not have.

Of those that did best with the lowest of the three two more below it.

It is that of the weights of depths where these are mixed, of the network otherwise; the pool, of which two depths stand
here, serves manual search, random search, the predictor and what is retrained. What is taken: `TUNING_DEPTH` in
`depthsearch.reporting.judging.tuning`.
"""

from dataclasses import replace

from depthsearch.running.scan import run_scan
from depthsearch.strategies import METHODS
from depthsearch.strategies.mixing import Mixing
from depthsearch.studies.choices import SpiralChoice

AS_PUBLISHED = "DARTS (paper)"
OF_MIXING, OF_NETWORK = (0.003, 0.02, 0.1), (0.03, 0.1, 0.3)
BELOW = {kind: (0.0003, 0.001) for kind in ("DARTS", "DARTS 2nd order", "DrNAS")}
BELOW |= {kind: (0.003, 0.01) for kind in ("exact posterior", "normal")}
ANGLES = (450.0, 810.0)


def grid(presets: list[SpiralChoice]) -> list[SpiralChoice]:
    networks = [replace(preset, kind="DDN", max_depth=d) for preset in presets for d in pool_depths(preset.max_depth)]
    learners = [replace(preset, kind=kind) for preset in presets for kind in METHODS if kind != AS_PUBLISHED]
    return [replace(study, rate=rate) for study in learners + networks for rate in rates_of(study.kind)]


def pool_depths(deepest: int) -> tuple[int, int]:
    return deepest // 2, deepest


def rates_of(kind: str) -> tuple[float, ...]:
    return BELOW.get(kind, ()) + (OF_MIXING if isinstance(METHODS.get(kind), Mixing) else OF_NETWORK)


GRID = grid([SpiralChoice(stop_angle=angle, max_depth=16, width=20) for angle in ANGLES])
QUICK = grid([SpiralChoice(stop_angle=450.0, max_depth=2, width=8)])


def main(argv: list[str] | None = None) -> None:
    run_scan("scan_strategy_rates", GRID, "rate", QUICK, flag="rates", argv=argv, about=__doc__)


if __name__ == "__main__":
    main()
