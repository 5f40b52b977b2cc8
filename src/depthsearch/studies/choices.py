"""The comparison of strategies: one way of choosing a depth, or one network of the pool that some of them search."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from depthsearch.data.images import IMAGE_SETS
from depthsearch.data.split import Split
from depthsearch.depth.convolutional import conv_resnet
from depthsearch.depth.networks import DepthNetwork, mlp_resnet
from depthsearch.depth.posteriors import DepthPosterior, FixedDepth
from depthsearch.learning.method import PAPER, Method, Selection, Training
from depthsearch.learning.trained import Trained
from depthsearch.measuring.choices import costs_of, evaluate_choice
from depthsearch.running.study import Problem
from depthsearch.strategies import METHODS, SEARCHES, TUNED
from depthsearch.strategies.mixing import Mixing
from depthsearch.studies.depth import DepthStudy
from depthsearch.studies.images import threads_for
from depthsearch.studies.pictures import read_pictures
from depthsearch.studies.spirals import BY_HELD_OUT, HELD_OUT, Spirals


@dataclass(frozen=True, kw_only=True)
class Choice(DepthStudy):
    """One way of choosing a depth on one data set, or one network of the pool.

    All see the same points: those of `Spirals` or `Images` with a seeded part of the training points, a quarter or a
    tenth, held out; the epoch is chosen by the log-likelihood there, in the second half of training. Of an image data
    set of more than `MOST_IMAGES` training images only so many, seeded, are used.

    Attributes:
        kind: a name of `METHODS` or `SEARCHES`, or "DDN" for a network of the pool.
        width: of the network; that of its bottlenecks is half of it.
        points: "train", or "all" for training on the held-out points too, with no selection but by the training
            objective: what is retrained at the chosen depth.
        pool: of a search, the hash of the networks that it chooses among: one that grew is searched anew.
        rate: the learning rate that is tuned: of the weights of depths where these are mixed, else of the network; None
            for that of the preset.
    """

    width: int = 20
    points: str = "train"
    pool: str = ""
    rate: float | None = None

    # Rates that `every_way` gives, by kind, where they are not the preset's; of alpha everywhere.
    TUNED: ClassVar[Mapping[str, float]] = dict.fromkeys(("DARTS", "DARTS 2nd order", "DrNAS"), TUNED)
    SHARE: ClassVar[float]
    EVERY: ClassVar[int]

    @property
    def cost(self) -> float:
        return self.max_depth * self.width * (1 if self.kind == "DDN" else 4)

    @property
    def method(self) -> Method:
        method = METHODS.get(self.kind, PAPER)
        return replace(method, learning_rate=self.rate) if isinstance(method, Mixing) and self.rate else method

    @property
    def training(self) -> Training:
        mixes = isinstance(METHODS.get(self.kind), Mixing)
        return replace(super().training, **({"learning_rate": self.rate} if self.rate and not mixes else {}))

    @property
    def selection(self) -> Selection:
        return replace(BY_HELD_OUT, every=self.EVERY)

    def title(self) -> str:
        name = f"{self.kind.replace(' ', '-')}_depth{self.max_depth}_width{self.width}_{self.points}"
        return f"{name}_epochs{self.training.epochs}"

    def points_of(self, seed: int, root: Path) -> Split:
        """Training and test points of a repeat, nothing held out."""
        raise NotImplementedError

    def split(self, seed: int, root: Path) -> Split:
        split = self.points_of(seed, root)
        return split.hold_out(self.SHARE, seed) if self.points == "train" else split

    def posterior(self) -> DepthPosterior:
        return FixedDepth(self.max_depth) if self.kind not in METHODS else self.method.posterior(self.max_depth)

    def configuration(self) -> dict:
        return {k: v for k, v in super().configuration().items() if k not in ("pool", "rate") or v}

    def evaluate(self, learned: Trained, seed: int, device: torch.device, data: Path) -> dict:
        summary = super().evaluate(learned, seed, device, data)
        if learned.diverged_epoch is not None:  # there is nothing to measure, but it has to be paid for
            split = self.split(seed, data).to(device)
            summary["costs"] = costs_of(self.method, learned, split, self.training)
        return summary

    def measure(self, learned: Trained, split: Split) -> dict:
        return evaluate_choice(self.method, learned, split, self.training, shift=self.kind != "DDN")

    def problem(self, data: Path | None = None) -> str | None:
        if self.kind not in {"DDN", *METHODS, *SEARCHES}:
            return f"no strategy {self.kind!r}; there are {', '.join([*METHODS, *SEARCHES])}"
        if self.rate is not None and not self.rate > 0:
            return f"a learning rate is above 0, got {self.rate:g}"
        return super().problem(data)

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        super().add_options(parser)
        known = f"{', '.join(METHODS)}, and DDN for the pool; {', '.join(SEARCHES)} need LDN and DDN"
        parser.add_argument("--strategies", nargs="+", metavar="NAME", help=f"these alone: {known}")

    @classmethod
    def chosen(cls, studies: Sequence[Any], options: argparse.Namespace) -> list[Any]:
        if options.strategies is not None:
            there = dict.fromkeys(study.kind for study in studies)
            for name in options.strategies:
                if name not in there:
                    raise Problem(f"no strategy {name!r} in this grid; there are {', '.join(there)}")
            studies = [study for study in studies if study.kind in options.strategies]
        return super().chosen(studies, options)


@dataclass(frozen=True, kw_only=True)
class SpiralChoice(Choice):
    """On spirals that turn by `stop_angle` degrees."""

    stop_angle: float = 720.0

    name: ClassVar[str] = "choice on spirals"
    SHARE: ClassVar[float] = HELD_OUT
    EVERY: ClassVar[int] = BY_HELD_OUT.every
    TUNED: ClassVar[Mapping[str, float]] = {**Choice.TUNED, "exact posterior": 0.01, "normal": 0.003, "DrNAS": 0.001}
    quick_epochs: ClassVar[int] = 200

    @property
    def spirals(self) -> Spirals:
        return Spirals(max_depth=self.max_depth, width=self.width, stop_angle=self.stop_angle, noise=0.15)

    @property
    def group(self) -> str:
        return f"spirals{self.stop_angle:g}"

    @property
    def side_by_side(self) -> int:
        return self.spirals.side_by_side

    @property
    def threads(self) -> int:
        return self.spirals.threads

    @property
    def preset(self) -> Training:
        return Training(epochs=1500, patience=300, eval_every=10_000)

    def compiles(self, device: torch.device) -> bool:
        return self.spirals.compiles(device)

    def points_of(self, seed: int, root: Path) -> Split:
        return self.spirals.split(seed)

    def network(self) -> DepthNetwork:
        return mlp_resnet(self.max_depth, self.width)

    def problem(self, data: Path | None = None) -> str | None:
        return super().problem() or self.spirals.problem()


@dataclass(frozen=True, kw_only=True)
class ImageChoice(Choice):
    """On a name of `IMAGE_SETS`, reduced."""

    data_set: str = "digits"

    name: ClassVar[str] = "choice on images"
    MOST_IMAGES: ClassVar[int] = 6000
    compile_from: ClassVar[int] = 10_000  # what is compiled serves other data sets and strategies too
    SHARE: ClassVar[float] = 0.1
    EVERY: ClassVar[int] = 1
    quick_epochs: ClassVar[int] = 8

    @property
    def threads(self) -> int | None:
        return threads_for(self.data_set)

    @property
    def preset(self) -> Training:
        return Training(epochs=40, patience=20, batch_size=128, even_batches=True, norm_batches=8, eval_every=1000)

    def points_of(self, seed: int, root: Path) -> Split:
        split = read_pictures(self.data_set, root)
        if len(split.y_train) <= self.MOST_IMAGES:
            return split
        part = split.hold_out(self.MOST_IMAGES / len(split.y_train), seed)
        return replace(split, x_train=part.x_valid, y_train=part.y_valid)

    def network(self) -> DepthNetwork:
        known = IMAGE_SETS[self.data_set]
        widths = {"outer_width": self.width, "inner_width": max(self.width // 2, 1)}
        return conv_resnet(self.max_depth, known.channels, stem_kernel=known.stem_kernel, **widths)

    def problem(self, data: Path | None = None) -> str | None:
        if self.data_set not in IMAGE_SETS:
            return f"no data set {self.data_set!r}; there are {', '.join(IMAGE_SETS)}"
        return super().problem(data)


def every_way(preset: Choice, other_widths: dict[int, Sequence[int]]) -> list[Choice]:
    """Every method at the preset's depth and width, and the pool: all depths at that width, some at others."""
    depths = {preset.width: range(preset.max_depth + 1), **other_widths}
    return [replace(preset, kind=kind, rate=preset.TUNED.get(kind)) for kind in METHODS] + [
        replace(preset, kind="DDN", max_depth=d, width=w, points=points)
        for points in ("train", "all")
        for w in sorted(depths)
        for d in depths[w]
    ]
