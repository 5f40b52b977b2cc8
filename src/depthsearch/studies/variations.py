"""What could make a learnt depth do better: LDN on spirals, one thing at a time other than in the paper."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from depthsearch.data.split import Split
from depthsearch.depth.posteriors import CategoricalDepth, DepthPosterior
from depthsearch.learning.loop import DepthLearner
from depthsearch.learning.method import Training
from depthsearch.learning.trained import Trained
from depthsearch.measuring.choices import under_shift
from depthsearch.measuring.depths import evaluate, exact_posterior, predict
from depthsearch.strategies.bayesian import VariedDepth
from depthsearch.studies.spirals import Spirals


@dataclass(frozen=True, kw_only=True)
class Variation(Spirals):
    """LDN with other settings than the paper's; the defaults are the paper's.

    Every network is measured twice: with q as it was learnt, and *refitted*, with q set to the exact posterior over
    depth given the trained weights, by one pass over the training points.

    Attributes:
        q_rate, kl_weight, prior_ratio: as of `VariedDepth`.
        patience: epochs without a better objective after which training stops; at most 16 times as many are trained.
        first_seed: of repeat 0. Seeds from 100 on choose a variation, 0 to 15 confirm it.
    """

    q_rate: float = 1.0
    kl_weight: float = 1.0
    prior_ratio: float = 0.85
    patience: int = 500
    first_seed: int = 0

    name: ClassVar[str] = "variation of LDN"
    required: ClassVar[frozenset[str]] = Spirals.required | {"refitted"}

    @property
    def method(self) -> VariedDepth:
        return VariedDepth(self.q_rate, self.kl_weight, self.prior_ratio)

    @property
    def preset(self) -> Training:
        return Training(epochs=16 * self.patience, patience=self.patience)

    def posterior(self) -> DepthPosterior:
        return self.method.posterior(self.max_depth)

    def title(self) -> str:
        name = f"LDN_depth{self.max_depth}_q{self.q_rate:g}_kl{self.kl_weight:g}_prior{self.prior_ratio:g}"
        return f"{name}_patience{self.patience}_from{self.first_seed}_epochs{self.training.epochs}"

    def problem(self, data: Path | None = None) -> str | None:
        for name in ("q_rate", "kl_weight", "prior_ratio", "patience"):
            if not getattr(self, name) > 0:
                return f"{name} must be above 0, got {getattr(self, name):g}"
        if self.first_seed < 0:
            return f"the first seed must not be negative, got {self.first_seed}"
        if self.protocol != "paper":
            return "variations are of the paper's protocol: leave --protocol out"
        return super().problem(data)

    def learner(
        self, seeds: Sequence[int], device: torch.device, data: Path, resume: Sequence[dict] = ()
    ) -> DepthLearner:
        return super().learner([self.first_seed + seed for seed in seeds], device, data, resume)

    def evaluate(self, learned: Trained, seed: int, device: torch.device, data: Path) -> dict:
        return super().evaluate(learned, self.first_seed + seed, device, data)

    def measure(self, learned: Trained, split: Split) -> dict:
        network, depth = learned.network, learned.depth
        logits = predict(network, depth, split.x_train)
        refitted = CategoricalDepth(depth.prior, exact_posterior(logits, split.y_train, depth).float())
        found = {}
        for name, q in (("as learnt", depth), ("refitted", refitted.to(logits.device))):
            found[name] = evaluate(network, q, split, self.training.precision)
            found[name]["shift"] = under_shift(self.method, network, q, split)
        kept = ("pruned_depth", "expected_depth", "variants", "shift")
        return found["as learnt"] | {"refitted": {key: found["refitted"][key] for key in kept}}
