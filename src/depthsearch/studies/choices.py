"""The comparison of strategies: one way of choosing a depth, or one network of the pool that some of them search."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from depthsearch.data.images import IMAGE_SETS
from depthsearch.data.split import Split
from depthsearch.depth.convolutional import conv_resnet
from depthsearch.depth.networks import DepthNetwork
from depthsearch.depth.posteriors import DepthPosterior, FixedDepth
from depthsearch.learning.loop import Trained
from depthsearch.learning.method import PAPER, Method, Training
from depthsearch.measuring.choices import evaluate_choice
from depthsearch.strategies import METHODS, SEARCHES
from depthsearch.studies.images import _read_once
from depthsearch.studies.setting import Setting
from depthsearch.studies.spirals import Spirals


@dataclass(frozen=True, kw_only=True)
class Strategy(Setting):
    """One way of choosing a depth on one data set, or one network of the pool that some of them search.

    All see the same points: those of `Spirals` or `Images` with a seeded part of the training points, a quarter or a
    tenth, held out; the epoch is chosen by the log-likelihood there, in the second half of training where depth is
    learnt. Of an image data set of more than `MOST_IMAGES` training images only so many, seeded, are used.

    Attributes:
        kind: a name of `METHODS` or `SEARCHES`, or "DDN" for a network of the pool.
        data_set: "spirals" and the degrees that each arm turns, or a name of `IMAGE_SETS`.
        width: of the network; that of its bottlenecks is half of it.
        points: "train", or "all" for training on the held-out points too, with no selection but by the training
            objective: what is retrained at the chosen depth.
    """

    data_set: str = "spirals720"
    width: int = 20
    points: str = "train"

    MOST_IMAGES: ClassVar[int] = 6000
    compile_from: ClassVar[int] = 10_000  # what is compiled serves other angles and strategies too

    @property
    def spirals(self) -> Spirals | None:
        """The spirals of its data set, if it is one."""
        angle = self.data_set.removeprefix("spirals")
        if angle == self.data_set or not angle.replace(".", "", 1).isdigit():
            return None
        return Spirals(kind=self.kind, max_depth=self.max_depth, width=self.width, stop_angle=float(angle), noise=0.15)

    @property
    def side_by_side(self) -> int:  # type: ignore[override]
        return Setting.side_by_side if self.spirals is None else Spirals.side_by_side

    @property
    def quick_epochs(self) -> int:  # type: ignore[override]
        return 8 if self.spirals is None else 200

    @property
    def cost(self) -> float:
        return self.max_depth * self.width * (1 if self.kind == "DDN" else 4)

    @property
    def method(self) -> Method:
        # A handful of validation points may like a network best long before its weights of depths say anything, and an
        # easy training set may be fitted before the running averages of batch norm are any good.
        waits = self.kind in METHODS or self.points == "all"
        settle, every = (0.5 if waits else 0.0), (1 if self.spirals is None else 10)
        method = METHODS.get(self.kind, PAPER)
        return replace(method, select_by="log_likelihood", validate_every=every, settle=settle)

    @property
    def training(self) -> Training:
        if self.spirals is None:
            return Training(epochs=40, patience=20, batch_size=128, norm_batches=8, eval_every=1000)
        return Training(epochs=1500, patience=300, eval_every=10_000)

    def folder(self, training: Training) -> str:
        name = f"{self.kind.replace(' ', '-')}_depth{self.max_depth}_width{self.width}_{self.points}"
        return f"{name}_epochs{training.epochs}"

    def split(self, seed: int, root: Path) -> Split:
        if self.spirals is not None:
            split, share = self.spirals.split(seed), 0.25
        else:
            split, share = _read_once(self.data_set, root), 0.1
            if len(split.y_train) > self.MOST_IMAGES:
                part = split.hold_out(self.MOST_IMAGES / len(split.y_train), seed)
                split = replace(split, x_train=part.x_valid, y_train=part.y_valid)
        return split.hold_out(share, seed) if self.points == "train" else split

    def network(self) -> DepthNetwork:
        if self.spirals is not None:
            return self.spirals.network()
        known = IMAGE_SETS[self.data_set]
        widths = {"outer_width": self.width, "inner_width": max(self.width // 2, 1)}
        return conv_resnet(self.max_depth, known.channels, stem_kernel=known.stem_kernel, **widths)

    def posterior(self) -> DepthPosterior:
        return FixedDepth(self.max_depth) if self.kind not in METHODS else self.method.posterior(self.max_depth)

    def evaluate(self, trained: Trained, split: Split, training: Training) -> dict:
        return evaluate_choice(self.method, trained, split, training, shift=self.kind != "DDN")

    def problem(self) -> str | None:
        if self.kind not in {"DDN", *METHODS, *SEARCHES}:
            return f"no strategy {self.kind!r}; there are {', '.join([*METHODS, *SEARCHES])}"
        if self.spirals is None and self.data_set not in IMAGE_SETS:
            sets = ", ".join(["spirals720 (or another angle)", *IMAGE_SETS])
            return f"no data set {self.data_set!r}; there are {sets}"
        return super().problem() if self.spirals is None else self.spirals.problem()
