"""A network on a set of samples: errors, ReLU states, radii and regularisers by interval bounds; an attack (PGD)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.certified import regularizers
from bench.certified.dataset import Range
from bench.certified.graph import graph_of
from bench.certified.interval import box, propagate
from bench.training.samples import Pool, to_device

STATES = ("active", "inactive", "unstable")

TINY_EPS = 1e-6
"""Radius with which bounds are measured where eps is 0 (authors' code)."""


@dataclass
class Layer:
    """Sums over the samples for one ReLU layer, by state; [3] each on the device."""

    counts: Tensor
    radii: Tensor

    def shares(self) -> list[float]:
        return (self.counts / self.counts.sum()).tolist()

    def mean_radius(self) -> float:
        return float(self.radii.sum() / self.counts.sum())

    def radius_by_state(self) -> list[float | None]:
        """Mean radius of the neurons in each state; ``None`` where there is none."""
        pairs = zip(self.radii.tolist(), self.counts.tolist(), strict=True)
        return [radius / count if count else None for radius, count in pairs]


@dataclass
class Measured:
    """Errors in percent, regularisers averaged over batches, and the layers."""

    standard_error: float
    verified_error: float
    tightness: float = 0.0
    relu: float = 0.0
    layers: list[Layer] = field(default_factory=list)


def batches(pool: Pool, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    device = pool.labels.device
    for start in range(0, len(pool), size):
        yield pool.take(torch.arange(start, min(start + size, len(pool)), device=device))


def batch_size(largest_layer: int, device: torch.device) -> int:
    """Number of samples at once, so that the largest layer's streams fit into some 100 MB (some GB on a GPU)."""
    room = 2e7 if device.type == "cpu" else 1e8
    return int(max(8, min(500 if device.type == "cpu" else 2000, room // largest_layer)))


@torch.no_grad()
def measure(
    model: nn.Module,
    pool: Pool,
    eps: float,
    within: Range,
    *,
    batch: int,
    tau: float = 0.5,
    details: bool = True,
) -> Measured:
    """Standard and verified error by interval bounds in eval mode, and what Figures 2 to 6 show.

    Args:
        model: a network of `bench.certified.interval.bounds`.
        pool: samples.
        eps: radius; with 0 the verified error is the standard one, and bounds are measured at 1e-6.
        within: range of normalised images.
        batch: samples at once.
        tau: tolerance of the regularisers. L_relu is measured as the authors log it: a layer without an active neuron
            counts 2, also where training leaves it out.
        details: measure layers and regularisers too.
    """
    training = model.training
    model.eval()
    graph = graph_of(model)
    device = pool.labels.device
    wrong, unverified = (torch.zeros((), dtype=torch.int64, device=device) for _ in range(2))
    tightness, balance = (torch.zeros((), device=device) for _ in range(2))
    layers = [Layer(*(torch.zeros(3, dtype=torch.float64, device=device) for _ in range(2))) for _ in graph.relus()]
    for images, labels in batches(pool, batch):
        centre, radius = box(images, eps or TINY_EPS, within.low, within.high, within.scale)
        output = propagate(graph, centre, radius, clean=images, labels=labels, keep_relus=details)
        assert output.clean is not None
        misclassified = output.clean.argmax(1) != labels
        wrong += misclassified.sum()
        # A misclassified sample is never verified, whatever rounding says.
        unverified += (misclassified | (output.lower <= 0).any(1)).sum() if eps else misclassified.sum()
        if details:
            tightness += len(labels) * regularizers.tightness(radius, output.relus, tau)
            balance += len(labels) * regularizers.relu_balance(output.relus, tau, "code")
            for layer, bounds in zip(layers, output.relus, strict=True):
                _add(layer, *bounds)
    model.train(training)
    count = len(pool)
    return Measured(
        100 * wrong.item() / count,
        100 * unverified.item() / count,
        tightness.item() / count,
        balance.item() / count,
        layers if details else [],
    )


def _add(layer: Layer, centre: Tensor, radius: Tensor) -> None:
    """Counts neurons and sums radii by state: active lo > 0, inactive hi < 0, unstable otherwise."""
    active, inactive = centre > radius, centre < -radius
    total = radius.sum(dtype=torch.float64)
    sums = [torch.where(state, radius, 0).sum(dtype=torch.float64) for state in (active, inactive)]
    counts = [state.sum().double() for state in (active, inactive)]
    layer.radii += torch.stack([*sums, total - sums[0] - sums[1]])
    layer.counts += torch.stack([*counts, radius.numel() - counts[0] - counts[1]])


def pgd(
    model: nn.Module,
    centre: Tensor,
    radius: Tensor,
    labels: Tensor,
    *,
    steps: int,
    step: float,
    generator: torch.Generator,
    late: float = 1.0,
) -> Tensor:
    """Points of the box that the model classifies badly: projected, signed gradient ascent on the cross-entropy.

    Args:
        model: in the mode that is attacked; its parameters get no gradient.
        centre: of the box, [B, C, H, W].
        radius: of the box, same shape; the random start and all steps stay inside.
        labels: int64 [B].
        steps: number of steps.
        step: size of a step as a share of the box's radius.
        generator: of the random start, on the CPU.
        late: factor on the step in the second half.

    Returns:
        [B, C, H, W], detached.
    """
    # Positions relative to the box, so that a step is a share of each pixel's own range.
    start = to_device(torch.rand(centre.shape, generator=generator), centre.device)
    position = start.to(centre.dtype) * 2 - 1
    if centre.is_contiguous(memory_format=torch.channels_last) and not centre.is_contiguous():
        position = position.to(memory_format=torch.channels_last)
    for number in range(steps):
        position.requires_grad_(True)
        loss = F.cross_entropy(model(centre + radius * position), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, position)
        size = step * (late if 2 * number >= steps else 1.0)
        position = (position.detach() + size * gradient.sign()).clamp(-1, 1)
    return centre + radius * position.detach()
