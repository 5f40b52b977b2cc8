"""The yardstick that costs what a search does: random cells of NAS-Bench-201, trained at its size."""

import torch

from depthsearch.cells.nasbench201 import NASBench201Network, nasbench201_network
from depthsearch.cells.nasbench201_strings import EDGES, OPERATIONS, cell_string, parse_cell
from depthsearch.data.batches import SplitBatches
from depthsearch.learning.single import Recipe
from depthsearch.learning.trials import RandomSearch
from depthsearch.studies.depth import seeded
from depthsearch.studies.pictures import CLASSES, PICTURES
from depthsearch.studies.plans import Plan

EQUAL_COST = "random search, equal cost"


def recipe_of(plan: Plan, epochs: int, batch_size: int) -> Recipe:
    """How each cell is trained: as the weights of a search are, for so many epochs, its cosine ending at 0."""
    schedule = plan.schedule
    alike = {name: getattr(schedule, name) for name in ("learning_rate", "momentum", "weight_decay", "clip")}
    return Recipe(epochs, batch_size, drop_path=0.0, precision=schedule.precision, **alike)


def random_search(
    plan: Plan, data_set: str, batches: SplitBatches, recipe: Recipe, seed: int, device: torch.device, **options
) -> RandomSearch:
    """Tries as many cells as a search of this plan pays for that takes a step of alpha, of first order, for every step
    of the weights and keeps all options open: all cells are equally likely.

    Args:
        options: `measure` and `resume` of `RandomSearch`.
    """
    n, each = len(batches.split.y_train), 3 * plan.cells  # cells, in the three stages
    budget = 2 * plan.epochs * n * each * len(EDGES) * (len(OPERATIONS) - 1)

    def draw(generator: torch.Generator) -> str:
        chosen = torch.randint(len(OPERATIONS), (len(EDGES),), generator=generator)
        return cell_string([OPERATIONS[i] for i in chosen.tolist()])

    def build(string: str, seed: int) -> NASBench201Network:
        size = plan.channels, plan.cells, CLASSES[data_set], PICTURES[data_set].channels
        return seeded(seed, lambda: nasbench201_network(string, *size)).to(device)

    def cost(string: str) -> int:
        return each * sum(name != "none" for name in parse_cell(string))

    return RandomSearch(draw, build, cost, budget, plan.epochs, batches, recipe, seed, **options)
