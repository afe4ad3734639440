"""Wide-ResNet-8 of certified training: a stem, three basic blocks, a hidden layer of 512.

Source: bench/certified/protocol.md, section b.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from bench.models.residual import Residual, batch_norm, head, shortcut


def _block(channels_in: int, channels: int, stride: int, present: bool) -> Residual:
    body = nn.Sequential(
        nn.Conv2d(channels_in, channels, 3, stride, 1),
        batch_norm(channels, present),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, 1, 1),
        batch_norm(channels, present),
    )
    return Residual(body, shortcut(channels_in, channels, stride, present))


def wide_resnet8(
    *,
    num_classes: int,
    in_shape: tuple[int, int, int],
    width: int | None = None,
    stem: int = 16,
    units: int = 512,
    norm: Literal["full", "none"] = "full",
) -> nn.Sequential:
    """Blocks of widths w, 2w, 4w with strides 1, 2, 2; w is 128, and 160 for images of 64 pixels.

    Convolutions start as the authors' do: Kaiming normal by fan-out for small images, torch's default for large ones.
    """
    present, large = norm == "full", in_shape[1] >= 64
    base = width or (160 if large else 128)
    layers: list[nn.Module] = [nn.Conv2d(in_shape[0], stem, 3, 1, 1), batch_norm(stem, present), nn.ReLU()]
    channels, side = stem, in_shape[1]
    for factor, stride in ((1, 1), (2, 2), (4, 2)):
        layers.append(_block(channels, base * factor, stride, present))
        channels, side = base * factor, -(-side // stride)
    network = nn.Sequential(*layers, *head(channels * side * side, units, num_classes, present))
    if not large:
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network
