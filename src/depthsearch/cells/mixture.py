"""What one state of the recurrent search cell adds to all later nodes, with its gradient written out.

The elementwise work on 36 edges takes as long as the matrix products if it is left to autograd: each operation then
goes over memory on its own and keeps its result for the way back. Here nothing is kept but the products, everything
else is computed anew, and a tanh costs what a sigmoid does.
"""

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]


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


class Mixture(torch.autograd.Function):
    """`plain_mixture`, faster and in less memory; under `create_graph=True` the plain one is differentiated."""

    @staticmethod
    def forward(ctx, state: Tensor, product: Tensor, weights: Tensor, waiting: Tensor) -> Pair:  # type: ignore[override]
        gates, candidates = product[:, 0].sigmoid(), product[:, 1]
        of_tanh, of_relu, of_sigmoid, of_identity, of_all = _columns(weights)
        sigmoid, double = _sigmoids(candidates)
        positive = torch.gt(candidates, 0, out=torch.empty_like(gates))  # as numbers at once: ten times faster
        slope = positive.mul_(of_relu).add_(of_identity)  # of two of the four
        mixed = (candidates * slope).addcmul_(sigmoid, of_sigmoid).addcmul_(double, 2 * of_tanh).sub_(of_tanh)
        difference = mixed.addcmul_(state.unsqueeze(1), of_all, value=-1)
        nodes = torch.addcmul(waiting, state.unsqueeze(1), of_all).addcmul_(gates, difference)
        if any(ctx.needs_input_grad):
            slope.addcmul_(sigmoid.addcmul_(sigmoid, sigmoid, value=-1), of_sigmoid)  # x - x^2, the sigmoid's own slope
            slope.addcmul_(double.addcmul_(double, double, value=-1), 4 * of_tanh)
            ctx.save_for_backward(state, product, weights, gates, difference, slope)
        return nodes[:, 0].clone(), nodes[:, 1:]

    @staticmethod
    def backward(ctx, grad_node: Tensor, grad_waiting: Tensor):  # type: ignore[override]
        state, product, weights, gates, difference, slope = ctx.saved_tensors
        grad, needs = torch.cat([grad_node.unsqueeze(1), grad_waiting], dim=1), ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():
            # Views, or the gradient of one input would run on into those that it is made of.
            inputs = state, product, weights = [x.view_as(x) for x in (state, product, weights)]
            outputs = plain_mixture(state, product, weights, grad.new_zeros(()))  # `waiting` is of no account here
            wanted = [x for x, needed in zip(inputs, needs, strict=True) if needed]
            found = iter(torch.autograd.grad(outputs, wanted, (grad_node, grad_waiting), create_graph=True))
            return *(next(found) if needed else None for needed in needs), grad
        of_mixed = grad * gates
        of_kept = grad - of_mixed
        of_weights = _of_weights(of_mixed, of_kept, state, product[:, 1]) if needs[2] else None
        of_product = torch.empty_like(product)
        torch.mul(difference, of_kept, out=of_product[:, 0]).mul_(gates)
        torch.mul(slope, of_mixed, out=of_product[:, 1])
        return of_kept.mul_(_columns(weights)[-1]).sum(1), of_product, of_weights, grad


def _columns(weights: Tensor) -> tuple[Tensor, ...]:
    """The weights of tanh, relu, sigmoid, identity and of all four, each (k, 1)."""
    _, *columns = weights.unsqueeze(-1).unbind(1)
    return *columns, weights[:, 1:].sum(1, keepdim=True)


def _sigmoids(candidates: Tensor) -> Pair:
    """The sigmoids of x and of 2 x: tanh(x) = 2 sigmoid(2 x) - 1 takes a third of the time that a tanh does."""
    return candidates.sigmoid(), (candidates * 2).sigmoid_()


def _of_weights(of_mixed: Tensor, of_kept: Tensor, state: Tensor, candidates: Tensor) -> Tensor:
    """Gradient of the weights (k, 5)."""
    sigmoid, double = _sigmoids(candidates)

    def total(product: Tensor) -> Tensor:
        return product.sum(0).sum(-1)

    kept = total(of_kept * state.unsqueeze(1))
    tanh = 2 * total(double.mul_(of_mixed)) - total(of_mixed)
    relu, of_sigmoid = (total(f.mul_(of_mixed)) for f in (candidates.relu(), sigmoid))
    identity = total(candidates * of_mixed)
    return torch.stack([torch.zeros_like(kept), tanh + kept, relu + kept, of_sigmoid + kept, identity + kept], dim=1)
