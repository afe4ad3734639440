"""The samples of a run: to train on, held out and to test on, and the range that perturbed images are clipped to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bench import seeds
from bench.certified.spec import DATA_SETS, Certified
from bench.data import images
from bench.errors import UserError
from bench.training.samples import Pool

if TYPE_CHECKING:
    from bench.training.context import Context


@dataclass
class Range:
    """Range of normalised images, each [1, C, 1, 1]: black, white, and one over the standard deviation."""

    low: Tensor
    high: Tensor
    scale: Tensor

    @classmethod
    def of(cls, dataset: str, device: torch.device, dtype: torch.dtype = torch.float32) -> Range:
        data = DATA_SETS[dataset]
        mean, std = (torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1, 1) for values in (data.mean, data.std))
        low, high, scale = ((tensor.to(device, dtype)) for tensor in (-mean / std, (1 - mean) / std, 1 / std))
        return cls(low, high, scale)


@dataclass
class Samples:
    """Pools of samples on the device; `holdout` is ``None`` where none is held out."""

    train: Pool
    holdout: Pool | None
    test: Pool
    range: Range


def load(dataset: str, context: Context) -> images.Images:
    """A data set, checked against what the runs expect of it.

    Raises:
        UserError: its images or its number of classes are others.
    """
    data = images.load(dataset, context.data_root)
    shape, classes = DATA_SETS[dataset].shape, DATA_SETS[dataset].classes
    if data.num_classes != classes or tuple(data.train.shape[1:]) != shape:
        raise UserError(
            f"data set {dataset}: {data.num_classes} classes of {tuple(data.train.shape[1:])} images, expected "
            f"{classes} classes of {shape}; restore the whole set below {context.data_root}"
        )
    context.used_data(data.name, data.checksum)
    return data


def pool_of(dataset: str, pictures: Tensor, labels: Tensor, device: torch.device, *, channels_last: bool) -> Pool:
    """Samples on the device, normalised as the data set is: uint8 [N, C, H, W] and int64 [N]."""
    data = DATA_SETS[dataset]
    return Pool.make(pictures, labels, mean=data.mean, std=data.std, device=device, channels_last=channels_last)


def first_classes(data: images.Images, number: int) -> images.Images:
    """The samples of the first `number` classes, in their order."""
    train, test = data.train_labels < number, data.test_labels < number
    return replace(
        data,
        train=data.train[train],
        train_labels=data.train_labels[train],
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


def samples_of(spec: Certified, context: Context, *, channels_last: bool = False) -> Samples:
    """Loads and divides the data: alike for all methods of one data set and seed.

    Raises:
        UserError: the data are not what the run expects, or the holdout leaves too few.
    """
    if spec.generated:
        data = images.generated(spec.shape(), spec.classes(), train=spec.generated, test=spec.batch_size)
    else:
        data = load(spec.dataset, context)
        if spec.first_classes is not None:
            data = first_classes(data, spec.first_classes)
    available = len(data.train)
    total = min(available, spec.train_samples())
    order = torch.arange(available)
    if total < available or spec.holdout:
        order = torch.randperm(available, generator=seeds.generator("certified", spec.dataset, "split", spec.seed))
    count = total - spec.holdout
    if count < 2:
        raise UserError(f"{spec.label()}: holdout {spec.holdout} leaves {count} of {total} samples to train on")
    train, holdout, test = order[:count], order[count:total], torch.arange(len(data.test))[: spec.report_samples]

    def pool(pictures: Tensor, labels: Tensor) -> Pool:
        return pool_of(spec.dataset, pictures, labels, context.device, channels_last=channels_last)

    return Samples(
        pool(data.train[train], data.train_labels[train]),
        pool(data.train[holdout], data.train_labels[holdout]) if spec.holdout else None,
        pool(data.test[test], data.test_labels[test]),
        Range.of(spec.dataset, context.device),
    )
