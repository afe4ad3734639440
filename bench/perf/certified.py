"""Images per second of certified training and of verification.

The authors' loop writes the same objective (robust loss, both regularisers, clipping, Adam) on auto_LiRPA's BoundedModule.
The plain loop is interval arithmetic as the paper's equations write it, with separate lower and upper bounds, under
`torch.compile`. All start from the same weights and see the same batches. Verification is compared with auto_LiRPA as its
examples call it, in batches of the same size.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench import seeds
from bench.certified import interval, lirpa, regularizers
from bench.certified.dataset import Range
from bench.certified.spec import Certified, Network
from bench.certified.step import Step, robust_loss
from bench.certified.train import draw_network
from bench.certified.verify import batch_size
from bench.perf.measure import TURNS, Loop, Row, compared, in_turns, memory_row, rate
from bench.training.precision import Precision, has_bf16

BATCH = 128
SHARE = 0.5
"""eps as a share of its target: half-way up the ramp, where everything is computed."""
BATCHES = 4
"""Different batches, which are taken again and again."""
PATCHES = 4
"""Of an image, in each direction."""
TOLERANCE = 2e-3
"""Of a loss, relative: BatchNorm amplifies rounding from step to step."""
STEPS = {"cpu": 1, "cuda": 20}
VERIFIED = {"ibp": 200, "crown_ibp": 100, "crown": 10}
"""Images of one turn of a verification method."""

Pairs = list[tuple[Tensor, Tensor]]
"""Centre and radius of the input of each ReLU."""


def specification(precision: Precision = "float32") -> Certified:
    """The paper's method with CNN-7 on CIFAR-10's shape."""
    return Certified(seed=0, init="ibp", regularizers=("tightness", "relu"), batch=BATCH, precision=precision)


def network(spec: Certified, device: torch.device) -> nn.Module:
    """The network with the weights that all start from."""
    return draw_network(spec, spec.shape(), spec.classes()).to(device).train()


def batches(spec: Certified, size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised images [B, C, H, W] in channels-last memory and labels [B].

    They are random patches, so that they differ from each other as wholes: images of noise are all alike to a convolution,
    and BatchNorm would scale their small differences up until rounding shows in the losses.
    """
    within = Range.of(spec.dataset, device)
    channels, height, width = spec.shape()
    for number in range(BATCHES):
        draw = seeds.generator("perf", "certified", number)
        patches = torch.rand(size, channels, PATCHES, PATCHES, generator=draw)
        labels = torch.randint(0, spec.classes(), (size,), generator=draw).to(device)
        images = within.low + F.interpolate(patches, (height, width)).to(device) * within.scale
        yield images.contiguous(memory_format=torch.channels_last), labels


def loop(step: Callable[[Tensor, Tensor], Tensor], spec: Certified, device: torch.device) -> Loop:
    """Steps on the common batches."""
    source = itertools.cycle([*batches(spec, BATCH, device)])
    return Loop(step, source, units=BATCH, steps=STEPS[device.type], device=device)


def ours(device: torch.device, precision: Precision = "float32") -> Loop:
    """The trainer's own step."""
    spec = specification(precision)
    model = network(spec, device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    step = Step(spec, model, Range.of(spec.dataset, device), compile="always", expected_steps=1e9)
    eps = torch.full((), spec.target * SHARE, device=device)

    def update(images: Tensor, labels: Tensor) -> Tensor:
        sums = step.sums.reset()
        step(images, labels, eps, SHARE, spec.weight * (1 - SHARE))
        return sums.loss / len(labels)

    return loop(update, spec, device)


def peer(
    device: torch.device, bounds_of: Callable[[nn.Module, Certified], Callable[..., tuple[Tensor, Pairs]]]
) -> Loop:
    """The objective of the paper on bounds from elsewhere.

    Args:
        device: of the training.
        bounds_of: for a network, the function (images, lower, upper, labels) -> margins [B, K - 1] and `Pairs`.
    """
    spec = specification()
    model = network(spec, device)
    within, bounds = Range.of(spec.dataset, device), bounds_of(model, spec)
    optimizer = torch.optim.Adam(model.parameters(), lr=spec.lr, fused=True)

    def update(images: Tensor, labels: Tensor) -> Tensor:
        images = images.contiguous()
        centre, radius = interval.box(images, spec.target * SHARE, within.low, within.high, within.scale)
        margins, pairs = bounds(images, centre - radius, centre + radius, labels)
        penalty = regularizers.total(spec.regularizers, radius, pairs, tau=spec.tau)
        loss = robust_loss(margins) + spec.weight * (1 - SHARE) * penalty
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), spec.clip)
        optimizer.step()
        return loss.detach()

    return loop(update, spec, device)


def by_lirpa(model: nn.Module, spec: Certified) -> Callable[..., tuple[Tensor, Pairs]]:
    """Bounds of auto_LiRPA."""
    device = next(model.parameters()).device
    bounded = lirpa.Bounded(model, torch.zeros(2, *spec.shape(), device=device))

    def bounds(images: Tensor, lower: Tensor, upper: Tensor, labels: Tensor) -> tuple[Tensor, Pairs]:
        _, margins, relus = bounded.mixed_margins(images, lower, upper, labels, 0.0)
        return margins, [((low + high) / 2, (high - low) / 2) for low, high in relus]

    return bounds


