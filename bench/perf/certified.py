"""Images per second of certified training and of verification against auto_LiRPA.

The peer of the training step writes the same objective (robust loss, both regularisers, clipping, Adam) on
auto_LiRPA's BoundedModule, as the authors do; a second peer is interval arithmetic as the paper's equations write it, eager,
with separate lower and upper bounds. All start from the same weights and see the same batches; in float32 their first
losses agree. The peer of verification calls auto_LiRPA image by image, as its examples do; ours gives it as many at once as
memory allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench import seeds
from bench.certified import lirpa, regularizers
from bench.certified.dataset import Range
from bench.certified.interval import box, others
from bench.certified.spec import Certified, Network
from bench.certified.step import Step, robust_loss
from bench.certified.train import draw_network
from bench.certified.verify import batch_size
from bench.perf import freed, peaks, profile
from bench.perf.measure import Timing, alternate, in_turns, rate
from bench.training.precision import Precision

BATCH = 128
CHECKED_BATCH = 16
"""Samples of a step in the comparison of losses, small so that it takes little of the time."""
LOSSES = 20
TOLERANCE = 2e-3
"""Of a loss, relative: BatchNorm over few samples amplifies rounding from step to step."""
PATCHES = 4
"""Of an image, in each direction."""
SHARE = 0.5
"""eps as a share of its target: half-way up the ramp, where everything is computed."""
PASSES = 9
"""Products of a step in units of a forward pass: three streams, each forward and twice backward.

Source: bench/certified/protocol.md, section f.
"""
VERIFIED = {"ibp": 200, "crown_ibp": 100, "crown": 10}
"""Images of one turn of a verification method."""


class Trained(Protocol):
    """A way of taking training steps."""

    spec: Certified
    model: nn.Module

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """One update; the loss, detached."""


def specification(network: str, batch: int, precision: Precision = "float32") -> Certified:
    """The paper's method on CIFAR-10 shapes."""
    chosen = Network.model_validate({"name": network})
    return Certified(
        seed=0, network=chosen, init="ibp", regularizers=("tightness", "relu"), batch=batch, precision=precision
    )


class Ours:
    """The trainer's own step."""

    def __init__(self, spec: Certified, device: torch.device, compile: Literal["never", "always"]):
        self.spec = spec
        model = draw_network(spec, spec.shape(), spec.classes()).to(device)
        self.model = model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.inner = Step(spec, self.model, Range.of(spec.dataset, device), compile=compile, expected_steps=1e9)
        self.eps = torch.full((), spec.target * SHARE, device=device)
        self.weight = spec.weight * (1 - SHARE)

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        self.inner.sums.reset()
        self.inner(images, labels, self.eps, SHARE, self.weight)
        return self.inner.sums.loss / len(labels)


class OnLirpa:
    """The same objective on auto_LiRPA."""

    def __init__(self, spec: Certified, device: torch.device):
        self.spec, self.within = spec, Range.of(spec.dataset, device)
        self.model = draw_network(spec, spec.shape(), spec.classes()).to(device).train()
        self.bounded = lirpa.Bounded(self.model, torch.zeros(2, *spec.shape(), device=device))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=spec.lr, fused=True)

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        images = images.contiguous()
        _, radius, lower, upper = _ends(self.spec, self.within, images)
        _, margins, relus = self.bounded.mixed_margins(images, lower, upper, labels, 0.0)
        pairs = [((low + high) / 2, (high - low) / 2) for low, high in relus]
        return _update(self.spec, self.model, self.optimizer, margins, radius, pairs)


class Plain:
    """The same objective on lower and upper bounds with W+ and W-, for a sequence of layers."""

    def __init__(self, spec: Certified, device: torch.device):
        self.spec, self.within = spec, Range.of(spec.dataset, device)
        self.model = draw_network(spec, spec.shape(), spec.classes()).to(device).train()
        assert isinstance(self.model, nn.Sequential)
        self.layers = list(self.model)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=spec.lr, fused=True)

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        images = images.contiguous()
        _, radius, lower, upper = _ends(self.spec, self.within, images)
        clean, pairs = images, []
        for layer in self.layers[:-1]:
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                dims = [0, *range(2, clean.dim())]
                variance, mean = torch.var_mean(clean, dim=dims, correction=0)
                shape = (1, -1, *(1,) * (clean.dim() - 2))
                scale = (layer.weight * torch.rsqrt(variance + layer.eps)).reshape(shape)
                shift = layer.bias.reshape(shape) - scale * mean.reshape(shape)
                clean = layer(clean)
                ends = (scale * lower + shift, scale * upper + shift)
                lower, upper = torch.minimum(*ends), torch.maximum(*ends)
                continue
            if isinstance(layer, nn.Conv2d | nn.Linear):
                up, down = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
                lower, upper = (
                    _apply(layer, up, lower) + _apply(layer, down, upper, bias=False),
                    _apply(layer, up, upper) + _apply(layer, down, lower, bias=False),
                )
            else:
                if isinstance(layer, nn.ReLU):
                    pairs.append(((lower + upper) / 2, (upper - lower) / 2))
                lower, upper = layer(lower), layer(upper)
            clean = layer(clean)
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        rest = others(labels, last.out_features)
        rows = last.weight[labels][:, None] - last.weight[rest]
        margins = (rows.clamp(min=0) * lower[:, None] + rows.clamp(max=0) * upper[:, None]).sum(2)
        margins = margins + last.bias[labels][:, None] - last.bias[rest]
        return _update(self.spec, self.model, self.optimizer, margins, radius, pairs)


