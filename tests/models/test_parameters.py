"""Networks have the papers' sizes, PyTorch's own initialisation, and options that change what they say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bench import models
from bench.errors import UserError
from bench.warmstart.spec import Network

SHAPE = (3, 32, 32)


def parameters(model: nn.Module) -> int:
    return sum(tensor.numel() for tensor in model.parameters())


@pytest.mark.parametrize(
    ("name", "classes", "expected"),
    [
        ("thin_resnet18", 10, 701_466),
        ("thin_resnet18", 100, 713_076),
        ("resnet18", 10, 11_173_962),
        ("mlp", 10, 318_410),
        ("mlp", 100, 327_500),
        ("logistic", 10, 30_730),
        ("logistic", 100, 307_300),
    ],
)
def test_number_of_parameters(name: str, classes: int, expected: int) -> None:
    assert parameters(models.build(name, num_classes=classes, in_shape=SHAPE)) == expected


@pytest.mark.parametrize("name", ["thin_resnet18", "resnet18", "mlp", "logistic"])
def test_estimates_agree_with_what_torch_counts(name: str) -> None:
    model = models.build(name, num_classes=10, in_shape=SHAPE).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, *SHAPE))
    network = Network(name=name)
    assert network.macs(SHAPE, 10) == pytest.approx(counter.get_total_flops() / 2, rel=0.02)
    assert network.parameters(SHAPE, 10) == pytest.approx(parameters(model), rel=0.05)


def test_equal_seeds_draw_equal_weights_and_leave_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    one = models.build_seeded("thin_resnet18", 7, num_classes=10, in_shape=SHAPE)
    two = models.build_seeded("thin_resnet18", 7, num_classes=10, in_shape=SHAPE)
    other = models.build_seeded("thin_resnet18", 8, num_classes=10, in_shape=SHAPE)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.conv.weight, other.conv.weight)


def test_initialisation_is_that_of_pytorch() -> None:
    model = models.build_seeded("mlp", 0, num_classes=10, in_shape=SHAPE)
    first = model[1].weight
    bound = 1 / math.sqrt(3072)  # uniform between -1/sqrt(fan_in) and 1/sqrt(fan_in)
    assert first.abs().max() <= bound
    assert first.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)


def test_options() -> None:
    plain = models.build("mlp", num_classes=10, in_shape=SHAPE, bias=False, activation="relu", width=7)
    assert parameters(plain) == 7 * (3072 + 7 + 10)
    assert any(isinstance(module, nn.ReLU) for module in plain)
    grouped = models.build("thin_resnet18", num_classes=10, in_shape=SHAPE, norm="group")
    assert parameters(grouped) == 701_466
    assert not any(isinstance(module, nn.BatchNorm2d) for module in grouped.modules())
    narrow = models.build("thin_resnet18", num_classes=10, in_shape=SHAPE, width=8)
    assert narrow.linear.in_features == 64


def test_unknown_names_and_options_are_one_line() -> None:
    with pytest.raises(UserError, match="did you mean 'thin_resnet18'"):
        models.build("thin_resnet81", num_classes=10, in_shape=SHAPE)
    with pytest.raises(UserError, match=r"model 'mlp'.*depth"):
        models.build("mlp", num_classes=10, in_shape=SHAPE, depth=3)


def test_resnet_is_the_sum_of_its_parts() -> None:
    """A second way to compute the authors' forward pass: modules called by hand, in NCHW."""
    model = models.build_seeded("thin_resnet18", 0, num_classes=10, in_shape=SHAPE).eval()
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    y = torch.relu(model.norm(model.conv(x)))
    for block in model.blocks:
        inner = block.norm2(block.conv2(torch.relu(block.norm1(block.conv1(y)))))
        y = torch.relu(inner + block.shortcut(y))
    assert y.shape == (2, 128, 4, 4)
    expected = model.linear(nn.functional.avg_pool2d(y, 4).flatten(1))
    torch.testing.assert_close(model(x), expected)
