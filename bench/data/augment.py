"""Random crops and flips of whole batches on their device; their random numbers are drawn on the CPU, an epoch at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def draw_shifts(sizes: Sequence[int], *, padding: int, generator: torch.Generator) -> Tensor:
    """Random crops and flips of an epoch's batches, which are copied to a GPU at once.

    Args:
        sizes: samples of each batch; batches draw one after the other.
        padding: pixels that `crop_and_flip` adds on each side.
        generator: CPU generator, so that a CPU and a GPU make the same choices.

    Returns:
        int64 [3, N] on the CPU: first row and first column of the crop, 0 to 2 * padding; 1 where it is mirrored.
    """
    span = 2 * padding + 1
    batches = []
    for count in sizes:
        rows = torch.randint(0, span, (count,), generator=generator)
        columns = torch.randint(0, span, (count,), generator=generator)
        flipped = torch.rand(count, generator=generator) < 0.5
        batches.append(torch.stack((rows, columns, flipped.long())))
    return torch.cat(batches, dim=1)


def crop_and_flip(images: Tensor, shifts: Tensor, *, padding: int, mode: str = "replicate") -> Tensor:
    """Each image is padded, cropped at its own random place, and mirrored with probability 1/2.

    Args:
        images: float [B, C, H, W].
        shifts: int64 [3, B] of `draw_shifts`, on the images' device.
        padding: pixels added on each side, so shifts go from -padding to padding.
        mode: "replicate" repeats the edge, "constant" fills with zeros.

    Returns:
        float [B, C, H, W] in the memory layout of `images`.
    """
    count, channels, height, width = images.shape
    device = images.device
    rows, columns, flipped = shifts[0], shifts[1], shifts[2] > 0
    padded = F.pad(images, (padding,) * 4, mode=mode)
    x = torch.arange(width, device=device)
    x = torch.where(flipped[:, None], x.flip(0), x) + columns[:, None]
    y = torch.arange(height, device=device) + rows[:, None]
    index = torch.arange(count, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[None, :, None, None]
    cut = padded[index, channel, y[:, None, :, None], x[:, None, None, :]]
    return (
        cut.contiguous(memory_format=torch.channels_last)
        if images.is_contiguous(memory_format=torch.channels_last)
        else cut
    )