def _apply(layer: nn.Module, weight: Tensor, x: Tensor, *, bias: bool = True) -> Tensor:
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    added = layer.bias if bias else None
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, added)
    return F.conv2d(x, weight, added, layer.stride, layer.padding)


def _ends(spec: Certified, within: Range, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centre, radius, lower and upper end of the input box."""
    centre, radius = box(images, spec.target * SHARE, within.low, within.high, within.scale)
    return centre, radius, centre - radius, centre + radius


def _update(
    spec: Certified,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    margins: Tensor,
    radius: Tensor,
    pairs: list[tuple[Tensor, Tensor]],
) -> Tensor:
    """Loss, backward pass, clipping and update of both peers."""
    penalty = regularizers.total(spec.regularizers, radius, pairs, tau=spec.tau)
    loss = robust_loss(margins) + spec.weight * (1 - SHARE) * penalty
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), spec.clip)
    optimizer.step()
    return loss.detach()


def batches(spec: Certified, size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """The same images for every way: normalised, [B, C, H, W] in channels-last memory.

    They are random patches, so that they differ from each other as wholes: images of noise are all alike to a convolution,
    and BatchNorm would scale their small differences up until rounding shows in the losses.
    """
    within = Range.of(spec.dataset, device)
    number = 0
    while True:
        generator = seeds.generator("perf", "certified", number)
        channels, height, width = spec.shape()
        patches = torch.rand(size, channels, PATCHES, PATCHES, generator=generator)
        pixels = F.interpolate(patches, (height, width)).to(device)
        labels = torch.randint(0, spec.classes(), (size,), generator=generator).to(device)
        images = within.low + pixels * within.scale
        yield images.contiguous(memory_format=torch.channels_last), labels
        number += 1


class Turns:
    """Turns of one way on batches of its own iterator, after one step that is not timed; keeps the losses."""

    def __init__(self, way: Trained, size: int, device: torch.device, steps: int):
        self.way, self.size, self.steps, self.device = way, size, steps, device
        self.source = batches(way.spec, size, device)
        self.losses: list[float] = []

    def __call__(self) -> float:
        first, *given = [next(self.source) for _ in range(1 + self.steps)]
        found = [self.way.step(*first)]

        def work() -> float:
            found.extend(self.way.step(images, labels) for images, labels in given)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            return self.size * self.steps

        speed = rate(work)
        self.losses += [float(loss) for loss in found]
        return speed


def _same(ours: list[float], peer: list[float], what: str) -> float:
    """Largest relative difference of losses.

    Raises:
        AssertionError: it is above the tolerance.
    """
    worst = max(abs(a - b) / abs(b) for a, b in zip(ours, peer, strict=True))
    assert worst < TOLERANCE, f"{what}: losses differ by {worst:.2g} (relative)"
    return worst


class Table:
    """Rows of the training step.

    Args:
        device: where all ways train.
        turns: of each way in a headline row.
    """

    def __init__(self, device: torch.device, turns: int):
        self.device, self.turns, self.large = device, turns, device.type == "cuda"
        self.steps = 20 if self.large else 1
        self.peaks = peaks.by_precision(device)

    def compared(
        self, ours: Mapping[str, Ours], peer: Trained, size: int, *, headline: bool = False, note: str = ""
    ) -> Iterator[dict[str, Any]]:
        """One row for each variant of ours: all and the peer in turns on the same batches.

        Raises:
            AssertionError: losses in float32 are not the peer's.
        """
        ways = {variant: Turns(way, size, self.device, self.steps) for variant, way in ours.items()}
        other = Turns(peer, size, self.device, self.steps)
        for way in (*ways.values(), other):
            way()  # compiles, and warms up
        turns = self.turns if headline or self.large else 2
        for (variant, way), timing in zip(ways.items(), in_turns(list(ways.values()), other, turns=turns), strict=True):
            notes = []
            if ours[variant].spec.precision == "float32":
                worst = _same(way.losses, other.losses, variant)
                notes = [note] * bool(note) + [f"first {len(way.losses)} losses within {worst:.1g}"]
            yield self.row(variant, ours[variant], timing, "; ".join(notes))

    def row(self, variant: str, ours: Ours, timing: Timing, note: str) -> dict[str, Any]:
        macs = sum(layer.macs for layer in ours.spec.layers())
        share = 2 * PASSES * macs * timing.ours / self.peaks[ours.spec.precision]
        values = {**timing.row(), "share": share, "note": note}
        return {"path": "certified/step", "variant": variant, "unit": "images/s", **values}

    def rows(self) -> Iterator[dict[str, Any]]:
        device = self.device
        fewer = BATCH if self.large else 32  # a step of 128 takes seconds on a CPU
        spec, less = specification("cnn7", BATCH), specification("cnn7", fewer)
        best = {"float32": Ours(spec, device, "always")}
        if "bf16" in self.peaks:
            best["bf16"] = Ours(specification("cnn7", BATCH, "bf16"), device, "always")
        yield from self.compared(best, OnLirpa(spec, device), BATCH, headline=True, note=first_losses(device))
        ours = Ours(less, device, "never")
        for row in self.compared({f"float32, batch {fewer}, eager": ours}, OnLirpa(less, device), fewer):
            yield {**row, "note": f"{row['note']}; {profile.remark(Turns(ours, fewer, device, 1))}"}
        variant = f"float32, batch {fewer}, eager, against lower and upper bounds"
        yield from self.compared({variant: Ours(less, device, "never")}, Plain(less, device), fewer)
        for name in ("wide_resnet8", "resnext"):
            size = BATCH if self.large else 8
            other = specification(name, size)
            variant = f"float32, {name}, batch {size}, eager"
            yield from self.compared({variant: Ours(other, device, "never")}, OnLirpa(other, device), size)
        if not self.large:
            timing, note = freed.timing(2), "a trainer's process against one that returns freed blocks to the system"
            yield self.row("float32, eager, freed blocks kept", best["float32"], timing, note)


def first_losses(device: torch.device) -> str:
    """The remark on how far our eager losses and auto_LiRPA's are apart, in float32.

    Raises:
        AssertionError: too far.
    """
    spec = specification("cnn7", CHECKED_BATCH)
    ways = [
        Turns(way, CHECKED_BATCH, device, LOSSES - 1) for way in (Ours(spec, device, "never"), OnLirpa(spec, device))
    ]
    for way in ways:
        way()
    worst = _same(ways[0].losses, ways[1].losses, "eager against auto_LiRPA")
    return f"first {LOSSES} losses at batch {CHECKED_BATCH} within {worst:.1g}"


def verification_of(device: torch.device, turns: int) -> Iterator[dict[str, Any]]:
    """Rows of verification: a CNN-7 of an eighth of the width on a CPU, where full CROWN takes minutes an image else."""
    chosen = Network() if device.type == "cuda" else Network(width=8, units=64)
    spec = Certified(seed=0, network=chosen, init="ibp")
    model = draw_network(spec, spec.shape(), spec.classes()).to(device).eval().requires_grad_(False)
    within = Range.of(spec.dataset, device)
    for method, count in VERIFIED.items():
        images, labels = next(batches(spec, count, device))
        images = images.contiguous()
        _, _, lower, upper = _ends(spec, within, images)
        size = min(count, batch_size(model, images, [method], spec.classes()))
        bounded = lirpa.Bounded(model, images[:2])

        work = partial(_verified, bounded, (images, lower, upper, labels), method)
        ours, peer = (partial(_second, partial(work, at_once)) for at_once in (size, 1))
        yield {
            "path": "certified/verify",
            "variant": f"{lirpa.NAMES[method]}, cnn7{'' if device.type == 'cuda' else ' of width 8'}",
            "unit": "images/s",
            **alternate(ours, peer, turns=turns).row(),
            "note": f"{size} at once against one by one",
        }


def _second(work: Callable[[], float]) -> float:
    """Units per second of the second of two calls."""
    work()
    return rate(work)


@torch.no_grad()
def _verified(bounded: lirpa.Bounded, given: tuple[Tensor, ...], method: str, at_once: int) -> float:
    """Bounds the margins of all images, `at_once` at a time; returns their number."""
    for x, lower, upper, labels in zip(*(tensor.split(at_once) for tensor in given), strict=True):
        bounded.margins(x, lower, upper, labels, [method])
    if given[0].is_cuda:
        torch.cuda.synchronize()
    return len(given[0])


def rows(
    *, turns: int = 3, device: torch.device | None = None, tell: Callable[[str], None] = lambda text: None
) -> Iterator[dict[str, Any]]:
    """Yields the rows of this path: path, variant, unit, ours, peer, ratio, spread, share, note.

    Args:
        turns: alternations of ours with the peer.
        device: where both compute; the CPU when not given.
        tell: gets a line when something long begins.

    Raises:
        AssertionError: a float32 step does not have the peer's losses.
    """
    device = device or torch.device("cpu")
    tell("certified training step")
    yield from Table(device, turns).rows()
    tell("verification")
    yield from verification_of(device, turns if device.type == "cuda" else 2)
