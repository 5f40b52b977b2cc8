"""What can be said of the training of a genotype on a command line."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from depthsearch.hardware import PRECISIONS
from depthsearch.learning.single import SCHEDULES
from depthsearch.running.options import precision_asked
from depthsearch.running.study import Problem
from depthsearch.studies.alone import fields_in


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
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")


def chosen(studies: Sequence[Any], options: argparse.Namespace, presets: Mapping[str, Any]) -> list[Any]:
    """The studies, or the presets of their genotypes, with what was asked for.

    Raises:
        Problem: an option makes no sense.
    """
    asked = {name: value for name, value in vars(options).items() if value is not None}
    found = []
    try:
        asked["precision"] = precision_asked(options)
        for study in studies:
            base = presets[options.preset] if options.preset else study
            recipe = replace(base.recipe, **fields_in(base.recipe, asked))
            own = fields_in(base, asked) | {"genotype": study.genotype}  # the options have all that were asked for
            found.append(replace(base, **own, recipe=recipe))
    except ValueError as wrong:
        raise Problem(str(wrong)) from None
    return found
