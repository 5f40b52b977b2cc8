import pytest
import torch
from torch.distributions import kl_divergence

from depthsearch import CategoricalDepth, FixedDepth, geometric_prior


def test_geometric_prior_is_the_papers():
    probs = geometric_prior(3, ratio=0.5).probs
    torch.testing.assert_close(probs, torch.tensor([8, 4, 2, 1], dtype=torch.float64) / 15)


@pytest.mark.parametrize("bad", [{"max_depth": -1}, {"max_depth": 2, "ratio": 0.0}])
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
