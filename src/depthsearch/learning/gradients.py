"""Gradients that are tensors for every parameter, used or not."""

from collections.abc import Iterable

import torch
from torch import Tensor


def gradients_of(values: Tensor, of: Iterable[Tensor], create_graph: bool = False) -> list[Tensor]:
    """The gradient of the sum of some values in each tensor, zeros where they do not depend on it or it is frozen.

    It can be differentiated itself with `create_graph` only. (torch 2.8 has zeros that require a gradient all the same:
    what they are added to would keep the graph of every step.)
    """
    of = list(of)
    learnt = [tensor for tensor in of if tensor.requires_grad]
    found = iter(
        torch.autograd.grad(values.sum(), learnt, create_graph=create_graph, materialize_grads=True) if learnt else ()
    )
    gradients = [next(found) if tensor.requires_grad else torch.zeros_like(tensor) for tensor in of]
    return gradients if create_graph else [gradient.detach() for gradient in gradients]
