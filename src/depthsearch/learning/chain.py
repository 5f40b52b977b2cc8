"""The training gradient of `mlp_resnet`, forward and backward by hand, for R replicates at once.

a_0 = U x + u, a_{i+1} = a_i + norm(relu(W_i a_i + b_i)) with batch statistics, logits_i = V a_i + v. Small networks
are bound by the number of operations dispatched, not by arithmetic. So parameters come and gradients go as one flat
tensor, no graph is recorded, and segments of the chain run as one compiled function each, the same for every depth.
Tested against autograd on the plain modules.

Shapes: activations (R, w, B), features first; logits (S, R, C, B). Flat parameters (R, P) lie in the order of
`named_parameters()`, a row for each replicate.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from depthsearch.depth.networks import MLPNetwork
from depthsearch.depth.objectives import elbo_of_depths
from depthsearch.depth.posteriors import DepthPosterior

EPS, MOMENTUM = 1e-5, 0.1  # of torch's batch norm
SEGMENT = 5  # blocks compiled together: longer ones run little faster and take in proportion longer to compile


# A value (R,) from the mean log-likelihood of each depth (S, R), the posterior and N: those of `objectives`.
Objective = Callable[[Tensor, DepthPosterior, int], Tensor]


def objective_gradient(
    network: MLPNetwork,
    depth: DepthPosterior,
    parameters: Tensor,
    statistics: Tensor,
    x: Tensor,
    y: Tensor,
    n_train: int,
    compiled: bool = False,
    objective: Objective = elbo_of_depths,
) -> tuple[Tensor, Tensor]:
    """The objective per datum in training mode and its gradient; takes the batch into the running statistics.

    Args:
        network, depth: stacked modules (`stack_modules`). Of the network only the sizes count.
        parameters: (R, P), those of the network.
        statistics: (R, D * 2 * w or more), running mean and variance of each block in turn; updated in place.
        x, y: a batch (R, B, features), (R, B).
        n_train: N, the number of training points.
        compiled: whether whole segments of `SEGMENT` blocks, and the head of the last depth, run compiled.
        objective: of the depths, the ELBO or the marginal likelihood.

    Returns:
        values (R,) in nats, and the gradient (R, ...) with respect to the parameters of the network and then of the
        posterior.
    """
    (r, batch, features), d = x.shape, network.max_depth
    w, c = network.stem.out_features, network.head.out_features
    lengths = [min(SEGMENT, d - start) for start in range(0, d, SEGMENT)]
    sizes = [w * features, w, *(n * w * (w + 3) for n in lengths), c * w, c]
    stem, stem_bias, *segments, head, head_bias = (p.contiguous() for p in parameters.split(sizes, dim=1))
    head, head_bias = head.view(r, c, w), head_bias.view(r, c, 1)
    one_hot = (y.unsqueeze(1) == torch.arange(c, device=y.device).unsqueeze(1)).to(x.dtype)  # (R, C, B)
    inside = (head, head_bias, one_hot) if depth.min_depth < d else None  # else only the last depth has a head

    a = torch.baddbmm(stem_bias.view(r, w, 1), stem.view(r, w, features), x.mT)
    log_likelihoods, moments, saved = [], [], []
    for segment, n in zip(segments, lengths, strict=True):
        whole = compiled and n == SEGMENT
        forward = _compiled(_forward) if whole else _forward
        backward = _compiled(_backward) if whole else _backward
        a, log_likelihood, moment, *kept = forward(segment, a, inside)
        moments.append(moment)
        saved.append((backward, segment, moment, *kept))
        log_likelihoods += [] if log_likelihood is None else [log_likelihood]
    last, residual = (_compiled(_likelihood) if compiled else _likelihood)(a.unsqueeze(0), head, head_bias, one_hot)

    values, weights, d_posterior = _of_depths(torch.cat([*log_likelihoods, last]), depth, n_train, objective)
    *weights, last_weight = (weights / batch).split([*(lengths if inside else []), 1])
    d_logits = last_weight[0] * residual[0]
    grad = head.mT @ d_logits
    d_heads, d_segments = [torch.cat([(d_logits @ a.mT).flatten(1), d_logits.sum(-1)], 1)], []
    for backward, *kept in reversed(saved):
        grad, d_segment, d_head = backward(grad, head, weights.pop() if weights else None, *kept)
        d_segments.append(d_segment)
        d_heads += [] if d_head is None else [d_head]
    if moments:
        _update(statistics, torch.cat(moments), batch)
    gradients = [(grad @ x).flatten(1), grad.sum(-1), *reversed(d_segments), _sum(d_heads), *d_posterior]
    return values, torch.cat([g.flatten(1) for g in gradients], 1)


def _blocks(parameters: Tensor, w: int) -> list[list[Tensor]]:
    """Weight (R, w, w), bias, scale and shift (R, w, 1) of each block."""
    n = parameters.shape[1] // (w * (w + 3))
    parts = parameters.split([w * w, w, w, w] * n, dim=1)
    return [[part.unflatten(1, (w, -1)) for part in parts[4 * i : 4 * i + 4]] for i in range(n)]


def _forward(parameters: Tensor, a: Tensor, inside: tuple[Tensor, Tensor, Tensor] | None):
    # Runs n blocks. Returns their output, the mean log-likelihood at their inputs, and what the backward pass needs.
    inputs, hiddens, moments = [], [], []
    for weight, bias, scale, shift in _blocks(parameters, a.shape[1]):
        hidden = F.relu(weight @ a + bias)
        mean = hidden.mean(-1, keepdim=True)
        centred = hidden - mean
        var = centred.square().mean(-1, keepdim=True)
        inputs.append(a)
        hiddens.append(hidden)
        moments.append(torch.stack([mean, var], 1))
        a = torch.addcmul(a + shift, centred, torch.rsqrt(var + EPS) * scale)
    stacked = torch.stack(inputs)
    log_likelihood, residual = (None, None) if inside is None else _likelihood(stacked, *inside)
    return a, log_likelihood, torch.stack(moments), stacked, torch.stack(hiddens), residual


def _likelihood(a: Tensor, head: Tensor, head_bias: Tensor, one_hot: Tensor) -> tuple[Tensor, Tensor]:
    # Mean log-likelihood of each depth (n, R), and the gradient of each point's with respect to its logits.
    logits = head @ a + head_bias
    log_probs = logits - logits.logsumexp(-2, keepdim=True)
    return (log_probs * one_hot).sum(-2).mean(-1), one_hot - log_probs.exp()


def _backward(
    grad: Tensor, head: Tensor, weights: Tensor | None, parameters: Tensor, moments, inputs, hiddens, residual
):
    # Ioffe & Szegedy 2015, section 3, with the residual connection. `grad` is that of the output; returned is that of
    # the input, those of the parameters (R, ...) and that of the head.
    d_logits = None if weights is None else weights * residual
    blocks = _blocks(parameters, grad.shape[1])
    n = grad.shape[-1]
    gradients: list[Tensor] = []
    for i in reversed(range(len(blocks))):
        weight, _, scale, _ = blocks[i]
        mean, var = moments[i].unbind(1)
        centred, inverse_std = hiddens[i] - mean, torch.rsqrt(var + EPS)
        d_shift = grad.sum(-1, keepdim=True)
        d_scale = (grad * centred).sum(-1, keepdim=True) * inverse_std
        d_hidden = torch.addcmul(grad - d_shift / n, centred, d_scale * inverse_std / -n)
        d_linear = torch.where(hiddens[i] > 0, d_hidden, 0.0) * (inverse_std * scale)
        gradients = [d_linear @ inputs[i].mT, d_linear.sum(-1), d_scale, d_shift, *gradients]
        grad = grad + weight.mT @ d_linear
        if d_logits is not None:
            grad = grad + head.mT @ d_logits[i]
    d_head = None
    if d_logits is not None:
        d_head = _sum(torch.cat([(d_logits @ inputs.mT).flatten(2), d_logits.sum(-1)], -1).unbind())
    return grad, torch.cat([g.flatten(1) for g in gradients], 1), d_head


def _sum(tensors: Sequence[Tensor]) -> Tensor:
    # One after the other: the order in which `Tensor.sum` adds depends on the number of replicates.
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total


def _of_depths(
    log_likelihoods: Tensor, depth: DepthPosterior, n_train: int, objective: Objective
) -> tuple[Tensor, Tensor, list[Tensor]]:
    # The value, and its gradients with respect to the log-likelihood of each point (S, R, 1, 1) and to the posterior.
    values = objective(log_likelihoods.requires_grad_(), depth, n_train)
    weights, *d_posterior = torch.autograd.grad(values.sum(), [log_likelihoods, *depth.parameters()])
    return values.detach(), weights[..., None, None], d_posterior


def _update(statistics: Tensor, moments: Tensor, n: int) -> None:
    # The rule of torch's batch norm: exponential average, unbiased variance. Moments (D, R, 2, w, 1).
    moments[:, :, 1] *= n / max(n - 1, 1)
    now = moments.transpose(0, 1).flatten(1)
    statistics[:, : now.shape[1]].lerp_(now, MOMENTUM)


@cache
def _compiled(function: Any) -> Any:
    return torch.compile(function, dynamic=False)  # importing the compiler takes longer than importing torch
