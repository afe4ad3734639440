"""Fully connected networks on flattened images: the paper's MLP and logistic regression."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Literal

from torch import nn

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}


def mlp(
    *,
    num_classes: int,
    in_shape: tuple[int, int, int],
    width: int = 100,
    activation: Literal["tanh", "relu"] = "tanh",
    bias: bool = True,
) -> nn.Sequential:
    """Two hidden layers of `width`: 3072-100-100-C, 318,410 parameters for CIFAR-10.

    The authors use tanh in two-phase runs and ReLU in online runs.
    """
    widths = [prod(in_shape), width, width]
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out, bias=bias), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers, nn.Linear(width, num_classes, bias=bias))


def logistic(*, num_classes: int, in_shape: tuple[int, int, int]) -> nn.Sequential:
    """Multinomial logistic regression: 30,730 parameters for CIFAR-10."""
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(in_shape), num_classes))
