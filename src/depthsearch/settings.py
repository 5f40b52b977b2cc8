"""What the paper runs: one setting of the spiral or of the image experiments.

A setting knows its data, its network, its posterior and how it is trained. `folder` names its runs: everything that the
command line can change is in that name.
"""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import ClassVar

from depthsearch.data import IMAGE_SETS, Split, image_split, spiral_split
from depthsearch.evaluation import evaluate
from depthsearch.networks import DepthNetwork, conv_resnet, mlp_resnet
from depthsearch.posteriors import CategoricalDepth, DepthPosterior, FixedDepth, geometric_prior
from depthsearch.replicates import PAPER, Method, Training
from depthsearch.strategies import METHODS, SEARCHES
from depthsearch.strategies.evaluation import evaluate_choice
from depthsearch.training import Trained


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all settings share.

    Attributes:
        kind: "LDN" (learnt depth) or "DDN" (deterministic depth, the baseline).
        max_depth: D.
        data_set: folder of its runs under that of the scan.
        side_by_side: replicates trained together at most.
        quick_epochs: epochs of --quick.
        training: how it is trained unless the command line says otherwise.
        compile_from: blocks x steps from which compiling costs less than it saves.
        cost: of an epoch, for the order in which a scan takes its settings; any unit.
    """

    kind: str = "LDN"
    max_depth: int = 20
    data_set: str = "spirals"
    side_by_side: ClassVar[int] = 1
    quick_epochs: ClassVar[int] = 30
    compile_from: ClassVar[int] = 2_000

    @property
    def cost(self) -> float:
        return self.max_depth

    @property
    def training(self) -> Training:
        raise NotImplementedError

    def folder(self, training: Training) -> str:
        """Name of its run folders."""
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

    def evaluate(self, trained: Trained, split: Split, training: Training) -> dict:
        """All numbers of a summary that are measured after training."""
        return evaluate(trained.network, trained.depth, split, training.precision)

    def problem(self) -> str | None:
        """What is wrong with the setting, in a line."""
        return f"depth must be 0 or more, got {self.max_depth}" if self.max_depth < 0 else None


@dataclass(frozen=True, kw_only=True)
class Spirals(Setting):
    """One setting of the spiral experiments. The defaults are the paper's (protocol of section 4.1).

    Attributes:
        width: of the network.
        n: data points, 10 % of them for training.
        stop_angle: degrees that each arm turns.
        noise: width of the uniform noise.
    """

    width: int = 20
    n: int = 2000
    stop_angle: float = 720.0
    noise: float = 0.2
    side_by_side: ClassVar[int] = 16
    quick_epochs: ClassVar[int] = 300
    compile_from: ClassVar[int] = 40_000

    @property
    def cost(self) -> float:
        return self.max_depth * self.width * self.n

    @property
    def training(self) -> Training:
        return Training()

    def folder(self, training: Training) -> str:
        name = f"{self.kind}_depth{self.max_depth}_width{self.width}_n{self.n}"
        return f"{name}_angle{self.stop_angle:g}_noise{self.noise:g}_epochs{training.epochs}"

    def split(self, seed: int, root: Path = Path()) -> Split:
        return spiral_split(self.n, self.stop_angle, self.noise, seed)

    def network(self) -> DepthNetwork:
        return mlp_resnet(self.max_depth, self.width)

    def problem(self) -> str | None:
        if self.width < 1:
            return f"width must be 1 or more, got {self.width}"
        if self.n < 20 or self.n % 2:
            return f"n must be an even number of at least 20 points (10 % train), got {self.n}"
        if not self.stop_angle > 0:
            return f"stop angle must be positive (degrees), got {self.stop_angle:g}"
        return super().problem()


@dataclass(frozen=True, kw_only=True)
class Images(Setting):
    """One setting of the image experiments (section 4.2 of the paper).

    Attributes:
        data_set: a name of `IMAGE_SETS`.
        protocol: "paper" selects the epoch and stops by the test points, as the original code does, and drops the
            learning rate of the DDN alone. "fair" does so by a tenth of the training points, the same for both kinds,
            drops the rate of both, and leaves the test points to the end. It also estimates the statistics of batch
            norm anew after each epoch, without which the selection follows their noise.
    """

    max_depth: int = 50
    data_set: str = "MNIST"
    protocol: str = "paper"

    @property
    def training(self) -> Training:
        if self.protocol == "fair":
            return Training(epochs=500, patience=30, decay_epoch=30, norm_batches=8)
        return Training(epochs=500, patience=30, decay_epoch=30 if self.kind == "DDN" else None)

    def folder(self, training: Training) -> str:
        return f"{self.kind}_depth{self.max_depth}_{self.protocol}_{training.precision}_epochs{training.epochs}"

    def split(self, seed: int, root: Path) -> Split:
        split = _read_once(self.data_set, root)
        return split.hold_out(0.1, seed) if self.protocol == "fair" else split.select_on_test()

    def network(self) -> DepthNetwork:
        known = IMAGE_SETS[self.data_set]
        return conv_resnet(self.max_depth, known.channels, n_classes=10, stem_kernel=known.stem_kernel)


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


@cache
def _read_once(name: str, root: Path) -> Split:
    return image_split(name, root)
