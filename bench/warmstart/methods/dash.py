"""DASH (Shin et al., 2024, arXiv 2410.23495): shrinks a neuron's weights by how little they point down the loss."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from bench.warmstart.methods import Point


@torch.no_grad()
def restart(at: Point) -> None:
    """Multiplies each neuron's weight vector by max(lambda, cosine with its negative gradient).

    lambda is the restart's `shrink`. A filter is taken as the vector of its weights for one input channel in
    convolutions and of all its inputs in linear layers; scales, offsets and biases are left alone. The gradient is the
    mean over the round's samples (alpha = 1, no average with earlier rounds).
    """
    floor = at.setting.shrink
    gradient = at.gradient()
    for prefix, module in at.model.named_modules():
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        weight = module.weight
        slope = gradient[f"{prefix}.weight"]
        rows = (weight.shape[0], weight.shape[1], -1) if isinstance(module, nn.Conv2d) else (weight.shape[0], -1)
        cosine = F.cosine_similarity(-slope.reshape(rows), weight.reshape(rows), dim=-1)
        factor = cosine.clamp(min=floor).reshape(*cosine.shape, *([1] * (weight.dim() - cosine.dim())))
        weight.mul_(factor)
