"""Mixing weights against closed forms, torch's Adam and the original's regularisers."""

import math

import numpy as np
import pytest
import torch
from conftest import HERE
from torch.distributions import Categorical, Dirichlet

from depthsearch.depth.networks import stack_modules
from depthsearch.learning.mixing import DirichletWeights, SoftmaxWeights

CHOICES = {"normal": (4, 3), "reduce": (2, 5)}
KINDS = [SoftmaxWeights, DirichletWeights]


def made(kind, seed=0, scale=1.0):
    """Mixing weights in float64 whose alpha are `scale` N(0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    mixing = kind(CHOICES, generator).double()
    for alpha in mixing.alphas.values():
        alpha.copy_(scale * torch.randn(alpha.shape, generator=generator, dtype=torch.float64))
    return mixing


@pytest.mark.parametrize("kind", KINDS)
def test_starts_near_nothing_from_a_seed(kind):
    first, again, other = (kind({"cell": (100, 50)}, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    alpha = first.alphas["cell"]
    assert torch.equal(alpha, again.alphas["cell"]) and not torch.equal(alpha, other.alphas["cell"])
    assert 0.97e-3 < alpha.std() < 1.03e-3 and abs(alpha.mean()) < 1e-4
    assert not list(first.parameters()), "the optimiser of a network must not get hold of them"
    assert "_of.cell.alpha" in first.state_dict()


def test_a_call_returns_the_distributions():
    soft, dirichlet = made(SoftmaxWeights), made(DirichletWeights)
    for name, q in soft().items():
        assert isinstance(q, Categorical)
        alpha = soft.alphas[name]
        torch.testing.assert_close(q.probs, alpha.exp() / alpha.exp().sum(-1, keepdim=True))
        torch.testing.assert_close(soft.draw()[name], q.probs)
    for name, q in dirichlet().items():
        assert isinstance(q, Dirichlet)
        alpha = dirichlet.alphas[name]
        torch.testing.assert_close(q.concentration, torch.where(alpha > 0, alpha + 1, alpha.exp()))
        torch.testing.assert_close(dirichlet.mean()[name], q.mean)


def test_dirichlet_draws_are_new_ones_and_carry_a_gradient():
    """The mean draw, and the gradient of the mean of v . w, against closed forms, within 4 standard errors."""
    mixing = made(DirichletWeights)
    torch.manual_seed(0)
    v = torch.randn(4, 3, dtype=torch.float64)
    draws, gradients = [], []
    with mixing.learning() as alphas:
        for _ in range(2000):
            w = mixing.draw()["normal"]
            draws.append(w.detach())
            gradients.append(torch.autograd.grad((w * v).sum(), alphas["normal"])[0])
    mean, alpha = mixing.mean()["normal"], mixing.alphas["normal"]
    concentration, slope = mixing()["normal"].concentration, torch.where(alpha > 0, 1.0, alpha.exp())
    expected = slope * (v - (v * mean).sum(-1, keepdim=True)) / concentration.sum(-1, keepdim=True)
    for found, truth in ((torch.stack(draws), mean), (torch.stack(gradients), expected)):
        assert ((found.mean(0) - truth).abs() < 4 * found.std(0) / 2000**0.5).all() and (found.std(0) > 0).all()
    assert not mixing.alphas["normal"].requires_grad


def test_kl_is_a_sum_over_edges_and_choices_and_what_the_original_computes():
    with np.load(HERE / "parity" / "nb201_search.npz", allow_pickle=False) as file:
        z = {k: torch.from_numpy(file[k]) for k in file.files if file[k].dtype.kind == "f"}
    mixing = DirichletWeights({"cell": (6, 5)}).double()
    mixing.alphas["cell"].copy_(z["alpha"])
    torch.testing.assert_close(mixing()["cell"].concentration, z["concentration"], rtol=0, atol=1e-12)
    with mixing.learning() as alphas:
        value = z["reg_scale"] * mixing.kl()
        (gradient,) = torch.autograd.grad(value, alphas["cell"])
    torch.testing.assert_close(value.detach(), z["kl_regulariser"], rtol=0, atol=1e-9)
    torch.testing.assert_close(gradient, z["grad_alpha_kl_regulariser"], rtol=0, atol=1e-9)
    torch.testing.assert_close(
        z["reg_scale"] * mixing.alphas["cell"], z["grad_alpha_l2_regulariser"], rtol=0, atol=1e-9
    )

    for kind in KINDS:
        both = made(kind)
        alone = [made(kind) for _ in CHOICES]
        for single, gone in zip(alone, reversed(CHOICES), strict=True):
            single.alphas[gone].zero_()  # flat: contributes nothing
        torch.testing.assert_close(both.kl(), sum(single.kl() for single in alone))
    q = made(SoftmaxWeights)
    by_hand = sum((w * (w.log() + math.log(w.shape[-1]))).sum() for w in q.mean().values())
    torch.testing.assert_close(q.kl(), by_hand)


def test_kl_of_softmax_weights_is_to_equal_weights_of_the_options_that_are_kept():
    mixing = made(SoftmaxWeights)
    mixing.keep_best(2)
    with mixing.learning() as alphas:
        value = mixing.kl()
        gradients = torch.autograd.grad(value, list(alphas.values()))
    by_hand = 0
    for name, mask in mixing.masks.items():
        w = mixing.alphas[name][mask].unflatten(0, (-1, 2)).softmax(-1)
        by_hand = by_hand + (w * (2 * w).log()).sum()
    torch.testing.assert_close(value.detach(), by_hand)
    for gradient, mask in zip(gradients, mixing.masks.values(), strict=True):
        assert gradient.isfinite().all() and (gradient[mask] != 0).all() and (gradient[~mask] == 0).all()


class _HeldDraw(torch.autograd.Function):
    """A given draw, with torch's pathwise derivative at it."""

    @staticmethod
    def forward(ctx, concentration, drawn):
        ctx.save_for_backward(concentration, drawn)
        return drawn.clone()

    @staticmethod
    def backward(ctx, grad):
        concentration, x = ctx.saved_tensors
        total = concentration.sum(-1, True).expand_as(concentration)
        slope = torch._dirichlet_grad(x, concentration, total)
        return slope * (grad - (x * grad).sum(-1, True)), None


