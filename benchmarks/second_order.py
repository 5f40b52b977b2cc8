"""How near DARTS's second order comes to the gradient that it stands for, in searches of NAS-Bench-201's cell.

    python benchmarks/second_order.py [--data-set digits] [--data FOLDER] [--seeds 8] [--pairs 5] [--quick]

It is to be the gradient in alpha of the validation loss after the step that SGD takes next (arXiv 1806.09055, equation
7): that at the weights after the step, which stay where they are ("no correction"), and a correction for how the step
depends on alpha. The original takes the correction by a difference of half-width 0.01 / |v| (section 2.3). Here stand
the exact one, by double differentiation, and wider and narrower differences. Beside them what alpha does in fact: how
that loss differs between alpha + r and alpha - r, entry by entry, where r is Adam's rate, about what a step of alpha
moves: the slope.

Of each search the mean over some pairs of batches, at its start and before its last epoch.
"""

import argparse
import copy
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from depthsearch.hardware import benchmark_header
from depthsearch.learning import bilevel
from depthsearch.learning.bilevel import Bilevel, LookAhead, exact_second_order, first_order, second_order
from depthsearch.learning.gradients import gradients_of
from depthsearch.learning.mixing import Weights
from depthsearch.learning.search import Search
from depthsearch.reporting.intervals import interval_of
from depthsearch.running.folders import DATA
from depthsearch.studies.nasbench201 import NASBench201Cell

PUBLISHED = bilevel.HALF_WIDTH
HALF_WIDTHS = (1.0, 0.1, PUBLISHED, 0.001)
NO_CORRECTION, EXACT = "no correction", "exact"
SMALL = {"channels": 4, "cells": 1, "n_train": 1024, "epochs": 8}  # for digits
CPU = torch.device("cpu")
LEGEND = f"""Cosines: means over searches; sizes: medians. Cosine to slope: of each gradient to how the loss after
the step changes with alpha, entry by entry, over that rate to either side; gain: over no correction, 95 % interval,
paired over searches. Of the corrections alone: the cosine to the exact one, and their size over that of the exact
one and of the rest of the gradient. H / |v|: by a difference of half-width H over |v|, {PUBLISHED:g} as published."""


def after_the_step(problem: Bilevel, ahead: LookAhead) -> Tensor:
    """The validation loss at the weights after the step, as if these did not depend on alpha."""
    parameters = dict(problem.network.named_parameters())
    uphill = gradients_of(problem.on_training_points(), parameters.values())
    norm = torch.stack([g.square().sum() for g in uphill]).sum().sqrt()
    with torch.no_grad():
        moved = ahead.moved(parameters, uphill, norm)
    return problem.on_validation_points(dict(zip(parameters, moved, strict=True)))


def without_correction(problem: Bilevel, ahead: LookAhead) -> Weights:
    """The gradient of that."""
    with problem.mixing.learning() as alphas:
        found = gradients_of(after_the_step(problem, ahead), alphas.values())
    return dict(zip(alphas, found, strict=True))


def slopes(problem: Bilevel, ahead: LookAhead, reach: float) -> Weights:
    """How the loss after the step changes with each entry of alpha, over `reach` to either side."""
    found = {name: torch.zeros_like(alpha) for name, alpha in problem.mixing.alphas.items()}
    for name, alpha in problem.mixing.alphas.items():
        for entry, slope in zip(alpha.view(-1), found[name].view(-1), strict=True):
            here, sides = entry.clone(), []
            for side in (reach, -reach):
                entry.copy_(here + side)
                sides.append(after_the_step(problem, ahead).detach())
            entry.copy_(here)
            slope.copy_((sides[0] - sides[1]) / (2 * reach))
    return found


def by_difference(problem: Bilevel, ahead: LookAhead, half_width: float) -> Weights:
    """As published, with a half-width of so much over |v|."""
    bilevel.HALF_WIDTH = half_width
    try:
        return second_order(problem, ahead)[1]
    finally:
        bilevel.HALF_WIDTH = PUBLISHED


