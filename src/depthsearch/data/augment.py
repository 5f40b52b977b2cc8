"""Random changes of images, for a whole batch at once on the device where it lies."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from depthsearch.data.split import Split


@dataclass(frozen=True)
class Augmentation:
    """What is done to each training image; the default is what DARTS and DrNAS search with.

    Attributes:
        pad: pixels of black put around before a crop of the old size; 0 for none. NAS-Bench-201 takes 2 for 16 x 16
            pixels.
        flip: whether half of the images are mirrored, left and right.
        cutout: side of the square set to the mean colour (DeVries & Taylor 2017, arXiv 1708.04552); 0 for none, 16 for
            training a network that was found.
    """

    pad: int = 4
    flip: bool = True
    cutout: int = 0

    def __call__(self, split: Split, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images (B, C, H, W) uint8 -> inputs of a network, float32: changed, normalised, a square of it cut out."""
        inputs = split.inputs(crop_and_flip(images, self.pad, self.flip, generator))
        return cutout(inputs, self.cutout, generator) if self.cutout else inputs


def crop_and_flip(images: Tensor, pad: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Each image (B, C, H, W) moved by -pad..pad pixels each way, uniformly, and mirrored with probability 1/2.

    What moves in is zero. The draws are made on the device of the generator: for each image the move down, the move
    right, then for each whether it is mirrored.
    """
    n, channels, height, width = images.shape
    device = images.device
    down, right = _integers((2, n), 2 * pad + 1, generator, device)
    columns = right.view(-1, 1) + torch.arange(width, device=device)
    rows = down.view(-1, 1) + torch.arange(height, device=device)
    if flip:
        mirrored = _integers((n, 1), 2, generator, device).bool()
        columns = torch.where(mirrored, columns.flip(1), columns)
    image = torch.arange(n, device=device).view(-1, 1, 1, 1)
    channel = torch.arange(channels, device=device).view(-1, 1, 1)
    return F.pad(images, (pad,) * 4)[image, channel, rows.view(n, 1, -1, 1), columns.view(n, 1, 1, -1)]


def cutout(inputs: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Zeros in a square of each input (B, C, H, W), which is the mean colour once it is normalised.

    The centre is uniform over the pixels, so the square may lie partly outside; it covers side // 2 pixels before the
    centre and as many from it on.
    """
    n, _, height, width = inputs.shape
    kept = []
    for size in (height, width):
        distance = torch.arange(size, device=inputs.device) - _integers((n, 1), size, generator, inputs.device)
        kept.append((distance < -(side // 2)) | (distance >= side // 2))
    return inputs * (kept[0].unsqueeze(2) | kept[1].unsqueeze(1)).unsqueeze(1)


def _integers(shape: tuple[int, int], below: int, generator: torch.Generator, device: torch.device) -> Tensor:
    drawn = torch.randint(below, shape, generator=generator, device=generator.device)
    if device.type != "cuda" or drawn.is_cuda:
        return drawn.to(device)
    return drawn.pin_memory().to(device, non_blocking=True)  # else it would wait for all that the GPU has still to do
