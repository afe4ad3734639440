"""The samples of a run: those to fit, held out and to test on, and the range that perturbed images are clipped to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bench import seeds
from bench.certified.spec import SHAPES, STATISTICS, Certified
from bench.data import images
from bench.errors import UserError
from bench.training.samples import Pool

if TYPE_CHECKING:
    from bench.training.context import Context


@dataclass
class Range:
    """Where normalised images live, each [1, C, 1, 1]: black, white, and one over the standard deviation."""

    low: Tensor
    high: Tensor
    scale: Tensor

    @classmethod
    def of(cls, dataset: str, device: torch.device, dtype: torch.dtype = torch.float32) -> Range:
        mean, std = (torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1, 1) for values in STATISTICS[dataset])
        low, high, scale = ((tensor.to(device, dtype)) for tensor in (-mean / std, (1 - mean) / std, 1 / std))
        return cls(low, high, scale)


@dataclass
class Split:
    """Pools of samples on the device; `held` is ``None`` without a holdout."""

    fit: Pool
    held: Pool | None
    test: Pool
    range: Range


def load(dataset: str, context: Context) -> images.Images:
    """A data set, checked against what the runs expect of it.

    Raises:
        UserError: its images or its number of classes are others.
    """
    data = images.load(dataset, context.data_root)
    shape, classes = SHAPES[dataset][:2]
    if data.num_classes != classes or tuple(data.train.shape[1:]) != shape:
        raise UserError(
            f"data set {dataset}: {data.num_classes} classes of {tuple(data.train.shape[1:])} images, expected "
            f"{classes} classes of {shape}; restore the whole set below {context.data_root}"
        )
    context.used_data(data.name, data.checksum)
    return data


def first_classes(data: images.Images, number: int) -> images.Images:
    """The samples of the first so many classes, in their order."""
    fit, test = data.train_labels < number, data.test_labels < number
    return replace(
        data,
        train=data.train[fit],
        train_labels=data.train_labels[fit],
        test=data.test[test],
        test_labels=data.test_labels[test],
        num_classes=number,
    )


def prefers_channels_last(model: nn.Module, device: torch.device) -> bool:
    """Whether the network's convolutions may run in channels-last memory, which is faster.

    On CPUs the gradient of a 1 x 1 convolution with a stride and few input channels writes beyond its memory there
    (oneDNN in torch 2.12; seen with up to 7 channels).
    """
    return device.type != "cpu" or not any(
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and layer.stride != (1, 1)
        and layer.in_channels < 16
        for layer in model.modules()
    )


def make_split(spec: Certified, context: Context, *, channels_last: bool = False) -> Split:
    """Loads and splits the data: the same for every method of one data set and seed."""
    if spec.generated:
        data = images.generated(spec.shape(), spec.classes(), train=spec.generated, test=spec.batch_size)
    else:
        data = load(spec.dataset, context)
        if spec.first_classes is not None:
            data = first_classes(data, spec.first_classes)
    available = len(data.train)
    used = min(available, spec.train_samples())
    order = torch.arange(available)
    if used < available or spec.holdout:
        order = torch.randperm(available, generator=seeds.generator("certified", spec.dataset, "split", spec.seed))
    count = used - spec.holdout
    if count < 2:
        raise UserError(f"{spec.label()}: holdout {spec.holdout} leaves {count} of {used} samples to train on")
    fit, held, test = order[:count], order[count:used], torch.arange(len(data.test))[: spec.report_samples]

    def pool(pictures: Tensor, labels: Tensor) -> Pool:
        mean, std = STATISTICS[spec.dataset]
        return Pool.make(pictures, labels, mean=mean, std=std, device=context.device, channels_last=channels_last)

    return Split(
        pool(data.train[fit], data.train_labels[fit]),
        pool(data.train[held], data.train_labels[held]) if spec.holdout else None,
        pool(data.test[test], data.test_labels[test]),
        Range.of(spec.dataset, context.device),
    )
