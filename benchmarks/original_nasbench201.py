"""A search step on NAS-Bench-201 as the original codes make it: one operation at a time, images changed one by one."""

from collections.abc import Iterator

from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from depthsearch.cells.nasbench201_operations import ReducingBlock

EDGES = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))


class Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul(0.0)


def convolution(channels: int, size: int) -> nn.Module:
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, size, padding=size // 2, bias=False),
        nn.BatchNorm2d(channels, affine=False),
    )


class OriginalCell(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(
            nn.ModuleList(
                [
                    Zero(),
                    nn.Identity(),
                    convolution(channels, 1),
                    convolution(channels, 3),
                    nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
                ]
            )
            for _ in EDGES
        )

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        states = [x]
        for to in (1, 2, 3):
            terms = []
            for edge, (state, source) in enumerate(EDGES):
                if state == to:
                    operations: nn.ModuleList = self.edges[edge]  # type: ignore[assignment]
                    mixed = [w * op(states[source]) for w, op in zip(weights[edge], operations, strict=True)]
                    terms.append(sum(mixed))
            states.append(sum(terms))  # type: ignore[arg-type]
        return states[-1]


class OriginalSearchNetwork(nn.Module):
    """Parameters in the order of ours."""

    def __init__(self, channels: int, cells: int, n_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        blocks: list[nn.Module] = []
        for stage in range(3):
            width = channels * 2**stage
            blocks += [ReducingBlock(width // 2, width)] if stage else []
            blocks += [OriginalCell(width) for _ in range(cells)]
        self.blocks = nn.ModuleList(blocks)
        self.last = nn.Sequential(nn.BatchNorm2d(4 * channels), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Linear(4 * channels, n_classes)

    def forward(self, x: Tensor, weights: dict[str, Tensor]) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, weights["cell"]) if isinstance(block, OriginalCell) else block(x)
        return self.classifier(self.last(x).flatten(1))


class _Images(Dataset):
    def __init__(self, images: Tensor, targets: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.images, self.targets = images.permute(0, 2, 3, 1).numpy(), targets
        crop, flip = transforms.RandomCrop(images.shape[-1], padding=4), transforms.RandomHorizontalFlip()
        self.change = transforms.Compose([crop, flip, transforms.ToTensor(), transforms.Normalize(mean, std)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.change(Image.fromarray(self.images[index])), int(self.targets[index])  # type: ignore[return-value]


def batches(
    images: Tensor, targets: Tensor, mean: tuple[float, ...], std: tuple[float, ...], batch: int, workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Changed, normalised batches without end, from a DataLoader of PIL images."""
    loader = DataLoader(_Images(images, targets, mean, std), batch, shuffle=True, num_workers=workers, drop_last=True)
    while True:
        yield from loader
