"""Errors, ReLU states, radii and regularisers on a set of samples, in one pass of interval bounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bench.certified import regularizers
from bench.certified.interval import box, propagate, relu_layers
from bench.certified.split import Range
from bench.training.samples import Pool

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
    """Samples at once, so that the largest layer's streams fit into a few hundred MB (a few GB on a GPU)."""
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
    empty: str = "skip",
    details: bool = True,
) -> Measured:
    """Standard and verified error by interval bounds in eval mode, and what Figures 2 to 6 show.

    Args:
        model: a network of `bench.certified.interval.bounds`.
        pool: samples.
        eps: radius; with 0 the verified error is the standard one, and bounds are measured at 1e-6.
        within: range of normalised images.
        batch: samples at once.
        tau: tolerance of the regularisers.
        empty: see `regularizers.relu_balance`.
        details: measure layers and regularisers too.
    """
    training = model.training
    model.eval()
    device = pool.labels.device
    wrong, unverified = (torch.zeros((), dtype=torch.int64, device=device) for _ in range(2))
    tight, balance = (torch.zeros((), device=device) for _ in range(2))
    layers = [
        Layer(*(torch.zeros(3, dtype=torch.float64, device=device) for _ in range(2))) for _ in relu_layers(model)
    ]
    for images, labels in batches(pool, batch):
        centre, radius = box(images, eps or TINY_EPS, within.low, within.high, within.scale)
        made = propagate(model, centre, radius, clean=images, labels=labels, keep_relus=details)
        assert made.clean is not None
        missed = made.clean.argmax(1) != labels
        wrong += missed.sum()
        # A misclassified sample is never verified, whatever rounding says.
        unverified += (missed | (made.lower <= 0).any(1)).sum() if eps else missed.sum()
        if details:
            tight += len(labels) * regularizers.tightness(radius, made.relus, tau)
            balance += len(labels) * regularizers.relu_balance(made.relus, tau, "code" if empty == "code" else "skip")
            for layer, bounds in zip(layers, made.relus, strict=True):
                _add(layer, *bounds)
    model.train(training)
    count = len(pool)
    return Measured(
        100 * wrong.item() / count,
        100 * unverified.item() / count,
        tight.item() / count,
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
