"""Seconds an epoch and peak memory of training on images: ours against a loop in the style of the original code.

    python benchmarks/images.py [--depth 10] [--device 0]

60000 random images of the size of MNIST, batches of 512. The original-style loop reads them through torchvision
transforms, image by image, in a DataLoader with 3 workers, applies the head once per depth, and reads loss and error
back every step, in float32. Ours is the step of `depthsearch.training`. Each way to train runs in a process of its own,
in turns; an epoch is 118 times the median step. Then the time to predict 10000 images: all depths marginalised
(LDN-full), cut to half its blocks, and with the last head alone (DDN).
"""

import argparse
import multiprocessing
import resource
import statistics
import time
import warnings
from collections.abc import Iterator

import pandas as pd
import torch
import torch.nn.functional as F
from original import OriginalStyle, train_step
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

from depthsearch import CategoricalDepth, FixedDepth, conv_resnet, geometric_prior, prune
from depthsearch.data import IMAGE_SETS, Split
from depthsearch.evaluation import predict_seconds
from depthsearch.networks import Bottleneck
from depthsearch.scan import can_compile, describe, pick_device, precision_of
from depthsearch.training import Replicates, Training

N, BATCH, STEPS_AN_EPOCH = 60_000, 512, 118


def random_split(device: torch.device) -> Split:
    generator = torch.Generator().manual_seed(0)
    known = IMAGE_SETS["MNIST"]
    x, y = torch.randint(0, 256, (N, 1, 28, 28), generator=generator, dtype=torch.uint8), torch.arange(N) % 10
    return Split(x, y, x[:10_000], y[:10_000], mean=known.mean, std=known.std).to(device)


class Images(Dataset):
    """Images as torchvision's MNIST hands them out: one at a time, through PIL and transforms."""

    def __init__(self, split: Split) -> None:
        self.x, self.y = split.x_train[:, 0].cpu().numpy(), split.y_train.cpu()
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(split.mean, split.std)])

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int):
        return self.transform(to_pil_image(self.x[i])), self.y[i]


class Head(nn.Module):
    """Mean over pixels, a residual fully connected block, linear."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear1, self.norm, self.linear2 = nn.Linear(width, width), nn.BatchNorm1d(width), nn.Linear(width, 10)

    def forward(self, a):
        pooled = a.mean((2, 3))
        return self.linear2(pooled + self.norm(F.relu(self.linear1(pooled))))


def original_steps(max_depth: int, device: torch.device) -> Iterator[None]:
    """Trains one step each time it is asked."""
    stem = nn.Sequential(nn.Conv2d(1, 64, 5), nn.AvgPool2d(2))
    network = OriginalStyle(stem, [Bottleneck(64, 32) for _ in range(max_depth)], Head(64)).to(device)
    log_prior = geometric_prior(max_depth).logits.float().to(device)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.5)
    for x, y in DataLoader(Images(random_split(device)), batch_size=BATCH, shuffle=True, num_workers=3):
        train_step(network, optimiser, log_prior, x.to(device), y.to(device), N)
        yield


def our_steps(max_depth: int, kind: str, precision: str, device: torch.device) -> Iterator[None]:
    """Trains one step each time it is asked."""
    data = Split.stack([random_split(device)])
    depth = FixedDepth(max_depth) if kind == "DDN" else CategoricalDepth(geometric_prior(max_depth))
    training = Training(precision=precision)
    replicates = Replicates([conv_resnet(max_depth).to(device)], [depth.to(device)], training, can_compile())
    for batch in torch.randperm(N, device=device).split(BATCH):
        replicates.step(data.inputs(data.x_train[:, batch]), data.y_train[:, batch], N)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        yield


def measure(way: tuple[str, str, str], max_depth: int, device: torch.device, steps: int, answer) -> None:
    """Puts into `answer` the median seconds of a step and the peak memory in bytes."""
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    stepper = (
        original_steps(max_depth, device) if way[0] == "original-style" else our_steps(max_depth, *way[1:], device)
    )
    for _ in range(2):
        next(stepper)
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        next(stepper)
        times.append(time.perf_counter() - start)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
    answer.put((statistics.median(times), peak))


def in_a_process(*arguments) -> tuple[float, int]:
    context = multiprocessing.get_context("spawn")
    answer = context.SimpleQueue()
    process = context.Process(target=measure, args=(*arguments, answer))
    process.start()
    result = answer.get()
    process.join()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=10)
    parser.add_argument("--device", default="0", help="CUDA device index; the CPU where no GPU is")
    parser.add_argument("--steps", type=int, default=6, help="steps timed each turn")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    device = pick_device(options.device)
    fast = precision_of("auto", device)
    ways = [
        ("original-style", "LDN", "float32"),
        ("ours", "LDN", "float32"),
        ("ours", "LDN", fast),
        ("ours", "DDN", fast),
    ]
    measured: dict[tuple, list] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way in measured:
            measured[way].append(in_a_process(way, options.depth, device, options.steps))
    rows = pd.DataFrame(list(measured), columns=["way", "kind", "precision"])
    rows["seconds an epoch"] = [
        STEPS_AN_EPOCH * statistics.median(s for s, _ in results) for results in measured.values()
    ]
    rows["peak GiB"] = [max(peak for _, peak in results) / 2**30 for results in measured.values()]
    rows["times original"] = rows["seconds an epoch"][0] / rows["seconds an epoch"]
    print(describe(device))
    print(f"\ntraining, D = {options.depth}\n{rows.round(2).to_string(index=False)}")

    split, network = random_split(device), conv_resnet(options.depth).to(device).eval()
    learnt, fixed = CategoricalDepth(geometric_prior(options.depth)).to(device), FixedDepth(options.depth).to(device)
    half = prune(network, learnt, options.depth // 2)
    named = {"DDN": (network, fixed), "LDN-full": (network, learnt), f"LDN cut to {options.depth // 2}": half}
    times: dict[str, list[float]] = {name: [] for name in named}
    for _ in range(options.rounds):
        for name, (cut, depth) in named.items():
            times[name].append(predict_seconds(cut, depth, split, fast))
    rows = pd.DataFrame({"network": list(times), "seconds": [statistics.median(values) for values in times.values()]})
    rows["times DDN"] = rows["seconds"] / rows["seconds"][0]
    print(f"\nprediction of {len(split.y_test)} images, {fast}\n{rows.round(3).to_string(index=False)}")


if __name__ == "__main__":
    main()
