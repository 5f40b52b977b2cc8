import math

import pytest
import torch

from depthsearch import spirals
from depthsearch.data.spirals import spiral_split


def test_points_lie_on_their_arms():
    x, y = spirals(n=400, stop_angle=720.0, noise=0.0, seed=3)
    assert x.shape == (400, 2) and x.dtype == torch.float32 and y.dtype == torch.int64
    assert y.bincount().tolist() == [200, 200]
    radius = x.double().norm(dim=1)
    assert 0.9 * math.radians(720) < radius.max() <= math.radians(720) + 1e-5
    for arm, sign in ((0, 1), (1, -1)):
        t = radius[y == arm]
        points = sign * torch.stack([t * t.cos(), t * t.sin()], 1)
        torch.testing.assert_close(x[y == arm].double(), points, rtol=0, atol=1e-4)
    assert abs((radius / math.radians(720)).square().mean() - 0.5) < 0.05  # t = sqrt(u) * angle


def test_noise_is_uniform_and_moves_each_arm_its_own_way():
    clean, noisy = spirals(noise=0.0, seed=1)[0], spirals(noise=0.2, seed=1)[0]
    assert clean.shape == noisy.shape and not torch.equal(clean, noisy)
    assert (noisy - clean)[:1000].abs().max() < 0.21 and (noisy - clean).abs().max() > 0.15


def test_a_seed_is_a_data_set():
    assert torch.equal(spirals(seed=5)[0], spirals(seed=5)[0])
    assert not torch.equal(spirals(seed=5)[0], spirals(seed=6)[0])


@pytest.mark.parametrize("bad", [{"n": 3}, {"n": 0}, {"stop_angle": 0.0}, {"noise": -0.1}])
def test_refuses(bad):
    with pytest.raises(ValueError):
        spirals(**bad)


def test_split_is_a_tenth_standardised_by_the_training_points():
    split = spiral_split(2000, 720.0, 0.2, seed=0)
    assert len(split.x_train) == 200 and len(split.x_test) == 1800
    torch.testing.assert_close(split.x_train.mean(0), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(split.x_train.std(0), torch.ones(2))
    both = torch.cat([split.x_train, split.x_test])
    assert len(both.unique(dim=0)) == 2000
    assert 0.35 < split.y_train.double().mean() < 0.65
