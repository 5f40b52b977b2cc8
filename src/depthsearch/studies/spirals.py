"""The spiral experiments (section 4.1 of the paper)."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from depthsearch.data.spirals import spiral_split
from depthsearch.data.split import Split
from depthsearch.depth.networks import DepthNetwork, mlp_resnet
from depthsearch.learning.method import Training
from depthsearch.studies.depth import DepthStudy


@dataclass(frozen=True, kw_only=True)
class Spirals(DepthStudy):
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
        return Training()

    def title(self) -> str:
        name = f"{self.kind}_depth{self.max_depth}_width{self.width}_n{self.n}"
        return f"{name}_angle{self.stop_angle:g}_noise{self.noise:g}_epochs{self.training.epochs}"

    def split(self, seed: int, root: Path = Path()) -> Split:
        return spiral_split(self.n, self.stop_angle, self.noise, seed)

    def network(self) -> DepthNetwork:
        return mlp_resnet(self.max_depth, self.width)

    def problem(self, data: Path | None = None) -> str | None:
        if self.width < 1:
            return f"width must be 1 or more, got {self.width}"
        if self.n < 20 or self.n % 2:
            return f"n must be an even number of at least 20 points (10 % train), got {self.n}"
        if not self.stop_angle > 0:
            return f"stop angle must be positive (degrees), got {self.stop_angle:g}"
        return super().problem()
