"""Random crops and flips of whole batches on their device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def crop_and_flip(images: Tensor, *, padding: int, generator: torch.Generator, mode: str = "replicate") -> Tensor:
    """Pads each image, crops it at a random position, and mirrors it with probability 1/2.

    Args:
        images: float [B, C, H, W].
        padding: pixels added on each side, so shifts go from -padding to padding.
        generator: CPU generator, so that a CPU and a GPU make the same choices.
        mode: "replicate" repeats the edge, "constant" fills with zeros.

    Returns:
        float [B, C, H, W] in the memory layout of `images`.
    """
    count, channels, height, width = images.shape
    device = images.device
    span = 2 * padding + 1
    rows = torch.randint(0, span, (count,), generator=generator).to(device)
    columns = torch.randint(0, span, (count,), generator=generator).to(device)
    mirror = (torch.rand(count, generator=generator) < 0.5).to(device)
    padded = F.pad(images, (padding,) * 4, mode=mode)
    x = torch.arange(width, device=device)
    x = torch.where(mirror[:, None], x.flip(0), x) + columns[:, None]
    y = torch.arange(height, device=device) + rows[:, None]
    index = torch.arange(count, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[None, :, None, None]
    crops = padded[index, channel, y[:, None, :, None], x[:, None, None, :]]
    if images.is_contiguous(memory_format=torch.channels_last):
        return crops.contiguous(memory_format=torch.channels_last)
    return crops
