import pytest
import torch

from depthsearch.learning.gradients import gradients_of


def zeros_that_require_a_gradient(real):
    """torch.autograd.grad as torch 2.8 has it."""

    def grad(outputs, inputs, **options):
        found = real(outputs, inputs, **options | {"materialize_grads": False, "allow_unused": True})
        return [torch.zeros_like(x, requires_grad=True) if g is None else g for g, x in zip(found, inputs, strict=True)]

    return grad


@pytest.mark.parametrize("old", [False, True])
def test_gradients_are_zeros_where_nothing_depends_and_keep_no_graph(old, monkeypatch):
    if old:
        monkeypatch.setattr(torch.autograd, "grad", zeros_that_require_a_gradient(torch.autograd.grad))
    used, unused = (torch.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    of_used, of_unused = gradients_of(used**3, [used, unused])
    assert of_used.tolist() == [3, 12] and of_unused.tolist() == [0, 0]
    assert not of_used.requires_grad and not of_unused.requires_grad
    frozen = torch.tensor([1.0, 2.0])
    assert [gradient.tolist() for gradient in gradients_of(used * frozen, [frozen, used])] == [[0, 0], [1, 2]]
    assert gradients_of(frozen, [frozen])[0].tolist() == [0, 0]
    (again,) = gradients_of(gradients_of(used**3, [used], create_graph=True)[0], [used])
    assert again.tolist() == [6, 12]
