"""The search network of the DARTS space is the original code's: numbers to 1e-9 in float64, counts exactly."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from depthsearch.cells import darts_search_network
from depthsearch.cells.darts_search import CELLS, DRNAS_OPERATIONS

PARITY = Path(__file__).parents[1] / "parity"
COUNTS = json.loads((PARITY / "counts.json").read_text())
EXACT = {"rtol": 0, "atol": 1e-9}


def numbers_of(name):
    with np.load(PARITY / f"{name}.npz", allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    return {key: json.loads(str(a)) if a.dtype.kind == "U" else torch.from_numpy(a) for key, a in arrays.items()}


def fill(network, numbers):
    parameters = list(network.parameters())
    assert len(parameters) == sum(key.startswith("param:") for key in numbers)
    with torch.no_grad():
        for i, parameter in enumerate(parameters):
            assert parameter.shape == numbers[f"param:{i:03d}"].shape
            parameter.copy_(numbers[f"param:{i:03d}"])
    return network


@pytest.fixture
def darts():
    numbers = numbers_of("darts_search")
    config = numbers["config"]
    return fill(darts_search_network(config["C"], config["layers"]).double(), numbers), numbers


@pytest.fixture
def drnas():
    numbers = numbers_of("drnas_search")
    config = numbers["config"]
    space = darts_search_network(config["C"], config["layers"], partial=config["k"], operations=DRNAS_OPERATIONS)
    return fill(space.double(), numbers), numbers


def test_darts_logits_loss_and_every_gradient(darts):
    space, numbers = darts
    assert list(space.operations) == numbers["primitives"]
    alphas = {cell: numbers[f"alphas_{cell}"].requires_grad_() for cell in CELLS}
    logits = space(numbers["x"], {cell: alpha.softmax(1) for cell, alpha in alphas.items()})
    torch.testing.assert_close(logits, numbers["logits"], **EXACT)
    loss = F.cross_entropy(logits, numbers["y"])
    torch.testing.assert_close(loss, numbers["loss"], **EXACT)
    loss.backward()
    for cell, alpha in alphas.items():
        torch.testing.assert_close(alpha.grad, numbers[f"grad_alphas_{cell}"], **EXACT)
    for i, parameter in enumerate(space.parameters()):
        torch.testing.assert_close(parameter.grad, numbers[f"grad:{i:03d}"], **EXACT, msg=str(i))


def test_darts_evaluation_and_genotype(darts):
    space, numbers = darts
    weights = {cell: numbers[f"alphas_{cell}"].softmax(1) for cell in CELLS}
    with torch.no_grad():
        space(numbers["x"], weights)
        logits = space.eval()(numbers["x"], weights)
    torch.testing.assert_close(logits, numbers["eval_logits"], **EXACT)
    assert json.loads(space.derive(weights).to_json()) == numbers["genotype"]


def test_drnas_logits_and_every_gradient(drnas):
    space, numbers = drnas
    assert list(space.operations) == numbers["primitives"]
    mix = {cell: numbers[f"mix_{cell}"].requires_grad_() for cell in CELLS}
    logits = space(numbers["x"], space.restrict(mix))
    torch.testing.assert_close(logits, numbers["logits"], **EXACT)
    loss = F.cross_entropy(logits, numbers["y"])
    torch.testing.assert_close(loss, numbers["loss"], **EXACT)
    loss.backward()
    for cell in CELLS:
        torch.testing.assert_close(mix[cell].grad, numbers[f"grad_mix_{cell}"], **EXACT)
    for i, parameter in enumerate(space.parameters()):
        torch.testing.assert_close(parameter.grad, numbers[f"grad:{i:03d}"], **EXACT, msg=str(i))
    weights = {cell: numbers[f"alphas_{cell}"].softmax(1) for cell in CELLS}
    assert json.loads(space.derive(weights).to_json()) == numbers["genotype"]


def test_drnas_pruned(drnas):
    space, numbers = drnas
    pruned = {key.removeprefix("pruned:"): value for key, value in numbers.items() if key.startswith("pruned:")}
    space.prune({cell: pruned[f"mask_{cell}"] for cell in CELLS})
    draws = space.restrict({cell: pruned[f"draw_{cell}"] for cell in CELLS})
    mix = {cell: pruned[f"mix_{cell}"].requires_grad_() for cell in CELLS}
    for cell in CELLS:
        torch.testing.assert_close(draws[cell], mix[cell], **EXACT)
    logits = space(numbers["x"], mix)
    torch.testing.assert_close(logits, pruned["logits"], **EXACT)
    loss = F.cross_entropy(logits, numbers["y"])
    torch.testing.assert_close(loss, pruned["loss"], **EXACT)
    loss.backward()
    for cell in CELLS:
        torch.testing.assert_close(mix[cell].grad, pruned[f"grad_mix_{cell}"], **EXACT)
    weights = {cell: pruned[f"alphas_{cell}"].softmax(1) for cell in CELLS}
    assert json.loads(space.derive(weights).to_json()) == pruned["genotype"] != numbers["genotype"]
