"""Searches of NAS-Bench-201's cell (Dong & Yang 2020, arXiv 2001.00326), whose truth is known, and yardsticks there."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any, ClassVar

import torch
from torch import nn

from depthsearch.cells.nasbench201 import CHOICE, nasbench201_search_network
from depthsearch.cells.nasbench201_strings import OPERATIONS, parse_cell
from depthsearch.data.images import DataError
from depthsearch.data.nasbench import NASBench201, read_nasbench201
from depthsearch.learning.mixing import MixingWeights
from depthsearch.measuring.cells import (
    YARDSTICKS,
    accuracies_of,
    believed_accuracies,
    choice_probabilities,
    only_skips,
    yardstick,
)
from depthsearch.running.study import Learner
from depthsearch.studies.cell_images import CLASSES, colours
from depthsearch.studies.cells import SearchCell, slug
from depthsearch.studies.plans import NASBENCH201, Plan


@dataclass(frozen=True, kw_only=True)
class NASBench201Cell(SearchCell):
    """One strategy on NAS-Bench-201, or one of the `YARDSTICKS`, for which nothing is trained.

    Attributes:
        table: file of the table, or its folder; without it a search does not know what its cells are worth. It is no
            part of the configuration: it changes nothing that is searched.
    """

    table: str | None = None

    name: ClassVar[str] = "cells of NAS-Bench-201"
    PLANS: ClassVar[Mapping[str, Plan]] = NASBENCH201 | {
        name: Plan(NASBENCH201["DARTS"].architect, epochs=1) for name in YARDSTICKS
    }
    REDUCED: ClassVar[Mapping[str, Any]] = {"channels": 8, "cells": 1, "n_train": 3200, "pixels": 16, "epochs": 12}

    def space(self) -> nn.Module:
        plan, classes = self.plan, CLASSES[self.data_set]
        return nasbench201_search_network(plan.channels, plan.cells, classes, plan.partial[0], colours(self.data_set))

    def costs(self) -> dict[str, torch.Tensor]:
        return {CHOICE: 3 * self.plan.cells * torch.tensor([name != "none" for name in OPERATIONS])}

    def described(self, architecture: str) -> dict:
        row = {"architecture": architecture, "skip_only": only_skips(parse_cell(architecture))}
        return row | (accuracies_of(_table(self.table), architecture) if self.table else {})

    def measure(self, mixing: MixingWeights) -> dict:
        return believed_accuracies(_table(self.table), choice_probabilities(mixing)[CHOICE]) if self.table else {}

    # What the running wing asks.

    @property
    def searches(self) -> bool:
        """Whether it is no yardstick: these know of no images, of no network."""
        return self.kind not in YARDSTICKS

    @property
    def plan(self) -> Plan:
        return super().plan if self.searches else self.PLANS[self.kind]

    @property
    def group(self) -> str:
        return super().group if self.searches else "table"

    def configuration(self) -> dict:
        if self.searches:
            return super().configuration()
        asked = {"study": self.name, "data_set": self.group, "kind": self.kind, "first_seed": self.first_seed}
        return asked | {"training": {"epochs": 1, "precision": "float32"}}

    def title(self) -> str:
        return super().title() if self.searches else slug(self.kind)

    def problem(self, data: Path | None = None) -> str | None:
        if not self.searches and self.table is None:
            return f"{self.kind!r} looks into the table of NAS-Bench-201: give it as --table FILE"
        if self.table is not None:
            try:
                _table(self.table)
            except DataError as damaged:
                return str(damaged)
        return super().problem(data) if self.searches else None

    def learner(self, seeds: Sequence[int], device: torch.device, data: Path, resume: Sequence[dict] = ()) -> Learner:
        if self.searches:
            return super().learner(seeds, device, data, resume)
        (seed,) = seeds
        return Look(self.described(yardstick(self.kind, _table(self.table), self.first_seed + seed)))

    def evaluate(self, learned: Any, seed: int, device: torch.device, data: Path) -> dict:
        return learned.summary if isinstance(learned, Looked) else super().evaluate(learned, seed, device, data)

    def said(self, summaries: Sequence[dict]) -> str:
        words = [super().said(summaries)] if self.searches else []
        words += (
            [f"true accuracy {mean(s['c10'] for s in summaries):.2f} % on CIFAR-10"] if "c10" in summaries[0] else []
        )
        return ", ".join(words)

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        parser.add_argument("--table", help="that of NAS-Bench-201, or its folder: what the cells found are worth")

    @classmethod
    def chosen(cls, studies: Sequence[Any], options: argparse.Namespace) -> list[Any]:
        chosen = [replace(study, table=options.table) for study in super().chosen(studies, options)]
        return [study for study in chosen if study.searches or options.table]


@dataclass(frozen=True)
class Looked:
    """What a yardstick took."""

    summary: dict
    history: list[dict]

    def state(self) -> dict[str, nn.Module]:
        """Nothing was trained."""
        return {}


@dataclass
class Look:
    """A learner that takes what it was given, in one epoch."""

    found: dict
    epoch: int = 0

    def epochs(self) -> Iterator[int]:
        self.epoch = 1
        yield 1

    def checkpoint(self) -> list[dict]:
        return [{"epoch": self.epoch}]

    def progress(self) -> str:
        return "looked up"

    def histories(self) -> list[list[dict]]:
        return [[]]

    def learned(self) -> list[Looked]:
        history = [{"epoch": 1}]
        about = {"diverged_epoch": None, "epochs": 1, "seconds": {}, "operation_evaluations": 0, "history": history}
        return [Looked(self.found | about, history)]

    def about(self) -> dict:
        return {}


@cache
def _read(path: Path) -> NASBench201:
    return read_nasbench201(path)


def _table(path: str | None) -> NASBench201:
    assert path is not None
    return _read(Path(path).absolute())
