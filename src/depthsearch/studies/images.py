"""The image experiments (section 4.2 of the paper)."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from depthsearch.data.images import IMAGE_SETS, image_split
from depthsearch.data.split import Split
from depthsearch.depth.convolutional import conv_resnet
from depthsearch.depth.networks import DepthNetwork
from depthsearch.learning.method import Training
from depthsearch.studies.setting import Setting


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


@cache
def _read_once(name: str, root: Path) -> Split:
    return image_split(name, root)
