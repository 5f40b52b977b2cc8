"""Seconds an epoch and peak memory of training on images: ours against a loop in the style of the original code.

    python benchmarks/images.py [--depth 10] [--device 0]

60000 random images of the size of MNIST, batches of 512. The original-style loop reads them through torchvision
transforms, image by image, in a DataLoader with 3 workers, applies the head once per depth, and reads loss and error
back every step, in float32. Ours is the step of `learning/replicates.py`. Each way to train runs in a process of its
own, in turns; an epoch is 118 times the median step. Then one step of a deep network against the operations and bytes
that it needs, and the time to predict 10000 images: with all depths marginalised (LDN-full), cut to some of its blocks,
with the last head alone (DDN), and with the last head of the whole last activation (plain ResNet).
"""

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pandas as pd
import torch
import torch.nn.functional as F
from original import OriginalStyle, train_step
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

from depthsearch import CategoricalDepth, FixedDepth, conv_resnet, geometric_prior, prune
from depthsearch.data.images import IMAGE_SETS
from depthsearch.data.split import Split
from depthsearch.depth.convolutional import Bottleneck
from depthsearch.depth.networks import DepthHead, DepthNetwork
from depthsearch.hardware import benchmark_header, can_compile, precision_of, products_in, synchronise
from depthsearch.learning.method import Training
from depthsearch.learning.replicates import Replicates
from depthsearch.measuring.timing import predict_seconds
from depthsearch.running.options import pick_device

N, BATCH, STEPS_AN_EPOCH = 60_000, 512, 118
FUSED = "ours, fused blocks"


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


class WholeMeans(DepthHead):
    """Takes the mean over pixels of the activations themselves, as a plain ResNet does, and hands it to `head`."""

    def __init__(self, head: DepthHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, seen, min_depth=0):
        return self.head([F.avg_pool2d(a, a.shape[-2:]).flatten(1).float() for a in seen], min_depth)


def original_steps(max_depth: int, device: torch.device) -> Iterator[None]:
    """Trains one step each time it is asked."""
    stem = nn.Sequential(nn.Conv2d(1, 64, 5), nn.AvgPool2d(2))
    network = OriginalStyle(stem, [Bottleneck(64, 32) for _ in range(max_depth)], Head(64)).to(device)
    log_prior = geometric_prior(max_depth).logits.float().to(device)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.5)
    for x, y in DataLoader(Images(random_split(device)), batch_size=BATCH, shuffle=True, num_workers=3):
        train_step(network, optimiser, log_prior, x.to(device), y.to(device), N)
        yield


def our_steps(way: str, kind: str, precision: str, max_depth: int, device: torch.device) -> Iterator[None]:
    """Trains one step each time it is asked."""
    data = Split.stack([random_split(device)])
    depth = FixedDepth(max_depth) if kind == "DDN" else CategoricalDepth(geometric_prior(max_depth))
    training = Training(precision=precision)
    fused = can_compile(device) and (device.type == "cpu" or way == FUSED)  # on a GPU scans run the plain modules
    replicates = Replicates([conv_resnet(max_depth).to(device)], [depth.to(device)], training, fused)
    for batch in torch.randperm(N, device=device).split(BATCH):
        replicates.step(data.inputs(data.x_train[:, batch]), data.y_train[:, batch], N)
        synchronise(device)
        yield


def measure(way: tuple[str, str, str], max_depth: int, device: torch.device, steps: int) -> tuple[float, int]:
    """The median seconds of a step and the peak memory in bytes."""
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    stepper = original_steps(max_depth, device) if way[0] == "original-style" else our_steps(*way, max_depth, device)
    times = []
    with products_in(way[2]):
        for _ in range(2 + steps):
            start = time.perf_counter()
            next(stepper)
            times.append(time.perf_counter() - start)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    peak = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
    return statistics.median(times[2:]), peak


def work(max_depth: int, itemsize: int) -> tuple[float, float]:
    """Floating-point operations of the convolutions of a training step, and bytes of activations that it moves.

    Each pass of a step reads and writes each of its activations once; in units of all pixels of a batch, by channels.
    The stem, the head and the parameters are small beside the blocks.
    """
    pixels, outer, inner = BATCH * 12 * 12, 64, 32
    ins, outs = outer + 2 * inner, 2 * inner + outer  # channels into and out of the three convolutions
    forward = ins + 2 * ins + ins + outs + 3 * outer + inner  # moments, norm, convolutions, residual sum, mean
    backward = 2 * inner + (outs + ins) + (outs + ins) + 2 * ins + 3 * ins + outer  # mean, both gradients, sums, norm
    multiplications = 2 * outer * inner + 9 * inner * inner
    return 3 * 2 * multiplications * pixels * max_depth, (forward + backward) * pixels * itemsize * max_depth


