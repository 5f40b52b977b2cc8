"""What all studies of cells for images share: the space is searched on the two halves of the training images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from depthsearch.data.cifar import search_halves
from depthsearch.data.split import Split
from depthsearch.learning.halves import Halves
from depthsearch.studies.pictures import CLASSES, augmentation, search_images
from depthsearch.studies.plans import Plan
from depthsearch.studies.searches import CellSearch, slug

SMALLEST = 4  # pixels a side


@dataclass(frozen=True, kw_only=True)
class SearchCell(CellSearch):
    """One strategy that searches a cell on images; its space says in `partial` how many channels are open.

    Attributes:
        data_set: a name of `CLASSES`.
        channels, cells: as in `Plan`.
        n_train: training images, the first ones; half of them are for the mixing weights. None for all.
        pixels: a side that images are reduced to; None for theirs.
    """

    data_set: str = "CIFAR-10"
    channels: int | None = None
    cells: int | None = None
    n_train: int | None = None
    pixels: int | None = None
    batch_size: int = 64

    data_sets: ClassVar[Sequence[str]] = tuple(CLASSES)
    UNSAID: ClassVar[Sequence[str]] = (*CellSearch.UNSAID, "channels", "cells")
    OPTIONS: ClassVar[Mapping[str, str]] = {
        "channels": "of the search network (default the paper's)",
        "cells": "of the search network, in a stage or in all (default the paper's)",
        "n_train": "training images, both halves together (default all)",
        "pixels": "a side that images are reduced to (default theirs)",
        "batch_size": "of each half (default 64)",
        "first_seed": "of the first repeat (default 0)",
    }

    @property
    def plan(self) -> Plan:
        sizes = {name: getattr(self, name) for name in ("channels", "cells") if getattr(self, name) is not None}
        return replace(super().plan, **sizes)

    def split(self, seed: int, root: Path) -> Split:
        """The halves of a repeat; of a faithful strategy always the first half and the other, as in the original code.

        Raises:
            DataError, ValueError: the images are missing, damaged, or fewer than are wanted.
        """
        halves = None if self.plan.architect.faithful else self.first_seed + seed
        return search_halves(search_images(self.data_set, root, self.n_train, self.pixels), halves)

    def task(self, seed: int, root: Path) -> Halves:
        return Halves(self.split(seed, root), self.batch_size, augmentation(self.data_set, self.pixels))

    def points(self, seed: int, root: Path) -> int:
        return len(self.split(seed, root).y_train)

    def counts(self) -> dict[str, int | None]:
        plan = self.plan
        sizes = {"channels": plan.channels, "cells": plan.cells}
        return sizes | super().counts() | {"pixels": self.pixels, "training images": self.n_train}

    # What the running wing asks.

    @property
    def threads(self) -> int | None:
        # A small network is best searched on a core, another one on the next.
        return 1 if self.plan.channels * self.plan.cells < 64 else None

    @property
    def cost(self) -> float:
        plan = self.plan
        return plan.channels * plan.cells * plan.epochs * plan.architect.passes / plan.partial[-1]

    def configuration(self) -> dict:
        plan = self.plan
        return super().configuration() | {"channels": plan.channels, "cells": plan.cells, "partial": plan.partial[0]}

    def title(self) -> str:
        plan = self.plan
        return f"{slug(self.kind)}_C{plan.channels}_N{plan.cells}_epochs{plan.epochs}"

    def _wrong_size(self) -> str | None:
        if wrong := super()._wrong_size():
            return wrong
        if self.pixels is not None and self.pixels < SMALLEST:
            return f"a search network halves images twice: they need {SMALLEST} pixels a side, got {self.pixels}"
        plan = self.plan
        odd = next((partial for partial in plan.partial if plan.channels % partial), None)
        if odd is not None:
            return f"{self.kind} opens 1 in {odd} channels, and {plan.channels} channels are not divided by {odd}"
        return None
