import math

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from depthsearch import CategoricalDepth, ExactDepth, FixedDepth, elbo, elbo_of_depths, geometric_prior, log_predictive
from depthsearch import marginal_likelihood as marginal
from depthsearch.depth.objectives import kl_of_depths, log_likelihood
from depthsearch.measuring.depths import exact_posterior

N_TRAIN = 9


def posterior(q_logits):
    depth = CategoricalDepth(geometric_prior(5))
    depth.q_logits.data = torch.as_tensor(q_logits, dtype=torch.float64)
    return depth


def log_evidence(logits, y):
    """log sum_d p(d) prod_n p(y_n | d) / N by a plain loop over probabilities."""
    total = 0.0
    prior = [0.85 ** (1 + d) for d in range(6)]
    for d in range(6):
        joint = prior[d] / sum(prior)
        for n in range(9):
            weights = [math.exp(v) for v in logits[d, n].tolist()]
            joint *= weights[y[n]] / sum(weights)
        total += joint
    return math.log(total) / 9


def test_elbo_is_the_hand_written_double_sum(logits):
    values, y = logits
    q_logits = [0.3, -1.0, 2.0, 0.0, 0.5, -0.2]
    q = [math.exp(v) / sum(map(math.exp, q_logits)) for v in q_logits]
    prior = [0.85 ** (1 + d) for d in range(6)]
    expected = 0.0
    for n in range(9):
        for d in range(6):
            weights = [math.exp(v) for v in values[d, n].tolist()]
            expected += q[d] * math.log(weights[y[n]] / sum(weights)) / 9
    kl = sum(q[d] * math.log(q[d] / (prior[d] / sum(prior))) for d in range(6))
    assert elbo(values, y, posterior(q_logits), N_TRAIN).item() == pytest.approx(expected - kl / 9, abs=1e-12)


def test_elbo_is_the_log_evidence_at_the_exact_posterior_and_below_it_elsewhere(logits):
    values, y = logits
    exact = exact_posterior(values, y, posterior(torch.zeros(6)))
    evidence = log_evidence(values, y)
    assert elbo(values, y, posterior(exact), N_TRAIN).item() == pytest.approx(evidence, abs=1e-12)
    generator = torch.Generator().manual_seed(1)
    for scale in (0.1, 1.0, 5.0):
        for _ in range(20):
            other = exact + scale * torch.randn(6, dtype=torch.float64, generator=generator)
            assert elbo(values, y, posterior(other), N_TRAIN).item() < evidence


def test_marginal_likelihood_is_the_hand_written_double_loop(logits):
    values, y = logits
    for depth in (posterior([0.3, -1.0, 2.0, 0.0, 0.5, -0.2]), ExactDepth(geometric_prior(5))):  # q does not matter
        assert marginal(values, y, depth, N_TRAIN).item() == pytest.approx(log_evidence(values, y), abs=1e-12)
    twice = marginal(torch.cat([values, values], 1), torch.cat([y, y]), depth, N_TRAIN)  # a mean over the batch
    assert twice.item() == pytest.approx(log_evidence(values, y), abs=1e-12)
    assert marginal(1e4 * values, y, depth, 10**6).isfinite()


def test_exact_depth_conditions_to_the_exact_posterior(logits):
    values, y = logits
    depth = ExactDepth(geometric_prior(5)).double()
    torch.testing.assert_close(depth().probs, geometric_prior(5).probs)
    depth.condition(log_likelihood(values, y).mean(-1), N_TRAIN)
    torch.testing.assert_close(depth().logits, exact_posterior(values, y, depth))
    assert elbo(values, y, depth, N_TRAIN).item() == pytest.approx(log_evidence(values, y), abs=1e-12)


def test_log_predictive_is_the_mixture(logits):
    values, _ = logits
    depth = posterior([0.3, -1.0, 2.0, 0.0, 0.5, -0.2])
    mixture = sum(depth().probs[d] * values[d].softmax(-1) for d in range(6))
    torch.testing.assert_close(log_predictive(values, depth), mixture.log())


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_log_predictive_stays_finite_on_extreme_logits(scale):
    values = torch.zeros(6, 4, 3)
    values[:, :, 0] = scale
    depth = CategoricalDepth(geometric_prior(5))
    depth.q_logits.data[2] = 1e4
    out = log_predictive(values, depth)
    assert out.isfinite().all()
    assert torch.logsumexp(out, -1).abs().max() < 1e-5
    value = elbo(values, torch.zeros(4, dtype=torch.long), depth, 4)
    value.backward()
    assert value.isfinite() and depth.q_logits.grad.isfinite().all()


@pytest.mark.parametrize("size", [1e5, 1e7, 1e9])
def test_a_prediction_beside_huge_logits_is_a_distribution(size):
    """Far from the data logits are such that log q is less than the last digit of them."""
    values = size * torch.randn(6, 50, 3, generator=torch.Generator().manual_seed(0))
    depth = posterior([0.3, -1.0, 2.0, 0.0, 0.5, -0.2])
    found = log_predictive(values, depth)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(50))
    mixture = (depth().probs.double()[:, None, None] * values.double().softmax(-1)).sum(0)
    torch.testing.assert_close(found.exp().double(), mixture, rtol=1e-5, atol=1e-6)


