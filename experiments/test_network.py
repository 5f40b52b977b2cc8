"""Tests a network: of a finished run of train_genotype.py, or, with --checkpoint, of somebody else's code.

    python experiments/test_network.py RUN_FOLDER
    python experiments/test_network.py RUN_FOLDER --checkpoint FILE.pt
    python experiments/test_network.py DARTS_V2 --checkpoint FILE.pt --data-set CIFAR-10
    python experiments/test_network.py DARTS_V2_RNN --checkpoint FILE.pt --data-set PTB

The numbers of a run are those that it saved, bit for bit on the CPU that it ran on. Exit status: 0, or 1 where they are
not even close, or 2 where something is wrong with what was asked for.
"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import torch

from depthsearch.data.files import DataError
from depthsearch.data.text import Text
from depthsearch.running.folders import DATA, load_weights, read_run
from depthsearch.running.options import pick_device
from depthsearch.running.study import Problem
from depthsearch.studies.foreign import fit, read_state
from depthsearch.studies.genotypes import TrainGenotype
from depthsearch.studies.recurrent_genotypes import TrainRecurrent
from depthsearch.studies.saved import study_of

CLOSE = 1e-3  # what another kind of hardware may differ by, in any metric


def main(argv: list[str] | None = None) -> None:
    options = parser().parse_args(argv)
    try:
        different = test(options)
    except (Problem, DataError, ValueError) as problem:
        print(f"test_network.py: {problem}", file=sys.stderr)
        raise SystemExit(2) from None
    if not different <= CLOSE:
        raise SystemExit(1)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="test_network.py", description="Tests a network of a genotype.")
    parser.add_argument("network", help="run folder; with --checkpoint also a genotype, a name or a JSON file")
    parser.add_argument("device", nargs="?", default="0", help="CUDA device index (default 0; without GPU the CPU)")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE.pt", help="state dict to test instead of the run's")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data files (default %(default)s)")
    TrainGenotype.add_options(parser)  # for a genotype that comes without a run
    parser.set_defaults(quick=False, epochs=None, slurm=None)
    return parser


def test(options: argparse.Namespace) -> float:
    """Prints the metric sets; returns how far they are at most from those that a run saved, 0 where there are none."""
    options.devices = [pick_device(options.device)]
    (device,), folder = options.devices, Path(options.network)
    run = read_run(folder)
    if run is None and options.checkpoint is None:
        raise Problem(f"{folder} is no folder of a finished run; for a genotype, give --checkpoint FILE.pt too")
    study: Any
    if run and run[1]["diverged_epoch"] is not None and not options.checkpoint:
        raise Problem(f"the run of {folder} diverged: there is nothing to test")
    if run:
        study = of_run(folder, run[0])
    else:
        (study,) = TrainGenotype.chosen([TrainGenotype(genotype=options.network)], options)
    if problem := study.problem(options.data):
        raise Problem(problem)
    if run and device.type == "cpu" and (threads := run[0]["device"]["threads"]):
        torch.set_num_threads(threads)  # they have a say in the last digits
    data = study.batches(run[0]["seed"] if run else 0, options.data, device)
    if isinstance(data, Text) and run:
        data.check_vocabulary(run[1]["vocabulary"])
    forms = study.forms(data)
    if options.checkpoint:
        network = fit(forms, read_state(options.checkpoint), str(options.checkpoint))
    else:
        network = forms[0]
        try:
            load_weights(folder, network)
        except Exception as error:  # torch raises whatever the damage leads to
            raise Problem(f"{folder / 'weights.pt'} cannot be read ({str(error).partition(chr(10))[0]})") from None
    found = study.measure(network.to(device), data)
    show(found, network.n_parameters)
    return compare(found, run[1]) if run and not options.checkpoint else 0.0


def of_run(folder: Path, config: dict) -> TrainGenotype | TrainRecurrent:
    study = study_of(config["configuration"])
    if not isinstance(study, TrainGenotype | TrainRecurrent):
        raise Problem(f"{folder} is a run of {study.name}, not of train_genotype.py")
    return study


def show(found: dict[str, dict[str, float]], n_parameters: int) -> None:
    for part, values in found.items():
        errors = {name: f"{100 * values[name]:.2f} %" for name in ("error", "top5_error") if name in values}
        errors |= {"perplexity": f"{values['perplexity']:.2f}"} if "perplexity" in values else {}
        rest = {name: f"{values[name]:.4f}" for name in ("log_likelihood", "brier", "ece") if name in values}
        print(f"{part}: {', '.join(f'{name} {value}' for name, value in (errors | rest).items())}")
    print(f"{n_parameters:,} parameters, those of an auxiliary head left out")


def compare(found: dict[str, dict[str, float]], summary: dict) -> float:
    """Says how far from the saved numbers these are, and returns the largest difference."""
    pairs = [(values[name], summary[part][name]) for part, values in found.items() for name in values]
    most = max(_difference(ours, saved) for ours, saved in pairs)
    print("the numbers that were saved, bit for bit" if not most else f"at most {most:.2g} from what was saved")
    return most


def _difference(ours: float, saved: float | None) -> float:
    """Relative to what was saved where that is above 1, as a perplexity is; infinite if one of them is no number."""
    if saved is None:  # of what is no number the summary holds nothing
        return math.inf if math.isfinite(ours) else 0.0
    return abs(ours - saved) / max(abs(saved), 1) if math.isfinite(ours) else math.inf


if __name__ == "__main__":
    main()
