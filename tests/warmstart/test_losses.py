"""The penalties of Table 3 against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench import models
from bench.warmstart.losses import entropy, fgsm, make_loss
from bench.warmstart.spec import Penalty


@pytest.fixture
def batch() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    model = models.build_seeded("mlp", 0, num_classes=5, in_shape=(3, 4, 4), width=8).double()
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(6, 3, 4, 4, generator=draw, dtype=torch.float64)
    return model, images, torch.arange(6) % 5


def test_entropy_of_known_distributions() -> None:
    assert entropy(torch.zeros(3, 8)).item() == pytest.approx(math.log(8))
    assert entropy(torch.tensor([[100.0, 0.0]])).item() == pytest.approx(0.0, abs=1e-6)
    probability = torch.tensor([0.7, 0.2, 0.1])
    expected = -(probability * probability.log()).sum().item()
    assert entropy(probability.log()[None] + 3).item() == pytest.approx(expected)


def test_confidence_penalty_rewards_entropy(batch: tuple[nn.Module, torch.Tensor, torch.Tensor]) -> None:
    model, images, labels = batch
    value, logits = make_loss(Penalty(kind="confidence", weight=0.1))(model, images, labels)
    probability = logits.double().softmax(1)
    plain = -(probability * probability.log()).sum(1).mean()
    torch.testing.assert_close(value, F.cross_entropy(logits, labels) - 0.1 * plain.float(), rtol=1e-5, atol=1e-6)


def test_fgsm_goes_up_the_loss_by_its_step_in_each_pixel(batch: tuple[nn.Module, torch.Tensor, torch.Tensor]) -> None:
    model, images, labels = batch
    moved = fgsm(model, images, labels, 1e-3)
    torch.testing.assert_close((moved - images).abs(), torch.full_like(images, 1e-3))
    step = 1e-6
    for pixel in [(0, 0, 0, 0), (3, 1, 2, 3), (5, 2, 3, 1)]:  # the sign of a finite difference
        nudged = images.clone()
        nudged[pixel] += step
        slope = (F.cross_entropy(model(nudged), labels) - F.cross_entropy(model(images), labels)) / step
        assert math.copysign(1, slope.item()) == math.copysign(1, (moved - images)[pixel].item())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_adversarial_penalty_adds_the_loss_at_the_example(batch: tuple[nn.Module, torch.Tensor, torch.Tensor]) -> None:
    model, images, labels = batch
    for penalty, size in (
        (Penalty(kind="adversarial", weight=0.1), 0.1),
        (Penalty(kind="adversarial", weight=0.1, fgsm_eps=8 / 255), 8 / 255),
    ):
        value, _ = make_loss(penalty)(model, images, labels)
        there = F.cross_entropy(model(fgsm(model, images, labels, size)).float(), labels)
        torch.testing.assert_close(value, F.cross_entropy(model(images).float(), labels) + 0.1 * there)
