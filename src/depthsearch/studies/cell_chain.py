"""Depth and cell together: how many cells should stand in a row, learnt by the ELBO, for a cell that a search found.

The cells of NAS-Bench-201 (arXiv 2001.00326) keep the shape of what they see, so a chain of x + cell(x) is a
`DepthNetwork`: its depth is learnt and cut as that of a residual network (arXiv 2002.02797).
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from depthsearch.cells.nasbench201 import NASBench201Block
from depthsearch.cells.nasbench201_strings import cell_string, parse_cell
from depthsearch.data.files import DataError
from depthsearch.data.split import Split
from depthsearch.depth.convolutional import DepthBatchNorm, mean_over_pixels
from depthsearch.depth.networks import DepthHead, DepthNetwork
from depthsearch.learning.method import Training
from depthsearch.running.folders import finished, read_run
from depthsearch.running.scan import Wanted
from depthsearch.running.study import fingerprint
from depthsearch.studies.depth import DepthStudy
from depthsearch.studies.pictures import CLASSES, PICTURES, pictures_split

ALL_3X3 = cell_string(["nor_conv_3x3"] * 6)


class ChainHead(DepthHead):
    """Means over pixels, batch norm per depth, linear: what a chain of cells adds up to may be of any size."""

    def __init__(self, channels: int, n_classes: int, n_depths: int) -> None:
        super().__init__()
        self.norm = DepthBatchNorm(channels, n_depths)
        self.linear = nn.Linear(channels, n_classes)

    def forward(self, activations: Sequence[Tensor], min_depth: int = 0) -> Tensor:
        pooled = torch.stack([mean_over_pixels(a, a.dtype) for a in activations])
        return self.linear(self.norm(pooled, min_depth))

    def truncate(self, max_depth: int) -> None:
        self.norm.truncate(max_depth)


@dataclass(frozen=True, kw_only=True)
class CellChain(DepthStudy):
    """One cell in a chain of at most `max_depth`, at one resolution, half that of the images.

    A tenth of the training points is held out and selects the epoch; the statistics of batch norm are estimated anew
    after each.

    Attributes:
        cell: its string.
        data_set: a name of `CLASSES`.
        channels: C.
        n_train, n_test: only so many images, the first ones; None for all.
        pixels: a side, to which images are shrunk; None as they are.
    """

    max_depth: int = 20
    cell: str = ALL_3X3
    data_set: str = "CIFAR-10"
    channels: int = 32
    n_train: int | None = None
    n_test: int | None = None
    pixels: int | None = None

    name: ClassVar[str] = "chain of cells"
    quick_epochs: ClassVar[int] = 8
    compile_from: ClassVar[int] = sys.maxsize  # nothing of it is compiled
    OPTIONS: ClassVar[Mapping[str, str]] = {
        "max_depth": "D",
        "channels": "C",
        "n_train": "training images",
        "n_test": "test images",
        "pixels": "a side",
    }
    REDUCED: ClassVar[Mapping[str, Any]] = {
        "max_depth": 6,
        "channels": 8,
        "n_train": 2400,
        "n_test": 2000,
        "pixels": 16,
        "epochs": 20,
    }

    @property
    def threads(self) -> int | None:
        return 1 if self.pixels is not None or self.data_set == "digits" else None

    @property
    def preset(self) -> Training:
        return Training(epochs=200, patience=30, decay_epoch=30, batch_size=128, norm_batches=8)

    def title(self) -> str:
        cell = fingerprint({"cell": self.cell})[:6]
        return f"{self.kind}_depth{self.max_depth}_cell{cell}_C{self.channels}_epochs{self.training.epochs}"

    def split(self, seed: int, root: Path) -> Split:
        return pictures_split(self.data_set, root, self.pixels, self.n_train, self.n_test).hold_out(0.1, seed)

    def network(self) -> DepthNetwork:
        stem = nn.Conv2d(PICTURES[self.data_set].channels, self.channels, 3, stride=2, padding=1, bias=False)
        return DepthNetwork(
            nn.Sequential(stem, nn.BatchNorm2d(self.channels)),
            (NASBench201Block(self.cell, self.channels) for _ in range(self.max_depth)),
            ChainHead(self.channels, CLASSES[self.data_set], self.max_depth + 1),
        )

    def problem(self, data: Path | None = None) -> str | None:
        if self.data_set not in CLASSES:
            return f"no data set {self.data_set!r} for cells; there are {', '.join(CLASSES)}"
        if self.channels < 1:
            return f"channels must be 1 or more, got {self.channels}"
        try:
            parse_cell(self.cell)
            return super().problem(data)
        except (ValueError, DataError) as wrong:
            return str(wrong)

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--reduced", action="store_true", help="small, for two cores; what is given besides counts")
        parser.add_argument("--data-set", help=f"one of {', '.join(CLASSES)} (default {cls.data_set})")
        for name, what in cls.OPTIONS.items():
            parser.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N", help=what)

    @classmethod
    def chosen(cls, studies: Sequence[Any], options: argparse.Namespace) -> list[Any]:
        small = dict(cls.REDUCED) if options.reduced else {}
        names = ("data_set", "epochs", *cls.OPTIONS)
        given = {name: value for name in names if (value := getattr(options, name)) is not None}
        return [replace(study, **small | given) for study in super().chosen(studies, options)]


def retrained(wanted: Sequence[Wanted], data: Path) -> list[CellChain]:
    """The chains of the depths that were learnt, deterministic and trained from scratch: what is to be run next.

    Args:
        wanted: every study of the scan, and the folders of its repeats.
        data: of no account.
    """
    found: dict[CellChain, None] = {}
    for study, folders in wanted:
        for folder in folders if isinstance(study, CellChain) and study.kind == "LDN" else ():
            run = read_run(folder) if finished(folder) else None
            if run is not None and run[1]["diverged_epoch"] is None:
                found[replace(study, kind="DDN", max_depth=run[1]["pruned_depth"])] = None
    return list(found)
