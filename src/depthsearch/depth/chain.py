"""The chain of `mlp_resnet` in training mode as one operation, by `native/chain.cpp`, on a CPU.

It runs on one thread, and has a gradient for the parameters alone, not for inputs.
"""

import ctypes

import torch
from torch import Tensor

from depthsearch.native import call, library


class Sizes(ctypes.Structure):
    """`Sizes` of chain.cpp."""

    _fields_ = tuple((name, ctypes.c_int) for name in ("depth", "width", "features", "classes", "batch", "first"))


class Chain(torch.autograd.Function):
    """R networks on a batch each: logits, or mean log-likelihoods, of the depths first..D; moments of the norms.

    Args:
        sizes: D, w, features F, C, B, and the depth from which the head is applied.
        eps: of the norms.
        parameters: (R, P), in the order of `named_parameters()`.
        x: (R, B, F).
        y: (R, B) for the mean log-likelihoods (S, R), None for the logits (S, R, C, B).

    Returns:
        what was asked, and mean and biased variance of each norm (R, D, 2, w), which carry no gradient.

    Raises:
        ValueError: shapes or types do not belong together, or a label is not in 0..C - 1.
        RuntimeError: there is no `library` for it.
    """

    @staticmethod
    def forward(ctx, sizes: Sizes, eps: float, parameters: Tensor, x: Tensor, y: Tensor | None):  # type: ignore[override]
        r, functions, parameters = len(x), library("chain", x.dtype), parameters.contiguous()
        if functions is None:
            raise RuntimeError(f"no C++ compiler that works here, or tensors of {x.dtype}: use the modules")
        counts = [ctypes.c_longlong() for _ in ("parameters", "kept")]
        functions.count(ctypes.byref(sizes), *map(ctypes.byref, counts))
        _check(sizes, parameters, x, y, counts[0].value)
        moments = x.new_empty(r, sizes.depth, 2, sizes.width)
        kept = x.new_empty(r, counts[1].value)
        out = x.new_empty(sizes.depth + 1 - sizes.first, r, *(() if y is not None else (sizes.classes, sizes.batch)))
        ctx.how, ctx.scored = (sizes, r, eps), int(y is not None)
        tensors = (parameters, moments, kept)
        call(functions.chain_forward, *ctx.how, *tensors, x.contiguous(), None if y is None else y.contiguous(), out)
        ctx.save_for_backward(*tensors)
        ctx.mark_non_differentiable(moments)
        return out, moments

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor, _):  # type: ignore[override]
        parameters, moments, kept = ctx.saved_tensors
        gradient, function = torch.zeros_like(parameters), library("chain", grad.dtype).chain_backward
        call(function, *ctx.how, parameters, moments, kept, ctx.scored, grad.contiguous(), gradient)
        return None, None, gradient, None, None


def _check(sizes: Sizes, parameters: Tensor, x: Tensor, y: Tensor | None, count: int) -> None:
    """What is wrong here would be read or written beyond the end of a tensor there."""
    wanted = {"parameters": (len(x), count), "inputs": (len(x), sizes.batch, sizes.features)}
    given = {"parameters": tuple(parameters.shape), "inputs": tuple(x.shape)}
    if y is not None:
        wanted["labels"], given["labels"] = (len(x), sizes.batch), tuple(y.shape)
    if wanted != given or parameters.dtype != x.dtype:
        raise ValueError(f"need {wanted} of one type, got {given} of {parameters.dtype} and {x.dtype}")
    if y is not None and (y.dtype != torch.int64 or not 0 <= int(y.min()) <= int(y.max()) < sizes.classes):
        raise ValueError(f"labels must be whole numbers from 0 to {sizes.classes - 1}")
