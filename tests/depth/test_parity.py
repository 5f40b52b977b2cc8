"""Our objective is the paper's: the original code's numbers, to 1e-10 in float64."""

import torch
from torch.distributions import kl_divergence

from depthsearch import elbo, log_predictive, prune
from depthsearch.depth.objectives import log_likelihood

EXACT = {"rtol": 0, "atol": 1e-10}


def test_objective_and_its_parts(parity):
    numbers, network, depth = parity
    logits = network(numbers["x"])
    torch.testing.assert_close(logits, numbers["train_logits"], **EXACT)
    q = depth()
    torch.testing.assert_close(q.probs, numbers["q"], **EXACT)
    torch.testing.assert_close(kl_divergence(q, depth.prior), numbers["kl"], **EXACT)
    nll = -(q.probs * log_likelihood(logits, numbers["y"]).mean(-1)).sum()
    torch.testing.assert_close(nll, numbers["expected_nll"], **EXACT)
    objective = -elbo(logits, numbers["y"], depth, int(numbers["n_train"]))
    torch.testing.assert_close(objective, numbers["objective"], **EXACT)


def test_every_gradient(parity):
    numbers, network, depth = parity
    (-elbo(network(numbers["x"]), numbers["y"], depth, int(numbers["n_train"]))).backward()
    ours = {name: p.grad for m in (network, depth) for name, p in m.named_parameters()}
    theirs = {k.removeprefix("grad:"): v for k, v in numbers.items() if k.startswith("grad:")}
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], **EXACT, msg=lambda m, n=name: f"{n}: {m}")


def test_marginal_and_pruned_probabilities(parity):
    numbers, network, depth = parity
    marginal = log_predictive(network(numbers["x"]), depth).exp()
    torch.testing.assert_close(marginal, numbers["marginal_probs"], **EXACT)
    for d in range(network.max_depth + 1):
        small, small_depth = prune(network, depth, d)
        pruned = log_predictive(small(numbers["x"]), small_depth).exp()
        torch.testing.assert_close(pruned, numbers[f"pruned_probs:{d}"], **EXACT)
