"""The Python of the README runs as it stands and does what it says."""

import re
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

README = (Path(__file__).parents[1] / "README.md").read_text()
FIRST, OWN = re.findall(r"```python\n(.*?)```", README, flags=re.S)


def run(code):
    names = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(code, names)
    return names


def test_two_minutes():
    names = run(FIRST)
    assert names["log_probs"].shape == (400, 2) and names["small"].max_depth == names["d"]
    assert (names["log_probs"].argmax(-1) != names["y"]).double().mean() < 0.2


def test_a_network_of_ones_own():
    names = run(OWN)
    assert names["log_probs"].shape == (360, 10) and names["error"] < 0.3
    torch.testing.assert_close(names["log_probs"].exp().sum(-1), torch.ones(360))
    assert names["small"].max_depth <= names["network"].max_depth == 6
