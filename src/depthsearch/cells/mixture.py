"""What one state of the recurrent search cell adds to all later nodes.

The elementwise work on 36 edges takes as long as the matrix products if it is left to torch: each operation goes over
memory on its own, and keeps its result for the way back. On a CPU with a compiler `native/mixture.cpp` does it all in
one pass each way, and nothing is kept but what came in.
"""

import ctypes

import torch
from torch import Tensor

from depthsearch.native import call, library

Pair = tuple[Tensor, Tensor]


def mixture(state: Tensor, product: Tensor, weights: Tensor, waiting: Tensor) -> Pair:
    """As `plain_mixture`, natively where that can be."""
    given, (nodes, width) = (state, product, weights, waiting), waiting.shape[1:]
    alike = {(t.device.type, t.dtype) for t in given} == {("cpu", state.dtype)}
    shapes = (len(state), width), (len(state), 2, nodes, width), (nodes, 5), (len(state), nodes, width)
    fit = tuple(t.shape for t in given) == shapes  # what does not is for torch to refuse
    return (Mixture.apply if alike and fit and library("mixture", state.dtype) is not None else plain_mixture)(*given)


def plain_mixture(state: Tensor, product: Tensor, weights: Tensor, waiting: Tensor) -> Pair:
    """Adds a state to the k nodes that come after it.

    An edge with weights w adds sum_f w_f (s + gate (f(candidate) - s)) to its node, over all f but `none`.

    Args:
        state: s (B, width).
        product: what the matrices of the k edges make of it (B, 2, k, width): gates before their sigmoid, candidates.
        weights: (k, 5), columns none, tanh, relu, sigmoid, identity.
        waiting: what earlier states have added to these nodes (B, k, width).

    Returns:
        the first of the nodes, to which nothing more is added (B, width), and the others (B, k - 1, width).
    """
    gates, h = product.unbind(1)
    tanh, relu, sigmoid, identity, all_four = _columns(weights)
    mixed = tanh * h.tanh() + relu * h.relu() + sigmoid * h.sigmoid() + identity * h
    nodes = waiting + torch.lerp(all_four * state.unsqueeze(1), mixed, gates.sigmoid())
    node, waiting = nodes.split([1, len(weights) - 1], dim=1)
    return node.squeeze(1), waiting


class Sizes(ctypes.Structure):
    """Of `mixture.cpp`."""

    _fields_ = tuple((name, ctypes.c_int) for name in ("batch", "nodes", "width", "threads"))


class Mixture(torch.autograd.Function):
    """`plain_mixture` by `mixture.cpp`; under `create_graph=True` the plain one is differentiated."""

    @staticmethod
    def forward(ctx, state: Tensor, product: Tensor, weights: Tensor, waiting: Tensor) -> Pair:  # type: ignore[override]
        ctx.save_for_backward(state, product, weights)  # themselves: what a second derivative goes back to
        state, product, weights, waiting = (t.contiguous() for t in (state, product, weights, waiting))
        node, others = torch.empty_like(state), torch.empty_like(waiting[:, 1:])
        function = library("mixture", state.dtype).mixture_forward
        call(function, _sizes(waiting), state, product, weights, waiting, node, others)
        return node, others

    @staticmethod
    def backward(ctx, of_node: Tensor, of_others: Tensor):  # type: ignore[override]
        state, product, weights = ctx.saved_tensors
        if torch.is_grad_enabled():
            grad, needs = torch.cat([of_node.unsqueeze(1), of_others], dim=1), ctx.needs_input_grad[:3]
            # Views, or the gradient of one input would run on into those that it is made of.
            inputs = state, product, weights = [x.view_as(x) for x in (state, product, weights)]
            outputs = plain_mixture(state, product, weights, grad.new_zeros(()))  # `waiting` is of no account here
            wanted = [x for x, needed in zip(inputs, needs, strict=True) if needed]
            gradients = iter(torch.autograd.grad(outputs, wanted, (of_node, of_others), create_graph=True))
            return *(next(gradients) if needed else None for needed in needs), grad
        of_node, of_others, state, product, weights = (
            t.contiguous() for t in (of_node, of_others, state, product, weights)
        )
        of_state, of_product = torch.empty_like(state), torch.empty_like(product)
        of_weights, of_waiting = state.new_empty(len(state), *weights.shape), torch.empty_like(product[:, 0])
        found = (of_state, of_product, of_weights, of_waiting)
        function = library("mixture", state.dtype).mixture_backward
        call(function, _sizes(of_waiting), state, product, weights, of_node, of_others, *found)
        return of_state, of_product, of_weights.sum(0), of_waiting


def _sizes(nodes: Tensor) -> Sizes:
    return Sizes(*nodes.shape, torch.get_num_threads())


def _columns(weights: Tensor) -> tuple[Tensor, ...]:
    """The weights of tanh, relu, sigmoid, identity and of all four, each (k, 1)."""
    _, *columns = weights.unsqueeze(-1).unbind(1)
    return *columns, weights[:, 1:].sum(1, keepdim=True)
