"""Ours as the authors train it: the first steps of the ramp against their rule, written a second time, in float64.

The rule is that of bench/certified/protocol.md, section a: in regularised steps with eps exactly 0 the bounds use eps 1e-6
and the data loss is the clean one; as soon as eps is above 0 the true eps is used everywhere, however small.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.certified.dataset import Range
from bench.certified.eps_schedule import Schedule, eps_share, regularizer_weight
from bench.certified.step import Step
from bench.certified.train import draw_network

from .conftest import tiny

STEPS_PER_EPOCH = 40
SCHEDULE = Schedule(zero=1, ramp=4, final=1, milestones=())
"""eps is below 1e-6 in the first six steps of the ramp, and 1e-9 in the first."""
TAU = 0.5


def regularizers(first: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Equations 7 and 8, of centres and radii before each ReLU."""
    total = first.new_zeros(())
    for centre, radius in layers:
        total = total + F.relu(TAU - first.mean() / radius.mean())
        active, inactive = centre - radius > 0, centre + radius < 0
        if active.any() and inactive.any():
            distance = (centre - centre.mean()).square()
            alpha = centre[active].sum() / -centre[inactive].sum()
            beta = distance[active].sum() / distance[inactive].sum()
            for ratio in (alpha, beta):
                total = total + F.relu(TAU - torch.minimum(ratio, 1 / ratio))
    return total / (TAU * len(layers))


def reference_loss(model: nn.Sequential, images: Tensor, labels: Tensor, eps: float, weight: float) -> Tensor:
    """The objective of one step; images are normalised with mean 0.5 and standard deviation 1."""
    reach = 1e-6 if eps == 0 and weight > 0 else eps
    low, high = (images - reach).clamp(min=-0.5), (images + reach).clamp(max=0.5)
    centre, radius = (low + high) / 2, (high - low) / 2
    clean, first, layers = images, radius, []
    for layer in model[:-1]:
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            dims = [0, *range(2, clean.dim())]
            variance, mean = torch.var_mean(clean, dim=dims, correction=0, keepdim=True)
            shape = mean.shape
            scale = layer.weight.reshape(shape) / torch.sqrt(variance + layer.eps)
            clean, centre = (scale * (stream - mean) + layer.bias.reshape(shape) for stream in (clean, centre))
            radius = scale.abs() * radius
        elif isinstance(layer, nn.Conv2d):
            clean, centre = layer(clean), layer(centre)
            radius = F.conv2d(radius, layer.weight.abs(), None, layer.stride, layer.padding)
        elif isinstance(layer, nn.Linear):
            clean, centre, radius = layer(clean), layer(centre), radius @ layer.weight.abs().t()
        elif isinstance(layer, nn.ReLU):
            layers.append((centre, radius))
            low, high = F.relu(centre - radius), F.relu(centre + radius)
            clean, centre, radius = F.relu(clean), (low + high) / 2, (high - low) / 2
        else:
            clean, centre, radius = layer(clean), layer(centre), layer(radius)
    last = model[-1]
    if eps == 0:
        loss = F.cross_entropy(last(clean), labels)
    else:
        rows = last.weight[labels][:, None] - last.weight
        margins = (rows * centre[:, None]).sum(2) - (rows.abs() * radius[:, None]).sum(2)
        margins = margins + last.bias[labels][:, None] - last.bias
        # The margin of the true class is 0, which is the 1 in log(1 + sum exp(-margin)).
        loss = torch.logsumexp(-margins, 1).mean()
    return loss + weight * regularizers(first, layers)


def test_the_first_steps_of_the_ramp_are_the_authors() -> None:
    spec = tiny(init="ibp", regularizers=("tightness", "relu"), schedule=SCHEDULE, batch=16, clip=100.0)
    model = draw_network(spec, spec.shape(), spec.classes()).double().train()
    assert isinstance(model, nn.Sequential)
    twin = copy.deepcopy(model)
    step = Step(spec, model, Range.of(spec.dataset, torch.device("cpu"), torch.float64))
    step.sums.loss = step.sums.loss.double()
    draw = torch.Generator().manual_seed(0)
    radii = []
    for number in range(STEPS_PER_EPOCH - 2, STEPS_PER_EPOCH + 21):
        images = torch.rand(16, *spec.shape(), generator=draw, dtype=torch.float64) - 0.5
        labels = torch.randint(0, 5, (16,), generator=draw)
        share = eps_share(number, SCHEDULE, STEPS_PER_EPOCH)
        weight = regularizer_weight(share, spec.weight, number // STEPS_PER_EPOCH, SCHEDULE)
        radii.append(spec.target * share)

        twin.load_state_dict(model.state_dict())
        expected = reference_loss(twin, images, labels, radii[-1], weight)
        gradients = torch.autograd.grad(expected, list(twin.parameters()))
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        assert norm < spec.clip  # nothing is clipped

        step.sums.reset()
        step(images, labels, torch.tensor(radii[-1], dtype=torch.float64), share, weight)
        assert float(step.sums.loss) / 16 == pytest.approx(expected.item(), rel=1e-9), number
        for (name, ours), theirs in zip(model.named_parameters(), gradients, strict=True):
            assert ours.grad is not None and (ours.grad - theirs).norm() < 1e-9 * norm, (number, name)
    assert radii[:3] == [0, 0, 0] and sum(0 < eps < 1e-6 for eps in radii) == 6 and len(radii) == 23
