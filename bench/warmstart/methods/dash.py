"""DASH, direction-aware shrinking (Shin et al. 2024, arXiv 2410.23495): weights keep what points down the loss.

Before a round, for the data seen so far in the chunks in which they came, the negative gradients of each chunk's mean loss
are averaged exponentially, oldest first: G <- (1 - alpha) G + alpha (-gradient), from zero on. The gradients are taken in
eval mode, so BatchNorm's running statistics take part and stay. Each filter w then becomes max(lambda, cos(G_w, w)) w. A
filter is a kernel of one input channel in convolutions and a row in linear layers; a layer's bias vector has one factor.
Normalisation layers are left alone. lambda is the restart's `shrink`, alpha its `strength`, 0.3 by default.

This is the authors' published code (github.com/baekrok/DASH-Direction-Aware-SHrinking) but for two things: a new optimiser
begins each round here, as in all other arms, where theirs keeps its momentum; and a chunk is what a round has added, while
theirs are all of one size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.errors import UserError
from bench.warmstart.methods import Point

ALPHA = 0.3
"""The authors' default."""


@torch.no_grad()
def restart(at: Point) -> None:
    """Shrinks the weights at hand; random ones, which nothing has trained yet, stay as they are.

    Raises:
        UserError: alpha is not above 0 and at most 1.
    """
    alpha = ALPHA if at.setting.strength is None else at.setting.strength
    if not 0 < alpha <= 1:
        raise UserError(
            f"strength {alpha:g} of dash: expected alpha above 0 and at most 1; the newest chunk has this weight"
        )
    if not at.trained:
        return
    direction = {name: torch.zeros_like(parameter) for name, parameter in at.model.named_parameters()}
    for chunk in at.chunks:
        for name, gradient in at.gradient(chunk).items():
            direction[name].mul_(1 - alpha).sub_(gradient, alpha=alpha)
    for prefix, module in at.model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            _shrink(module.weight, direction[f"{prefix}.weight"], floor=at.setting.shrink)
            if module.bias is not None:
                _shrink(module.bias, direction[f"{prefix}.bias"], floor=at.setting.shrink)


def _shrink(tensor: Tensor, direction: Tensor, *, floor: float) -> None:
    """Multiplies the filters of one tensor in place.

    Args:
        tensor: [out, in, height, width], [out, in] or [out]; its filters are the last two dimensions, or the last one.
        direction: averaged negative gradient of the same shape.
        floor: the least factor.
    """
    kept = tensor.shape[:2] if tensor.dim() == 4 else tensor.shape[:-1]
    cosine = F.cosine_similarity(direction.reshape(*kept, -1), tensor.reshape(*kept, -1), dim=-1)
    factor = cosine.clamp(min=floor, max=1.0)
    tensor.mul_(factor.reshape(*kept, *[1] * (tensor.dim() - len(kept))))
