"""CNN-7 of certified training: five convolutions, two linear layers; BatchNorm everywhere, after convolutions, or nowhere.

Source: bench/certified/protocol.md, section b; 17,192,650 parameters for CIFAR-10.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

Norm = Literal["full", "convs", "partial", "none"]


def cnn7(
    *, num_classes: int, in_shape: tuple[int, int, int], width: int = 64, units: int = 512, norm: Norm = "full"
) -> nn.Sequential:
    """Convolutions 3 x 3 of widths w, w, 2w, 2w, 2w with strides 1, 1, 2, 1, 1; a hidden layer of `units`; the classifier.

    The fifth convolution has stride 2 for images of 64 pixels and more. BatchNorm stands everywhere (full), after all
    convolutions (convs), after the first four (partial), or nowhere (none).
    """
    channels, height, side = in_shape
    layers: list[nn.Module] = []
    strides = (1, 1, 2, 1, 2 if height >= 64 else 1)
    widths = (width, width, 2 * width, 2 * width, 2 * width)
    for index, (out, stride) in enumerate(zip(widths, strides, strict=True)):
        layers.append(nn.Conv2d(channels, out, 3, stride, 1))
        if norm in ("full", "convs") or (norm == "partial" and index < 4):
            layers.append(nn.BatchNorm2d(out))
        layers.append(nn.ReLU())
        channels = out
        height, side = -(-height // stride), -(-side // stride)
    layers += [nn.Flatten(), nn.Linear(channels * height * side, units)]
    if norm == "full":
        layers.append(nn.BatchNorm1d(units))
    return nn.Sequential(*layers, nn.ReLU(), nn.Linear(units, num_classes))
