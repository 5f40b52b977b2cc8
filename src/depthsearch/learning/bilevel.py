"""The gradient of the validation loss in the parameters of mixing weights, of first and second order.

The weights w of the network minimise the loss on training points, the parameters alpha of the mixing weights that on
validation points (Liu, Simonyan & Yang 2019, arXiv 1806.09055, equations 3 to 8). Nothing here knows what is mixed. A
loss is a function of mixing weights; where several networks lie side by side it returns one value each, (*R,), all
tensors have R in front, and nothing couples them.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from depthsearch.learning.gradients import gradients_of
from depthsearch.learning.mixing import MixingWeights, Weights
from depthsearch.learning.randomness import random_states, set_random_states

HALF_WIDTH = 0.01  # of the finite difference, over the norm of its direction (section 2.3)
TINY = 1e-30  # instead of a norm of zero

Loss = Callable[[Weights], Tensor]


@dataclass(frozen=True)
class Bilevel:
    """What one step of the mixing weights sees.

    Attributes:
        network: whose parameters are w; both losses run it, in training mode.
        mixing: whose alpha is to be learnt.
        train_loss: {name: (*R, edges, options)} -> (*R,), on the batch that w is fitted to next.
        valid_loss: the same on points that w is not fitted to.
        generators: of the draws of the mixing weights, one a replicate; torch's global one if there are none.
    """

    network: nn.Module
    mixing: MixingWeights
    train_loss: Loss
    valid_loss: Loss
    generators: Sequence[torch.Generator] = ()

    def on_training_points(self) -> Tensor:
        """The loss (*R,) under mixing weights drawn anew."""
        return self.train_loss(self.mixing.draw(self.generators))

    def on_validation_points(self, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """The same of validation points; with tensors in the place of the network's parameters, if they are given."""
        weights = self.mixing.draw(self.generators)
        if parameters is None:
            return self.valid_loss(weights)
        tensors = {f"network.{name}": tensor for name, tensor in parameters.items()}
        return functional_call(_Around(self.network), tensors, (self.valid_loss, weights))


@dataclass(frozen=True)
class LookAhead:
    """The step of SGD that the second order looks ahead by: w' = w - rate (momentum velocity + c g + weight_decay w).

    Attributes:
        rate: the learning rate.
        velocity: momentum buffers by the names of the parameters; none before the first step.
        clip: the norm over all parameters to which g is clipped, so that c = min(1, clip / |g|), and with it the
            direction of the finite difference; None for no clipping, c = 1 (DARTS on images: its virtual step does
            not clip, though its real one does).
        faithful: does as the original does where that is wrong. c is not capped at one in the product with the second
            derivative; the parameters `tied` stay where they are; dropout masks and draws are new ones in each pass.
        tied: names of parameters that the original forgets to move.
    """

    rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    velocity: Mapping[str, Tensor] = field(default_factory=dict)
    clip: float | None = None
    faithful: bool = False
    tied: Sequence[str] = ()

    @classmethod
    def of(cls, optimiser: torch.optim.SGD, network: nn.Module, **others: Any) -> "LookAhead":
        """The step that an optimiser of one group would take next."""
        group = optimiser.param_groups[0]
        found = {name: optimiser.state.get(p, {}).get("momentum_buffer") for name, p in network.named_parameters()}
        velocity = {name: buffer for name, buffer in found.items() if buffer is not None}
        return cls(group["lr"], group["momentum"], group["weight_decay"], velocity, **others)

    def moved(self, parameters: Mapping[str, Tensor], gradients: Sequence[Tensor], norm: Tensor) -> list[Tensor]:
        """w', from the gradient g of each parameter and the norm of all (*R,); differentiable."""
        out, coefficient = [], self.coefficient(norm).clamp(max=1)
        for (name, w), g in zip(parameters.items(), gradients, strict=True):
            step = _times(coefficient, g) + self.weight_decay * w
            if name in self.velocity:
                step = step + self.momentum * self.velocity[name]
            out.append(w if self.faithful and name in self.tied else w - self.rate * step)
        return out

    def coefficient(self, norm: Tensor) -> Tensor:
        """clip / norm, not capped (*R,)."""
        return torch.ones_like(norm) if self.clip is None else self.clip / (norm + 1e-6)


def first_order(problem: Bilevel, regulariser: float = 0.0) -> tuple[Tensor, Weights]:
    """The validation loss at the present weights of the network, and its gradient in alpha."""
    with problem.mixing.learning() as alphas:
        value = problem.on_validation_points()
        gradients = gradients_of(_regularised(value, problem, regulariser), alphas.values())
    return value.detach(), dict(zip(alphas, gradients, strict=True))


