"""What can be said of the training of a genotype on a command line."""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from depthsearch.hardware import precision_of
from depthsearch.learning.single import SCHEDULES
from depthsearch.running.study import Problem


def add_options(parser: argparse.ArgumentParser, presets: Sequence[str], data_sets: Sequence[str]) -> None:
    """An option for what one may want to change; those not given leave the preset as it is."""
    parser.add_argument("--preset", choices=presets, help="how a paper trains; what follows overrides it")
    parser.add_argument("--data-set", metavar="NAME", help=f"one of {', '.join(data_sets)}")
    parser.add_argument("--classes", type=int, metavar="N", help="of a folder of class folders (ImageNet)")
    parser.add_argument("--auxiliary", action=argparse.BooleanOptionalAction, help="head; the presets have it")
    parser.add_argument("--cutout", type=int, nargs="?", const=16, metavar="SIDE", help="16 if no number is given")
    for option in ("channels", "layers", "pixels", "train-images", "test-images", "batch-size"):
        parser.add_argument(f"--{option}", type=int, metavar="N")
    parser.add_argument("--hold-out", type=float, metavar="SHARE", help="of the training points, to validate on")
    parser.add_argument("--schedule", choices=SCHEDULES, help="of the learning rate")
    for option in ("learning-rate", "weight-decay", "drop-path", "label-smoothing"):
        parser.add_argument(f"--{option}", type=float, metavar="X")
    parser.add_argument("--eval-every", type=int, metavar="N", help="epochs from one look at the test points on")
    parser.add_argument("--precision", choices=("auto", "float32", "tf32", "bfloat16"), default="float32")


def chosen(studies: Sequence[Any], options: argparse.Namespace, presets: Mapping[str, Any]) -> list[Any]:
    """The studies, or the presets of their genotypes, with what was asked for.

    Raises:
        Problem: an option makes no sense.
    """
    asked = {name: value for name, value in vars(options).items() if value is not None}
    found = []
    try:
        asked["precision"] = precision_of(options.precision, options.devices[0])
        for study in studies:
            base = replace(presets[options.preset], genotype=study.genotype) if options.preset else study
            recipe = replace(base.recipe, **_fields(base.recipe, asked))
            found.append(replace(base, **_fields(base, asked, but="genotype"), recipe=recipe))
    except ValueError as wrong:
        raise Problem(str(wrong)) from None
    return found


def _fields(value: Any, asked: Mapping[str, Any], but: str = "") -> dict[str, Any]:
    return {f.name: asked[f.name] for f in dataclasses.fields(value) if f.name in asked and f.name != but}
