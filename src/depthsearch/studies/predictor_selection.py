"""How good an architecture the neural predictor finds for how many trained: the paper's figure (arXiv 1912.00848)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import ClassVar

import numpy as np
import torch

from depthsearch.running.study import Problem
from depthsearch.strategies.graph_predictor import PAPER
from depthsearch.studies.in_parts import Done
from depthsearch.studies.prediction import Pool, best_so_far, drawn, evolution, oracle, predicted_best, two_stages
from depthsearch.studies.predictor import LIMIT, PredictorStudy, rounded

RANDOM_SEARCH, EVOLUTION, ORACLE = "random search", "regularised evolution", "oracle"
PREDICTOR, WITH_CLASSIFIER = "predictor", "predictor with classifier"


@dataclass(frozen=True, kw_only=True)
class PredictorSelection(PredictorStudy):
    """How good an architecture is found for how many trained ones: predictor, random search, evolution, oracle.

    Attributes:
        n_train: architectures that the predictor learns from, drawn at random, the first that it pays for.
        budget: trained architectures, at most, of each search.
    """

    n_train: int = 172
    budget: int = 300

    name: ClassVar[str] = "predictor for selection"
    only: ClassVar[str] = "selection"
    required: ClassVar[frozenset[str]] = PredictorStudy.required | {"curves", "trained"}
    parts = ("with a predictor", "without one")  # type: ignore[assignment]

    @property
    def size(self) -> int:
        return self.n_train

    def title(self) -> str:
        return f"selection{self.n_train}_budget{self.budget}_ensemble{self.ensemble}_epochs{self.limited(PAPER).epochs}"

    def problem(self, data: Path | None = None) -> str | None:
        if self.budget <= self.n_train:
            return f"the budget must be more than the {self.n_train} that are learnt from, got {self.budget}"
        return super().problem(data)

    def trains(self, pool: Pool, seeds: Sequence[int]) -> list[np.ndarray]:
        if self.budget > len(pool.labels):
            raise Problem(f"{self.data_set} has {len(pool.labels):,} architectures, the budget is {self.budget}")
        found = [drawn(pool, seed)[: self.n_train] for seed in seeds]
        found = [rows[pool.known[rows]] for rows in found]
        self.check(pool, found, [self.limit(pool.labels[train]) for train in found])
        return found

    def do(
        self, part: str, pool: Pool, trains: Sequence[np.ndarray], seeds: Sequence[int], found: Sequence[dict]
    ) -> list[dict]:
        if part == "with a predictor":
            new = self._with_predictor(pool, trains, seeds, found)
        else:
            best = oracle(pool, self.budget)
            new = [
                {
                    RANDOM_SEARCH: drawn(pool, seed)[: self.budget],
                    EVOLUTION: evolution(pool, self.budget, seed),
                    ORACLE: best,
                }
                for seed in seeds
            ]
        plain = [{name: rows.tolist() for name, rows in own.items()} for own in new]
        return [{"trained": own.get("trained", {}) | rows} for own, rows in zip(found, plain, strict=True)]

    def _with_predictor(
        self, pool: Pool, trains: Sequence[np.ndarray], seeds: Sequence[int], found: Sequence[dict]
    ) -> list[dict]:
        plain = self.predicted(pool, trains, seeds, found).mean(1)
        limits = [self.limit(pool.labels[train]) for train in trains]
        stages = two_stages(pool, trains, self.settings(found), self.networks(seeds), limits, plain)
        first = [drawn(pool, seed)[: self.n_train] for seed in seeds]
        values = {PREDICTOR: plain, WITH_CLASSIFIER: stages}
        return [
            {name: predicted_best(rows, own[place], self.budget) for name, own in values.items()}
            for place, rows in enumerate(first)
        ]

    def limit(self, labels: np.ndarray) -> float:
        """What the classifier is to tell apart: the paper's limit, elsewhere the better half of what is known."""
        return LIMIT if self.in_percent_of_101 else float(np.median(labels))

    def evaluate(self, learned: Done, seed: int, device: torch.device, data: Path) -> dict:
        pool, trained = self.pool(data), learned.found["trained"]
        curves = {name: best_so_far(pool, np.array(rows)) for name, rows in trained.items()}
        plain = {name: {score: rounded(values) for score, values in own.items()} for name, own in curves.items()}
        return super().evaluate(learned, seed, device, data) | {"curves": plain}

    def said(self, summaries: Sequence[dict]) -> str:
        words = []
        for name in (PREDICTOR, RANDOM_SEARCH):
            ends = [next(iter(s["curves"][name].values()))[-1] for s in summaries]
            words.append(f"{mean(ends):.2f} % by {name}")
        return f"accuracy {', '.join(words)} of {self.budget} trained"
