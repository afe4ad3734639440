"""How large the networks of certified training are, without building them: parameters, multiply-accumulates, neurons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """A convolution (or a linear layer, with `side` 1) and what follows it.

    Attributes:
        inputs: channels, or features.
        outputs: channels, or features.
        kernel: side of the kernel.
        groups: of the convolution.
        positions: height times width of the output.
        norm: whether BatchNorm follows.
        relu: whether a ReLU follows, directly or after an addition.
    """

    inputs: int
    outputs: int
    kernel: int = 1
    groups: int = 1
    positions: int = 1
    norm: bool = False
    relu: bool = True

    @property
    def fan_in(self) -> int:
        """Inputs of an output, n of the paper."""
        return self.kernel**2 * self.inputs // self.groups

    @property
    def parameters(self) -> int:
        return self.outputs * (self.fan_in + 1) + 2 * self.outputs * self.norm

    @property
    def macs(self) -> int:
        return self.fan_in * self.outputs * self.positions

    @property
    def neurons(self) -> int:
        return self.outputs * self.positions


PROCESS_MB = 900
"""Of each estimate of memory: the process itself."""

BACKWARD_ROOM = 2e8
"""Bytes that backward bounds may take at once on a CPU: six blocks of 32 MiB, which the C library keeps when they are freed.

Larger ones it takes from the system, which clears each page anew: CROWN on CNN-7 of width 8 took 14.5 s for 16 images at
once and 2.2 s for two at once, CROWN-IBP on ResNeXt with 200 classes 1.9 s an image with nine at once and 0.9 s with one.
"""


def backward_rows(neurons: int, classes: int, *, every_neuron: bool) -> int:
    """Copies of the largest layer that backward bounds keep for a sample.

    One for each margin; with `every_neuron` (CROWN) each unstable one has a row too, and a hundredth of the dense matrices
    is what sparse ones take.

    Args:
        neurons: outputs of all layers, for one sample.
        classes: of the network.
        every_neuron: whether intermediate bounds are backward ones too.
    """
    return max(classes - 1, neurons // 100) if every_neuron else classes - 1


def _half(side: int, stride: int) -> int:
    return -(-side // stride)


def _head(features: int, units: int, classes: int, norm: bool) -> Iterator[Layer]:
    yield Layer(features, units, norm=norm)
    yield Layer(units, classes, relu=False)


def cnn7(shape: tuple[int, int, int], classes: int, width: int, units: int, norm: str) -> Iterator[Layer]:
    """CNN-7 (bench/certified/protocol.md, section b)."""
    channels, side, _ = shape
    strides = (1, 1, 2, 1, 2 if side >= 64 else 1)
    for index, (out, stride) in enumerate(zip((width, width, *(2 * width,) * 3), strides, strict=True)):
        side = _half(side, stride)
        normed = norm in ("full", "convs") or (norm == "partial" and index < 4)
        yield Layer(channels, out, 3, 1, side**2, normed)
        channels = out
    yield from _head(channels * side**2, units, classes, norm == "full")


def wide_resnet8(shape: tuple[int, int, int], classes: int, width: int, units: int, norm: str) -> Iterator[Layer]:
    """Wide-ResNet-8: a stem of 16 channels and three basic blocks."""
    channels, side, _ = shape
    normed = norm == "full"
    yield Layer(channels, 16, 3, 1, side**2, normed)
    channels = 16
    for factor, stride in ((1, 1), (2, 2), (4, 2)):
        out, before = width * factor, channels
        side = _half(side, stride)
        yield Layer(before, out, 3, 1, side**2, normed)
        yield Layer(out, out, 3, 1, side**2, normed)
        if stride != 1 or before != out:
            yield Layer(before, out, 1, 1, side**2, normed, relu=False)
        channels = out
    yield from _head(channels * side**2, units, classes, normed)


def resnext(shape: tuple[int, int, int], classes: int, width: int, units: int, norm: str) -> Iterator[Layer]:
    """ResNeXt of cardinality 2; two blocks a stage for images of 64 pixels and more."""
    channels, side, _ = shape
    full, first = norm == "full", norm in ("full", "partial")
    yield Layer(channels, width, 3, 1, side**2, full)
    channels = width
    for factor, stage in ((1, 1), (2, 2), (4, 2)):
        for index in range(2 if shape[1] >= 64 else 1):
            stride = stage if index == 0 else 1
            group, out = width * factor, 2 * width * factor
            yield Layer(channels, group, 1, 1, side**2, first)
            after = _half(side, stride)
            yield Layer(group, group, 3, 2, after**2, full)
            yield Layer(group, out, 1, 1, after**2, full)
            if stride != 1 or channels != out:
                yield Layer(channels, out, 1, 1, after**2, full, relu=False)
            channels, side = out, after
    yield from _head(channels * side**2, units, classes, full)
