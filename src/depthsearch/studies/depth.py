"""What all studies of depth share: networks with a depth to learn or to fix, trained by one loop."""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any, ClassVar, TypeVar

import torch

from depthsearch.data.files import DataError
from depthsearch.data.split import Split
from depthsearch.depth.networks import DepthNetwork
from depthsearch.depth.posteriors import CategoricalDepth, DepthPosterior, FixedDepth, geometric_prior
from depthsearch.hardware import can_compile
from depthsearch.learning.loop import DepthLearner
from depthsearch.learning.method import PAPER, Method, Selection, Training
from depthsearch.learning.trained import Trained
from depthsearch.measuring.depths import evaluate
from depthsearch.studies.alone import Alone, fields_in

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class DepthStudy(Alone):
    """One setting: a problem (data, network), what is known of its depth, how it is trained.

    Attributes:
        kind: "LDN" (learnt depth) or "DDN" (deterministic depth, the baseline).
        max_depth: D.
        epochs: at most, those of the preset if not given.
        precision: of training, as in `Training`.
        name: of this kind of study, in its configuration.
        quick_epochs: epochs of --quick.
        compile_from: blocks x steps from which compiling costs less than it saves.
    """

    kind: str = "LDN"
    max_depth: int = 20
    epochs: int | None = None
    precision: str = "float32"

    name: ClassVar[str]
    required: ClassVar[frozenset[str]] = frozenset({"best_epoch", "pruned_depth", "variants"})
    quick_epochs: ClassVar[int] = 30
    compile_from: ClassVar[int] = 2_000

    # What it is of.

    @property
    def preset(self) -> Training:
        """How it is trained unless the command line says otherwise."""
        raise NotImplementedError

    def split(self, seed: int, root: Path) -> Split:
        """The data of a repeat; `root` is where image files are.

        Raises:
            DataError: they are missing or damaged.
        """
        raise NotImplementedError

    def network(self) -> DepthNetwork:
        raise NotImplementedError

    def posterior(self) -> DepthPosterior:
        return FixedDepth(self.max_depth) if self.kind == "DDN" else CategoricalDepth(geometric_prior(self.max_depth))

    @property
    def method(self) -> Method:
        return PAPER

    @property
    def selection(self) -> Selection:
        """By the predictive distribution, which a deterministic network has too, so that both kinds are held alike."""
        return Selection(by="log_likelihood")

    @property
    def training(self) -> Training:
        return replace(self.preset, epochs=self.epochs or self.preset.epochs, precision=self.precision)

    # What the running wing asks.

    @property
    def threads(self) -> int | None:
        return None

    @property
    def most_epochs(self) -> int:
        return self.training.epochs

    @property
    def cost(self) -> float:
        return self.max_depth

    def configuration(self) -> dict:
        fields = {k: v for k, v in asdict(self).items() if k not in ("epochs", "precision")}
        training = asdict(self.training)
        if not training["even_batches"]:  # as of runs of before there was a choice
            del training["even_batches"]
        how = {"training": training, "selection": asdict(self.selection)}
        return json.loads(json.dumps({"study": self.name, "data_set": self.group, **fields, **how}))

    @classmethod
    def from_configuration(cls, configuration: dict) -> "DepthStudy":
        """The study of a saved run."""
        training = configuration["training"]
        values = fields_in(cls, configuration)
        return cls(**values, epochs=training["epochs"], precision=training["precision"])

    def title(self) -> str:
        raise NotImplementedError

    def problem(self, data: Path | None = None) -> str | None:
        if self.max_depth < 0:
            return f"depth must be 0 or more, got {self.max_depth}"
        if data is not None:
            try:
                self.split(0, data)
            except (DataError, ValueError) as missing:
                return str(missing)
        return None

    def compiles(self, device: torch.device) -> bool:
        """Whether what trains the network faster can be compiled here.

        Not for a GPU, where a step of fused blocks has five times as many operations as one of plain modules (9,700 and
        1,900 at D = 50, most of them a kernel each; counted, not timed: `benchmarks/gpu.py` times both).
        """
        return device.type == "cpu" and can_compile(device)

    def learner(
        self, seeds: Sequence[int], device: torch.device, data: Path, resume: Sequence[dict] = ()
    ) -> DepthLearner:
        splits = [self.split(seed, data).to(device) for seed in seeds]
        networks = [seeded(seed, self.network).to(device) for seed in seeds]
        depths = [seeded(seed, self.posterior).to(device) for seed in seeds]
        steps = self.training.epochs * len(self.training.batch_sizes(len(splits[0].y_train)))
        compiled = self.max_depth * steps >= self.compile_from and self.compiles(device)
        return DepthLearner(
            networks,
            depths,
            splits,
            self.training,
            seeds,
            compiled=compiled,
            resume=resume,
            method=self.method,
            selection=self.selection,
        )

    def evaluate(self, learned: Trained, seed: int, device: torch.device, data: Path) -> dict:
        summary: dict = {"diverged_epoch": learned.diverged_epoch}
        if learned.diverged_epoch is None:
            summary |= self.measure(learned, self.split(seed, data).to(device))
        epochs = len(learned.objective)
        return summary | {"best_epoch": learned.best_epoch, "epochs": epochs, "history": learned.history}

    def measure(self, learned: Trained, split: Split) -> dict:
        """All numbers of a summary that are measured after training."""
        return evaluate(learned.network, learned.depth, split, self.training.precision)

    def said(self, summaries: Sequence[dict]) -> str:
        errors = [100 * next(iter(summary["variants"].values()))["test_error"] for summary in summaries]
        depths, epochs = ([summary[key] for summary in summaries] for key in ("pruned_depth", "epochs"))
        return f"d_opt {mean(depths):.1f}, test error {mean(errors):.2f} %, {mean(epochs):.0f} epochs"

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        pass

    @classmethod
    def chosen(cls, studies: Sequence[Any], options: argparse.Namespace) -> list[Any]:
        return [
            replace(study, epochs=options.epochs or (study.quick_epochs if options.quick else study.epochs))
            for study in studies
        ]


def seeded(seed: int, build: Callable[[], T]) -> T:
    """build() with torch's global generators seeded; the CPU's is put back, those of GPUs are not."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()