def compared(problem: Bilevel, ahead: LookAhead, reach: float) -> Iterator[dict]:
    """A row for each way, of one pair of batches."""
    ways = {
        "first order": first_order(problem)[1],
        NO_CORRECTION: without_correction(problem, ahead),
        EXACT: exact_second_order(problem, ahead)[1],
        **{f"{width:g} / |v|": by_difference(problem, ahead, width) for width in HALF_WIDTHS},
    }
    truth = _flat(slopes(problem, ahead, reach))
    flat = {name: _flat(gradients) for name, gradients in ways.items()}
    correction = flat[EXACT] - flat[NO_CORRECTION]
    for name, gradient in flat.items():
        own = gradient - flat[NO_CORRECTION]
        row = {"way": name, "to the slope": _cosine(gradient, truth)}
        if name not in ("first order", NO_CORRECTION):
            row |= {
                "share": float(own.norm() / flat[NO_CORRECTION].norm()),
                "size": float(own.norm() / correction.norm()),
                "to the exact": _cosine(own, correction),
            }
        yield row


def _flat(gradients: Weights) -> Tensor:
    return torch.cat([gradient.flatten().double() for gradient in gradients.values()])


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.cosine_similarity(a, b, 0))


def moments(study: NASBench201Cell, seed: int, pairs: int, data: Path, quick: bool) -> Iterator[dict]:
    """The rows of one search."""
    search, task = study.learner([seed], CPU, data), study.task(seed, data)
    assert isinstance(search, Search)
    epochs = search.epochs()
    for until in (0, 1 if quick else study.most_epochs - 1):
        for _ in islice(epochs, until):
            pass
        sgd, space = study.plan.schedule.optimiser(search.space), copy.deepcopy(search.space)
        sgd.load_state_dict(search.checkpoint()[0]["sgd"])
        sgd.param_groups[0]["lr"] = study.plan.schedule.rate(search.epoch + 1, study.most_epochs)  # of the next epoch
        ahead = LookAhead.of(sgd, search.space)
        for pair in islice(task.pairs(space, torch.Generator().manual_seed(seed)), pairs):
            problem = Bilevel(space, search.mixing, pair.train, pair.valid)
            for row in compared(problem, ahead, study.plan.architect.learning_rate):
                yield {"seed": seed, "when": f"after {until} epochs"} | row


def said(rows: pd.DataFrame) -> pd.DataFrame:
    """Cosines, means over searches, with 95 % t-intervals where searches are compared; medians of sizes."""
    found, searches = [], rows.groupby(["when", "way", "seed"], sort=False).mean().reset_index()
    cosines = searches.pivot(index=["when", "seed"], columns="way", values="to the slope")
    for (when, way), own in searches.groupby(["when", "way"], sort=False):
        mean, low, high, _ = interval_of((cosines[way] - cosines[NO_CORRECTION]).xs(when))
        gain = "-" if way == NO_CORRECTION else f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
        row = {"when": when, "gradient": way, "cosine to slope": f"{own['to the slope'].mean():.3f}", "gain": gain}
        row |= {"cosine to exact": "-", "times exact": "-", "times rest": "-"}
        if own["size"].notna().any():
            row["cosine to exact"] = f"{own['to the exact'].mean():.2f}"
            row |= {"times exact": f"{own['size'].median():.2g}", "times rest": f"{own['share'].median():.2g}"}
        found.append(row)
    return pd.DataFrame(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-set", default="digits", help="digits (default), or one whose files are in --data")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data files")
    parser.add_argument("--seeds", type=int, default=8, help="searches (default %(default)s)")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of batches of each (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one epoch of each search, to see that it runs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    kind = "DARTS 2nd order"
    sizes = SMALL if options.data_set == "digits" else NASBench201Cell.REDUCED
    study = NASBench201Cell(kind=kind, data_set=options.data_set, **sizes, **NASBench201Cell.TUNED[kind])
    if (wrong := study.problem(options.data)) is not None:
        parser.error(wrong)
    rows = [
        row
        for seed in tqdm(range(options.seeds), unit="search")
        for row in moments(study, seed, options.pairs, options.data, options.quick)
    ]
    print(benchmark_header(CPU))
    plan = study.plan
    print(
        f"{kind} on {options.data_set}: C = {plan.channels}, N = {plan.cells}, {study.n_train} points in two halves, "
        f"batches of {study.batch_size}, alpha at rate {plan.architect.learning_rate:g}; n = {options.seeds} searches "
        f"of {1 if options.quick else plan.epochs - 1} epochs, {options.pairs} pairs of batches each\n{LEGEND}\n"
    )
    print(said(pd.DataFrame(rows)).to_string(index=False))


if __name__ == "__main__":
    main()
