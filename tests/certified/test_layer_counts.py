"""Networks have the protocol's sizes, and what is computed without building them agrees with torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bench import models
from bench.certified.spec import DATA_SETS, Certified, Network

PROTOCOL = [
    ("mnist", "cnn7", "full", 13_259_338, 114_456_576, 176_138, 6),
    ("mnist", "wide_resnet8", "full", 17_615_434, 504_286_464, 539_914, 8),
    ("mnist", "resnext", "full", 13_677_706, 124_090_368, 690_442, 11),
    ("cifar10", "cnn7", "full", 17_192_650, 150_672_384, 229_898, 6),
    ("cifar10", "cnn7", "convs", 17_191_626, 150_672_384, 229_898, 6),
    ("cifar10", "cnn7", "none", 17_190_602, 150_672_384, 229_898, 6),
    ("cifar10", "wide_resnet8", "full", 21_547_882, 658_953_216, 705_034, 8),
    ("cifar10", "wide_resnet8", "none", 21_541_450, 658_953_216, 705_034, 8),
    ("cifar10", "resnext", "full", 17_611_018, 163_255_296, 901_642, 11),
    ("cifar10", "resnext", "none", 17_604_490, 163_255_296, 901_642, 11),
    ("tinyimagenet", "cnn7", "full", 17_290_120, 439_193_600, 819_912, 6),
    ("tinyimagenet", "cnn7", "partial", 17_288_840, 439_193_600, 819_912, 6),
    ("tinyimagenet", "wide_resnet8", "full", 91_424_776, 4_070_346_752, 3_506_888, 8),
    ("tinyimagenet", "resnext", "full", 16_981_960, 81_563_648, 1_360_584, 20),
]


@pytest.mark.parametrize("row", PROTOCOL, ids=lambda row: "-".join(map(str, row[:3])))
def test_networks_have_the_sizes_of_the_protocol(row: tuple[Any, ...]) -> None:
    dataset, name, norm, *expected = row
    spec = Certified(seed=0, dataset=dataset, network=Network(name=name, norm=norm))
    layers = spec.layers()
    assert [
        spec.parameters(),
        spec.macs(),
        sum(layer.neurons for layer in layers),
        sum(layer.relu for layer in layers),
    ] == expected
    data = DATA_SETS[dataset]
    with torch.device("meta"):  # no weights are drawn
        model = models.build(name, num_classes=data.classes, in_shape=data.shape, **spec.network.options())
    assert sum(tensor.numel() for tensor in model.parameters()) == expected[0]


@pytest.mark.parametrize("name", ["cnn7", "wide_resnet8", "resnext"])
@pytest.mark.parametrize("shape", [(3, 12, 12), (1, 28, 28), (3, 64, 64)])
def test_multiply_accumulates_agree_with_what_torch_counts(name: str, shape: tuple[int, int, int]) -> None:
    network = Network(name=name, width=4, units=16)
    model = models.build(name, num_classes=7, in_shape=shape, **network.options()).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, *shape))
    layers = network.layers(shape, 7)
    assert sum(layer.macs for layer in layers) == counter.get_total_flops() / 2
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert sorted(layer.fan_in for layer in layers) == sorted(m.weight[0].numel() for m in convolutions)
