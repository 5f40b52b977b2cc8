import copy
import math

import pytest
import torch
from torch.distributions import Categorical, Poisson, kl_divergence

from depthsearch import CategoricalDepth, DiscretisedNormal, FixedDepth, TruncatedPoisson, geometric_prior, pruned_depth
from depthsearch.depth.networks import stack_modules
from depthsearch.depth.objectives import elbo_of_depths, kl_of_depths


def test_geometric_prior_is_the_papers():
    probs = geometric_prior(3, ratio=0.5).probs
    torch.testing.assert_close(probs, torch.tensor([8, 4, 2, 1], dtype=torch.float64) / 15)


@pytest.mark.parametrize(
    "bad", [{"max_depth": -1}, {"max_depth": 2, "ratio": 0.0}, {"max_depth": 2, "ratio": math.inf}]
)
def test_geometric_prior_refuses(bad):
    with pytest.raises(ValueError):
        geometric_prior(**bad)


def test_learnt_posterior_starts_uniform_and_survives_a_state_dict():
    depth = CategoricalDepth(prior=geometric_prior(max_depth=20, ratio=0.85))
    torch.testing.assert_close(depth().probs, torch.full((21,), 1 / 21))
    assert [name for name, _ in depth.named_parameters()] == ["q_logits"]
    depth.q_logits.data = torch.randn(21)
    other = CategoricalDepth(geometric_prior(20))
    other.load_state_dict(depth.state_dict())
    torch.testing.assert_close(other().probs, depth().probs)


def test_a_prior_may_be_probabilities():
    torch.testing.assert_close(
        CategoricalDepth(torch.tensor([1.0, 3.0])).prior.probs, torch.tensor([0.25, 0.75]).double()
    )


@pytest.mark.parametrize("looked_at", [False, True])
def test_a_categorical_of_probabilities_rules_out_what_has_none(looked_at):
    """torch gives it logits that are not below the logarithm of the least difference to 1."""
    prior = Categorical(probs=torch.tensor([0.5, 0.5 - 1e-9, 0.0, 1e-9]))
    if looked_at:
        assert prior.logits.isfinite().all()
    depth = CategoricalDepth(prior)
    torch.testing.assert_close(depth.prior.probs, torch.tensor([0.5, 0.5, 0.0, 1e-9]).double(), rtol=1e-6, atol=0)
    assert depth().probs[2] == 0 and kl_of_depths(Categorical(torch.ones(4)), depth.prior) == math.inf
    faint = Categorical(logits=torch.tensor([0.0, -1000.0], dtype=torch.float64))  # no number says how little that is
    assert CategoricalDepth(faint).prior.logits.tolist() == [0.0, -1000.0]


def test_what_was_learnt_may_be_the_next_prior():
    """A copy of it, which neither follows it nor sends a gradient back."""
    old = CategoricalDepth(geometric_prior(2), torch.tensor([0.0, 1.0, 2.0]))
    new, other = CategoricalDepth(old()), CategoricalDepth(prior := geometric_prior(2))
    stack_modules([copy.deepcopy(new), new])
    for _ in range(2):
        elbo_of_depths(torch.zeros(3), new, 10).backward()
    assert old.q_logits.grad is None
    before = prior.logits.clone()
    other.prior_log_probs.zero_()
    assert torch.equal(prior.logits, before)


def test_truncation_moves_mass_and_prior():
    depth = CategoricalDepth(torch.tensor([0.1, 0.2, 0.3, 0.4]), q_logits=torch.log(torch.tensor([0.4, 0.3, 0.2, 0.1])))
    small = depth.truncate(1)
    torch.testing.assert_close(small().probs, torch.tensor([0.4, 0.6]))
    torch.testing.assert_close(small.prior.probs, torch.tensor([0.1, 0.9]).double())


def test_fixed_depth_is_exact_and_costs_no_kl():
    depth = FixedDepth(4, depth=2)
    assert depth().probs.tolist() == [0, 0, 1, 0, 0]
    assert kl_divergence(depth(), depth.prior).item() == 0
    assert not list(depth.parameters())
    assert FixedDepth(4).truncate(3)().probs.tolist() == [0, 0, 0, 1]
    with pytest.raises(ValueError):
        FixedDepth(4, depth=5)


def test_poisson_and_normal_have_their_probabilities():
    d = range(9)
    poisson = torch.tensor([2.5**i / math.factorial(i) for i in d], dtype=torch.float64)
    torch.testing.assert_close(
        TruncatedPoisson(geometric_prior(8), 2.5)().probs, poisson / poisson.sum(), rtol=1e-6, atol=0
    )

    def cdf(x):
        return 0.5 * math.erfc(-(x - 3.25) / 1.5 / math.sqrt(2))

    normal = torch.tensor([cdf(i + 0.5) - cdf(i - 0.5) for i in d], dtype=torch.float64)
    torch.testing.assert_close(
        DiscretisedNormal(geometric_prior(8), 3.25, 1.5)().probs, normal / normal.sum(), rtol=1e-6, atol=0
    )


FAMILIES = [
    (TruncatedPoisson, {"rate": 1e-6}),
    (TruncatedPoisson, {"rate": 1e6}),
    (TruncatedPoisson, {}),
    (DiscretisedNormal, {}),
    (DiscretisedNormal, {"loc": -30.0, "scale": 0.5}),
    (DiscretisedNormal, {"loc": 500.0, "scale": 1e-2}),
    (DiscretisedNormal, {"loc": 3.0, "scale": 1e6}),
]


