"""What comes out of training replicates, and the best state on the way."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from depthsearch.depth.networks import DepthNetwork
from depthsearch.depth.posteriors import DepthPosterior


@dataclass(frozen=True)
class Trained:
    """One trained replicate.

    Attributes:
        network, depth: in the state of the best epoch, evaluation mode.
        objective: what was maximised (for the paper's method the training ELBO), of every epoch, nats per datum, a mean
            over its steps.
        history: one dict an evaluation: epoch, elbo (the objective), both depths, entropy of q, and elbo, error and
            log-likelihood of the unpruned network under `valid_` or, where there are no validation points, `test_`.
        best_epoch: which was kept; epochs count from 1.
        diverged_epoch: where the objective was infinite or no number, which ends the run; None if it never was.
    """

    network: DepthNetwork
    depth: DepthPosterior
    objective: list[float]
    history: list[dict]
    best_epoch: int
    diverged_epoch: int | None

    def state(self) -> dict[str, nn.Module]:
        """What is saved of it."""
        return {"network": self.network.cpu(), "depth": self.depth.cpu()}


class Best:
    """For each row the best state so far: `value` (rows,), `epoch` (rows,), `state` (rows, ...)."""

    def __init__(self, state: Tensor) -> None:
        self.value = torch.full((len(state),), -torch.inf, device=state.device)
        self.epoch = torch.zeros(len(state), dtype=torch.long, device=state.device)
        self.state = state.clone()

    def update(self, epoch: int, value: Tensor, state: Tensor) -> None:
        """Takes the rows whose value (rows,) is higher than any before."""
        improved = value > self.value
        self.value = torch.where(improved, value, self.value)
        self.epoch = torch.where(improved, epoch, self.epoch)
        torch.where(improved.unsqueeze(1), state, self.state, out=self.state)

    def keep(self, rows: list[int]) -> None:
        self.value, self.epoch, self.state = self.value[rows], self.epoch[rows], self.state[rows]
