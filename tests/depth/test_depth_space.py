"""The adapter that makes a chain a space."""

import pytest
import torch
from torch import nn

from depthsearch import DepthNetwork, conv_resnet, mlp_resnet
from depthsearch.depth.choice import DepthSpace


@pytest.mark.parametrize("mix", ["features", "logits"])
def test_a_chain_is_the_space_with_one_choice(mix):
    torch.manual_seed(0)
    network = mlp_resnet(4, width=5, n_classes=3).double()
    space = DepthSpace(network, mix)
    assert space.choices == {"depth": (1, 5)}
    assert [id(p) for p in space.parameters()] == [id(p) for p in network.parameters()]
    x, w = torch.randn(7, 2, dtype=torch.float64), torch.randn(1, 5, dtype=torch.float64).softmax(-1)
    expected = sum(w[0, d] * logits for d, logits in enumerate(network(x)))
    torch.testing.assert_close(space(x, {"depth": w}), expected)


@pytest.mark.parametrize("mix", ["features", "logits"])
def test_a_chain_of_images_behind_an_ordinary_head(mix):
    torch.manual_seed(0)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    network = DepthNetwork(nn.Conv2d(1, 4, 3), [nn.Conv2d(4, 4, 3, padding=1) for _ in range(3)], head)
    x, w = torch.randn(4, 1, 6, 6), torch.randn(1, 4).softmax(-1)  # as many points as channels as depths
    expected = sum(w[0, d] * logits for d, logits in enumerate(network(x)))  # the head is linear
    torch.testing.assert_close(DepthSpace(network, mix)(x, {"depth": w}), expected)


def test_a_point_mass_is_the_network_of_that_depth():
    torch.manual_seed(0)
    network = conv_resnet(3, 1, 4, 8, 4).eval()
    for i in range(3):
        network.head.norm.running_mean[i] = network.head.norm.running_mean[3] = 0.3
    x, w = torch.randn(5, 1, 10, 10), torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    for mix in ("features", "logits"):
        torch.testing.assert_close(DepthSpace(network, mix)(x, {"depth": w}), network(x)[1])


def test_derives_the_shallower_of_equals_and_runs_no_block_that_is_closed():
    network = mlp_resnet(4)
    space = DepthSpace(network)
    assert space.derive({"depth": torch.tensor([[0.1, 0.2, 0.3, 0.3, 0.1]])}) == 2
    space.prune({"depth": torch.tensor([[True, False, True, False, False]])})
    network.blocks[2] = None
    w = torch.tensor([[0.4, 0.0, 0.6, 0.0, 0.0]])
    x = torch.randn(5, 2)
    logits = network(x, max_depth=2)
    torch.testing.assert_close(space(x, {"depth": w}), 0.4 * logits[0] + 0.6 * logits[2])


def test_bad_input_is_one_line():
    space = DepthSpace(mlp_resnet(2))
    for weights in ({"cell": torch.ones(1, 3)}, {"depth": torch.ones(1, 4)}):
        with pytest.raises(ValueError, match=r"mixing weights must have the shapes \{'depth': \(1, 3\)\}"):
            space(torch.zeros(1, 2), weights)
    with pytest.raises(ValueError, match="at least one must stay open"):
        space.prune({"depth": torch.zeros(1, 3)})
    with pytest.raises(ValueError, match="mix must be one of features, logits; got both"):
        DepthSpace(mlp_resnet(2), "both")
