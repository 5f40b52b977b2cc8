"""Mixing weights: modules whose call returns, for each open choice of a space, a distribution over its options.

A *space* is a network in which choices are open. It names them, `choices == {name: (edges, options)}`, and its forward
pass takes weights {name: (edges, options)}, one row an edge, that sum to one over the options.

The parameters alpha and their Adam moments are buffers: the optimiser of the network cannot get hold of them, and saved
states carry all of it. Stacked modules (`stack_modules`) put replicate axes R in front: alpha (*R, edges, options).
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Categorical, Dirichlet, Distribution, kl_divergence

EPS = 1e-8  # of Adam
START = 1e-3  # standard deviation of alpha before the first step

Weights = dict[str, Tensor]


class _Choice(nn.Module):
    """The parameters of one choice, what Adam remembers of them, and 1 where an option is kept, else 0."""

    alpha: Tensor
    moment: Tensor
    square: Tensor
    steps: Tensor
    kept: Tensor

    def __init__(self, alpha: Tensor) -> None:
        super().__init__()
        self.register_buffer("alpha", alpha)
        self.register_buffer("moment", torch.zeros_like(alpha))
        self.register_buffer("square", torch.zeros_like(alpha))
        self.register_buffer("steps", alpha.new_zeros(1, 1))
        self.register_buffer("kept", torch.ones_like(alpha))


class MixingWeights(nn.Module):
    """Base of the mixing weights over the options of some choices; alpha starts as 0.001 N(0, 1).

    Args:
        choices: {name: (edges, options)} of a space.
        generator: of the start, torch's global one if not given.
    """

    def __init__(self, choices: Mapping[str, tuple[int, int]], generator: torch.Generator | None = None) -> None:
        super().__init__()
        starts = {name: START * torch.randn(shape, generator=generator) for name, shape in choices.items()}
        self._of = nn.ModuleDict({name: _Choice(alpha) for name, alpha in starts.items()})

    @property
    def alphas(self) -> Weights:
        """The parameters {name: (*R, edges, options)}."""
        return {name: choice.alpha for name, choice in self._each()}

    @property
    def masks(self) -> Weights:
        """True where an option is kept {name: (*R, edges, options)}."""
        return {name: choice.kept > 0 for name, choice in self._each()}

    def forward(self) -> dict[str, Distribution]:
        """For each choice the distribution, of batch shape (*R, edges)."""
        return {name: self._distribution(choice) for name, choice in self._each()}

    def draw(self, generators: Sequence[torch.Generator] = ()) -> Weights:
        """Weights to mix by, differentiable in alpha; where they are random, anew at every call.

        Args:
            generators: one a replicate; torch's global one if there are none.
        """
        raise NotImplementedError

    def mean(self) -> Weights:
        """The expected weights."""
        raise NotImplementedError

    def softmax(self) -> Weights:
        """softmax(alpha) over the options that are kept, 0 elsewhere."""
        return {name: _masked(choice).softmax(-1) for name, choice in self._each()}

    def kl(self) -> Tensor:
        """KL to the flat distribution of the same kind, nats, summed over edges and choices (*R,)."""
        return torch.stack([self._kl(choice).sum(-1) for _, choice in self._each()]).sum(0)

    @torch.no_grad()
    def entropy(self) -> Weights:
        """For each choice the entropy of its mean weights, nats, a mean over edges {name: (*R,)}."""
        return {name: torch.special.entr(w).sum(-1).mean(-1) for name, w in self.mean().items()}

    @contextlib.contextmanager
    def learning(self) -> Iterator[Weights]:
        """Within it alpha requires a gradient."""
        alphas = self.alphas
        for alpha in alphas.values():
            alpha.requires_grad_(True)
        try:
            yield alphas
        finally:
            for alpha in alphas.values():
                alpha.requires_grad_(False)

    @torch.no_grad()
    def descend(
        self,
        gradients: Weights,
        learning_rate: float,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.5, 0.999),
    ) -> None:
        """A step of Adam down the gradients with L2 weight decay; options that are gone stay where they are."""
        for name, choice in self._each():
            descent = choice.kept * (gradients[name] + weight_decay * choice.alpha)
            choice.steps += 1
            choice.moment.lerp_(descent, 1 - betas[0])
            choice.square.lerp_(descent.square(), 1 - betas[1])
            first, second = (1 - beta ** choice.steps.double() for beta in betas)
            moment, square = choice.moment / first.to(choice.alpha), choice.square / second.to(choice.alpha)
            choice.alpha -= learning_rate * moment / (square.sqrt() + EPS)

    @torch.no_grad()
    def keep_best(self, n: int) -> None:
        """Keeps on each edge the n options of the largest mean weight, of equals the first; alpha of others is 0.

        Raises:
            ValueError: unless 1 <= n <= the options that an edge still has.
        """
        kept = strongest(self.mean(), self.masks, n)
        for name, choice in self._each():
            choice.kept.copy_(kept[name])
            for tensor in (choice.alpha, choice.moment, choice.square):
                tensor *= choice.kept

    def _each(self) -> Iterator[tuple[str, _Choice]]:
        for name, choice in self._of.items():
            assert isinstance(choice, _Choice)
            yield name, choice

    def _distribution(self, choice: _Choice) -> Distribution:
        raise NotImplementedError

    def _kl(self, choice: _Choice) -> Tensor:
        raise NotImplementedError


class SoftmaxWeights(MixingWeights):
    """w = softmax(alpha) (DARTS, arXiv 1806.09055, equation 2). A call returns Categoricals."""

    def draw(self, generators: Sequence[torch.Generator] = ()) -> Weights:
        return self.mean()

    def mean(self) -> Weights:
        return self.softmax()

    def _distribution(self, choice: _Choice) -> Categorical:
        return Categorical(logits=_masked(choice), validate_args=False)

    def _kl(self, choice: _Choice) -> Tensor:
        # To equal weights of the options that are kept; zeros in place of what is infinite, or its gradient is not a
        # number.
        log_w = _masked(choice).log_softmax(-1).masked_fill(choice.kept == 0, 0)
        return choice.kept.sum(-1).log() + (choice.kept * log_w.exp() * log_w).sum(-1)


class DirichletWeights(MixingWeights):
    """w ~ Dirichlet(elu(alpha) + 1) on each edge (DrNAS: Chen et al. 2021, arXiv 2006.10355).

    A call returns Dirichlets over all options. Where some are gone, a draw is restricted to the others and divided by
    its sum: such weights are Dirichlet too, with the concentrations of the others. The KL is over all options, as in
    the original, with 1 for those that are gone.
    """

    def draw(self, generators: Sequence[torch.Generator] = ()) -> Weights:
        drawn = {}
        for name, choice in self._each():
            concentration = self._concentration(choice)
            sample = _each_from_its_own(concentration, generators) if generators else _sample(concentration)
            drawn[name] = _normalised(sample * choice.kept)
        return drawn

    def mean(self) -> Weights:
        return {name: _normalised(self._concentration(choice) * choice.kept) for name, choice in self._each()}

    def _distribution(self, choice: _Choice) -> Dirichlet:
        return Dirichlet(self._concentration(choice), validate_args=False)

    def _kl(self, choice: _Choice) -> Tensor:
        q = self._distribution(choice)
        return kl_divergence(q, Dirichlet(torch.ones_like(q.concentration), validate_args=False))

    def _concentration(self, choice: _Choice) -> Tensor:
        return F.elu(choice.alpha) + 1


def strongest(weights: Mapping[str, Tensor], masks: Mapping[str, Tensor], keep: int) -> Weights:
    """Masks in the shapes of the weights: True at the `keep` largest open ones of each row, of equals the first.

    Raises:
        ValueError: unless 1 <= keep <= the number of open options of each row.
    """
    fewest = min(int(mask.sum(-1).min()) for mask in masks.values())
    if not 1 <= keep <= fewest:
        raise ValueError(f"keep must be from 1 to the {fewest} options that are open, got {keep}")
    kept = {}
    for name, mask in masks.items():
        scores = weights[name].detach().masked_fill(~mask, -torch.inf)
        best = torch.argsort(-scores, dim=-1, stable=True)[..., :keep]
        kept[name] = torch.zeros_like(mask).scatter(-1, best, True)
    return kept


def _masked(choice: _Choice) -> Tensor:
    return choice.alpha.masked_fill(choice.kept == 0, -torch.inf)


def _normalised(weights: Tensor) -> Tensor:
    return weights / weights.sum(-1, keepdim=True)


def _sample(concentration: Tensor) -> Tensor:
    return Dirichlet(concentration, validate_args=False).rsample()


def _each_from_its_own(concentration: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    # torch samples a Dirichlet from its global generator only.
    samples = []
    for row, generator in zip(concentration, generators, strict=True):
        with torch.random.fork_rng(devices=[row.device] if row.is_cuda else []):
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            samples.append(_sample(row))
    return torch.stack(samples)
