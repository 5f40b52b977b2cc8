"""How many cells in a row: depth fixed, learnt, and learnt then trained anew, for cells that searches found.

The cells are those of results/tables/cells.csv: of each strategy the one whose search ended with the least validation
loss, and of the yardsticks the best of NAS-Bench-201's table and a random one.
"""

from depthsearch.reporting.tables.files import stored_tables
from depthsearch.reporting.tables.schema import CELLS
from depthsearch.reporting.tables.searches import cells_to_stack
from depthsearch.reporting.tables.shown import shown
from depthsearch.running.folders import RESULTS
from depthsearch.running.scan import run_scan
from depthsearch.studies.cell_chain import CellChain, retrained

QUICK = [CellChain(kind=kind, data_set="digits", channels=4, max_depth=3, n_train=256) for kind in ("LDN", "DDN")]


def main(argv: list[str] | None = None) -> None:
    searches, _ = shown(stored_tables(RESULTS, CELLS.tables))
    cells = sorted(set(cells_to_stack(searches["cells"]).values())) or [CellChain.cell]
    grid = [CellChain(kind=kind, cell=cell) for kind in ("LDN", "DDN") for cell in cells]
    run_scan("scan_cell_depth", grid, "cell", QUICK, flag="cells", argv=argv, about=__doc__, then=retrained)


if __name__ == "__main__":
    main()
