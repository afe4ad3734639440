"""ResNeXt of certified training: three stages of cardinality 2 and a hidden layer of 512.

Source: bench/certified/protocol.md, section b.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from bench.models.residual import Residual, batch_norm, head, shortcut

CARDINALITY = 2

Norm = Literal["full", "partial", "none"]


def _block(channels_in: int, group: int, stride: int, norm: Norm) -> Residual:
    """1 x 1, grouped 3 x 3, 1 x 1 to twice the group width; with partial BatchNorm only after the first."""
    full = norm == "full"
    body = nn.Sequential(
        nn.Conv2d(channels_in, group, 1),
        batch_norm(group, norm != "none"),
        nn.ReLU(),
        nn.Conv2d(group, group, 3, stride, 1, groups=CARDINALITY),
        batch_norm(group, full),
        nn.ReLU(),
        nn.Conv2d(group, 2 * group, 1),
        batch_norm(2 * group, full),
    )
    return Residual(body, shortcut(channels_in, 2 * group, stride, full))


def resnext(
    *,
    num_classes: int,
    in_shape: tuple[int, int, int],
    width: int | None = None,
    units: int = 512,
    norm: Norm = "full",
) -> nn.Sequential:
    """Group widths w, 2w, 4w with strides 1, 2, 2: one block each from w = 64, two each from w = 16 for 64 pixels."""
    present, large = norm == "full", in_shape[1] >= 64
    base, blocks = width or (16 if large else 64), 2 if large else 1
    layers: list[nn.Module] = [nn.Conv2d(in_shape[0], base, 3, 1, 1), batch_norm(base, present), nn.ReLU()]
    channels, side = base, in_shape[1]
    for factor, first in ((1, 1), (2, 2), (4, 2)):
        for index in range(blocks):
            stride = first if index == 0 else 1
            layers.append(_block(channels, base * factor, stride, norm))
            channels, side = 2 * base * factor, -(-side // stride)
    return nn.Sequential(*layers, *head(channels * side * side, units, num_classes, present))
