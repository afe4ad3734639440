"""Shrink and perturb does what section 4 says, and Proposition 1 holds."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bench import models, seeds
from bench.errors import UserError
from bench.warmstart.losses import entropy
from bench.warmstart.shrink import add_noise, shrink_perturb

SHAPE = (3, 16, 16)


def resnet(seed: int) -> nn.Module:
    model = models.build_seeded("thin_resnet18", seed, num_classes=10, in_shape=SHAPE, width=4)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.parameters():  # away from the ones and zeros of a new BatchNorm
            tensor.add_(0.1 * torch.randn(tensor.shape, generator=draw))
    return model


def tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.named_parameters()}


def test_every_learnable_tensor_takes_part() -> None:
    old, fresh = resnet(1), resnet(2)
    before, new = tensors(old), tensors(fresh)
    changed = shrink_perturb(old, fresh, shrink=0.6, perturb=0.01)
    assert changed is old
    for name, tensor in changed.named_parameters():
        torch.testing.assert_close(tensor.detach(), 0.6 * before[name] + 0.01 * new[name], rtol=0, atol=1e-7)
    assert all(torch.equal(tensor, new[name]) for name, tensor in fresh.named_parameters())


def test_a_new_batchnorm_scale_becomes_the_sum_of_both_factors() -> None:
    old, fresh = (models.build_seeded("thin_resnet18", seed, num_classes=10, in_shape=SHAPE) for seed in (1, 2))
    shrink_perturb(old, fresh, shrink=0.6, perturb=0.25)
    torch.testing.assert_close(old.norm.weight, torch.full((16,), 0.85))
    assert torch.equal(old.norm.bias, torch.zeros(16))


def test_the_two_ends_are_random_initialisation_and_warm_start_bit_for_bit() -> None:
    old, fresh = resnet(1), resnet(2)
    before, new = tensors(old), tensors(fresh)
    shrink_perturb(old, fresh, shrink=1.0, perturb=0.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in old.named_parameters())
    shrink_perturb(old, fresh, shrink=0.0, perturb=1.0)
    assert all(torch.equal(tensor, new[name]) for name, tensor in old.named_parameters())


def test_running_statistics_are_left_alone() -> None:
    old, fresh = resnet(1), resnet(2)
    old(torch.randn(4, *SHAPE))
    before = {name: buffer.clone() for name, buffer in old.named_buffers()}
    shrink_perturb(old, fresh, shrink=0.3, perturb=1.0)
    assert all(torch.equal(buffer, before[name]) for name, buffer in old.named_buffers())


def test_variants_spare_normalisation_or_all_but_the_classifier() -> None:
    old, fresh = resnet(1), resnet(2)
    before = tensors(old)
    shrink_perturb(old, fresh, shrink=0.5, perturb=0.5, norms=False)
    same = {name for name, tensor in old.named_parameters() if torch.equal(tensor, before[name])}
    norms = {
        f"{prefix}.{name}"
        for prefix, module in old.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for name in ("weight", "bias")
    }
    assert same == norms
    old, before = resnet(1), tensors(resnet(1))
    shrink_perturb(old, fresh, shrink=0.5, perturb=0.5, layers="last")
    assert {n for n, t in old.named_parameters() if not torch.equal(t, before[n])} == {"linear.weight", "linear.bias"}


@pytest.mark.parametrize(("size_is", "std"), [("variance", 0.1), ("std", 0.01)])
def test_gaussian_noise_has_the_size_that_its_reading_says(size_is: str, std: float) -> None:
    model = models.build_seeded("mlp", 0, num_classes=10, in_shape=(3, 32, 32))
    before = tensors(model)
    add_noise(model, size=0.01, size_is=size_is, generator=seeds.generator("noise"))
    noise = torch.cat([(tensor.detach() - before[name]).flatten() for name, tensor in model.named_parameters()])
    assert noise.std().item() == pytest.approx(std, rel=0.01)
    assert abs(noise.mean().item()) < 5 * std / math.sqrt(len(noise))


@pytest.mark.parametrize(
    ("shrink", "perturb"), [(1.1, 0.0), (-0.1, 0.0), (math.nan, 0.0), (0.5, -1.0), (0.5, math.inf)]
)
def test_impossible_factors_are_refused_before_anything_changes(shrink: float, perturb: float) -> None:
    old, fresh = resnet(1), resnet(2)
    before = tensors(old)
    with pytest.raises(UserError, match="expected 0"):
        shrink_perturb(old, fresh, shrink=shrink, perturb=perturb)
    assert all(torch.equal(tensor, before[name]) for name, tensor in old.named_parameters())


def test_networks_that_differ_are_refused() -> None:
    wider = models.build_seeded("thin_resnet18", 0, num_classes=10, in_shape=SHAPE, width=8)
    with pytest.raises(UserError, match="differ"):
        shrink_perturb(resnet(1), wider, shrink=0.5, perturb=0.1)


class BiasFree(nn.Module):
    """Convolutions and linear layers without bias or normalisation, with ReLU between them."""

    def __init__(self, convolutions: int, linears: int, width: int):
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for _ in range(convolutions):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.ReLU()]
            channels = width
        layers.append(nn.Flatten())
        features = channels * 16
        for _ in range(linears - 1):
            layers += [nn.Linear(features, width, bias=False), nn.ReLU()]
            features = width
        self.layers = nn.Sequential(*layers, nn.Linear(features, 5, bias=False))
        self.depth = convolutions + linears

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@settings(max_examples=40, deadline=None)
@given(
    convolutions=st.integers(0, 2),
    linears=st.integers(1, 3),
    width=st.integers(2, 8),
    factor=st.floats(0.05, 0.999),
    seed=st.integers(0, 2**31),
)
def test_proposition_1(convolutions: int, linears: int, width: int, factor: float, seed: int) -> None:
    """A bias-free ReLU network of L layers: f_{c theta} = c^L f_theta, so the argmax stays and the entropy rises."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BiasFree(convolutions, linears, width).double()
        images = torch.randn(6, 3, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        before = 10 * model(images)  # larger logits, so that the entropy has room to rise
        shrunk = copy.deepcopy(model)
        shrink_perturb(shrunk, model, shrink=factor, perturb=0.0)
        after = 10 * shrunk(images)
    torch.testing.assert_close(after, factor**model.depth * before, rtol=1e-10, atol=1e-14)
    margin = before.topk(2).values
    clear = margin[:, 0] - margin[:, 1] > 1e-9
    assert torch.equal(after.argmax(1)[clear], before.argmax(1)[clear])
    if bool((before.amax(1) - before.amin(1) > 1e-3).any()):
        assert entropy(after) > entropy(before)
