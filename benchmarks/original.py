"""The LDN and its training step as one would write them first, in the style of the original code."""

import torch
from torch import Tensor, nn


class OriginalStyle(nn.Module):
    """The head is called once per depth, and the logits stacked: (D + 1, B, C)."""

    def __init__(self, stem: nn.Module, blocks: list[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.stem, self.blocks, self.head = stem, nn.ModuleList(blocks), head
        self.q_logits = nn.Parameter(torch.zeros(len(blocks) + 1))

    def forward(self, x: Tensor) -> Tensor:
        a = self.stem(x)
        logits = [self.head(a)]
        for block in self.blocks:
            a = block(a)
            logits.append(self.head(a))
        return torch.stack(logits)


def train_step(
    network: OriginalStyle, optimiser: torch.optim.Optimizer, log_prior: Tensor, x: Tensor, y: Tensor, n_train: int
) -> None:
    """One step of the ELBO; loss and error are read back, as the original does to print them."""
    optimiser.zero_grad()
    log_probs = network(x).log_softmax(-1)
    log_q = network.q_logits.log_softmax(0)
    likelihood = log_probs.gather(-1, y.expand(len(log_q), -1).unsqueeze(-1)).squeeze(-1)
    kl = (log_q.exp() * (log_q - log_prior)).sum()
    loss = kl / n_train - (log_q.exp().unsqueeze(1) * likelihood).sum(0).mean()
    loss.backward()
    optimiser.step()
    loss.item()
    marginal = (log_q.exp()[:, None, None] * log_probs.exp()).sum(0)
    (marginal.argmax(-1) != y).float().mean().item()
