"""Shrink and perturb: theta <- shrink * theta + perturb * (a fresh network, or noise), and its variants."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from bench.errors import UserError

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)


def check(*, shrink: float, perturb: float) -> None:
    """Raises `UserError` unless 0 <= shrink <= 1 and perturb >= 0."""
    if not 0 <= shrink <= 1:
        raise UserError(f"shrink {shrink:g}: expected 0 to 1; 1 keeps the weights (warm start), 0 forgets them")
    if not (perturb >= 0 and math.isfinite(perturb)):
        raise UserError(f"perturb {perturb:g}: expected 0 or more; it scales the noise that is added")


def last_layer(model: nn.Module) -> nn.Module:
    """The classifier: the last linear layer in the order of definition."""
    return [module for module in model.modules() if isinstance(module, nn.Linear)][-1]


def selected(model: nn.Module, *, norms: bool = True, layers: Literal["all", "last"] = "all") -> Iterator[Tensor]:
    """Learnable tensors that take part, in the order of definition.

    Args:
        model: the network.
        norms: whether scales and offsets of normalisation layers take part.
        layers: all layers, or the classifier alone.
    """
    part = model if layers == "all" else last_layer(model)
    for module in part.modules():
        if norms or not isinstance(module, NORMS):
            yield from module.parameters(recurse=False)


@torch.no_grad()
def shrink_perturb(
    model: nn.Module,
    fresh: nn.Module,
    *,
    shrink: float,
    perturb: float,
    norms: bool = True,
    layers: Literal["all", "last"] = "all",
) -> nn.Module:
    """Changes `model` to shrink * model + perturb * fresh and returns it (section 4; authors' code).

    It acts on every learnable tensor, scales and offsets of BatchNorm included, so with a fresh scale of 1 a scale
    becomes shrink * scale + perturb. (shrink, perturb) = (0, 1) is random initialisation, (1, 0) a warm start. Running
    statistics are left alone.

    Args:
        model: weights at hand.
        fresh: the same network, newly drawn.
        shrink: lambda, 0 to 1.
        perturb: s, 0 or more.
        norms: whether normalisation layers take part.
        layers: all layers, or the classifier alone.

    Raises:
        UserError: a factor is out of its range, or the networks differ.
    """
    check(shrink=shrink, perturb=perturb)
    old_tensors = list(selected(model, norms=norms, layers=layers))
    new_tensors = list(selected(fresh, norms=norms, layers=layers))
    if [old.shape for old in old_tensors] != [new.shape for new in new_tensors]:
        raise UserError("shrink_perturb: the networks differ; build `fresh` with the same name, classes and options")
    for old, new in zip(old_tensors, new_tensors, strict=True):
        # Multiplying by 0 would keep NaN and infinity alive, and -0.0; (0, 1) must be the fresh network exactly.
        old.copy_(old * shrink + new.to(old.device) * perturb if shrink else new.to(old.device) * perturb)
    return model


@torch.no_grad()
def add_noise(
    model: nn.Module,
    *,
    size: float,
    size_is: Literal["variance", "std"],
    generator: torch.Generator,
    shrink: float = 1.0,
    norms: bool = True,
    layers: Literal["all", "last"] = "all",
) -> nn.Module:
    """Changes `model` to shrink * model + iid Gaussian noise of one size on all tensors, and returns it (Table 4).

    Args:
        model: weights at hand.
        size: variance or standard deviation of the noise; the paper's header says deviation, the code takes the root.
        size_is: how `size` is read.
        generator: CPU generator of the noise.
        shrink: lambda, 0 to 1.
        norms: whether normalisation layers take part.
        layers: all layers, or the classifier alone.

    Raises:
        UserError: a factor is out of its range.
    """
    check(shrink=shrink, perturb=size)
    std = math.sqrt(size) if size_is == "variance" else size
    for tensor in selected(model, norms=norms, layers=layers):
        noise = torch.randn(tensor.shape, generator=generator) * std
        tensor.mul_(shrink).add_(noise.to(tensor.device))
    return model
