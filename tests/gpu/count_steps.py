"""Device operations, bytes and memory of one training step at the papers' sizes, counted on a pretended CUDA device.

``python tests/gpu/count_steps.py`` prints the table of ``results/perf/README.md``. Nothing in it is measured: it says what
an eager step asks the device to do, and what the device needs at least by its specification.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fake_cuda
import torch
from torch import Tensor
from torch.nn import functional as F

FLOAT32, BF16, MEMORY = 67e12, 989e12, 4.8e12
"""FLOP/s and bytes/s of one H200 by its specification, without sparsity."""
DEVICE = torch.device("cuda")


@dataclass
class Counted:
    """One step: device operations, bytes that they read and write, GiB of tensors at most and afterwards, FLOP."""

    name: str
    units: float
    unit: str
    operations: int
    traffic: float
    peak: float
    after: float
    flops: float
    rate: float

    def row(self) -> str:
        products, memory = 1e3 * self.flops / self.rate, 1e3 * self.traffic / MEMORY
        limit = self.units / max(self.flops / self.rate, self.traffic / MEMORY)
        return (
            f"| {self.name} | {self.operations:,} | {self.traffic / 1e9:,.1f} | {memory:,.2f} | {self.flops / 1e12:,.2f} | "
            f"{products:,.2f} | {limit:,.0f} {self.unit}/s | {self.peak:,.1f} | {self.after:,.1f} |"
        )


HEAD = (
    "| step | device operations | GB read and written | ms for these | TFLOP | ms for these | limit, eager | "
    "GiB at most | GiB afterwards |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|"
)


def counted(
    name: str, make: Callable[[], Callable[[], Any]], *, flops: float, units: float, unit: str, rate: float
) -> Counted:
    """The second of two steps: the first makes the optimiser's state."""
    with fake_cuda.device() as seen:
        step = make()
        step()
        seen.clear()
        step()
        gib = 2**30
        traffic = float(seen.read + seen.written)
        return Counted(name, units, unit, seen.launches, traffic, seen.peak / gib, seen.live / gib, flops, rate)


def resnet(name: str, batch: int = 128) -> Counted:
    from bench import models
    from bench.training.step import TrainStep
    from bench.warmstart.losses import cross_entropy
    from bench.warmstart.spec import Network

    def make() -> Callable[[], Any]:
        model = models.build(name, num_classes=10, in_shape=(3, 32, 32)).to(DEVICE)
        model = model.to(memory_format=torch.channels_last).train()
        step = TrainStep(model, loss=cross_entropy, batch_size=batch, compile="never")
        optimizer = torch.optim.Adam(model.parameters(), fused=True)
        images = torch.randn(batch, 3, 32, 32, device=DEVICE).contiguous(memory_format=torch.channels_last)
        labels = torch.zeros(batch, dtype=torch.int64, device=DEVICE)
        return lambda: step(images, labels, optimizer)

    macs = Network(name=name).macs((3, 32, 32), 10)
    label = f"{name}, batch {batch}, float32"
    return counted(label, make, flops=6 * macs * batch, units=batch, unit="images", rate=FLOAT32)


def certified(dataset: str, network: str, bound: str = "ibp") -> Counted:
    import fake_lirpa

    from bench.certified.dataset import Range
    from bench.certified.spec import Certified, Network
    from bench.certified.step import Step
    from bench.certified.train import draw_network

    options: dict[str, Any] = {"init": "ibp", "regularizers": ("tightness", "relu")}
    if bound == "crown_ibp":
        options = {"loss_fusion": True}
    spec = Certified(seed=0, dataset=dataset, network=Network(name=network), bound=bound, **options)

    def make() -> Callable[[], Any]:
        model = draw_network(spec.model_copy(update={"init": "default"}), spec.shape(), spec.classes()).to(DEVICE)
        model = model.to(memory_format=torch.channels_last).train()
        step = Step(spec, model, Range.of(dataset, DEVICE), compile="never")
        shape = (spec.batch_size, *spec.shape())
        images = torch.randn(shape, device=DEVICE).contiguous(memory_format=torch.channels_last)
        labels = torch.zeros(spec.batch_size, dtype=torch.int64, device=DEVICE)
        eps = torch.full((), spec.target / 2, device=DEVICE)
        return lambda: step(images, labels, eps, 0.5, 0.1)

    batch = spec.batch_size
    with fake_lirpa.on_device():
        name = f"{network} on {dataset}, {bound}, batch {batch}, float32"
        flops = 2 * spec.macs() * spec.passes("ramp") * batch
        return counted(name, make, flops=flops, units=batch, unit="images", rate=FLOAT32)


def flash(query: Tensor, key: Tensor, value: Tensor, is_causal: bool = False, **_: Any) -> Tensor:
    """What the device chooses for bf16; fake tensors would take the way that keeps all attention weights."""
    return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, 0.0, is_causal)[0]


def pythia(micro_batch: int = 16) -> Counted:
    import numpy as np

    from bench.models import pythia as shapes
    from bench.paths import Layout
    from bench.rewarm.engine import Engine
    from bench.rewarm.spec import PretrainSpec
    from bench.training.context import Context
    from bench.training.distributed import Ranks

    spec = PretrainSpec.model_validate(
        {
            "seed": 0,
            "model": "410m",
            "corpora": {"kind": "generated"},
            "schedule": {"max_lr": 1e-3},
            "batch": micro_batch,
            "precision": "bf16",
        }
    )
    windows = np.zeros((micro_batch, spec.shape.context + 1), dtype=np.int64)

    def make() -> Callable[[], Any]:
        context = Context(key="x", label="x", layout=Layout("x", Path("none")), device=DEVICE, compile="never")
        weights = {name: torch.empty(size) for name, size in shapes.layout(spec.shape).items()}
        engine = Engine(spec, context, Ranks(0, 1, DEVICE), weights)
        return lambda: engine.step(windows, 1e-3)

    attention = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = flash  # type: ignore[assignment]
    try:
        tokens = micro_batch * spec.shape.context
        name = f"Pythia-410M, {micro_batch} x {spec.shape.context} tokens, bf16"
        flops = spec.shape.flops_per_token() * tokens
        return counted(name, make, flops=flops, units=tokens, unit="tokens", rate=BF16)
    finally:
        F.scaled_dot_product_attention = attention


ROWS: dict[str, Callable[[], Counted]] = {
    "thin_resnet18": lambda: resnet("thin_resnet18"),
    "resnet18": lambda: resnet("resnet18"),
    "cnn7": lambda: certified("cifar10", "cnn7"),
    "wide_resnet8": lambda: certified("tinyimagenet", "wide_resnet8"),
    "resnext": lambda: certified("tinyimagenet", "resnext"),
    "cnn7 crown_ibp": lambda: certified("cifar10", "cnn7", "crown_ibp"),
    "wide_resnet8 crown_ibp": lambda: certified("tinyimagenet", "wide_resnet8", "crown_ibp"),
    "pythia": pythia,
}


def main(names: list[str]) -> None:
    fake_cuda.check()
    print(HEAD)
    for name, count in ROWS.items():
        if not names or name in names:
            print(count().row(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
