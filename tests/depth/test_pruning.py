import math

import numpy as np
import pytest
import torch

from depthsearch import (
    CategoricalDepth,
    FixedDepth,
    conv_resnet,
    expected_depth,
    geometric_prior,
    log_predictive,
    mlp_resnet,
    prune,
    pruned_depth,
)


def test_pruned_depth_is_the_first_near_the_maximum():
    assert pruned_depth(torch.tensor([0.1, 0.29, 0.3, 0.31])) == 2  # 0.29 < 0.95 * 0.31 < 0.3
    assert pruned_depth(torch.tensor([0.25, 0.25, 0.25, 0.25])) == 0
    assert pruned_depth(torch.tensor([0.25, 0.25, 0.5]), threshold=0.5) == 2  # strictly above


@pytest.mark.parametrize("depth_of", [pruned_depth, expected_depth])
@pytest.mark.parametrize(
    ("probs", "said"),
    [
        (torch.full((4,), math.nan), "0 or more and 1 in sum"),
        (torch.tensor([-2.0, -1.0, -0.5]), "0 or more and 1 in sum"),  # logits
        (torch.tensor([0.0, 3.0]), "0 or more and 1 in sum"),
        (torch.full((2, 3), 1 / 3), r"\(D \+ 1,\) of probabilities, as depth\(\).probs is, got of shape \[2, 3\]"),
        (geometric_prior(3), "got a Categorical"),
    ],
)
def test_what_is_no_q_has_no_depth(depth_of, probs, said):
    with pytest.raises(ValueError, match=said):
        depth_of(probs)


def test_a_cut_is_between_blocks():
    for whole in (np.int64(2), torch.tensor(2)):
        assert prune(mlp_resnet(4, 5), CategoricalDepth(geometric_prior(4)), whole)[0].max_depth == 2
    with pytest.raises(ValueError, match=r"whole number of blocks, not to 2\.0; round it"):
        prune(mlp_resnet(4, 5), CategoricalDepth(geometric_prior(4)), 2.0)


def test_expected_depth():
    assert expected_depth(torch.tensor([0.5, 0.0, 0.25, 0.25])) == pytest.approx(1.25)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("training", [True, False])
def test_a_pruned_network_predicts_what_the_full_one_does_with_the_mass_moved(kind, training):
    torch.manual_seed(0)
    depth_max = 6
    network = mlp_resnet(depth_max, 8) if kind == "mlp" else conv_resnet(depth_max, 1, 10, 8, 4)
    x = torch.randn(32, 2) if kind == "mlp" else torch.randn(32, 1, 12, 12)
    network(x)  # running statistics move away from their start
    network.train(training)
    depth = CategoricalDepth(geometric_prior(depth_max), q_logits=torch.randn(depth_max + 1))
    logits, q = network(x).detach(), depth().probs.detach()
    for d in range(depth_max + 1):
        moved = torch.cat([q[:d], q[d:].sum().reshape(1)])
        expected = sum(moved[i] * logits[i].softmax(-1) for i in range(d + 1))
        small, small_depth = prune(network, depth, d)
        assert small.max_depth == len(small.blocks) == d and small_depth.max_depth == d
        torch.testing.assert_close(log_predictive(small(x), small_depth).exp(), expected, rtol=0, atol=1e-6)


def test_pruning_leaves_the_full_network_alone():
    network, depth = mlp_resnet(3), CategoricalDepth(geometric_prior(3))
    before = {k: v.clone() for k, v in network.state_dict().items()}
    small, small_depth = prune(network, depth, 1)
    with torch.no_grad():
        for p in [*small.parameters(), *small_depth.parameters()]:
            p.add_(1)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name])
    assert depth.q_logits.abs().sum() == 0


def test_pruning_a_deterministic_network():
    network = mlp_resnet(3).eval()
    small, depth = prune(network, FixedDepth(3), 2)
    x = torch.randn(4, 2)
    torch.testing.assert_close(log_predictive(small(x), depth), network(x)[2].log_softmax(-1))


@pytest.mark.parametrize("d", [-1, 4])
def test_depths_out_of_range(d):
    with pytest.raises(ValueError):
        prune(mlp_resnet(3), CategoricalDepth(geometric_prior(3)), d)


def test_a_posterior_of_another_network_is_refused():
    with pytest.raises(ValueError, match=r"a network of depth 3 with a posterior over 0\.\.5"):
        prune(mlp_resnet(3), CategoricalDepth(geometric_prior(5)), 2)


@pytest.mark.parametrize("threshold", [0.0, 1.0, math.nan])
def test_a_threshold_that_no_or_any_depth_passes_is_refused(threshold):
    with pytest.raises(ValueError, match="above 0 and below 1"):
        pruned_depth(torch.tensor([0.5, 0.5]), threshold)
