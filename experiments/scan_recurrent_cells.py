"""Strategies that search the recurrent cell of DARTS on a text."""

from depthsearch.running.scan import run_scan
from depthsearch.studies.recurrent_cells import RecurrentCell
from depthsearch.studies.texts import GENERATED

STRATEGIES = ("DARTS", "DARTS 2nd order", "DrNAS")
GRID = [RecurrentCell(kind=kind) for kind in STRATEGIES]
SMALL = {"data_set": GENERATED, "width": 8, "batch_size": 20, "bptt": 10, "n_train": 600, "epochs": 2}
QUICK = [RecurrentCell(kind=kind, alpha_rate=0.03, dropout=0.1, **SMALL) for kind in STRATEGIES]


def main(argv: list[str] | None = None) -> None:
    run_scan("scan_recurrent_cells", GRID, "kind", QUICK, flag="strategies", argv=argv, about=__doc__)


if __name__ == "__main__":
    main()
