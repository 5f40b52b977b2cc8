"""The chain of `mlp_resnet` as one operation, by `native/chain.cpp`, on a CPU.

It runs on one thread, and has a gradient for the parameters alone, not for inputs.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor

from depthsearch.native import call, library


class Sizes(ctypes.Structure):
    """`Sizes` of chain.cpp."""

    _fields_ = tuple((name, ctypes.c_int) for name in ("depth", "width", "features", "classes", "batch", "first"))


def no_second_derivative() -> None:
    """To be called in a backward pass whose own operations are not to be differentiated.

    Raises:
        RuntimeError: they would be, because a graph of the gradient is asked for. The mark of torch for this,
            `once_differentiable`, says something only if the second pass comes by here. That of DARTS, to the weights
            of a mixture, does not: a part of the gradient would be missing silently.
    """
    if torch.is_grad_enabled():
        raise RuntimeError("what is compiled has no second derivative: train with compiled=False")


class Chain(torch.autograd.Function):
    """R networks on a batch each: logits of the depths first..D, and moments of the norms.

    Args:
        sizes: D, w, features F, C, B, and the depth from which the head is applied.
        eps: of the norms.
        parameters: (R, P), in the order of `named_parameters()`.
        x: (R, B, F).

    Returns:
        logits (S, R, C, B), and mean and biased variance of each norm (R, D, 2, w), which carry no gradient.

    Raises:
        ValueError: shapes or types do not belong together, the batch is empty, or there is no such depth.
        RuntimeError: there is no `library` for it.
    """

    @staticmethod
    def forward(ctx, sizes: Sizes, eps: float, parameters: Tensor, x: Tensor):  # type: ignore[override]
        functions, of_kept = _functions(sizes, parameters, x)
        parameters, moments = parameters.contiguous(), x.new_empty(len(x), sizes.depth, 2, sizes.width)
        kept = x.new_empty(len(x), of_kept)
        logits = x.new_empty(sizes.depth + 1 - sizes.first, len(x), sizes.classes, sizes.batch)
        ctx.how, tensors = (sizes, len(x), eps), (parameters, moments, kept)
        call(functions.chain_forward, *ctx.how, *tensors, x.contiguous(), logits)
        ctx.save_for_backward(*tensors)
        ctx.mark_non_differentiable(moments)
        return logits, moments

    @staticmethod
    def backward(ctx, grad: Tensor, _):  # type: ignore[override]
        no_second_derivative()
        parameters, moments, kept = ctx.saved_tensors
        gradient, function = torch.zeros_like(parameters), library("chain", grad.dtype).chain_backward
        call(function, *ctx.how, parameters, moments, kept, grad.contiguous(), gradient)
        return None, None, gradient, None


def chain_logits(sizes: Sizes, eps: float, parameters: Tensor, x: Tensor, moments: Tensor) -> Tensor:
    """The same logits in evaluation mode, without a gradient: moments (R, D, 2, w) are what the norms have seen.

    Raises:
        ValueError, RuntimeError: as above.
    """
    functions, of_kept = _functions(sizes, parameters, x)
    shape = (len(x), sizes.depth, 2, sizes.width)
    if tuple(moments.shape) != shape or moments.dtype != x.dtype:
        raise ValueError(f"need moments {shape} of {x.dtype}, got {tuple(moments.shape)} of {moments.dtype}")
    logits = x.new_empty(sizes.depth + 1 - sizes.first, len(x), sizes.classes, sizes.batch)
    given = (parameters.contiguous(), moments.contiguous(), x.new_empty(of_kept), x.contiguous(), logits)
    call(functions.chain_evaluate, sizes, len(x), eps, *given)
    return logits


def chain_gradient(
    sizes: Sizes, eps: float, parameters: Tensor, x: Tensor, y: Tensor, slopes: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean log-likelihoods (S, R), moments as above, and the gradient (R, P) of the sum of slopes x log-likelihoods.

    Faster than by autograd: each network goes there and back before the next, and what it keeps stays in the cache.

    Args:
        sizes, eps, parameters, x: as above.
        y: (R, B).
        slopes: (S, R).

    Raises:
        ValueError, RuntimeError: as above, or a label is not in 0..C - 1.
    """
    functions, of_kept = _functions(sizes, parameters, x)
    shapes = {"labels": (len(x), sizes.batch), "slopes": (sizes.depth + 1 - sizes.first, len(x))}
    if {"labels": tuple(y.shape), "slopes": tuple(slopes.shape)} != shapes or slopes.dtype != x.dtype:
        raise ValueError(f"need {shapes} of one type, got {tuple(y.shape)}, {tuple(slopes.shape)} of {slopes.dtype}")
    if y.dtype != torch.int64 or not 0 <= int(y.min()) <= int(y.max()) < sizes.classes:
        raise ValueError(f"labels must be whole numbers from 0 to {sizes.classes - 1}")
    parameters, moments = parameters.contiguous(), x.new_empty(len(x), sizes.depth, 2, sizes.width)
    found, gradient = torch.empty_like(slopes, memory_format=torch.contiguous_format), torch.zeros_like(parameters)
    given = (parameters, moments, x.new_empty(of_kept), x.contiguous(), y.contiguous(), slopes.contiguous())
    call(functions.chain_gradient, sizes, len(x), eps, *given, found, gradient)
    return found, moments, gradient


def _functions(sizes: Sizes, parameters: Tensor, x: Tensor) -> tuple[Any, int]:
    """Those of the library, and how many numbers a network keeps; what does not fit would be read beyond its end."""
    functions = library("chain", x.dtype)
    if functions is None:
        raise RuntimeError(f"no C++ compiler that works here, or tensors of {x.dtype}: use the modules")
    if not x.numel() or not 0 <= sizes.first <= sizes.depth:
        raise ValueError(f"need points and 0 <= min_depth <= {sizes.depth}, got {tuple(x.shape)} and {sizes.first}")
    counts = [ctypes.c_longlong() for _ in ("parameters", "kept")]
    functions.count(ctypes.byref(sizes), *map(ctypes.byref, counts))
    wanted = {"parameters": (len(x), counts[0].value), "inputs": (len(x), sizes.batch, sizes.features)}
    given = {"parameters": tuple(parameters.shape), "inputs": tuple(x.shape)}
    if wanted != given or parameters.dtype != x.dtype:
        raise ValueError(f"need {wanted} of one type, got {given} of {parameters.dtype} and {x.dtype}")
    return functions, counts[1].value
