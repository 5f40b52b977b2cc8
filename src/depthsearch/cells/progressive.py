"""What a progressive search does between its stages (DrNAS, arXiv 2006.10355, section 3.3), for any space.

Options are dropped (`strongest`, then the space's `prune`), channels are opened (the space's `widen`), and the
optimiser gets the parameters that there are now (`carry_over`).
"""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

# What became of each parameter: the one in its place, and how a tensor of its shape grows.
Grown = dict[nn.Parameter, tuple[nn.Parameter, Callable[[Tensor], Tensor]]]


def strongest(weights: Mapping[str, Tensor], masks: Mapping[str, Tensor], keep: int) -> dict[str, Tensor]:
    """Masks in the shapes of the weights: True at the `keep` largest of each row that are open in `masks`.

    Raises:
        ValueError: unless 1 <= keep <= the number of open options of each row.
    """
    fewest = min(int(mask.sum(-1).min()) for mask in masks.values())
    if not 1 <= keep <= fewest:
        raise ValueError(f"keep must be from 1 to the {fewest} options that are open, got {keep}")
    kept = {}
    for name, mask in masks.items():
        scores = weights[name].detach().masked_fill(~mask, -torch.inf)
        kept[name] = torch.zeros_like(mask).scatter(-1, scores.topk(keep).indices, True)
    return kept


def carry_over(optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], grown: Grown) -> None:
    """Hands a network's parameters to its optimiser anew after widening, with the state that they had.

    Args:
        optimizer: of one group. State of the shape of a parameter (momentum) grows as the parameter did.
        parameters: all of the network now.
        grown: what `widen` returned.
    """
    group = optimizer.param_groups[0]
    group["params"] = list(parameters)
    for old, (new, grow) in grown.items():
        if old in optimizer.state:
            state = optimizer.state.pop(old)
            shaped = {key for key, value in state.items() if isinstance(value, Tensor) and value.shape == old.shape}
            optimizer.state[new] = {key: grow(value) if key in shaped else value for key, value in state.items()}
