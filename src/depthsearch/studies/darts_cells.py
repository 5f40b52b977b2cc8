"""Searches of the two cells of the DARTS space (Liu, Simonyan & Yang 2019, arXiv 1806.09055, section 2)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from depthsearch.cells.darts_search import CELLS, DARTS_OPERATIONS, DRNAS_OPERATIONS, darts_search_network
from depthsearch.cells.genotype import CellGenotype
from depthsearch.measuring.cells import only_skips
from depthsearch.studies.cells import SearchCell
from depthsearch.studies.nasbench201 import NASBench201Cell
from depthsearch.studies.pictures import CLASSES, PICTURES
from depthsearch.studies.plans import DARTS, Plan
from depthsearch.studies.searches import show_genotype


@dataclass(frozen=True, kw_only=True)
class DartsCell(SearchCell):
    """One strategy on the DARTS space; `cells` counts all cells of the search network.

    DrNAS has no option "none". The genotype is in `genotype.json` of the run folder, from the first epochs on.
    """

    name: ClassVar[str] = "cells of DARTS"
    PLANS: ClassVar[Mapping[str, Plan]] = DARTS
    REDUCED: ClassVar[Mapping[str, Any]] = {
        "channels": 4,
        "cells": 3,
        "n_train": 768,
        "pixels": 16,
        "epochs": 8,
        "batch_size": 32,
    }
    # The learning rates of alpha are those that were tuned for the reduced searches of NAS-Bench-201. The progressive
    # search has more channels than the others, as in the papers: it opens but a part of them.
    TUNED: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        **{kind: {"alpha_rate": own["alpha_rate"]} for kind, own in NASBench201Cell.TUNED.items()},
        "DrNAS progressive": {"alpha_rate": 0.03, "channels": 12},
    }

    def space(self, root: Path) -> nn.Module:
        plan, classes = self.plan, CLASSES[self.data_set]
        return darts_search_network(
            plan.channels,
            plan.cells,
            classes,
            plan.partial[0],
            self.options(),
            in_channels=PICTURES[self.data_set].channels,
        )

    def costs(self) -> dict[str, torch.Tensor]:
        cells = self.plan.cells
        reductions = len({cells // 3, 2 * cells // 3})
        each = torch.tensor([name != "none" for name in self.options()])
        return dict(zip(CELLS, (each * (cells - reductions), each * reductions), strict=True))

    def options(self) -> tuple[str, ...]:
        """The operations of an edge."""
        return DRNAS_OPERATIONS if self.kind.startswith("DrNAS") else DARTS_OPERATIONS

    def described(self, architecture: CellGenotype) -> dict:
        names = [name for name, _ in (*architecture.normal, *architecture.reduce)]
        skips = names.count("skip_connect")
        return {"architecture": architecture.to_json(), "skips": skips, "skip_only": only_skips(names)}

    def _wrong_size(self) -> str | None:
        channels = self.plan.channels
        return super()._wrong_size() or (f"channels must be even, got {channels}" if channels % 2 else None)

    def show(self, history: Sequence[dict], folder: Path) -> None:
        show_genotype(history, folder)
