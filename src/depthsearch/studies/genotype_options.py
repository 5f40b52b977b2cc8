"""What the trainings of genotypes share, on images and on texts: which genotype, and what a command line can say."""

import argparse
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar

from depthsearch.cells.genotype import GENOTYPES, Genotype, genotype
from depthsearch.hardware import PRECISIONS
from depthsearch.learning.single import SCHEDULES
from depthsearch.running.options import precision_asked
from depthsearch.running.study import Problem, fingerprint
from depthsearch.studies.alone import Alone, fields_in
from depthsearch.studies.texts import GENERATED, TEXTS

COUNTS = ("channels", "layers", "pixels", "train-images", "test-images", "eval-every", "classes")  # of images
COUNTS += ("width", "n-train", "n-words", "bptt", "patience", "eval-batch-size", "first-seed")  # of texts
COUNTS += ("batch-size",)
RATES = ("hold-out", "drop-path", "label-smoothing", "dropout", "dropouth", "dropoutx", "dropouti", "dropoute")
RATES += ("activation", "temporal", "learning-rate", "weight-decay", "clip")
HELP = {
    "channels": "of the first cells",
    "layers": "cells in a row",
    "pixels": "a side of an image",
    "train-images": "the first ones",
    "test-images": "the first ones",
    "batch-size": "images, or texts side by side",
    "drop-path": "largest probability with which a path through a cell is dropped",
    "label-smoothing": "share of the labels that goes to all classes alike",
    "activation": "weight of the squared activations in what a text's network minimises",
    "temporal": "weight of the squared steps of the hidden state in it",
    "learning-rate": "at the start",
    "weight-decay": "L2",
    "clip": "largest norm of the gradient",
    "eval-every": "epochs from one look at the test points on",
    "classes": "of a folder of class folders (ImageNet)",
    "hold-out": "share of the training points to validate on",
    "width": "of a text's network, if its cell has eight nodes; others are made of as many parameters",
    "n-train": "words of the training part of a text, the first ones",
    "n-words": "size of a text's vocabulary; of fewer than all the most frequent words",
    "bptt": "words of a step of backpropagation, a mean",
    "patience": "evaluations without headway after which steps are averaged",
    "first-seed": "of the first repeat, on a text",
    "dropout": "of the cell's output; of hidden state (h), cell input (x), embedded words (i), whole words (e):",
}


class OfGenotype(Alone):
    """A study that trains the network of one genotype from scratch."""

    genotype: str  # as JSON text, as soon as the study is made
    recipe: Any
    cells: ClassVar[type[Genotype]]

    def __post_init__(self) -> None:
        with contextlib.suppress(ValueError):  # `problem` says what is wrong with it
            object.__setattr__(self, "genotype", self.cell.to_json())

    @property
    def cell(self) -> Any:
        """The genotype that is trained.

        Raises:
            ValueError: it is no genotype of such a cell.
        """
        return genotype(self.genotype, self.cells)

    @property
    def label(self) -> str:
        """The published name of the genotype, else what its hash begins with."""
        known = (name for name, value in GENOTYPES.items() if value == self.cell)
        return next(known, f"genotype{fingerprint(asdict(self.cell))[:6]}")

    @property
    def most_epochs(self) -> int:
        return self.recipe.epochs


def add_options(parser: argparse.ArgumentParser, presets: Sequence[str], data_sets: Sequence[str]) -> None:
    """An option for what one may want to change; those not given leave the preset as it is."""
    parser.add_argument("--preset", choices=presets, help="how a paper trains; what follows overrides it")
    parser.add_argument("--data-set", metavar="NAME", help=f"one of {', '.join(data_sets)}")
    parser.add_argument("--auxiliary", action=argparse.BooleanOptionalAction, help="head; the presets have it")
    parser.add_argument("--cutout", type=int, nargs="?", const=16, metavar="SIDE", help="16 if no number is given")
    parser.add_argument("--schedule", choices=SCHEDULES, help="of the learning rate")
    for names, kind, metavar in ((COUNTS, int, "N"), (RATES, float, "X")):
        for name in names:
            parser.add_argument(f"--{name}", type=kind, metavar=metavar, help=HELP.get(name))
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")


def chosen(studies: Sequence[Any], options: argparse.Namespace, presets: Mapping[str, Any]) -> list[Any]:
    """The studies, or the presets of their genotypes, with what was asked for.

    Without a preset, a text is trained on as the preset of its name says; that of the generated one is the quick one.

    Raises:
        Problem: an option makes no sense, or none for these data or beside another.
    """
    asked = {name: value for name, value in vars(options).items() if value is not None}
    asked["precision"] = precision_asked(options)
    preset = options.preset
    if preset is not None and options.quick:
        raise Problem("--quick has sizes of its own; leave it or --preset out")
    if preset is None and options.data_set in TEXTS:
        preset = GENERATED if options.quick else options.data_set
    names = asked.pop("genotype", [asked["network"]] if "network" in asked else [])  # none: the preset has its own
    own = [{"genotype": name} for name in names] or [{}] * len(studies)
    try:
        bases = [presets[preset] if preset else study for study in studies]
        return [_changed(base, asked | named) for base, named in zip(bases, own, strict=True)]
    except ValueError as wrong:
        raise Problem(str(wrong)) from None


def _changed(base: Any, asked: Mapping[str, Any]) -> Any:
    """A study with what of the options is its own, or of its parts."""
    parts = {name: part for name in ("recipe", "dropouts") if (part := getattr(base, name, None)) is not None}
    changed = {name: replace(part, **fields_in(part, asked)) for name, part in parts.items()}
    known = {name for part in (base, *parts.values()) for name in vars(part)}
    options = ("auxiliary", "cutout", "schedule", *(name.replace("-", "_") for name in (*COUNTS, *RATES)))
    strange = [name for name in options if name in asked and name not in known]
    if asked["precision"] != "float32" and "precision" not in known:
        strange.append("precision")
    if strange:
        option = strange[0].replace("_", "-")
        raise ValueError(f"--{option} is of no account for {asked.get('data_set', base.data_set)}; leave it out")
    return replace(base, **fields_in(base, asked), **changed)
