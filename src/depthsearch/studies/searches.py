"""What all searches of a cell share: a strategy searches a space on two parts of the training data."""

import argparse
import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any, ClassVar, cast

import torch
from torch import nn

from depthsearch.cells.genotype import genotype
from depthsearch.data.files import DataError
from depthsearch.hardware import PRECISIONS
from depthsearch.learning.architect import PASSES
from depthsearch.learning.halves import Halves
from depthsearch.learning.mixing import MixingWeights
from depthsearch.learning.search import Found, Search
from depthsearch.learning.text_parts import TextParts
from depthsearch.running.folders import write_json
from depthsearch.running.options import precision_asked
from depthsearch.running.study import Learner
from depthsearch.studies.alone import Alone, fields_in
from depthsearch.studies.depth import seeded
from depthsearch.studies.plans import Plan

GENOTYPE = "genotype.json"


@dataclass(frozen=True, kw_only=True)
class CellSearch(Alone):
    """One strategy that searches a cell; None stands for what the strategy's paper has (`PLANS`).

    Attributes:
        kind: the strategy, a name of `PLANS`.
        data_set: a name of `data_sets`.
        epochs: as in `Plan`.
        alpha_rate: learning rate of the mixing weights. The papers' is for their sizes: it hardly moves alpha in a
            search that is much shorter.
        batch_size: of each part.
        first_seed: of repeat 0. What is tuned is tuned on seeds that are not used again.
        precision: as in `Schedule`.
    """

    kind: str = "DARTS"
    data_set: str
    epochs: int | None = None
    alpha_rate: float | None = None
    batch_size: int
    first_seed: int = 0
    precision: str = "float32"

    name: ClassVar[str]
    required: ClassVar[frozenset[str]] = frozenset({"architecture", "operation_evaluations"})
    data_sets: ClassVar[Sequence[str]]
    precisions: ClassVar[Sequence[str]] = PRECISIONS
    PLANS: ClassVar[Mapping[str, Plan]]
    REDUCED: ClassVar[Mapping[str, Any]]  # fields of --reduced: what two cores can do
    TUNED: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # others of it, of a strategy
    # No part of what a configuration takes from the fields: said of the plan, or of no account.
    UNSAID: ClassVar[Sequence[str]] = ("epochs", "precision", "alpha_rate")
    OPTIONS: ClassVar[Mapping[str, str]]  # fields that are whole numbers, and help for them
    RATES: ClassVar[Mapping[str, str]] = {"alpha_rate": "learning rate of the mixing weights (default the paper's)"}

    # What it is of.

    def space(self, root: Path) -> nn.Module:
        """The space at the start, of random weights; `choices` and `derive` are its own. `root` is where data are."""
        raise NotImplementedError

    def task(self, seed: int, root: Path) -> Halves | TextParts:
        """The batches of a repeat, on the CPU.

        Raises:
            DataError, ValueError: the data are missing, damaged, or fewer than are wanted.
        """
        raise NotImplementedError

    def points(self, seed: int, root: Path) -> int:
        """How many points (of texts: words) the weights are fitted to in an epoch."""
        raise NotImplementedError

    def costs(self) -> dict[str, torch.Tensor]:
        """How many operations a point passes for each open option of an edge, in all cells {name: (options,)}."""
        raise NotImplementedError

    def described(self, architecture: Any) -> dict:
        """What a summary, and a row of the history, says of what was found: `architecture`, a text, for one."""
        raise NotImplementedError

    def measure(self, mixing: MixingWeights) -> dict:
        """What else is to be known of the mixing weights after an epoch."""
        return {}

    def counts(self) -> dict[str, int | None]:
        """What must be 1 or more, by the name that a message gives it."""
        return {"batch size": self.batch_size}

    @property
    def plan(self) -> Plan:
        plan = self.PLANS[self.kind]
        epochs = plan.epochs if self.epochs is None else self.epochs
        rate = plan.architect.learning_rate if self.alpha_rate is None else self.alpha_rate
        architect = replace(plan.architect, learning_rate=rate)
        schedule = replace(plan.schedule, precision=self.precision)
        return replace(plan, epochs=epochs, architect=architect, schedule=schedule)

    def watch(self, space: Any) -> Callable[[MixingWeights], dict]:
        """A function of the mixing weights that says after every epoch what is to be known of them.

        Among it `operations`, those that a point passes; one on 1 / K of the channels counts as 1 / K.
        """
        costs, architect = self.costs(), self.plan.architect

        def say(mixing: MixingWeights) -> dict:
            operations = sum(float((mask.cpu() * costs[name]).sum()) for name, mask in mixing.masks.items())
            finite = all(alpha.isfinite().all() for alpha in mixing.alphas.values())  # not of a search that diverged
            return {
                "operations": operations / getattr(space, "partial", 1),  # not every space has channels to open
                **self.described(space.derive(architect.ranking(mixing))),
                **(self.measure(mixing) if finite else {}),
            }

        return say

    # What the running wing asks.

    @property
    def most_epochs(self) -> int:
        return self.plan.epochs

    def configuration(self) -> dict:
        plan = self.plan
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in self.UNSAID}
        how = {"architect": asdict(plan.architect), "stages": [asdict(stage) for stage in plan.stages()]}
        how |= {"training": {"epochs": plan.epochs, **asdict(plan.schedule)}}
        rate = {"alpha_rate": plan.architect.learning_rate}
        return json.loads(json.dumps({"study": self.name, **own, **rate, **how}))

    @classmethod
    def from_configuration(cls, configuration: dict) -> "CellSearch":
        """The study of a saved run."""
        values = fields_in(cls, configuration)
        training = configuration["training"]
        return cls(**values, epochs=training["epochs"], precision=training["precision"])

    def problem(self, data: Path | None = None) -> str | None:
        if self.kind not in self.PLANS:
            return f"no strategy {self.kind!r}; there are {', '.join(self.PLANS)}"
        if self.data_set not in self.data_sets:
            return f"no data set {self.data_set!r} for cells; there are {', '.join(self.data_sets)}"
        if (wrong := self._wrong_size()) or data is None:
            return wrong
        try:
            self.task(0, data)
        except (DataError, ValueError) as missing:
            return str(missing)
        return None

    def _wrong_size(self) -> str | None:
        plan = self.plan
        for name, value in self.counts().items():
            if value is not None and value < 1:
                return f"{name} must be 1 or more, got {value}"
        if self.batch_size == 1:
            return "the batch norm of a search network needs a batch size of 2 or more, got 1"
        if plan.epochs < len(plan.partial):
            return f"{self.kind} searches in {len(plan.partial)} stages: give it as many epochs or more"
        if not plan.architect.learning_rate > 0 or self.first_seed < 0:
            return "the learning rate of alpha must be positive, and the first seed not negative"
        return None

    def learner(self, seeds: Sequence[int], device: torch.device, data: Path, resume: Sequence[dict] = ()) -> Learner:
        (seed,) = (self.first_seed + seed for seed in seeds)
        plan, task = self.plan, self.task(seeds[0], data).to(device)
        space = seeded(seed, partial(self.space, data)).to(device)
        return Search(space, plan.architect, task, plan.stages(), plan.schedule, seed, self.watch(space), resume)

    def evaluate(self, learned: Any, seed: int, device: torch.device, data: Path) -> dict:
        found, plan, n = cast(Found, learned), self.plan, self.points(seed, data)
        start = plan.architect.mixing(cast(Any, found.space).choices)
        for name, alpha in start.alphas.items():
            alpha.copy_(found.trajectory[name][0])
        entropies = {"start": start.entropy(), "end": found.mixing.entropy()}
        passes = [1 + PASSES[plan.architect.order] * ("valid_loss" in row) for row in found.history]  # over a part
        rows = list(zip(passes, found.history, strict=True))
        return self.described(found.architecture) | {
            "diverged_epoch": found.diverged_epoch,
            "epochs": len(rows),
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
        parser.add_argument("--data-set", help=f"one of {', '.join(cls.data_sets)} (default {cls.data_set})")
        for names, kind in ((cls.OPTIONS, int), (cls.RATES, float)):
            for name, what in names.items():
                parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=what)
        parser.add_argument("--precision", choices=cls.precisions, default="float32")

    @classmethod
    def chosen(cls, studies: Sequence[Any], options: argparse.Namespace) -> list[Any]:
        precision = precision_asked(options)
        names = ("data_set", "epochs", *cls.OPTIONS, *cls.RATES)
        given = {name: value for name in names if (value := getattr(options, name)) is not None}
        reduced = [{**cls.REDUCED, **cls.TUNED.get(s.kind, {})} if options.reduced else {} for s in studies]
        return [replace(s, precision=precision, **own | given) for s, own in zip(studies, reduced, strict=True)]


def show_genotype(history: Sequence[dict], folder: Path) -> None:
    """Puts the genotype of the last epoch into a run folder, where a study's `show` is to do that."""
    if history:
        write_json(folder / GENOTYPE, vars(genotype(history[-1]["architecture"])))


def slug(name: str) -> str:
    """For the name of a folder."""
    return "-".join(re.findall(r"\w+", name))