@pytest.mark.parametrize(("family", "start"), FAMILIES)
@pytest.mark.parametrize("max_depth", [0, 1, 100])
def test_posteriors_of_two_parameters_sum_to_one_and_have_gradients(family, start, max_depth):
    depth = family(geometric_prior(max_depth), **start)
    q = depth()
    assert q.probs.shape == (max_depth + 1,)
    torch.testing.assert_close(q.probs.sum(), torch.tensor(1.0, dtype=torch.float64))
    (elbo_of_depths(torch.linspace(-1, 0, max_depth + 1), depth, 100) + q.logits.exp().max()).backward()
    assert all(p.grad.isfinite().all() for p in depth.parameters())
    if max_depth == 100 and not start:
        assert all(p.grad.abs() > 1e-4 for p in depth.parameters())


@pytest.mark.parametrize("family", [TruncatedPoisson, DiscretisedNormal])
@pytest.mark.parametrize("known", [3, 11])
def test_posteriors_of_two_parameters_recover_a_known_depth(family, known):
    """Two replicates: log-likelihoods that peak at the known depth, and at depth 6."""
    depth = stack_modules([family(geometric_prior(20)) for _ in range(2)])
    peaks = torch.tensor([known, 6])
    log_likelihoods = -0.05 * (torch.arange(21.0).unsqueeze(1) - peaks) ** 2
    optimiser = torch.optim.SGD(depth.parameters(), lr=0.1, momentum=0.5)
    for _ in range(600):
        optimiser.zero_grad()
        (-elbo_of_depths(log_likelihoods, depth, 200).sum()).backward()
        optimiser.step()
    assert (depth().probs.argmax(-1) - peaks).abs().max() <= 1
    if family is DiscretisedNormal:
        assert depth().probs.argmax(-1).tolist() == peaks.tolist()


def test_families_start_at_half_of_the_depth():
    poisson, normal = TruncatedPoisson(geometric_prior(20)), DiscretisedNormal(geometric_prior(20))
    assert poisson.log_rate.exp().item() == pytest.approx(10)
    assert normal.loc.item() == 10 and normal.log_scale.exp().item() == pytest.approx(5)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: CategoricalDepth(torch.tensor([0.5, -0.5])), "a prior needs probabilities"),
        (lambda: CategoricalDepth(torch.tensor([0.5, math.nan])), "a prior needs probabilities"),
        (lambda: CategoricalDepth(torch.zeros(2)), "not all 0"),
        (lambda: CategoricalDepth([0.5, 0.5]), "a prior is a Categorical or a tensor of probabilities, not a list"),
        (lambda: CategoricalDepth(Poisson(3.0)), "not a Poisson"),
        (lambda: CategoricalDepth(geometric_prior(3), torch.zeros(1)), r"4 depths needs as many logits, got \[1\]"),
        (lambda: CategoricalDepth(torch.ones(2, 3)), r"a prior needs probabilities \(D \+ 1,\)"),
        (lambda: CategoricalDepth(torch.tensor(1.0)), r"a prior needs probabilities \(D \+ 1,\)"),
        (lambda: TruncatedPoisson(geometric_prior(3), rate=0.0), "rate must be positive, got 0.0"),
        (lambda: DiscretisedNormal(geometric_prior(3), scale=-1), "scale must be positive, got -1"),
    ],
)
def test_what_is_no_distribution_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize("family", [CategoricalDepth, TruncatedPoisson, DiscretisedNormal])
def test_a_prior_may_rule_depths_out(family):
    """Then q has no mass there: KL(q || p) would be infinite, and its gradient no number."""
    depth = family(torch.tensor([0.0, 0.0, 0.5, 0.3, 0.2]))
    optimiser = torch.optim.SGD(depth.parameters(), lr=0.5, momentum=0.5, weight_decay=0.01)
    for _ in range(200):
        loss = -elbo_of_depths(torch.tensor([0.0, -4.0, -3.0, -2.0, -0.5]), depth, 10)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    probs = depth().probs
    assert probs[:2].tolist() == [0, 0] and probs.argmax() == 4 and loss.isfinite()
    assert pruned_depth(probs) == 4 and depth.truncate(3)().probs[:2].tolist() == [0, 0]
    again = family(geometric_prior(4))
    again.load_state_dict(depth.state_dict())
    torch.testing.assert_close(again().probs, probs)


def test_several_side_by_side_are_truncated_as_each_alone():
    depths = [CategoricalDepth(geometric_prior(4), torch.randn(5)) for _ in range(2)]
    found = stack_modules(depths).truncate(2)
    torch.testing.assert_close(found().probs, torch.stack([depth.truncate(2)().probs for depth in depths]))
    torch.testing.assert_close(found.prior.probs, torch.stack([depth.truncate(2).prior.probs for depth in depths]))


def test_one_of_several_side_by_side_may_rule_depths_out():
    depths = [CategoricalDepth(geometric_prior(2)), CategoricalDepth(torch.tensor([0.0, 0.5, 0.5]))]
    for order in (depths, depths[::-1]):
        probs = stack_modules(order)().probs
        torch.testing.assert_close(probs, torch.stack([depth().probs for depth in order]))


@pytest.mark.filterwarnings("ignore:for prior_log_probs")
def test_a_posterior_without_values_is_made_and_loaded():
    with torch.device("meta"):
        depth = CategoricalDepth(geometric_prior(3))
    state = FixedDepth(5, depth=2).state_dict()
    assert depth().probs.is_meta and FixedDepth(5).to("meta").load_state_dict(state)


def test_a_fixed_depth_is_where_its_state_says():
    depth = FixedDepth(5)
    depth.load_state_dict(FixedDepth(5, depth=2).state_dict())
    assert depth.min_depth == 2 and depth.truncate(3).min_depth == 2


def test_a_depth_in_whole_layers_may_start_a_normal():
    torch.testing.assert_close(DiscretisedNormal(geometric_prior(6), loc=3, scale=1).loc.data, torch.tensor([3.0]))
