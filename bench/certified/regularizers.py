"""The warm-up's regularisers: tight bounds against the input's, and a balance of active and inactive ReLU neurons."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.certified.autograd import balance

LEAST = 1e-12
"""Denominators are at least this large, as in the authors' code."""

Bounds = tuple[Tensor, Tensor]
"""Centre and radius of the input of a ReLU, [B, ...]."""


def tightness(input_radius: Tensor, layers: Sequence[Bounds], tau: float) -> Tensor:
    """L_tightness = 1/(tau m) sum_i ReLU(tau - E(Delta_0) / E(Delta_i)) (Equation 7); means over batch and neurons."""
    first = input_radius.mean()
    means = torch.stack([radius.mean() for _, radius in layers])
    return F.relu(tau - first / means.clamp(min=LEAST)).mean() / tau


def _imbalance(ratio: Tensor, tau: float) -> Tensor:
    """ReLU(tau - min(ratio, 1 / ratio))."""
    return F.relu(tau - torch.minimum(ratio, 1 / ratio.clamp(min=LEAST)))


def relu_balance(layers: Sequence[Bounds], tau: float, empty: Literal["skip", "code"] = "skip") -> Tensor:
    """L_relu = 1/(tau m) sum_i [ReLU(tau - min(alpha, 1/alpha)) + ReLU(tau - min(beta, 1/beta))] (Equation 8).

    alpha is the sum of the active neurons' centres over that of the inactive ones', beta the same for the squared
    distances from the layer's mean centre.

    Args:
        layers: of the network.
        tau: tolerance.
        empty: ``skip`` leaves out layers without an active or without an inactive neuron (the paper); ``code`` leaves
            out only layers whose ratios are NaN, so that a layer without an active neuron adds 2 tau (authors' code).
    """
    # All layers' sums at once, [m] each: on small networks the time goes into the number of operations.
    parts = zip(*(balance(centre, radius) for centre, radius in layers), strict=True)
    sum_active, sum_inactive, var_active, var_inactive, count_active, count_inactive = map(torch.stack, parts)
    counted = count_inactive > 0
    if empty == "skip":
        counted = counted & (count_active > 0)
    # A layer that is not counted must not bring NaN into the gradient.
    alpha = sum_active / torch.where(counted, -sum_inactive, 1.0).clamp(min=LEAST)
    beta = var_active / torch.where(counted, var_inactive, 1.0).clamp(min=LEAST)
    terms = _imbalance(alpha, tau) + _imbalance(beta, tau)
    return torch.where(counted, terms, 0.0).sum() / (tau * len(layers))


def spread(layers: Sequence[Bounds], tau: float) -> Tensor:
    """L_std = mean_i ReLU(tau - std(c_i)) / tau, on by default in two versions of the authors' code."""
    return torch.stack([F.relu(tau - centre.std()) for centre, _ in layers]).mean() / tau


def total(
    names: Collection[str],
    input_radius: Tensor,
    layers: Sequence[Bounds],
    *,
    tau: float,
    empty: Literal["skip", "code"] = "skip",
) -> Tensor:
    """The sum of the chosen regularisers, without their weight."""
    sums = input_radius.new_zeros(())
    if "tightness" in names:
        sums = sums + tightness(input_radius, layers, tau)
    if "relu" in names:
        sums = sums + relu_balance(layers, tau, empty)
    if "std" in names:
        sums = sums + spread(layers, tau)
    return sums
