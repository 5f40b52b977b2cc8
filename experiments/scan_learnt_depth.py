"""What could make a learnt depth err less? LDN on spirals with one thing at a time varied.

On seeds from 100 on all variations, on seeds from 0 on the paper's and the one that was chosen there: how it is chosen,
and what it must show, is the rule `REPAIR` in `depthsearch.reporting.judging.rules`. Every run is measured as learnt,
and with q refitted.
"""

from typing import Any

from depthsearch.running.scan import run_scan
from depthsearch.studies.seeds import CHOOSING
from depthsearch.studies.variations import Variation

VARIED: tuple[dict[str, Any], ...] = (
    {},  # the paper's
    {"q_rate": 10.0},
    {"q_rate": 100.0},
    {"kl_weight": 0.1},
    {"kl_weight": 10.0},
    {"prior_ratio": 0.5},
    {"patience": 2000},
)
CHOSEN: dict[str, Any] = {"q_rate": 100.0}
GRID = [
    *(Variation(first_seed=CHOOSING, **varied) for varied in VARIED),
    *(Variation(**varied) for varied in ({}, CHOSEN)),
]
QUICK = [Variation(max_depth=5, first_seed=CHOOSING), Variation(max_depth=5, first_seed=CHOOSING, q_rate=10.0)]


def main(argv: list[str] | None = None) -> None:
    run_scan("scan_learnt_depth", GRID, "max_depth", QUICK, flag="depths", argv=argv, about=__doc__)


if __name__ == "__main__":
    main()