def by_equations(model: nn.Module, spec: Certified) -> Callable[..., tuple[Tensor, Pairs]]:
    """Bounds as the paper's equations write them, compiled."""
    *layers, last = model.children()
    assert isinstance(last, nn.Linear)

    def bounds(clean: Tensor, lower: Tensor, upper: Tensor, labels: Tensor) -> tuple[Tensor, Pairs]:
        pairs: Pairs = []
        for layer in layers:
            if isinstance(layer, nn.ReLU):
                pairs.append(((lower + upper) / 2, (upper - lower) / 2))
            lower, upper = _through(layer, clean, lower, upper)
            clean = layer(clean)
        rest = interval.others(labels, spec.classes())
        rows = last.weight[labels][:, None] - last.weight[rest]
        margins = (rows.clamp(min=0) * lower[:, None] + rows.clamp(max=0) * upper[:, None]).sum(2)
        return margins + last.bias[labels][:, None] - last.bias[rest], pairs

    return torch.compile(bounds, dynamic=False)


def _through(layer: nn.Module, clean: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds behind a layer; BatchNorm has the statistics of the clean images in front of it."""
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        variance, mean = torch.var_mean(clean, dim=[0, *range(2, clean.dim())], correction=0)
        shape = (1, -1, *(1,) * (clean.dim() - 2))
        scale = (layer.weight * torch.rsqrt(variance + layer.eps)).reshape(shape)
        shift = layer.bias.reshape(shape) - scale * mean.reshape(shape)
        ends = (scale * lower + shift, scale * upper + shift)
        return torch.minimum(*ends), torch.maximum(*ends)
    if isinstance(layer, nn.Conv2d | nn.Linear):
        options = (layer.stride, layer.padding) if isinstance(layer, nn.Conv2d) else ()
        apply: Any = F.conv2d if isinstance(layer, nn.Conv2d) else F.linear
        up, down = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
        return (
            apply(lower, up, layer.bias, *options) + apply(upper, down, None, *options),
            apply(upper, up, layer.bias, *options) + apply(lower, down, None, *options),
        )
    return layer(lower), layer(upper)


def verification(device: torch.device, method: str, count: int) -> Row:
    """Margins of a CNN-7; of an eighth of its width on a CPU, where full CROWN would take minutes for an image."""
    spec = Certified(seed=0, init="ibp", network=Network() if device.type == "cuda" else Network(width=8, units=64))
    model = network(spec, device).eval().requires_grad_(False)
    within = Range.of(spec.dataset, device)
    images, labels = next(batches(spec, count, device))
    images = images.contiguous()
    size = min(count, batch_size(model, images, [method], spec.classes()))
    centre, radius = interval.box(images, spec.target, within.low, within.high, within.scale)
    parts = [*zip(*(part.split(size) for part in (images, centre - radius, centre + radius, labels)), strict=True)]
    package, bounded = lirpa.load(), lirpa.Bounded(model, images[:2])
    module = package.BoundedModule(model, images[:2])
    module.eval()

    def by_suite(x: Tensor, lower: Tensor, upper: Tensor, y: Tensor) -> Tensor:
        if method == "ibp":
            return interval.margins(model, lower, upper, y)
        return bounded.margins(x, lower, upper, y, [method])[0]

    def by_package(x: Tensor, lower: Tensor, upper: Tensor, y: Tensor) -> Tensor:
        inputs = package.BoundedTensor(x, package.PerturbationLpNorm(norm=float("inf"), x_L=lower, x_U=upper))
        matrix = lirpa.difference_matrix(y, spec.classes(), x.dtype)
        return module.compute_bounds(x=(inputs,), C=matrix, method=lirpa.NAMES[method])[0]

    @torch.no_grad()
    def turn(margins: Callable[..., Tensor]) -> float:
        def work() -> float:
            for part in parts:
                margins(*part)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            return count

        work()
        return rate(work)

    apart = (by_suite(*parts[0]) - by_package(*parts[0])).abs().max().item()
    (timing,) = in_turns([lambda: turn(by_suite)], lambda: turn(by_package), turns=TURNS[device.type])
    return {
        "path": "certified/verify",
        "variant": f"{lirpa.NAMES[method]}, cnn7{'' if device.type == 'cuda' else ' of width 8'}",
        "unit": "images/s",
        **asdict(timing),
        "note": f"both in batches of {size}; margins within {apart:.1g}",
    }


def loop_for_memory(side: str, device: torch.device) -> Loop:
    return ours(device) if side == "ours" else peer(device, by_lirpa)


def rows(device: torch.device, tell: Callable[[str], None]) -> Iterator[Row]:
    """Rows of this paper; `tell` gets a line when something long begins.

    Raises:
        AssertionError: our losses in float32 are not the peer's.
    """
    precisions: list[Precision] = ["float32", "bf16"] if has_bf16(device) else ["float32"]
    for ending, bounds in {"": by_lirpa, ", against torch.compile": by_equations}.items():
        tell(f"certified step{ending or ', against auto_LiRPA'}")
        loops = {precision + ending: ours(device, precision) for precision in precisions}
        yield from compared("certified/step", "images/s", loops, peer(device, bounds), tolerance=TOLERANCE)
    tell("verification")
    for method, count in VERIFIED.items():
        yield verification(device, method, count)
    tell("memory")
    yield memory_row(__name__, "float32")
