"""What all studies of cells share: a strategy searches a space on the two halves of the training images."""

import argparse
import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any, ClassVar, cast

import torch
from torch import nn

from depthsearch.data.cifar import search_halves
from depthsearch.data.images import DataError
from depthsearch.data.split import Split
from depthsearch.hardware import precision_of
from depthsearch.learning.architect import PASSES
from depthsearch.learning.halves import Halves
from depthsearch.learning.mixing import MixingWeights
from depthsearch.learning.search import Found, Search
from depthsearch.running.study import Learner, Problem
from depthsearch.studies.alone import Alone
from depthsearch.studies.cell_images import CLASSES, augmentation, search_images
from depthsearch.studies.depth import seeded
from depthsearch.studies.plans import Plan


@dataclass(frozen=True, kw_only=True)
class SearchCell(Alone):
    """One strategy that searches a cell; None stands for what the strategy's paper has (`PLANS`).

    Attributes:
        kind: the strategy, a name of `PLANS`.
        data_set: a name of `CLASSES`.
        channels, cells, epochs: as in `Plan`.
        alpha_rate: learning rate of the mixing weights. The papers' is for their sizes: it hardly moves alpha in a
            search that is much shorter.
        n_train: training images, the first ones; half of them are for the mixing weights. None for all.
        pixels: a side that images are reduced to; None for theirs.
        batch_size: of each half.
        first_seed: of repeat 0. What is tuned is tuned on seeds that are not used again.
        precision: as in `Schedule`.
    """

    kind: str = "DARTS"
    data_set: str = "CIFAR-10"
    channels: int | None = None
    cells: int | None = None
    epochs: int | None = None
    alpha_rate: float | None = None
    n_train: int | None = None
    pixels: int | None = None
    batch_size: int = 64
    first_seed: int = 0
    precision: str = "float32"

    name: ClassVar[str]
    required: ClassVar[frozenset[str]] = frozenset({"architecture", "operation_evaluations"})
    PLANS: ClassVar[Mapping[str, Plan]]
    REDUCED: ClassVar[Mapping[str, Any]]  # fields of --reduced: what two cores can do
    TUNED: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # others of it, of a strategy

    # What it is of.

    def space(self) -> nn.Module:
        """The space at the start, of random weights; `choices`, `derive`, `partial` are its own."""
        raise NotImplementedError

    def costs(self) -> dict[str, torch.Tensor]:
        """How many operations an image passes for each open option of an edge, in all cells {name: (options,)}."""
        raise NotImplementedError

    def described(self, architecture: Any) -> dict:
        """What a summary, and a row of the history, says of what was found: `architecture`, a text, for one."""
        raise NotImplementedError

    def measure(self, mixing: MixingWeights) -> dict:
        """What else is to be known of the mixing weights after an epoch."""
        return {}

    @property
    def plan(self) -> Plan:
        plan = self.PLANS[self.kind]
        own = {name: getattr(self, name) for name in ("channels", "cells", "epochs") if getattr(self, name) is not None}
        architect = plan.architect
        if self.alpha_rate is not None:
            architect = replace(architect, learning_rate=self.alpha_rate)
        return replace(plan, **own, architect=architect, schedule=replace(plan.schedule, precision=self.precision))

    def split(self, seed: int, root: Path) -> Split:
        """The halves of a repeat; of a faithful strategy always the first half and the other, as in the original code.

        Raises:
            DataError, ValueError: the images are missing, damaged, or fewer than are wanted.
        """
        halves = None if self.plan.architect.faithful else self.first_seed + seed
        return search_halves(search_images(self.data_set, root, self.n_train, self.pixels), halves)

    def watch(self, space: Any) -> Callable[[MixingWeights], dict]:
        """A function of the mixing weights that says after every epoch what is to be known of them.

        Among it `operations`, those that an image passes; one on 1 / K of the channels counts as 1 / K.
        """
        costs = self.costs()

        def say(mixing: MixingWeights) -> dict:
            operations = sum(float((mask.cpu() * costs[name]).sum()) for name, mask in mixing.masks.items())
            return {
                "operations": operations / space.partial,
                **self.described(space.derive(mixing.mean())),
                **self.measure(mixing),
            }

        return say

    # What the running wing asks.

    @property
    def threads(self) -> int | None:
        # A small network is best searched on a core, another one on the next.
        return 1 if self.plan.channels * self.plan.cells < 64 else None

    @property
    def most_epochs(self) -> int:
        return self.plan.epochs

    @property
    def cost(self) -> float:
        plan = self.plan
        return plan.channels * plan.cells * plan.epochs * plan.architect.passes / plan.partial[-1]

    def configuration(self) -> dict:
        plan = self.plan
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in UNSAID}
        size = {"channels": plan.channels, "cells": plan.cells, "alpha_rate": plan.architect.learning_rate}
        how = {"architect": asdict(plan.architect), "stages": [asdict(stage) for stage in plan.stages()]}
        how |= {"training": {"epochs": plan.epochs, **asdict(plan.schedule)}}
        return json.loads(json.dumps({"study": self.name, **own, **size, "partial": plan.partial[0], **how}))

    @classmethod
    def from_configuration(cls, configuration: dict) -> "SearchCell":
        """The study of a saved run."""
        values = {f.name: configuration[f.name] for f in dataclasses.fields(cls) if f.name in configuration}
        training = configuration["training"]
        return cls(**values, epochs=training["epochs"], precision=training["precision"])

    def title(self) -> str:
        plan = self.plan
        return f"{slug(self.kind)}_C{plan.channels}_N{plan.cells}_epochs{plan.epochs}"

    def problem(self, data: Path | None = None) -> str | None:
        if self.kind not in self.PLANS:
            return f"no strategy {self.kind!r}; there are {', '.join(self.PLANS)}"
        if self.data_set not in CLASSES:
            return f"no data set {self.data_set!r} for cells; there are {', '.join(CLASSES)}"
        if (wrong := self._wrong_size()) or data is None:
            return wrong
        try:
            self.split(0, data)
        except (DataError, ValueError) as missing:
            return str(missing)
        return None

    def _wrong_size(self) -> str | None:
        plan = self.plan
        counts = {"channels": plan.channels, "cells": plan.cells, "batch size": self.batch_size}
        for name, value in (counts | {"pixels": self.pixels, "training images": self.n_train}).items():
            if value is not None and value < 1:
                return f"{name} must be 1 or more, got {value}"
        if plan.epochs < len(plan.partial):
            return f"{self.kind} searches in {len(plan.partial)} stages: give it as many epochs or more"
        if not plan.architect.learning_rate > 0 or self.first_seed < 0:
            return "the learning rate of alpha must be positive, and the first seed not negative"
        odd = next((partial for partial in plan.partial if plan.channels % partial), None)
        if odd is not None:
            return f"{self.kind} opens 1 in {odd} channels, and {plan.channels} channels are not divided by {odd}"
        return None

    def learner(self, seeds: Sequence[int], device: torch.device, data: Path, resume: Sequence[dict] = ()) -> Learner:
        (seed,) = (self.first_seed + seed for seed in seeds)
        plan, space = self.plan, seeded(seed, self.space).to(device)
        task = Halves(self.split(seeds[0], data).to(device), self.batch_size, augmentation(self.data_set, self.pixels))
        return Search(space, plan.architect, task, plan.stages(), plan.schedule, seed, self.watch(space), resume)

    def evaluate(self, learned: Any, seed: int, device: torch.device, data: Path) -> dict:
        found, plan, n = cast(Found, learned), self.plan, len(self.split(seed, data).y_train)
        start = plan.architect.mixing(cast(Any, found.space).choices)
        for name, alpha in start.alphas.items():
            alpha.copy_(found.trajectory[name][0])
        entropies = {"start": start.entropy(), "end": found.mixing.entropy()}
        passes = [1 + PASSES[plan.architect.order] * ("valid_loss" in row) for row in found.history]  # over a half
        rows = list(zip(passes, found.history, strict=True))
        return self.described(found.architecture) | {
            "diverged_epoch": found.diverged_epoch,
            "epochs": len(rows),
            "seconds": {},
            "entropy": {when: {name: float(e) for name, e in each.items()} for when, each in entropies.items()},
            "changes": sum(row[f"changed_{name}"] for name in start.alphas for _, row in rows),
            "operation_evaluations": sum(n * often * row["operations"] for often, row in rows),
            "trajectory": {name: alpha.double().round(decimals=6).tolist() for name, alpha in found.trajectory.items()},
            "history": found.history,
        }

    def said(self, summaries: Sequence[dict]) -> str:
        ends = [mean(mean(s["entropy"][when].values()) for s in summaries) for when in ("start", "end")]
        changes = mean(summary["changes"] for summary in summaries)
        return f"entropy {ends[0]:.3f} to {ends[1]:.3f} nats, {changes:.0f} changes of the largest option"

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--reduced", action="store_true", help="small, for two cores; what is given besides counts")
        parser.add_argument("--data-set", help=f"one of {', '.join(CLASSES)} (default CIFAR-10)")
        for name, what in SIZES.items():
            parser.add_argument(f"--{name.replace('_', '-')}", type=int, help=what)
        parser.add_argument(
            "--alpha-rate", type=float, help="learning rate of the mixing weights (default the paper's)"
        )
        parser.add_argument("--precision", choices=("auto", "float32", "tf32", "bfloat16"), default="float32")

    @classmethod
    def chosen(cls, studies: Sequence[Any], options: argparse.Namespace) -> list[Any]:
        try:
            precision = precision_of(options.precision, options.devices[0])
        except ValueError as cannot:
            raise Problem(str(cannot)) from None
        names = ("data_set", "alpha_rate", "epochs", *SIZES)
        given = {name: value for name in names if (value := getattr(options, name)) is not None}
        small = options.reduced and not options.quick
        reduced = [{**cls.REDUCED, **cls.TUNED.get(study.kind, {})} if small else {} for study in studies]
        return [replace(s, precision=precision, **own | given) for s, own in zip(studies, reduced, strict=True)]


# No part of what a configuration takes from the fields: said of the plan, or of no account.
UNSAID = ("epochs", "precision", "table", "channels", "cells", "alpha_rate", "trial_epochs")
SIZES = {
    "channels": "of the search network (default the paper's)",
    "cells": "of the search network, in a stage or in all (default the paper's)",
    "n_train": "training images, both halves together (default all)",
    "pixels": "a side that images are reduced to (default theirs)",
    "batch_size": "of each half (default 64)",
    "first_seed": "of the first repeat (default 0)",
}


def slug(name: str) -> str:
    """For the name of a folder."""
    return "-".join(re.findall(r"\w+", name))