def second_order(problem: Bilevel, ahead: LookAhead, regulariser: float = 0.0) -> tuple[Tensor, Weights]:
    """The validation loss after the step of `ahead`, SGD's next, and its gradient in alpha as published (equation 7).

    The product with the second derivative is a central difference along v, the gradient of the validation loss in w',
    of half-width 0.01 / |v|. Where the step is clipped so is v, as in the original and faithful or not: the product is
    then clip / |v| of what equation 7 says. Its passes see the random numbers of the pass that made w'. The network is
    left as it was, running statistics included.
    """
    parameters = dict(problem.network.named_parameters())
    w = list(parameters.values())
    rewind = _rewinder(w[0].device, problem.generators)
    with problem.mixing.learning() as alphas, _left_as_it_was(problem.network) as put_back:
        loss = problem.on_training_points()
        uphill = gradients_of(loss, w)
        norm = _norm(uphill, loss.dim())
        _move(w, ahead.moved(parameters, uphill, norm))
        value = problem.on_validation_points()
        go_on = _rewinder(w[0].device, problem.generators)
        gradients = gradients_of(_regularised(value, problem, regulariser), [*alphas.values(), *w])
        direct, v = gradients[: len(alphas)], gradients[len(alphas) :]
        v_norm = _norm(v, loss.dim())
        coefficient = ahead.coefficient(v_norm).clamp(max=1)
        v = [_times(coefficient, g) for g in v]
        half_width = HALF_WIDTH / (coefficient * v_norm).clamp(min=TINY)
        sides = []
        for sign in (1, -1):
            put_back()
            _move(w, [p + _times(sign * half_width, g) for p, g in zip(w, v, strict=True)])
            if not ahead.faithful:
                rewind()
            sides.append(gradients_of(problem.on_training_points(), alphas.values()))
    if not ahead.faithful:
        go_on()  # the next random numbers are new ones
    coefficient = ahead.coefficient(norm)
    scale = -ahead.rate * (coefficient if ahead.faithful else coefficient.clamp(max=1)) / (2 * half_width)
    total = [d + _times(scale, plus - minus) for d, plus, minus in zip(direct, *sides, strict=True)]
    return value.detach(), dict(zip(alphas, total, strict=True))


def exact_second_order(problem: Bilevel, ahead: LookAhead, regulariser: float = 0.0) -> tuple[Tensor, Weights]:
    """The same by double differentiation: the derivative of the validation loss through the step, clipping included.

    It needs a network that can be differentiated twice, and memory for the graph of the gradient. The network is left
    as it was.
    """
    parameters = dict(problem.network.named_parameters())
    with problem.mixing.learning() as alphas, _left_as_it_was(problem.network):
        loss = problem.on_training_points()
        uphill = gradients_of(loss, parameters.values(), create_graph=True)
        moved = ahead.moved(parameters, uphill, _norm(uphill, loss.dim()))
        value = problem.on_validation_points(dict(zip(parameters, moved, strict=True)))
        gradients = gradients_of(_regularised(value, problem, regulariser), alphas.values())
    return value.detach(), dict(zip(alphas, gradients, strict=True))


def _regularised(value: Tensor, problem: Bilevel, regulariser: float) -> Tensor:
    return value + regulariser * problem.mixing.kl() if regulariser else value


def _norm(tensors: Sequence[Tensor], axes: int) -> Tensor:
    """The norm over all tensors and all but the first axes: (*R,)."""
    return torch.stack([t.flatten(axes).square().sum(-1) for t in tensors]).sum(0).sqrt()


def _times(factor: Tensor, tensor: Tensor) -> Tensor:
    """A factor a replicate (*R,) times a tensor (*R, ...)."""
    return factor.reshape(factor.shape + (1,) * (tensor.dim() - factor.dim())) * tensor


@torch.no_grad()
def _move(parameters: Sequence[Tensor], to: Sequence[Tensor]) -> None:
    for p, value in zip(parameters, to, strict=True):
        p.copy_(value)


@contextlib.contextmanager
def _left_as_it_was(network: nn.Module) -> Iterator[Callable[[], None]]:
    """Puts parameters and buffers back at the end, and whenever what it yields is called."""
    tensors = [*network.parameters(), *network.buffers()]
    before = [tensor.detach().clone() for tensor in tensors]
    try:
        yield lambda: _move(tensors, before)
    finally:
        _move(tensors, before)


def _rewinder(device: torch.device, generators: Sequence[torch.Generator]) -> Callable[[], None]:
    """A function that sets all random numbers to where they are now."""
    states, own = random_states(device), [generator.get_state() for generator in generators]

    def rewind() -> None:
        set_random_states(device, states)
        for generator, state in zip(generators, own, strict=True):
            generator.set_state(state)

    return rewind


class _Around(nn.Module):
    """Has `functional_call` put tensors in the place of a network's parameters while a loss runs that network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, loss: Loss, weights: Weights) -> Tensor:
        return loss(weights)
