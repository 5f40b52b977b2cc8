"""The image experiments (section 4.2 of the paper)."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from depthsearch.data.images import IMAGE_SETS
from depthsearch.data.split import Split
from depthsearch.depth.convolutional import conv_resnet
from depthsearch.depth.networks import DepthNetwork
from depthsearch.hardware import PRECISIONS
from depthsearch.learning.method import Selection, Training
from depthsearch.running.options import precision_asked
from depthsearch.running.study import Problem
from depthsearch.studies.depth import DepthStudy
from depthsearch.studies.pictures import read_pictures


@dataclass(frozen=True, kw_only=True)
class Images(DepthStudy):
    """One setting of the image experiments.

    Attributes:
        data_set: a name of `IMAGE_SETS`.
        protocol: "paper" selects the epoch and stops by the test points, as the original code does, and drops the
            learning rate of the DDN alone. "fair" does so by a tenth of the training points, the same for both kinds,
            drops the rate of both, and leaves the test points to the end. It also estimates the statistics of batch
            norm anew after each epoch, without which the selection follows their noise. Both select by the
            log-likelihood of the predictive distribution. What the original calls the test ELBO is that less KL / N,
            below 2e-4 nats on its data sets; its learning rate drops, and its patience ends, an epoch later.
    """

    max_depth: int = 50
    data_set: str = "MNIST"
    protocol: str = "paper"

    name: ClassVar[str] = "images"

    @property
    def threads(self) -> int | None:
        return threads_for(self.data_set)

    @property
    def preset(self) -> Training:
        if self.protocol == "fair":
            return Training(epochs=500, patience=30, decay_epoch=30, norm_batches=8)
        return Training(epochs=500, patience=30, decay_epoch=30 if self.kind == "DDN" else None)

    def title(self) -> str:
        training = self.training
        return f"{self.kind}_depth{self.max_depth}_{self.protocol}_{training.precision}_epochs{training.epochs}"

    @property
    def selection(self) -> Selection:
        # Of one depth the ELBO is that log-likelihood: runs of DDN from when it selected are as good as new ones.
        return Selection() if self.kind == "DDN" else super().selection

    def split(self, seed: int, root: Path) -> Split:
        split = read_pictures(self.data_set, root)
        return split.hold_out(0.1, seed) if self.protocol == "fair" else split.select_on_test()

    def network(self) -> DepthNetwork:
        known = IMAGE_SETS[self.data_set]
        return conv_resnet(self.max_depth, known.channels, n_classes=10, stem_kernel=known.stem_kernel)

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--datasets", nargs="+", help=f"some of {', '.join(IMAGE_SETS)}")
        parser.add_argument(
            "--protocol",
            choices=("paper", "fair"),
            default="paper",
            help="select epochs on the test set as the original does, or on a held-out tenth (default %(default)s)",
        )
        parser.add_argument(
            "--precision",
            choices=PRECISIONS,
            default="auto",
            help="of stem and blocks; auto: bfloat16 where the hardware multiplies in it; tf32: on CUDA",
        )

    @classmethod
    def chosen(cls, studies: Sequence[Any], options: argparse.Namespace) -> list[Any]:
        wrong = [name for name in options.datasets or [] if name not in IMAGE_SETS]
        if wrong:
            raise Problem(f"no image data set {wrong[0]!r}; there are {', '.join(IMAGE_SETS)}")
        precision = precision_asked(options)
        if options.datasets:
            first = [study for study in studies if study.data_set == studies[0].data_set]
            studies = [replace(study, data_set=name) for name in options.datasets for study in first]
        own = [replace(study, protocol=options.protocol, precision=precision) for study in studies]
        return super().chosen(own, options)


def threads_for(name: str) -> int | None:
    """One where images are so small that a second thread saves less than a second run beside it; else None, all.

    Threads of two such runs on the same cores would wait for each other at every layer.
    """
    return 1 if name in IMAGE_SETS and IMAGE_SETS[name].size < 16 else None
