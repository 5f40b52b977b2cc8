"""The search network of the DARTS space (arXiv 1806.09055, section 2) and what a search does to it: prune, derive."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from depthsearch.cells.darts import Stem, check_sizes, places
from depthsearch.cells.darts_widening import Widening, widen_cell
from depthsearch.cells.genotype import CELL_OPERATIONS, CellGenotype
from depthsearch.cells.mixed import EDGES, NODES, MixedCell
from depthsearch.cells.progressive import Grown, ProgressiveSpace, check_partial

CELLS = ("normal", "reduce")
DARTS_OPERATIONS = CELL_OPERATIONS[:8]
DRNAS_OPERATIONS = DARTS_OPERATIONS[1:]  # all but "none"


class DartsSearchNetwork(ProgressiveSpace):
    """What `darts_search_network` makes.

    Attributes:
        choices: the shapes of the mixing weights, {"normal": (14, n), "reduce": (14, n)} with n operations. Rows: the
            edges of node 0 from states 0 and 1, of node 1 from 0, 1 and 2, and so on; columns: `operations`.
        partial, blend: as of a `ProgressiveSpace`.
    """

    def __init__(
        self,
        channels: int,
        layers: int,
        n_classes: int,
        partial: int,
        operations: Sequence[str],
        imagenet: bool,
        in_channels: int,
    ) -> None:
        super().__init__()
        self.operations, self.partial, self.blend = tuple(operations), partial, 1.0
        self.choices = {cell: (len(EDGES), len(operations)) for cell in CELLS}
        self.stem = Stem(in_channels, 3 * channels, imagenet)
        cells = list(places(channels, layers, 3 * channels, (NODES, NODES), imagenet))
        self.cells = nn.ModuleList(MixedCell(place, operations, partial) for place in cells)
        self.classifier = nn.Linear(NODES * cells[-1].channels, n_classes)
        self.open_all()

    def settle(self) -> None:
        self._options = {
            cell: [[i for i, is_open in enumerate(row) if is_open] for row in mask.tolist()]
            for cell, mask in self.masks.items()
        }
        for cell in self._cells():
            cell.settle()

    def _cells(self) -> list[MixedCell]:
        return [cast(MixedCell, cell) for cell in self.cells]

    def forward(self, x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, n_classes) of pictures x (B, in_channels, H, W) under mixing weights in the shapes of `choices`.

        Raises:
            ValueError: the weights have other names or shapes.
        """
        self.check(weights)
        before_last, last = self.stem(x)
        for cell in self._cells():
            kind = CELLS[cell.reduction]
            before_last, last = last, cell(before_last, last, weights[kind], self._options[kind], self.blend)
        return self.classifier(last.mean((2, 3)))

    def widen(self, partial: int, keep_function: bool = False, generator: torch.Generator | None = None) -> Grown:
        """Opens 1/partial of the channels to the operations, more than before.

        As DrNAS does, by copies of random channels, or so that the network computes what it did (see `darts_widening`):
        then `blend` is set to 0, and whoever trains raises it to 1. A state saved after it is loaded into a new network
        of the new `partial`.

        Args:
            partial: a divisor of the channels, less than before.
            generator: of the draws, on the CPU.

        Returns:
            What became of each parameter that was replaced, for `carry_over`.

        Raises:
            ValueError: `partial` is no divisor or not less than before, or `blend` is not 1.
        """
        self.check_widening(len(self._cells()[0].reads), partial)
        widening = Widening(keep_function, generator)
        for cell in self._cells():
            widen_cell(cell, partial, widening)
        self.partial, self.blend = partial, 0.0 if keep_function else 1.0
        return widening.grown

    def derive(self, weights: Mapping[str, Tensor]) -> CellGenotype:
        """The genotype of mixing weights: for every node the two edges whose best operation weighs most, with it.

        "none" counts in the sum of a row but is never chosen (arXiv 1806.09055, section 2.4); closed options weigh 0.
        """
        rows = {cell: w.detach().tolist() for cell, w in self.restrict(weights).items()}
        edges = {cell: tuple(edge for node in range(NODES) for edge in self._best(rows[cell], node)) for cell in CELLS}
        every = tuple(range(2, NODES + 2))
        return CellGenotype(edges["normal"], every, edges["reduce"], every)

    def _best(self, rows: list[list[float]], node: int) -> list[tuple[str, int]]:
        named = [i for i, name in enumerate(self.operations) if name != "none"]
        best = {}
        for row, (of, state) in enumerate(EDGES):
            if of == node:
                column = max(named, key=lambda i: rows[row][i])
                best[state] = rows[row][column], self.operations[column]
        strongest = sorted(best, key=lambda state: -best[state][0])[:2]
        return [(best[state][1], state) for state in strongest]


def darts_search_network(
    channels: int = 16,
    layers: int = 8,
    n_classes: int = 10,
    partial: int = 1,
    operations: Sequence[str] = DARTS_OPERATIONS,
    *,
    imagenet: bool = False,
    in_channels: int = 3,
) -> DartsSearchNetwork:
    """A network with 14 choices a cell type; `space(x, {"normal": w, "reduce": w})` gives logits.

    Args:
        channels: of a node in the first cells; even.
        partial: the operations work on the first 1/partial of an edge's channels, the others pass by.
        operations: the options of a choice; DrNAS searches the `DRNAS_OPERATIONS`.
        imagenet: a stem that divides height and width by 8.

    Raises:
        ValueError: a size is not possible, `partial` does not divide the channels, or an operation is unknown or twice.
    """
    check_sizes(channels, layers=layers, n_classes=n_classes, in_channels=in_channels)
    check_partial(channels, partial)
    known = set(operations) <= set(CELL_OPERATIONS) and len(set(operations)) == len(operations)
    if not known or not set(operations) - {"none"}:
        names, got = ", ".join(CELL_OPERATIONS), ", ".join(operations)
        raise ValueError(f"operations must be different ones of {names}, and more than none alone; got {got or 'none'}")
    return DartsSearchNetwork(channels, layers, n_classes, partial, operations, imagenet, in_channels)
