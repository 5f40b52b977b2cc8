"""The neural predictor's training: many seeds side by side against one after the other as the original's loop does it.

    python predictor.py [--seeds 20] [--epochs 300] [--graphs 172] [--loop-seeds 2] [--threads 2]

The loop makes its batches graph by graph, normalises each batch anew in every layer and reads its loss after each step,
on as many threads; it is run for `--loop-seeds` seeds, and its time for all of them is in proportion.
"""

import argparse
import time
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from depthsearch.cells.nasbench101 import enumerate_cells, one_hot
from depthsearch.data.graphs import Graphs, as_graphs
from depthsearch.hardware import benchmark_header
from depthsearch.strategies.ensembles import train
from depthsearch.strategies.graph_predictor import PAPER


class Convolution(nn.Module):
    """A bidirectional graph convolution, dropout after it."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.empty(in_features, out_features)) for _ in range(2))
        for weight in self.weights:
            nn.init.xavier_uniform_(weight)

    def forward(self, nodes: Tensor, adjacency: Tensor) -> Tensor:
        along = adjacency + torch.eye(adjacency.shape[-1])
        along = along / along.sum(2, keepdim=True)
        against = along.transpose(1, 2)
        against = against / against.sum(2, keepdim=True)
        sides = [
            F.relu(torch.matmul(a, torch.matmul(nodes, w))) for a, w in zip((along, against), self.weights, strict=True)
        ]
        return F.dropout((sides[0] + sides[1]) / 2, 0.1, self.training)


class Network(nn.Module):
    """Three convolutions, mean over vertices, two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList([Convolution(5, 144), Convolution(144, 144), Convolution(144, 144)])
        self.first, self.last = nn.Linear(144, 128, bias=False), nn.Linear(128, 1, bias=False)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        nodes = batch["operations"]
        for convolution in self.convolutions:
            nodes = convolution(nodes, batch["adjacency"])
        pooled = nodes.sum(1) / batch["vertices"][:, None]
        return self.last(F.dropout(self.first(pooled), 0.1, self.training)).view(-1)


class Cells(Dataset):
    """Graph by graph, as dictionaries."""

    def __init__(self, graphs: Graphs, targets: Tensor) -> None:
        self.adjacency, self.operations, self.vertices = (part.numpy() for part in graphs)
        self.targets = targets.numpy()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> dict:
        parts = {"adjacency": self.adjacency, "operations": self.operations, "vertices": self.vertices}
        return {name: part[index] for name, part in parts.items()} | {"target": self.targets[index]}


def loop(graphs: Graphs, targets: Tensor, seed: int, epochs: int) -> None:
    """One network, one batch after the other."""
    torch.manual_seed(seed)
    network, batches = Network(), DataLoader(Cells(graphs, targets), batch_size=10, shuffle=True, drop_last=True)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for _ in range(epochs):
        for batch in batches:
            loss = F.mse_loss(network(batch), batch["target"])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            assert np.isfinite(loss.item())
        schedule.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--graphs", type=int, default=172)
    parser.add_argument("--loop-seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cells, _ = enumerate_cells(5)
    drawn = np.random.default_rng(0).permutation(len(cells))[: options.graphs]
    graphs = as_graphs(cells.adjacency[drawn], one_hot(cells[drawn]), cells.vertices[drawn])
    targets = torch.randn(options.graphs, generator=torch.Generator().manual_seed(0))

    start = time.perf_counter()
    setting = replace(PAPER, epochs=options.epochs)
    rows = [torch.arange(options.graphs)] * options.seeds
    train(graphs, targets.repeat(options.seeds, 1), rows, range(options.seeds), setting)
    together = time.perf_counter() - start
    start = time.perf_counter()
    for seed in range(options.loop_seeds):
        loop(graphs, targets, seed, options.epochs)
    apart = (time.perf_counter() - start) * options.seeds / options.loop_seeds
    print(benchmark_header(torch.device("cpu")))
    print(f"neural predictor, {options.graphs} graphs, {options.epochs} epochs, {options.threads} threads")
    print(f"{options.seeds} seeds side by side      {together:8.1f} s")
    print(f"one after the other         {apart:8.1f} s, from {options.loop_seeds} of them")
    print(f"{apart / together:.1f} times as fast")


if __name__ == "__main__":
    main()
