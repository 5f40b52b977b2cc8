"""The fully connected residual chain in training mode, forward and backward by hand.

a_i = a_{i-1} + norm(relu(W_i a_{i-1} + b_i)) with batch statistics. Small networks are bound by the number of
operations dispatched, not by arithmetic: written out like this a training step dispatches a third of what autograd
does, and `torch.compile` fuses the rest. Tested against autograd on the plain modules.

Shapes: activations (*R, w, B), features first; weights (*R, w, w); biases, scales and shifts (*R, w), where *R are
any replicate axes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

SEGMENT = 5  # blocks compiled together: longer ones run little faster and take in proportion longer to compile


def _forward(a: Tensor, weights, biases, scales, shifts, eps: float):
    activations, hiddens, means, variances = [], [], [], []
    for weight, bias, scale, shift in zip(weights, biases, scales, shifts, strict=True):
        hidden = F.relu(weight @ a + bias.unsqueeze(-1))
        mean = hidden.mean(-1, keepdim=True)
        centred = hidden - mean
        var = centred.square().mean(-1, keepdim=True)
        gain = torch.rsqrt(var + eps) * scale.unsqueeze(-1)
        a = torch.addcmul(a + shift.unsqueeze(-1), centred, gain)
        for kept, value in zip((activations, hiddens, means, variances), (a, hidden, mean, var), strict=True):
            kept.append(value)
    return activations, hiddens, means, variances


def _backward(gradients, inputs, weights, scales, hiddens, means, variances, eps: float):
    # Ioffe & Szegedy 2015, section 3, with the residual connection; `gradients` of the activations may hold None.
    d_weights, d_biases, d_scales, d_shifts = [], [], [], []
    grad = torch.zeros_like(inputs[0])
    for i in reversed(range(len(weights))):
        grad = grad if gradients[i] is None else grad + gradients[i]
        centred = hiddens[i] - means[i]
        inverse_std = torch.rsqrt(variances[i] + eps)
        d_shift = grad.sum(-1, keepdim=True)
        d_scale = (grad * centred).sum(-1, keepdim=True) * inverse_std
        n = grad.shape[-1]
        d_hidden = torch.addcmul(grad - d_shift / n, centred, d_scale * inverse_std / -n)
        d_linear = torch.where(hiddens[i] > 0, d_hidden, 0.0) * (inverse_std * scales[i].unsqueeze(-1))
        d_weights.append(d_linear @ inputs[i].mT)
        d_biases.append(d_linear.sum(-1))
        d_scales.append(d_scale.squeeze(-1))
        d_shifts.append(d_shift.squeeze(-1))
        grad = grad + weights[i].mT @ d_linear
    return [grad], *(kept[::-1] for kept in (d_weights, d_biases, d_scales, d_shifts))


_compiled_forward = torch.compile(_forward, dynamic=False)
_compiled_backward = torch.compile(_backward, dynamic=False)


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx, eps, compiled, a, *parameters):
        n = len(parameters) // 4
        weights, biases, scales, shifts = (parameters[k * n : (k + 1) * n] for k in range(4))
        run = _compiled_forward if compiled else _forward
        activations, hiddens, means, variances = run(a, weights, biases, scales, shifts, eps)
        ctx.save_for_backward(a, *activations[:-1], *weights, *scales, *hiddens, *means, *variances)
        ctx.eps, ctx.compiled, ctx.n = eps, compiled, n
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*means, *variances)
        return *activations, *means, *variances

    @staticmethod
    def backward(ctx, *gradients):
        n = ctx.n
        inputs, weights, scales, hiddens, means, variances = (ctx.saved_tensors[k * n : (k + 1) * n] for k in range(6))
        run = _compiled_backward if ctx.compiled else _backward
        # One memory layout whatever the depth and the head, or each would be compiled for anew.
        gradients = [g if g is None else g.contiguous() for g in gradients[:n]]
        grads = run(gradients, inputs, weights, scales, hiddens, means, variances, ctx.eps)
        return None, None, *(g for kept in grads for g in kept)


def residual_chain(
    a: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    scales: Sequence[Tensor],
    shifts: Sequence[Tensor],
    eps: float = 1e-5,
    compiled: bool = False,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Activations after each block, and the batch mean and biased variance of its hidden units (no gradient).

    With `compiled`, whole segments of `SEGMENT` blocks run compiled, and what is left over does not.
    """
    activations, means, variances = [], [], []
    n = len(weights)
    step = SEGMENT if compiled else max(n, 1)
    for start in range(0, n, step):
        part = slice(start, start + step)
        size = min(step, n - start)
        out = _Chain.apply(
            eps, compiled and size == step, a, *weights[part], *biases[part], *scales[part], *shifts[part]
        )
        activations += out[:size]
        means += out[size : 2 * size]
        variances += out[2 * size :]
        a = activations[-1]
    return activations, means, variances
