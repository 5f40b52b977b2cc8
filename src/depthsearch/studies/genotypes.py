"""A searched cell on trial: the network of a genotype, trained from scratch (arXiv 1806.09055, appendix A.2.1)."""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from depthsearch.cells.darts import DartsNetwork, check_sizes, darts_network
from depthsearch.cells.genotype import CellGenotype
from depthsearch.data.augment import Augmentation
from depthsearch.data.batches import SplitBatches
from depthsearch.data.files import DataError
from depthsearch.data.folder import FolderAugmentation, FolderBatches
from depthsearch.hardware import cores
from depthsearch.learning.single import Fitted, Recipe, SingleLearner, predict
from depthsearch.measuring.metrics import metrics, top_error
from depthsearch.running.study import Problem
from depthsearch.studies.alone import fields_in
from depthsearch.studies.depth import seeded
from depthsearch.studies.genotype_options import OfGenotype, add_options, chosen
from depthsearch.studies.pictures import PICTURES, augmentation, pictures_split
from depthsearch.studies.recurrent_genotypes import TEXT_PRESETS
from depthsearch.studies.texts import TEXTS


@dataclass(frozen=True, kw_only=True)
class TrainGenotype(OfGenotype):
    """One genotype of a cell for images, the size of its network, its data and how it is trained.

    The network of the last epoch is kept. Test points are looked at along the way but decide nothing.

    Attributes:
        genotype: JSON text; what else `cells.genotype` takes is turned into that.
        data_set: a name of `PICTURES`.
        channels, layers: of the network, as in `darts_network`.
        auxiliary: a second head in training.
        pool_norm: batch norm after pools, as DrNAS has it.
        imagenet: the form with a stem that divides height and width by 8.
        cutout: pixels a side of the square that is cut out of a training image; 0 for none.
        pixels: a side, to which images are shrunk or blown up; None as they are.
        train_images, test_images: only so many, the first ones; None for all.
        hold_out: share of the training points that is validated on instead: for choosing among genotypes.
        classes: of a folder of class folders; None for as many as the set is known to have.
        recipe: how it is trained.
    """

    genotype: str = "DARTS_V2"
    data_set: str = "CIFAR-10"
    channels: int = 36
    layers: int = 20
    auxiliary: bool = True
    pool_norm: bool = False
    imagenet: bool = False
    cutout: int = 16
    pixels: int | None = None
    train_images: int | None = None
    test_images: int | None = None
    hold_out: float = 0.0
    classes: int | None = None
    recipe: Recipe = Recipe()  # noqa: RUF009

    name: ClassVar[str] = "genotype"
    cells = CellGenotype
    required: ClassVar[frozenset[str]] = frozenset({"test", "parameters"})

    # What the running wing asks.

    @property
    def threads(self) -> int | None:
        # A small network is best trained on a core, another one on the next.
        return 1 if self.channels * self.layers < 64 else None

    @property
    def cost(self) -> float:
        return float(self.recipe.epochs * self.layers * self.channels**2)

    @property
    def side(self) -> int:
        """Pixels a side of what the network sees."""
        return self.pixels or PICTURES[self.data_set].side

    @property
    def augmentation(self) -> Augmentation | FolderAugmentation:
        """A crop by an eighth of a side, a flip where a mirrored image is one of its class, cutout; ImageNet's own."""
        known = PICTURES[self.data_set]
        if known.folder:
            return FolderAugmentation(self.side)
        return augmentation(self.data_set, self.pixels, self.cutout)

    def configuration(self) -> dict:
        fields = {k: v for k, v in asdict(self).items() if k != "recipe"}
        how = {"augmentation": asdict(self.augmentation), "training": asdict(self.recipe)}
        return json.loads(json.dumps({"study": self.name, **fields, **how}))

    @classmethod
    def from_configuration(cls, configuration: dict) -> "TrainGenotype":
        """The study of a saved run."""
        values = fields_in(cls, configuration)
        return cls(**values, recipe=Recipe(**configuration["training"]))

    def title(self) -> str:
        return f"{self.label}_channels{self.channels}_layers{self.layers}_epochs{self.recipe.epochs}"

    def problem(self, data: Path | None = None) -> str | None:
        if self.data_set not in PICTURES:
            return f"no data set {self.data_set!r}; there are {', '.join(PICTURES)}"
        if not 0 <= self.hold_out < 1:
            return f"the share of points held out must be 0 or more and below 1, got {self.hold_out}"
        if not 0 <= self.cutout < self.side:
            return f"cutout must be 0 or more and less than the {self.side} pixels of a side, got {self.cutout}"
        part = self.hold_out or self.train_images or self.test_images or self.cutout
        if PICTURES[self.data_set].folder and part:
            return f"{self.data_set} is trained on whole: no cutout, nothing held out, no number of images"
        try:
            check_sizes(self.channels, layers=self.layers, pixels=self.side, classes=self.n_classes)
            self._try_on_pictures()
            if data is not None:
                self.batches(0, data)
        except (ValueError, DataError) as wrong:
            return str(wrong)
        return None

    def _try_on_pictures(self) -> None:
        # The narrowest network of the genotype meets the same pictures as the one that is asked for.
        network = seeded(0, replace(self, channels=2).network)
        with torch.no_grad():
            network(torch.zeros(2, PICTURES[self.data_set].channels, self.side, self.side))

    @property
    def n_classes(self) -> int:
        return PICTURES[self.data_set].classes if self.classes is None else self.classes

    def network(self) -> DartsNetwork:
        """A new one, its weights drawn from torch's generator."""
        known = PICTURES[self.data_set]
        form = {"imagenet": self.imagenet, "pool_norm": self.pool_norm, "in_channels": known.channels}
        return darts_network(self.cell, self.channels, self.layers, self.n_classes, self.auxiliary, **form)

    def forms(self, batches: SplitBatches | FolderBatches) -> list[DartsNetwork]:
        """Its network, and the other of the two with and without auxiliary head, whose state tests as well."""
        return [replace(self, auxiliary=auxiliary).network() for auxiliary in (self.auxiliary, not self.auxiliary)]

    def batches(self, seed: int, root: Path, device: torch.device | str = "cpu") -> SplitBatches | FolderBatches:
        """The data of a repeat; `root` is where the files are.

        Raises:
            DataError: they are missing or damaged.
            ValueError: there are not as many images or classes as asked for, or they cannot have that many pixels.
        """
        augmentation, size = self.augmentation, self.recipe.batch_size
        if isinstance(augmentation, FolderAugmentation):
            found = FolderBatches(root / self.data_set, size, augmentation, device, cores())
            if (n := len(found.classes)) != self.n_classes:
                raise ValueError(f"{root / self.data_set} has {n} classes, not {self.n_classes}; give --classes {n}")
            return found
        split = pictures_split(self.data_set, root, self.pixels, self.train_images, self.test_images)
        if self.hold_out:
            split = split.hold_out(self.hold_out, seed)
        if len(split.y_train) < 2:
            raise ValueError(f"nothing is left to train on: {len(split.y_train)} training points")
        if (n := int(split.y_train.max()) + 1) > self.n_classes:
            raise ValueError(f"{self.data_set} has {n} classes, not {self.n_classes}")
        return SplitBatches(split.to(device), size, augmentation)

    def learner(
        self, seeds: Sequence[int], device: torch.device, data: Path, resume: Sequence[dict] = ()
    ) -> SingleLearner:
        (seed,) = seeds
        batches = self.batches(seed, data, device)

        def watch(network: nn.Module) -> dict:
            found = self.measure(network, batches)
            return {f"{part}_{name}": found[part][name] for part in found for name in ("error", "log_likelihood")}

        def train(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
            return _told(batches.train(generator))

        network = seeded(seed, self.network).to(device)
        return SingleLearner(network, train, self.recipe, seed, watch, resume)

    def measure(self, network: nn.Module, batches: SplitBatches | FolderBatches) -> dict[str, dict[str, float]]:
        """The metric set of a network on each part of the data that is not trained on; `top5_error`, too, where there
        are more than ten classes."""
        found = {}
        for part in batches.parts:
            log_probs, y = predict(network, _told(batches.held_out(part)))
            many = {"top5_error": top_error(log_probs, y)} if log_probs.shape[-1] > 10 else {}
            found[part] = metrics(log_probs, y) | many
        return found

    def evaluate(self, learned: Fitted, seed: int, device: torch.device, data: Path) -> dict:
        summary: dict = {"diverged_epoch": learned.diverged_epoch}
        if learned.diverged_epoch is None:
            summary |= self.measure(learned.network, self.batches(seed, data, device))
        summary["parameters"] = learned.network.n_parameters
        return summary | {"epochs": len(learned.history), "history": learned.history}

    def said(self, summaries: Sequence[dict]) -> str:
        errors = [100 * summary["test"]["error"] for summary in summaries]
        return f"test error {mean(errors):.2f} %, {summaries[0]['parameters']:,} parameters"

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        add_options(parser, tuple(PRESETS), (*PICTURES, *TEXTS))

    @classmethod
    def chosen(cls, studies: Sequence[Any], options: argparse.Namespace) -> list[Any]:
        """Those of a text are `TrainRecurrent`."""
        return chosen(studies, options, PRESETS)


def _told(batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches; an image that turns out to be damaged is one line."""
    try:
        yield from batches
    except DataError as damaged:
        raise Problem(str(damaged)) from None


# How the papers train (for ImageNet DARTS's, then DrNAS's), and a small size at which two cores train many.
IMAGENET = TrainGenotype(data_set="ImageNet", channels=48, layers=14, imagenet=True, cutout=0)
IMAGENET_RECIPE = Recipe(
    epochs=250,
    batch_size=128,
    learning_rate=0.1,
    schedule="exponential",
    weight_decay=3e-5,
    label_smoothing=0.1,
    drop_path=0.0,
)
LARGE_BATCHES = replace(IMAGENET_RECIPE, batch_size=768, learning_rate=0.5, schedule="linear", warm_up=5)
PRESETS = {
    "DARTS": TrainGenotype(),
    "DrNAS": TrainGenotype(pool_norm=True, recipe=Recipe(batch_size=64, drop_path=0.3)),
    "ImageNet": replace(IMAGENET, recipe=IMAGENET_RECIPE),
    "DrNAS-ImageNet": replace(IMAGENET, pool_norm=True, recipe=LARGE_BATCHES),
    "reduced": TrainGenotype(
        channels=8,
        layers=5,
        auxiliary=False,
        cutout=0,
        pixels=16,
        train_images=1600,
        test_images=2000,
        recipe=Recipe(epochs=10, batch_size=64, drop_path=0.0, eval_every=3),
    ),
    **TEXT_PRESETS,
}
