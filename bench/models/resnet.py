"""ResNet-18 for 32 x 32 images: the authors' thin one (widths 16 to 128) and the common one (64 to 512)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GROUPS = 8
"""Groups of GroupNorm where it replaces BatchNorm."""

Norm = Callable[[int], nn.Module]


class GroupNorm(nn.GroupNorm):
    """torch's GroupNorm, which on a CPU gets its images channel by channel.

    With torch's own kernel for channels-last images a step takes three times as long as one with BatchNorm there.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda or torch.compiler.is_compiling():
            return super().forward(x)
        return super().forward(x.contiguous())  # the next convolution lays it out as it likes


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, which is a 1 x 1 convolution where the shape changes."""

    def __init__(self, channels_in: int, channels: int, stride: int, norm: Norm):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.norm1 = norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = norm(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False), norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet18(nn.Module):
    """3 x 3 stem without pooling, four stages of two blocks with strides 1, 2, 2, 2, global average, linear."""

    def __init__(self, *, channels_in: int, num_classes: int, width: int, norm: Norm):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, width, 3, 1, 1, bias=False)
        self.norm = norm(width)
        blocks, channels = [], width
        for stage in range(4):
            for index in range(2):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(BasicBlock(channels, width * 2**stage, stride, norm))
                channels = width * 2**stage
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.norm(self.conv(x))))
        return self.linear(x.mean((2, 3)))


def thin_resnet18(
    *,
    num_classes: int,
    in_shape: tuple[int, int, int],
    width: int = 16,
    norm: Literal["batch", "group"] = "batch",
) -> ResNet18:
    """The authors' network: 701,466 parameters for 10 classes, 713,076 for 100."""
    normalise: Norm = nn.BatchNorm2d if norm == "batch" else partial(GroupNorm, GROUPS)
    return ResNet18(channels_in=in_shape[0], num_classes=num_classes, width=width, norm=normalise)


def resnet18(
    *,
    num_classes: int,
    in_shape: tuple[int, int, int],
    width: int = 64,
    norm: Literal["batch", "group"] = "batch",
) -> ResNet18:
    """The common ResNet-18 with the stem for small images: 11,173,962 parameters for 10 classes."""
    return thin_resnet18(num_classes=num_classes, in_shape=in_shape, width=width, norm=norm)
