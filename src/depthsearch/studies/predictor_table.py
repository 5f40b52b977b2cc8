"""How well the neural predictor predicts the accuracies of a pool from a few: the paper's table (arXiv 1912.00848)."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import ClassVar

import numpy as np

from depthsearch.data.nasbench101 import MEAN, SIZES, STD, nested_splits, splits
from depthsearch.measuring.yardsticks import NAMES, RANDOM, yardsticks
from depthsearch.running.study import Problem
from depthsearch.strategies.graph_predictor import PAPER
from depthsearch.studies.prediction import Pool, members, scored, two_stages
from depthsearch.studies.predictor import LIMIT, PredictorStudy, rounded

PUBLISHED, ONCE = "as published", "as published, transpose normalised once"
XAVIER, SCALED = "as published, Xavier uniform throughout", "as published, labels normalised by those learnt from"
CHOSEN, ENSEMBLE, CLASSIFIER = "chosen", "chosen, ensemble", "chosen, ensemble, classifier in front"
SPLIT = re.compile(r"(91-)?(nested-)?([1-9]\d*)")
POINTS = 500  # of a scatter
AS_PUBLISHED = replace(PAPER, xavier_head=False)  # as the reproduction by ultmaster starts it
ONE_STEP = {  # other in one thing; labels have no published scale where they are no accuracies of NAS-Bench-101
    ONCE: replace(AS_PUBLISHED, twice_normalised=False),
    XAVIER: replace(AS_PUBLISHED, xavier_head=True),
    SCALED: AS_PUBLISHED,
}
NETWORKS = dict.fromkeys(NAMES, 0) | dict.fromkeys((PUBLISHED, *ONE_STEP, CHOSEN), 1)  # else those of an ensemble
ONE_STEP_UP_TO = 200  # graphs from which the effect of these is measured: more cost more


@dataclass(frozen=True, kw_only=True)
class Prediction(PredictorStudy):
    """How well the accuracies of a pool are predicted from a few: rows of the paper's table.

    Attributes:
        split: what is learnt from: "172", "334", "860" are drawn as in the original, the same for all repeats, with
            "91-" before them those above 91 % alone; "nested-172" and so on are the beginnings of one permutation, a
            repeat a permutation.
    """

    split: str = "172"

    name: ClassVar[str] = "predictor of accuracies"
    only: ClassVar[str] = "table"
    required: ClassVar[frozenset[str]] = PredictorStudy.required | {"rows", "points"}

    @property
    def size(self) -> int:
        match = SPLIT.fullmatch(self.split)
        return int(match[3]) if match else 0

    def title(self) -> str:
        return f"{self.split}_ensemble{self.ensemble}_epochs{self.limited(PAPER).epochs}"

    def problem(self, data: Path | None = None) -> str | None:
        if not SPLIT.fullmatch(self.split):
            return f"no split {self.split!r}: it is a number, with nested- before it or not, and with 91- before that"
        if self.split.startswith("91-") and not self.in_percent_of_101:
            return f"91 % is a limit for cells of NAS-Bench-101, not for {self.data_set}"
        return super().problem(data)

    @property
    def published_scale(self) -> tuple[float, float] | None:
        """By which the network as published normalises labels: those of the original; none are published elsewhere."""
        return (round(100 * MEAN, 6), round(100 * STD, 6)) if self.in_percent_of_101 else None

    def configuration(self) -> dict:
        scale = self.published_scale
        published = AS_PUBLISHED.said() | ({} if scale is None else {"scale": list(scale)})
        what = "graphs" if self.in_percent_of_101 else "functions"  # each graph of NAS-Bench-101 counts as its own
        return super().configuration() | {"published": published, "scored": f"other {what} than those learnt from"}

    def trains(self, pool: Pool, seeds: Sequence[int]) -> list[np.ndarray]:
        n, size = len(pool.labels), self.size
        if size >= n:
            raise Problem(f"{self.data_set} has {n:,} architectures: {self.split} leaves none to predict")
        if "nested-" in self.split:
            found = [nested_splits(n, (size,), seed)[f"nested-{size}"] for seed in seeds]
        else:
            found = [splits(pool.labels, SIZES if size in SIZES else (size,))[str(size)]] * len(seeds)
        if self.split.startswith("91-"):
            found = [np.intersect1d(rows, np.flatnonzero(pool.labels > LIMIT)) for rows in found]
        found = [rows[pool.known[rows]] for rows in found]
        self.check(pool, found, [LIMIT] * len(found) if self.has_classifier else [])
        return found

    @property
    def has_classifier(self) -> bool:
        """Whether the paper's first stage is tried too."""
        return self.in_percent_of_101 and not self.split.startswith("91-")

    def evaluated(self, pool: Pool) -> dict[str, np.ndarray]:
        """Rows by the name of the set that is predicted."""
        rows = {"all": np.arange(len(pool.labels))}
        if self.in_percent_of_101:
            rows |= {f"denoise-{limit}": np.flatnonzero(pool.labels > limit) for limit in (80, 91)}
        return rows

    @property
    def parts(self) -> tuple[str, ...]:
        few = self.size <= ONE_STEP_UP_TO and "nested-" not in self.split
        steps = [name for name in ONE_STEP if few and (name != SCALED or self.published_scale is not None)]
        return ("yardsticks", PUBLISHED, *steps, ENSEMBLE)

    def do(
        self, part: str, pool: Pool, trains: Sequence[np.ndarray], seeds: Sequence[int], found: Sequence[dict]
    ) -> list[dict]:
        if part == "yardsticks":
            predicted = self._yardsticks(pool, trains, seeds)
        elif part in (PUBLISHED, *ONE_STEP):
            setting = self.limited(ONE_STEP.get(part, AS_PUBLISHED))
            scale = None if part == SCALED else self.published_scale
            values = members(pool, trains, [setting] * len(trains), [[seed] for seed in seeds], scale)
            predicted = [{part: own[0]} for own in values]
        else:
            predicted = self._ensembles(pool, trains, seeds, found)
        return [self._kept(pool, *own) for own in zip(trains, predicted, found, strict=True)]

    def _yardsticks(self, pool: Pool, trains: Sequence[np.ndarray], seeds: Sequence[int]) -> list[dict]:
        without_chance: dict[bytes, dict] = {}
        predicted = []
        for train, seed in zip(trains, seeds, strict=True):
            same = without_chance.setdefault(train.tobytes(), {})
            distances = pool.distances(train) if pool.codes is not None else None
            known, everything = (pool.labels[train], pool.parameters[train]), (pool.graphs, pool.parameters)
            only = [name for name in NAMES if name not in same]
            new = yardsticks(pool.rows(train), *known, *everything, seed, distances, only)
            same |= {name: values for name, values in new.items() if name not in RANDOM}
            predicted.append(new | same)
        return predicted

    def _ensembles(
        self, pool: Pool, trains: Sequence[np.ndarray], seeds: Sequence[int], found: Sequence[dict]
    ) -> list[dict]:
        values = self.predicted(pool, trains, seeds, found)
        predicted = [{CHOSEN: own[0], ENSEMBLE: own.mean(0)} for own in values]
        if not self.has_classifier:
            return predicted
        limits = [LIMIT] * len(trains)
        stages = two_stages(pool, trains, self.settings(found), self.networks(seeds), limits, values.mean(1))
        return [own | {CLASSIFIER: values} for own, values in zip(predicted, stages, strict=True)]

    def _kept(self, pool: Pool, train: np.ndarray, predicted: dict, found: dict) -> dict:
        """The scores of predictions (n,) by name, and some of the points of a scatter, after what was found."""
        rows = [*found.get("rows", [])]
        for name, values in predicted.items():
            about = {"predictor": name, "networks": NETWORKS.get(name, self.ensemble)}
            rows += [about | row for row in scored(pool, train, values, self.evaluated(pool))]
        new = np.flatnonzero(pool.unseen(train))
        shown = new[:: math.ceil(len(new) / POINTS)]
        points = found.get("points", {"true": rounded(pool.labels[shown])})
        points |= {name: rounded(predicted[name][shown]) for name in (PUBLISHED, ENSEMBLE) if name in predicted}
        return {"rows": rows, "points": points}

    def said(self, summaries: Sequence[dict]) -> str:
        errors = {}
        for name in ("random forest", PUBLISHED, ENSEMBLE):
            rows = [
                row for s in summaries for row in s["rows"] if (row["predictor"], row["evaluated"]) == (name, "all")
            ]
            errors[name] = f"{mean(row['mse'] for row in rows):.2f} ({name})"
        return f"mean squared error {', '.join(errors.values())}"