def originals(case):
    """alpha, mask, full draw, what is mixed by, and the gradients of the last and of alpha."""
    name, prefix = {
        "nb201": ("nb201_search", ""),
        "whole": ("drnas_search", ""),
        "pruned": ("drnas_search", "pruned:"),
    }[case]
    with np.load(HERE / "parity" / f"{name}.npz", allow_pickle=False) as file:
        z = {k: torch.from_numpy(file[k]) for k in file.files if file[k].dtype.kind in "fb"}
    if case == "nb201":
        return [(z["alpha"], None, z["mix"], z["mix"], z["grad_mix"], z["grad_alpha"])]
    keys = (
        ["alphas", "mask", "draw", "mix", "grad_mix", "grad_alphas"]
        if prefix
        else ["alphas", "mix", "grad_mix", "grad_alphas"]
    )
    rows = []
    for cell in ("normal", "reduce"):
        row = [z[f"{prefix}{key}_{cell}"] for key in keys]
        rows.append(row if prefix else [row[0], None, row[1], *row[1:]])
    return rows


@pytest.mark.parametrize("case", ["nb201", "whole", "pruned"])
def test_the_draw_is_restricted_and_has_the_originals_gradient(case, monkeypatch):
    for alpha, mask, full, mix, grad_mix, grad_alpha in originals(case):
        mixing = DirichletWeights({"cell": tuple(alpha.shape)}).double()
        if mask is not None:
            mixing.alphas["cell"].copy_(mask)  # the largest are those that are kept
            mixing.keep_best(int(mask.sum(-1).max()))
            assert torch.equal(mixing.masks["cell"], mask > 0) and (alpha[mask == 0] == 0).all()
        mixing.alphas["cell"].copy_(alpha)

        class Held(Dirichlet):
            def rsample(self, sample_shape=(), full=full):
                return _HeldDraw.apply(self.concentration, full)

        monkeypatch.setattr("depthsearch.learning.mixing.Dirichlet", Held)
        with mixing.learning() as alphas:
            drawn = mixing.draw()["cell"]
            (gradient,) = torch.autograd.grad(drawn, alphas["cell"], grad_mix)
        torch.testing.assert_close(drawn.detach(), mix, rtol=0, atol=1e-12)
        kept = slice(None) if mask is None else mask > 0  # what is gone does not move: `descend` leaves it alone
        torch.testing.assert_close(gradient[kept], grad_alpha[kept], rtol=0, atol=1e-9)


