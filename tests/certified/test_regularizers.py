"""Equations 7 and 8, written out neuron by neuron, and what happens without active neurons."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.certified import regularizers
from bench.certified.regularizers import Bounds


def layers(seed: int, count: int = 3, shift: float = 0.0) -> list[Bounds]:
    draw = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        centre = torch.randn(4, 30, generator=draw, dtype=torch.float64) + shift
        made.append((centre, 0.3 * torch.rand(4, 30, generator=draw, dtype=torch.float64)))
    return made


def by_hand(bounds: list[Bounds], tau: float) -> float:
    total = 0.0
    for centre, radius in bounds:
        pairs = list(zip(centre.flatten().tolist(), radius.flatten().tolist(), strict=True))
        mean = sum(c for c, _ in pairs) / len(pairs)
        active = [c for c, r in pairs if c - r > 0]
        inactive = [c for c, r in pairs if c + r < 0]
        if not active or not inactive:
            continue
        alpha = sum(active) / -sum(inactive)
        beta = sum((c - mean) ** 2 for c in active) / sum((c - mean) ** 2 for c in inactive)
        total += max(0.0, tau - min(alpha, 1 / alpha)) + max(0.0, tau - min(beta, 1 / beta))
    return total / (tau * len(bounds))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), shift=st.floats(-1.5, 1.5))
def test_relu_balance_is_equation_8(seed: int, shift: float) -> None:
    bounds = layers(seed, shift=shift)
    assert regularizers.relu_balance(bounds, 0.5).item() == pytest.approx(by_hand(bounds, 0.5), rel=1e-9, abs=1e-12)


def test_tightness_is_equation_7() -> None:
    first = torch.full((2, 5), 0.1)
    bounds = [(torch.zeros(2, 3), torch.full((2, 3), radius)) for radius in (0.1, 0.25, 0.4)]
    # tau - 1, tau - 0.4 and tau - 0.25, of which the first is negative.
    assert regularizers.tightness(first, bounds, 0.5).item() == pytest.approx((0.1 + 0.25) / (0.5 * 3))


def test_a_layer_without_active_neurons_is_left_out_or_a_constant() -> None:
    centre = -torch.rand(2, 6) - 1
    centre.requires_grad_(True)
    empty = (centre, torch.full((2, 6), 0.1))
    assert regularizers.relu_balance([empty], 0.5, "skip").item() == 0.0
    constant = regularizers.relu_balance([empty], 0.5, "code")
    assert constant.item() == 2.0
    (gradient,) = torch.autograd.grad(constant, centre)
    assert (gradient == 0).all()
    all_active = (-centre, torch.full((2, 6), 0.1))
    for rule in ("skip", "code"):
        value = regularizers.relu_balance([all_active], 0.5, rule)
        assert value.item() == 0.0
        assert (torch.autograd.grad(value, centre)[0] == 0).all()


def test_gradients_are_those_of_finite_differences() -> None:
    bounds = layers(1, count=1, shift=0.7)
    centre, radius = (tensor.requires_grad_(True) for tensor in bounds[0])
    first = torch.full((3,), 0.02, dtype=torch.float64)

    def value(c: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
        return regularizers.total(("tightness", "relu"), first, [(c, r)], tau=0.5)

    assert value(centre, radius).item() > 0.1
    assert torch.autograd.gradcheck(value, (centre, radius))


def test_the_extra_term_punishes_small_spread() -> None:
    centre = torch.tensor([[0.1, -0.1, 0.1, -0.1]])
    expected = (0.5 - centre.std().item()) / 0.5
    assert regularizers.total(("std",), torch.ones(1), [(centre, centre)], tau=0.5).item() == pytest.approx(expected)
    assert math.isfinite(expected)
