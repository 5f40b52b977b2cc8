"""Averaged SGD: its mean is torch's, its trigger the paper's rule."""

import pytest
import torch

from depthsearch.learning.averaging import Averaging


def descend(optimiser, parameters, steps, seed, after=lambda: None):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for p in parameters:
            p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        optimiser.step()
        after()


def two_parameters():
    return [torch.nn.Parameter(torch.arange(float(n), dtype=torch.float64)) for n in (3, 2)]


@pytest.mark.parametrize("steps", [1, 2, 3, 20])
def test_mean_is_that_of_torch(steps):
    theirs = two_parameters()
    asgd = torch.optim.ASGD(theirs, lr=0.125, t0=0, lambd=0.0, weight_decay=0.01)
    descend(asgd, theirs, steps, seed=0)
    ours = two_parameters()
    averaging = Averaging(ours, patience=0)
    for loss in (1.0, 2.0):
        averaging.observe(loss)
    descend(torch.optim.SGD(ours, lr=0.125, weight_decay=0.01), ours, steps, seed=0, after=averaging.update)
    with averaging.in_place():
        for p, q in zip(ours, theirs, strict=True):
            torch.testing.assert_close(p.data, asgd.state[q]["ax"], rtol=0, atol=1e-6)  # torch's 1 / n is a float32
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p.data, q.data, rtol=0, atol=1e-12)


def test_mean_is_over_the_steps_after_the_first():
    p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    averaging, seen = Averaging([p], patience=0), []
    for loss in (1.0, 2.0):
        averaging.observe(loss)
    descend(torch.optim.SGD([p], lr=1.0), [p], 7, seed=1, after=lambda: (averaging.update(), seen.append(p.item())))
    with averaging.in_place():
        assert p.item() == pytest.approx(sum(seen[1:]) / 6, abs=1e-12)
    assert p.item() == seen[-1]


def first_trigger(losses, patience):
    """The rule in words: above the lowest loss of all evaluations but the last few before this one."""
    for k, loss in enumerate(losses):
        if k > patience and any(loss > earlier for earlier in losses[: k - patience]):
            return k
    return None


@pytest.mark.parametrize("patience", [0, 1, 5])
def test_trigger_is_the_rule(patience):
    generator = torch.Generator().manual_seed(patience)
    for case in range(50):
        falling = torch.linspace(0, -3, 20) if case % 2 else torch.zeros(20)
        losses = (falling + 0.3 * torch.randn(20, generator=generator)).tolist()
        averaging, started = Averaging([torch.zeros(1)], patience), None
        for k, loss in enumerate(losses):
            averaging.observe(loss)
            if averaging.started:
                started = k
                break
        assert started == first_trigger(losses, patience)


def test_five_bad_evaluations_start_it_and_headway_does_not():
    averaging = Averaging([torch.zeros(1)])
    for loss in (9, 8, 7, 6, 5, 4, 3, 2, 1):
        averaging.observe(loss)
    assert not averaging.started
    for k, loss in enumerate((2, 2, 2, 2, 2, 2)):
        assert not averaging.started, k
        averaging.observe(loss)
    assert averaging.started


def test_nothing_is_averaged_before_and_a_saved_state_goes_on():
    ours, other = two_parameters(), two_parameters()
    averaging, resumed = Averaging(ours, patience=1), Averaging(other, patience=1)
    averaging.update()
    with averaging.in_place():
        assert all(torch.equal(p, q) for p, q in zip(ours, other, strict=True))
    for loss in (1.0, 2.0, 3.0):
        averaging.observe(loss)
    sgd = torch.optim.SGD(ours, lr=0.1)
    descend(sgd, ours, 4, seed=0, after=averaging.update)
    saved = averaging.state_dict()
    with torch.no_grad():
        for p, q in zip(other, ours, strict=True):
            p.copy_(q)
    descend(sgd, ours, 4, seed=1, after=averaging.update)
    resumed.load_state_dict(saved)
    descend(torch.optim.SGD(other, lr=0.1), other, 4, seed=1, after=resumed.update)
    with averaging.in_place(), resumed.in_place():
        assert all(torch.equal(p, q) for p, q in zip(ours, other, strict=True))
    with pytest.raises(ZeroDivisionError), averaging.in_place():
        raise ZeroDivisionError
    assert all(torch.equal(p, q) for p, q in zip(ours, other, strict=True))  # put back whatever happens
    with pytest.raises(ValueError, match="patience is a number of evaluations"):
        Averaging(ours, -1)
