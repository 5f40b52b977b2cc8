"""What the benchmarks of searching share: a first-order step in either style, and two ways that take turns."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from depthsearch.hardware import products_in, synchronise

Loss = Callable[[dict[str, Tensor]], Tensor]  # of the weights of the options, {choice: (edges, options)}


def search_step(
    losses: tuple[Loss, Loss],
    alphas: Mapping[str, Tensor],
    adam: torch.optim.Optimizer,
    sgd: torch.optim.Optimizer,
    clip: float,
    original: bool,
) -> Callable[[], None]:
    """A function that makes one first-order step; the original's backward pass also computes what is thrown away.

    Args:
        losses: that of the mixing weights and that of the network's weights, each on its batch.
        alphas: what `adam` learns; `sgd` learns the network's weights, their gradient cut to a norm of `clip`.
    """
    parameters = [p for group in sgd.param_groups for p in group["params"]]

    def step() -> None:
        held_out = losses[0]({name: alpha.softmax(1) for name, alpha in alphas.items()})
        if original:
            adam.zero_grad()
            held_out.backward()
        else:
            gradients = torch.autograd.grad(held_out, list(alphas.values()))
            for alpha, gradient in zip(alphas.values(), gradients, strict=True):
                alpha.grad = gradient
        adam.step()
        sgd.zero_grad()
        weights = {name: (alpha if original else alpha.detach()).softmax(1) for name, alpha in alphas.items()}
        losses[1](weights).backward()
        nn.utils.clip_grad_norm_(parameters, clip)
        sgd.step()

    return step


@torch.no_grad()
def difference(ours: nn.Module, original: nn.Module, outputs: Callable[[nn.Module], Tensor]) -> float:
    """Gives the original our weights; the largest difference of outputs, relative to the largest of them."""
    for mine, its in zip(ours.parameters(), original.parameters(), strict=True):
        its.copy_(mine)
    with products_in("float32"):
        one, two = outputs(ours), outputs(original)
    return ((one - two).abs().max() / two.abs().max()).item()


def in_turns(steps: Mapping[str, Callable[[], None]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each step in each round; a round before the first warms up."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    with products_in("float32"):  # on a GPU too, as scans have it
        for i in range(rounds + 1):
            for name, step in steps.items():
                start = time.perf_counter()
                step()
                synchronise(device)
                if i:
                    taken[name].append(time.perf_counter() - start)
    return taken


def in_words(times: list[float]) -> str:
    """Median, least, greatest and number."""
    middle = statistics.median(times)
    return f"{middle:.3f} s a step ({min(times):.3f} to {max(times):.3f}, n = {len(times)})"
