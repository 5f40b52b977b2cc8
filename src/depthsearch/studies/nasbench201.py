"""Searches of NAS-Bench-201's cell (Dong & Yang 2020, arXiv 2001.00326), whose truth is known, and yardsticks there."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any, ClassVar

import torch
from torch import nn

from depthsearch.cells.nasbench201 import CHOICE, nasbench201_search_network
from depthsearch.cells.nasbench201_strings import OPERATIONS, parse_cell
from depthsearch.data.batches import SplitBatches
from depthsearch.data.files import DataError
from depthsearch.data.nasbench import NASBench201, read_nasbench201
from depthsearch.learning.mixing import MixingWeights
from depthsearch.learning.single import Recipe
from depthsearch.learning.trials import Chosen
from depthsearch.measuring.cells import (
    YARDSTICKS,
    accuracies_of,
    believed_accuracies,
    choice_probabilities,
    only_skips,
    yardstick,
)
from depthsearch.running.study import Learner
from depthsearch.studies.cells import SearchCell
from depthsearch.studies.in_parts import Done, InParts
from depthsearch.studies.pictures import CLASSES, PICTURES, augmentation
from depthsearch.studies.plans import NASBENCH201, Plan
from depthsearch.studies.random_cells import EQUAL_COST, random_search, recipe_of
from depthsearch.studies.searches import slug


@dataclass(frozen=True, kw_only=True)
class NASBench201Cell(SearchCell):
    """One strategy on NAS-Bench-201, or random search of equal cost, which trains random cells at the size of the
    search network, or one of the `YARDSTICKS`, for which nothing is trained.

    Attributes:
        trial_epochs: of each cell that random search trains; None for as many as the search has.
        table: file of the table, or its folder; without it a search does not know what its cells are worth. It is no
            part of the configuration: it changes nothing that is searched.
    """

    trial_epochs: int | None = None
    table: str | None = None

    name: ClassVar[str] = "cells of NAS-Bench-201"
    UNSAID: ClassVar[Sequence[str]] = (*SearchCell.UNSAID, "table", "trial_epochs")
    PLANS: ClassVar[Mapping[str, Plan]] = {
        **NASBENCH201,
        EQUAL_COST: NASBENCH201["DARTS"],
        **{name: Plan(NASBENCH201["DARTS"].architect, epochs=1) for name in YARDSTICKS},
    }
    REDUCED: ClassVar[Mapping[str, Any]] = {"channels": 8, "cells": 1, "n_train": 2400, "pixels": 16, "epochs": 12}
    # From `experiments/scan_nasbench201_rates.py`; random search does best with trainings as long as a search.
    TUNED: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "DARTS": {"alpha_rate": 0.03},
        "DARTS 2nd order": {"alpha_rate": 0.03},
        "DrNAS": {"alpha_rate": 0.1},
        "DrNAS progressive": {"alpha_rate": 0.03},
        "DARTS partial channels": {"alpha_rate": 0.1},
    }

    def space(self, root: Path) -> nn.Module:
        plan, classes = self.plan, CLASSES[self.data_set]
        return nasbench201_search_network(
            plan.channels, plan.cells, classes, plan.partial[0], PICTURES[self.data_set].channels
        )

    def costs(self) -> dict[str, torch.Tensor]:
        return {CHOICE: 3 * self.plan.cells * torch.tensor([name != "none" for name in OPERATIONS])}

    def described(self, architecture: str) -> dict:
        row = {"architecture": architecture, "skip_only": only_skips(parse_cell(architecture))}
        return row | (accuracies_of(_table(self.table), architecture) if self.table else {})

    def measure(self, mixing: MixingWeights) -> dict:
        return believed_accuracies(_table(self.table), choice_probabilities(mixing)[CHOICE]) if self.table else {}

    @property
    def looks(self) -> bool:
        """Whether it is one of the `YARDSTICKS`: these know of no images, of no network."""
        return self.kind in YARDSTICKS

    @property
    def plan(self) -> Plan:
        return self.PLANS[self.kind] if self.looks else super().plan

    @property
    def recipe(self) -> Recipe:
        """How random search trains each cell."""
        return recipe_of(self.plan, self.trial_epochs or self.plan.epochs, self.batch_size)

    # What the running wing asks.

    @property
    def group(self) -> str:
        return "table" if self.looks else super().group

    def configuration(self) -> dict:
        if self.looks:
            asked = {"study": self.name, "data_set": self.group, "kind": self.kind, "first_seed": self.first_seed}
            return asked | {"training": {"epochs": 1, "precision": "float32"}}
        asked = super().configuration()
        if self.kind != EQUAL_COST:
            return asked
        asked = {k: v for k, v in asked.items() if k not in ("alpha_rate", "partial", "architect", "stages")}
        recipe, training = asdict(self.recipe), {"epochs": self.plan.epochs, "precision": self.precision}
        return asked | {"trial_epochs": recipe["epochs"], "trial": recipe, "training": training}

    def title(self) -> str:
        return slug(self.kind) if self.looks else super().title()

    def problem(self, data: Path | None = None) -> str | None:
        if self.looks and self.table is None:
            return f"{self.kind!r} looks into the table of NAS-Bench-201: give it as --table FILE"
        if self.table is not None:
            try:
                _table(self.table)
            except DataError as damaged:
                return str(damaged)
        return None if self.looks else super().problem(data)

    def _wrong_size(self) -> str | None:
        wrong, most, n = super()._wrong_size(), self.plan.epochs, self.trial_epochs
        if wrong is None and n is not None and not 1 <= n <= most:
            return f"random search trains a cell for 1 to {most} epochs, as many as a search has, got {n}"
        if wrong is None and self.kind == EQUAL_COST:
            try:
                _ = self.recipe
            except ValueError as refused:
                return str(refused)
        return wrong

    def learner(self, seeds: Sequence[int], device: torch.device, data: Path, resume: Sequence[dict] = ()) -> Learner:
        seed = self.first_seed + seeds[0]
        if self.looks:
            table = _table(self.table)
            return InParts({"look": lambda _: [self.described(yardstick(self.kind, table, seed))]}, 1, resume)
        if self.kind == EQUAL_COST:
            split = self.split(seeds[0], data).to(device)
            batches = SplitBatches(split, self.batch_size, augmentation(self.data_set, self.pixels))
            options = {"measure": self.described, "resume": resume}
            return random_search(self.plan, self.data_set, batches, self.recipe, seed, device, **options)
        return super().learner(seeds, device, data, resume)

    def evaluate(self, learned: Any, seed: int, device: torch.device, data: Path) -> dict:
        if not isinstance(learned, Done | Chosen):
            return super().evaluate(learned, seed, device, data)
        about = {"diverged_epoch": None, "epochs": len(learned.history), "history": learned.history}
        if isinstance(learned, Done):
            return learned.found | about | {"operation_evaluations": 0}
        spent = {"operation_evaluations": sum(trial.cost for trial in learned.trials)}
        return self.described(learned.best.name) | about | spent | {"trials": [asdict(t) for t in learned.trials]}

    def said(self, summaries: Sequence[dict]) -> str:
        words = [super().said(summaries)] if "entropy" in summaries[0] else []
        if "trials" in summaries[0]:
            words.append(f"{mean(len(s['trials']) for s in summaries):.1f} cells tried")
        if "c10" in summaries[0]:
            words.append(f"true accuracy {mean(s['c10'] for s in summaries):.2f} % on CIFAR-10")
        return ", ".join(words)

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        parser.add_argument(
            "--table", help="that of NAS-Bench-201, or its folder: what cells are worth that are found from now on"
        )
        parser.add_argument("--trial-epochs", type=int, help="of each cell that random search trains (default all)")

    @classmethod
    def chosen(cls, studies: Sequence[Any], options: argparse.Namespace) -> list[Any]:
        own = {"table": options.table}
        own |= {} if options.trial_epochs is None else {"trial_epochs": options.trial_epochs}
        chosen = [replace(study, **own) for study in super().chosen(studies, options)]
        asked_for = options.table or getattr(options, "strategies", None)
        return [study for study in chosen if asked_for or not study.looks]


@cache
def _read(path: Path) -> NASBench201:
    return read_nasbench201(path)


def _table(path: str | None) -> NASBench201:
    assert path is not None
    return _read(Path(path).absolute())
