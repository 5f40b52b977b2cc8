"""What all settings share."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from depthsearch.data.split import Split
from depthsearch.depth.networks import DepthNetwork
from depthsearch.depth.posteriors import CategoricalDepth, DepthPosterior, FixedDepth, geometric_prior
from depthsearch.learning.loop import Trained
from depthsearch.learning.method import PAPER, Method, Training
from depthsearch.measuring.depths import evaluate


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
