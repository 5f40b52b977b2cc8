"""The neural predictor (Wen et al. 2020, arXiv 1912.00848) on tables: what its studies share.

Nothing is learnt but predictors, on a CPU; an epoch, as the running wing counts, is a part of that work.
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from depthsearch.data.files import DataError
from depthsearch.running.study import Learner, Problem
from depthsearch.strategies.graph_predictor import CANDIDATES, PAPER, Setting
from depthsearch.strategies.predictor_choice import FOLDS
from depthsearch.studies.alone import fields_in
from depthsearch.studies.in_parts import Done, InParts
from depthsearch.studies.prediction import Pool, chosen_settings, members
from depthsearch.studies.trained_pools import MADE_UP, NB101, POOLS, pool_of

LIMIT = 91.0  # percent: what the paper's classifier keeps, of cells of NAS-Bench-101


@dataclass(frozen=True, kw_only=True)
class PredictorStudy:
    """Predictors that learn from a few architectures of a pool.

    Attributes:
        data_set: a name of `POOLS`.
        label: which run an accuracy of NAS-Bench-101 is of, as in `labels_of`.
        ensemble: networks of which the mean is taken.
        epochs: of a network, at most; None for those of its setting.
        table: file of the table, or a folder; None for the folder of the data. What is in it is a part of the
            configuration, where it is given: other labels, or rows in another order, are other runs.
        run_is: which run the accuracies of a file of NAS-Bench-101 are of that does not say so: a part of what is in
            the table, said wherever it is shown.
        visualize: draw what is predicted into the run folder; no part of the configuration, either.
    """

    data_set: str = NB101
    label: str = "table"
    ensemble: int = 5
    epochs: int | None = None
    table: str | None = None
    run_is: str | None = None
    visualize: bool = False

    name: ClassVar[str]
    only: ClassVar[str]  # what `--only` calls it
    required: ClassVar[frozenset[str]] = frozenset({"errors", "chosen", "label"})

    # What it is of.

    @property
    def size(self) -> int:
        """How many architectures are trained for the predictor, at most."""
        raise NotImplementedError

    def trains(self, pool: Pool, seeds: Sequence[int]) -> list[np.ndarray]:
        """Of each repeat the rows that are learnt from, all known.

        Raises:
            Problem: the pool does not have that many.
        """
        raise NotImplementedError

    def check(self, pool: Pool, trains: Sequence[np.ndarray], limits: Sequence[float]) -> None:
        """Of rows to learn from, those of a classifier with its limits.

        Raises:
            Problem: there are too few to choose a setting, or on one side of a limit.
        """
        fewest = min(map(len, trains))
        if fewest < 2 * FOLDS:
            raise Problem(
                f"of the {self.size} of {self.data_set} to learn from only {fewest} have a label, "
                f"and {FOLDS} folds need {2 * FOLDS}"
            )
        for train, limit in zip(trains, limits, strict=False):
            above = int((pool.labels[train] > limit).sum())
            if not 2 <= above < len(train):
                raise Problem(
                    f"of {len(train)} of {self.data_set} to learn from {above} are above {limit:g} %: "
                    "a classifier needs 2 of them or more, and one that is not"
                )

    @property
    def parts(self) -> tuple[str, ...]:
        """What is done once a setting is chosen, in order."""
        raise NotImplementedError

    def do(
        self, part: str, pool: Pool, trains: Sequence[np.ndarray], seeds: Sequence[int], found: Sequence[dict]
    ) -> list[dict]:
        """One of the `parts`: what it adds to what was found of each repeat."""
        raise NotImplementedError

    def limited(self, setting: Setting) -> Setting:
        return setting if self.epochs is None else replace(setting, epochs=min(setting.epochs, self.epochs))

    @property
    def in_percent_of_101(self) -> bool:
        """Whether labels are like those of NAS-Bench-101, for which the paper's limits are."""
        return self.data_set in (NB101, MADE_UP)

    @property
    def candidates(self) -> dict[str, Setting]:
        return {name: self.limited(setting) for name, setting in CANDIDATES.items()}

    def networks(self, seeds: Sequence[int]) -> list[range]:
        """The seeds of the ensemble of each repeat."""
        return [range(self.ensemble * seed, self.ensemble * (seed + 1)) for seed in seeds]

    def choice(self, pool: Pool, trains: Sequence[np.ndarray], found: Sequence[dict]) -> list[dict]:
        """The setting that cross validation within the training rows chooses, and the errors of all."""
        errors = chosen_settings(pool, trains, self.candidates, FOLDS)
        return [{"errors": own, "chosen": min(own, key=own.__getitem__)} for own in errors]

    def settings(self, found: Sequence[dict]) -> list[Setting]:
        """Of each repeat the one that was chosen."""
        return [self.candidates[own["chosen"]] for own in found]

    def predicted(
        self, pool: Pool, trains: Sequence[np.ndarray], seeds: Sequence[int], found: Sequence[dict]
    ) -> np.ndarray:
        """(R, E, n) predictions of the networks of the chosen settings."""
        return members(pool, trains, self.settings(found), self.networks(seeds))

    # What the running wing asks.

    uses_gpu: ClassVar[bool] = False
    side_by_side: ClassVar[int] = 10
    threads: ClassVar[int] = 1

    @property
    def group(self) -> str:
        return self.data_set

    @property
    def most_epochs(self) -> int:
        return len(self.parts) + 1

    @property
    def cost(self) -> float:
        return self.size

    def configuration(self) -> dict:
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in UNSAID}
        epochs = self.limited(PAPER).epochs
        how = {
            "candidates": {name: setting.said() for name, setting in self.candidates.items()},
            "folds": {"n": FOLDS},
        }
        how["training"] = {"epochs": epochs, "precision": "float32"}
        how |= {"mean": "of the runs that did not blow up"} if self.label == "mean" else {}
        if self.table is not None:
            how["pool"] = self._at_hand(Path(self.table)).digest
        return json.loads(json.dumps({"study": self.name, **own, **how}))

    @classmethod
    def from_configuration(cls, configuration: dict) -> Any:
        """The study of a saved run."""
        values = fields_in(cls, configuration)
        epochs = configuration["training"]["epochs"]
        return cls(**values, epochs=None if epochs == PAPER.epochs else epochs)

    def title(self) -> str:
        raise NotImplementedError

    def problem(self, data: Path | None = None) -> str | None:
        if self.data_set not in POOLS:
            return f"no pool {self.data_set!r}; there are {', '.join(POOLS)}"
        if self.size < 2 * FOLDS:
            return (
                f"settings are chosen in {FOLDS} folds of 2 or more: give {2 * FOLDS} graphs or more, got {self.size}"
            )
        if self.ensemble < 1:
            return f"an ensemble has 1 network or more, got {self.ensemble}"
        if data is None:
            return None
        try:
            self.trains(self.pool(data), (0,))
        except (DataError, ValueError, Problem) as wrong:
            return str(wrong)
        return None

    def pool(self, data: Path) -> Pool:
        """The trained cells that it learns from and predicts.

        Raises:
            ValueError, DataError: the table is missing or damaged.
        """
        return pool_of(self.data_set, Path(self.table or data).absolute(), self.label, self.run_is)

    def _at_hand(self, data: Path) -> Pool:
        try:
            return self.pool(data)
        except (DataError, ValueError) as wrong:
            raise Problem(str(wrong)) from None

    def learner(self, seeds: Sequence[int], device: torch.device, data: Path, resume: Sequence[dict] = ()) -> Learner:
        pool = self._at_hand(data)
        trains = self.trains(pool, seeds)
        own = {part: partial(self.do, part, pool, trains, seeds) for part in self.parts}
        return InParts({"choice": partial(self.choice, pool, trains), **own}, len(seeds), resume)

    def evaluate(self, learned: Done, seed: int, device: torch.device, data: Path) -> dict:
        about = {"diverged_epoch": None, "epochs": len(learned.history), "history": learned.history}
        return learned.found | about | {"label": self.pool(data).caption}  # the pool is at hand by then

    def show(self, history: Sequence[dict], folder: Path) -> None:
        """Nothing: what is drawn is drawn at the end."""

    def said(self, summaries: Sequence[dict]) -> str:
        raise NotImplementedError

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--table", help="file of a table, or folder of tables (default: the folder of the data)")
        parser.add_argument("--label", help="run of NAS-Bench-101: table, 'seed 0', 'seed 1', 'seed 2', mean or best")
        parser.add_argument("--run-is", metavar="TEXT", help="which run that is, for a file that does not say so")
        parser.add_argument("--only", choices=("table", "selection"), help="one of the two studies")
        parser.add_argument("--splits", nargs="+", help="of the table, say 172 91-172; implies --only table")
        parser.add_argument("--ensemble", type=int, help="networks whose mean is taken (default 5)")
        parser.add_argument("--visualize", action="store_true", help="draw predicted against true into the run folders")

    @classmethod
    def chosen(cls, studies: Sequence[Any], options: argparse.Namespace) -> list[Any]:
        given = {name: getattr(options, name) for name in ("table", "run_is", "label", "ensemble", "epochs")}
        given = {name: value for name, value in given.items() if value is not None}
        of_101 = {name: given.pop(name) for name in ("run_is", "label") if name in given}
        given["visualize"] = options.visualize
        chosen = [replace(study, **given, **(of_101 if study.data_set == NB101 else {})) for study in studies]
        if options.table is not None and Path(options.table).is_file():
            chosen = [study for study in chosen if _fits(study.data_set, Path(options.table))]
        if only := "table" if options.splits else options.only:
            chosen = [study for study in chosen if study.only == only]
        if not chosen:
            raise Problem(f"nothing of this grid is left with --table {options.table} --only {options.only}")
        if of_101 and all(study.data_set != NB101 for study in chosen):
            raise Problem("--label and --run-is are of NAS-Bench-101, which is not in this grid: leave them out")
        if options.splits is None:
            return chosen
        sets = {study.data_set: study for study in chosen}
        return [replace(study, split=split) for study in sets.values() for split in options.splits]


UNSAID = ("epochs", "table", "run_is", "visualize")  # of no account, or said of the training or of the pool


def _fits(data_set: str, table: Path) -> bool:
    # An npz is a table of NAS-Bench-101, anything else one of NAS-Bench-201.
    return data_set == MADE_UP or (data_set == NB101) == (table.suffix == ".npz")


def rounded(values: np.ndarray) -> list[float]:
    """For a summary."""
    return np.asarray(values, dtype=float).round(4).tolist()
