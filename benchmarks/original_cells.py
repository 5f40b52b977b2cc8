"""The DARTS search network as one would write it first, in the style of the original code.

Every edge runs its operations one at a time, each from its own ReLU to its own batch norm, and adds up the weighted
results. The weights are those of `darts_search_network`, in the same order.
"""

import torch
from torch import Tensor, nn

OPERATIONS = ("none", "max_pool", "avg_pool", "skip", "sep3", "sep5", "dil3", "dil5")


class Reduce(nn.Module):
    def __init__(self, c_in: int, c: int) -> None:
        super().__init__()
        self.one, self.two = (nn.Conv2d(c_in, c // 2, 1, 2, bias=False) for _ in range(2))
        self.norm = nn.BatchNorm2d(c, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        return self.norm(torch.cat([self.one(x), self.two(x[:, :, 1:, 1:])], 1))


class Zero(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride] * 0


def convolve(c: int, kernel: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    depthwise = nn.Conv2d(c, c, kernel, stride, dilation * (kernel // 2), dilation, groups=c, bias=False)
    return [nn.ReLU(), depthwise, nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c, affine=False)]


def operation(name: str, c: int, stride: int) -> nn.Module:
    norm = nn.BatchNorm2d(c, affine=False)
    match name:
        case "none":
            return Zero(stride)
        case "max_pool":
            return nn.Sequential(nn.MaxPool2d(3, stride, 1), norm)
        case "avg_pool":
            return nn.Sequential(nn.AvgPool2d(3, stride, 1, count_include_pad=False), norm)
        case "skip":
            return nn.Identity() if stride == 1 else Reduce(c, c)
        case "sep3" | "sep5":
            return nn.Sequential(*convolve(c, int(name[-1]), stride), *convolve(c, int(name[-1]), 1))
        case _:
            return nn.Sequential(*convolve(c, int(name[-1]), stride, 2))


def pointwise(c_in: int, c: int) -> nn.Module:
    return nn.Sequential(nn.ReLU(), nn.Conv2d(c_in, c, 1, bias=False), nn.BatchNorm2d(c, affine=False))


class OriginalCell(nn.Module):
    def __init__(self, c_before: int, c_last: int, c: int, reduction: bool, after_reduction: bool) -> None:
        super().__init__()
        self.reduction = reduction
        self.first = Reduce(c_before, c) if after_reduction else pointwise(c_before, c)
        self.second = pointwise(c_last, c)
        strides = [2 if reduction and state < 2 else 1 for node in range(4) for state in range(node + 2)]
        self.edges = nn.ModuleList(nn.ModuleList(operation(n, c, s) for n in OPERATIONS) for s in strides)

    def forward(self, before: Tensor, last: Tensor, weights: Tensor) -> Tensor:
        states, row = [self.first(before), self.second(last)], 0
        for _ in range(4):
            total = 0
            for state in states:
                total = total + sum(w * op(state) for w, op in zip(weights[row], list(self.edges)[row], strict=True))  # type: ignore[arg-type]
                row += 1
            states.append(total)
        return torch.cat(states[2:], 1)


class OriginalSearchNetwork(nn.Module):
    def __init__(self, channels: int, layers: int, n_classes: int = 10) -> None:
        super().__init__()
        before = last = 3 * channels
        self.stem = nn.Sequential(nn.Conv2d(3, last, 3, padding=1, bias=False), nn.BatchNorm2d(last))
        self.cells, after_reduction = nn.ModuleList(), False
        for layer in range(layers):
            reduction = layer in (layers // 3, 2 * layers // 3)
            channels *= 1 + reduction
            self.cells.append(OriginalCell(before, last, channels, reduction, after_reduction))
            before, last, after_reduction = last, 4 * channels, reduction
        self.classifier = nn.Linear(last, n_classes)

    def forward(self, x: Tensor, weights: dict[str, Tensor]) -> Tensor:
        before = last = self.stem(x)
        for cell in self.cells:
            before, last = last, cell(before, last, weights["reduce" if cell.reduction else "normal"])
        return self.classifier(last.mean((2, 3)))
