"""Projected gradient descent inside a box, for the upper bound on robust accuracy and for adversarial recipes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.training.samples import to_device


def pgd(
    model: nn.Module,
    centre: Tensor,
    radius: Tensor,
    labels: Tensor,
    *,
    steps: int,
    step: float,
    generator: torch.Generator,
    late: float = 1.0,
) -> Tensor:
    """Points of the box that the model classifies badly: signed gradient ascent on the cross-entropy.

    Args:
        model: in the mode that is attacked; its parameters get no gradient.
        centre: of the box, [B, C, H, W].
        radius: of the box, same shape; the random start and all steps stay inside.
        labels: int64 [B].
        steps: number of steps.
        step: size of a step as a share of the box's radius.
        generator: of the random start, on the CPU.
        late: factor on the step in the second half.

    Returns:
        [B, C, H, W], detached.
    """
    start = to_device(torch.rand(centre.shape, generator=generator), centre.device).to(centre.dtype) * 2 - 1
    # Positions relative to the box, so that a step is a share of each pixel's own range.
    where = start.to(memory_format=torch.channels_last) if _channels_last(centre) else start
    for number in range(steps):
        where.requires_grad_(True)
        loss = F.cross_entropy(model(centre + radius * where), labels, reduction="sum")
        (slope,) = torch.autograd.grad(loss, where)
        size = step * (late if 2 * number >= steps else 1.0)
        where = (where.detach() + size * slope.sign()).clamp(-1, 1)
    return centre + radius * where.detach()


def _channels_last(images: Tensor) -> bool:
    return images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