def test_adam_is_torchs():
    mixing = made(SoftmaxWeights)
    twins = {name: torch.nn.Parameter(alpha.clone()) for name, alpha in mixing.alphas.items()}
    optimiser = torch.optim.Adam(twins.values(), lr=0.01, betas=(0.5, 0.999), weight_decay=1e-3)
    for i in range(5):
        generator = torch.Generator().manual_seed(i)
        gradients = {k: torch.randn(t.shape, generator=generator, dtype=t.dtype) for k, t in mixing.alphas.items()}
        for name, twin in twins.items():
            twin.grad = gradients[name].clone()
        optimiser.step()
        mixing.descend(gradients, 0.01, 1e-3)
        for name, twin in twins.items():
            torch.testing.assert_close(mixing.alphas[name], twin.detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_options_that_are_gone_have_no_weight_and_stay_gone(kind):
    mixing = made(kind)
    mixing.alphas["normal"][0] = torch.tensor([0.5, 0.5, 0.1])
    gradients = {name: torch.ones_like(alpha) for name, alpha in mixing.alphas.items()}
    mixing.descend(gradients, 0.01)
    before = mixing.mean()
    mixing.keep_best(2)
    assert mixing.masks["normal"][0].tolist() == [True, True, False]
    for name, mask in mixing.masks.items():
        assert (mask.sum(-1) == 2).all()
        assert (before[name].masked_fill(mask, 0).amax(-1) <= before[name].masked_fill(~mask, 1).amin(-1)).all()
        assert (mixing.alphas[name][~mask] == 0).all() and (mixing.alphas[name][mask] != 0).all()
        restricted = before[name] * mask / (before[name] * mask).sum(-1, keepdim=True)
        torch.testing.assert_close(mixing.mean()[name], restricted)
        drawn = mixing.draw()[name]
        assert (drawn[~mask] == 0).all() and (drawn[mask] > 0).all()
        torch.testing.assert_close(drawn.sum(-1), torch.ones_like(drawn[:, 0]))
    for _ in range(3):
        mixing.descend(gradients, 0.01, 1e-3)
    assert all((mixing.alphas[name][~mask] == 0).all() for name, mask in mixing.masks.items())
    with mixing.learning() as alphas:
        value = sum((w * torch.arange(w.shape[-1])).sum() for w in mixing.draw().values())
        found = dict(zip(alphas, torch.autograd.grad(value, alphas.values()), strict=True))
    assert all(grad.isfinite().all() for grad in found.values())
    mixing.keep_best(1)
    assert all((w.amax(-1) == 1).all() for w in mixing.mean().values())
    assert all(h == 0 for h in mixing.entropy().values())
    for n in (0, 2):
        with pytest.raises(ValueError, match=f"keep must be from 1 to the 1 options that are open, got {n}"):
            mixing.keep_best(n)


def test_of_equal_options_the_first_are_kept():
    mixing = made(SoftmaxWeights, scale=0.0)
    mixing.keep_best(2)
    assert (mixing.masks["reduce"] == torch.tensor([True, True, False, False, False])).all()


@pytest.mark.parametrize("kind", KINDS)
def test_replicates_side_by_side_are_each_as_alone(kind):
    alone = [made(kind, seed) for seed in range(3)]
    together = stack_modules(alone)
    generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
    drawn = together.draw(generators)
    gradients = {name: torch.randn(3, *shape, dtype=torch.float64) for name, shape in CHOICES.items()}
    together.descend(gradients, 0.1, 1e-2)
    together.keep_best(2)
    for r, single in enumerate(alone):
        if kind is DirichletWeights:
            seeded = torch.Generator().manual_seed(r)
            row = stack_modules([single]).draw([seeded])
            for name in CHOICES:
                torch.testing.assert_close(drawn[name][r], row[name][0], rtol=0, atol=1e-12)
        single.descend({name: gradient[r] for name, gradient in gradients.items()}, 0.1, 1e-2)
        single.keep_best(2)
        for name in CHOICES:
            torch.testing.assert_close(together.alphas[name][r], single.alphas[name])
            assert torch.equal(together.masks[name][r], single.masks[name])
            torch.testing.assert_close(together.entropy()[name][r], single.entropy()[name])
        torch.testing.assert_close(together.kl()[r], single.kl())


def test_entropy_is_the_mean_over_edges():
    mixing = made(SoftmaxWeights)
    expected = {name: Categorical(probs=w).entropy().mean() for name, w in mixing.mean().items()}
    for name, value in mixing.entropy().items():
        torch.testing.assert_close(value, expected[name])