def test_a_class_may_be_ruled_out(logits):
    values, y = logits[0].clone().requires_grad_(), torch.zeros(logits[0].shape[1], dtype=torch.long)
    without = values[..., :-1].detach()
    masked = values.masked_fill(torch.arange(values.shape[-1]) == values.shape[-1] - 1, -torch.inf)
    found = log_likelihood(masked, y)
    torch.testing.assert_close(found, log_likelihood(without, y))
    found.sum().backward()
    assert values.grad.isfinite().all()


def test_deterministic_network_needs_its_last_head_only(logits):
    values, y = logits
    depth = FixedDepth(5).double()
    log_probs = values[-1].log_softmax(-1)
    expected = log_probs[torch.arange(9), y].mean()
    for given in (values, values[-1:]):
        torch.testing.assert_close(elbo(given, y, depth, N_TRAIN), expected)
        torch.testing.assert_close(log_predictive(given, depth), log_probs)


def test_logits_must_cover_the_posterior(logits):
    values, y = logits
    with pytest.raises(ValueError, match=r"mass on depths 0\.\.5"):
        elbo(values[1:], y, posterior(torch.zeros(6)), N_TRAIN)


@pytest.mark.parametrize(
    "wrong",
    [lambda y: y[:, None], lambda y: y.float(), lambda y: y.int(), lambda y: y[:1], lambda y: y[0], lambda y: y[1:]],
)
def test_labels_are_class_indices_one_a_point(logits, wrong):
    values, y = logits
    for given, depth in ((values, posterior(torch.zeros(6))), (values[-1:], FixedDepth(5))):
        with pytest.raises(ValueError, match=r"class indices \(B,\) in int64"):
            elbo(given, wrong(y), depth, N_TRAIN)


def test_one_logit_a_point_is_refused(logits):
    values, y = logits
    with pytest.raises(ValueError, match="one logit a point"):
        elbo(values[..., :1], y, FixedDepth(5), N_TRAIN)
    with pytest.raises(ValueError, match="one logit a point"):
        log_predictive(values[..., :1], FixedDepth(5))


def test_another_likelihood_has_the_same_bound(logits):
    """Regression: of a normal distribution around each depth's output, by its density written out."""
    outputs, targets = logits[0][..., 0], torch.linspace(-1, 1, 9, dtype=torch.float64)
    depth = posterior(torch.randn(6))
    log_density = -0.5 * (outputs - targets) ** 2 - 0.5 * math.log(2 * math.pi)
    q, p = depth().probs, depth.prior.probs
    expected = sum(q[d] * (log_density[d].mean() - (q[d] / p[d]).log() / N_TRAIN) for d in range(6))
    normal = torch.distributions.Normal(outputs, 1.0)
    torch.testing.assert_close(elbo_of_depths(normal.log_prob(targets).mean(-1), depth, N_TRAIN), expected)


def test_replicate_axes(logits):
    values, y = logits
    single = [posterior(torch.randn(6)) for _ in range(2)]
    stacked = posterior(torch.stack([d.q_logits.detach() for d in single]))
    both = elbo(torch.stack([values, 2 * values], 1), torch.stack([y, y.flip(0)]), stacked, N_TRAIN)
    expected = torch.stack([elbo(values, y, single[0], N_TRAIN), elbo(2 * values, y.flip(0), single[1], N_TRAIN)])
    torch.testing.assert_close(both, expected)


def test_kl_and_its_gradient_are_torchs():
    """Depths without mass included: all gradients are numbers, and mass beyond the prior is infinitely far."""
    prior = torch.tensor([0.5, 0.3, 0.2, 0.0], dtype=torch.float64)
    logits = torch.tensor([[0.3, -1.0, 2.0, -torch.inf], [-torch.inf, 0.0, 1.0, -torch.inf]], dtype=torch.float64)
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    p = Categorical(logits=prior.log(), validate_args=False)
    for q_logits, kl in ((ours, kl_of_depths), (theirs, kl_divergence)):
        values = kl(Categorical(logits=q_logits, validate_args=False), p)
        values.sum().backward()
    assert torch.isfinite(values).all() and torch.isfinite(ours.grad).all()
    assert torch.equal(kl_of_depths(Categorical(logits=ours, validate_args=False), p), values)
    finite = torch.isfinite(theirs.grad)
    torch.testing.assert_close(ours.grad[finite], theirs.grad[finite], rtol=0, atol=1e-14)
    beyond = Categorical(logits=torch.zeros(4, dtype=torch.float64))
    assert kl_of_depths(beyond, p) == kl_divergence(beyond, p) == torch.inf


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_logits_of_half_precision_are_taken_in_float32(dtype):
    """What an ordinary head returns under autocast: sums over points and depths would be rounded to 3 digits."""
    torch.manual_seed(0)
    logits, y = torch.randn(4, 50, 3).to(dtype), torch.randint(0, 3, (50,))
    depth, wide = CategoricalDepth(geometric_prior(3)), CategoricalDepth(geometric_prior(3))
    bound, expected = elbo(logits, y, depth, 50), elbo(logits.float(), y, wide, 50)
    assert bound.dtype == torch.float32 and bound == expected
    bound.backward()
    expected.backward()
    assert torch.equal(depth.q_logits.grad, wide.q_logits.grad)
    assert torch.equal(log_predictive(logits, depth), log_predictive(logits.float(), depth))
