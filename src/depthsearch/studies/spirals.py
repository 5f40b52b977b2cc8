"""The spiral experiments (section 4.1 of the paper)."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from depthsearch.data.spirals import spiral_split
from depthsearch.data.split import Split
from depthsearch.depth.networks import DepthNetwork, mlp_resnet
from depthsearch.learning.method import Selection, Training
from depthsearch.native import library
from depthsearch.studies.depth import DepthStudy

HELD_OUT = 0.25  # of the training points, where an epoch is selected by points of its own
# By which epoch, here and in the comparison of strategies. A handful of validation points may like a network best long
# before its weights of depths say anything, and an easy training set may be fitted before the running averages of batch
# norm are any good.
BY_HELD_OUT = Selection(by="log_likelihood", every=10, settle=0.5)


@dataclass(frozen=True, kw_only=True)
class Spirals(DepthStudy):
    """One setting of the spiral experiments. The defaults are the paper's (protocol of section 4.1).

    Attributes:
        width: of the network.
        n: data points, 10 % of them for training.
        stop_angle: degrees that each arm turns.
        noise: width of the uniform noise.
        protocol: "paper" keeps the epoch of the best objective on the training points. "fair" trains on three quarters
            of these and selects by the last quarter, which also serves to choose a depth, with the rule of the
            comparison of strategies (`BY_HELD_OUT`): the best log-likelihood in the second half of the epochs.
    """

    width: int = 20
    n: int = 2000
    stop_angle: float = 720.0
    noise: float = 0.2
    protocol: str = "paper"

    name: ClassVar[str] = "spirals"
    quick_epochs: ClassVar[int] = 300

    @property
    def group(self) -> str:
        return "spirals"

    @property
    def side_by_side(self) -> int:
        return 16

    @property
    def threads(self) -> int:
        return 1  # the networks are so small that a second one does harm

    @property
    def cost(self) -> float:
        return self.max_depth * self.width * self.n

    @property
    def preset(self) -> Training:
        n = round(self.n / 10)
        several = n - round(n * HELD_OUT) > Training.batch_size  # or it would be of no effect
        return Training(even_batches=self.protocol == "fair" and several)

    def compiles(self, device: torch.device) -> bool:
        return device.type == "cpu" and library("chain", torch.float32) is not None

    @property
    def selection(self) -> Selection:
        return BY_HELD_OUT if self.protocol == "fair" else Selection()

    def configuration(self) -> dict:
        asked = super().configuration()  # runs of before there was a choice are of the paper's
        return {k: v for k, v in asked.items() if k != "protocol" or v != "paper"}

    def title(self) -> str:
        name = f"{self.kind}_depth{self.max_depth}_width{self.width}_n{self.n}"
        name += "_fair" if self.protocol == "fair" else ""
        return f"{name}_angle{self.stop_angle:g}_noise{self.noise:g}_epochs{self.training.epochs}"

    def split(self, seed: int, root: Path = Path()) -> Split:
        split = spiral_split(self.n, self.stop_angle, self.noise, seed)
        return split.hold_out(HELD_OUT, seed) if self.protocol == "fair" else split

    def network(self) -> DepthNetwork:
        return mlp_resnet(self.max_depth, self.width)

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--protocol",
            choices=("paper", "fair"),
            default="paper",
            help="select epochs by the training points, or by a quarter of them held out (default %(default)s)",
        )

    @classmethod
    def chosen(cls, studies: Sequence[Any], options: argparse.Namespace) -> list[Any]:
        return super().chosen([replace(study, protocol=options.protocol) for study in studies], options)

    def problem(self, data: Path | None = None) -> str | None:
        if self.width < 1:
            return f"width must be 1 or more, got {self.width}"
        if self.n < 20 or self.n % 2:
            return f"n must be an even number of at least 20 points (10 % train), got {self.n}"
        if not self.stop_angle > 0:
            return f"stop angle must be positive (degrees), got {self.stop_angle:g}"
        return super().problem(data)