def ceilings(precision: str, device: torch.device) -> tuple[float, float]:
    """Operations a second of a large matrix product, and bytes a second of a large copy, the best of 6 measurements."""
    n, dtype = 4096, getattr(torch, precision)
    at_once = 20 if device.type == "cuda" else 1  # on a GPU one alone is too short beside its launch
    a, b = (torch.ones(n, n, dtype=dtype, device=device) for _ in range(2))
    source = torch.ones(2**28, dtype=torch.uint8, device=device)
    target = source.clone()
    rates = []
    for amount, operation in ((2 * n**3, lambda: a @ b), (2 * source.nbytes, lambda: target.copy_(source))):
        best = float("inf")
        for _ in range(6):
            start = time.perf_counter()
            for _ in range(at_once):
                operation()
            synchronise(device)
            best = min(best, (time.perf_counter() - start) / at_once)
        rates.append(amount / best)
    return rates[0], rates[1]


def in_a_process(*arguments) -> tuple[float, int]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=10)
    parser.add_argument("--floor-depth", type=int, default=50, help="D of the step that is held against the floor")
    parser.add_argument("--device", type=pick_device, default="0", help="CUDA device index; the CPU where no GPU is")
    parser.add_argument("--steps", type=int, default=6, help="steps timed each turn")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    device = options.device
    fast = precision_of("auto", device)
    ways = [
        ("original-style", "LDN", "float32"),
        ("ours", "LDN", "float32"),
        ("ours", "LDN", fast),
        ("ours", "DDN", fast),
    ]
    ways += [(FUSED, "LDN", fast)] if device.type == "cuda" else []
    measured: dict[tuple, list] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way in measured:
            measured[way].append(in_a_process(way, options.depth, device, options.steps))
    rows = pd.DataFrame(list(measured), columns=["way", "kind", "precision"])
    rows["seconds an epoch"] = [
        STEPS_AN_EPOCH * statistics.median(s for s, _ in results) for results in measured.values()
    ]
    rows["peak GiB"] = [max(peak for _, peak in results) / 2**30 for results in measured.values()]
    rows["times as fast"] = rows["seconds an epoch"][0] / rows["seconds an epoch"]
    print(benchmark_header(device))
    print(f"\ntraining, D = {options.depth}\n{rows.round(2).to_string(index=False)}")

    deep, step = options.floor_depth, ("ours", "LDN", fast)
    seconds = statistics.median(in_a_process(step, deep, device, options.steps)[0] for _ in range(options.rounds))
    operations, moved = work(deep, 2 if fast == "bfloat16" else 4)
    peak, bandwidth = ceilings(fast, device)
    floor = max(operations / peak, moved / bandwidth)
    print(
        f"\none training step, D = {deep}, batch {BATCH}, {fast}: {seconds:.3f} s\n"
        f"  {operations / 1e9:.0f} GFLOP at {peak / 1e12:.2f} TFLOP/s (a matrix product): {operations / peak:.3f} s\n"
        f"  {moved / 2**30:.1f} GiB in our passes at {bandwidth / 1e9:.1f} GB/s (a copy): {moved / bandwidth:.3f} s\n"
        f"  achieved {100 * floor / seconds:.0f} % of the ceiling that binds"
    )

    split, network = random_split(device), conv_resnet(options.depth).to(device).eval()
    learnt, fixed = CategoricalDepth(geometric_prior(options.depth)).to(device), FixedDepth(options.depth).to(device)
    cuts = sorted({round(share * options.depth) for share in (0, 0.25, 0.5, 0.75)})
    plain = DepthNetwork(network.stem, network.blocks, WholeMeans(network.head))
    named = {"plain ResNet": (plain, fixed), "DDN": (network, fixed), "LDN-full": (network, learnt)}
    named |= {f"LDN cut to {cut}": prune(network, learnt, cut) for cut in cuts}
    passes = pd.DataFrame(predict_seconds(named, split, fast, passes=10 * options.rounds))
    full, shallowest = passes["LDN-full"], passes[f"LDN cut to {cuts[0]}"]
    rows = pd.DataFrame({"seconds": passes.median()})
    for name in ("plain ResNet", "DDN"):
        in_turns = passes.div(passes[name], axis=0)
        quartiles = in_turns.quantile([0.25, 0.5, 0.75]).T.to_numpy()
        rows[f"times {name}"] = [f"{median:.3f} ({low:.2f} to {high:.2f})" for low, median, high in quartiles]
    lines = {f"LDN cut to {cut}": shallowest + (full - shallowest) * cut / options.depth for cut in cuts}
    rows["times stem + d blocks + head"] = pd.Series(
        {name: (passes[name] / line).median() for name, line in lines.items()}
    )
    title = f"prediction of {len(split.y_test)} images, {fast}, medians of {len(passes)} passes (quartiles)"
    print(f"\n{title}\n{rows.round(3).to_string(na_rep='')}")


if __name__ == "__main__":
    main()
