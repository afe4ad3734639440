"""One training step, as fast as device, precision and expected length allow."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Literal, TypeVar

import torch
import torch._dynamo
from torch import Tensor, nn

from bench.training import graphs
from bench.training.precision import Precision, autocast

Loss = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]

COMPILE_SAMPLES, COMPILE_STEPS = 500_000, 2_000
"""Samples on a CPU, and steps on a GPU, from which compiling pays.

One core takes 14 to 30 s to compile a thin ResNet-18, for 12 ms a step at width 16 and batch 128, 2 ms at 8 and 64, and 0.8
ms at 8 and 16 or 32: 150,000 to 1,200,000 samples win that back, while the steps that do differ by fifteen times.
"""


MOST_COMPILED = 64
"""Shapes and constants for which a process compiles one function; torch's own 8 are used up by a sweep in one job, and
what comes later would run uncompiled with a line in a log."""

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """`torch.compile` for fixed shapes: code for varying ones is much slower on a GPU."""
    torch._dynamo.config.recompile_limit = max(MOST_COMPILED, torch._dynamo.config.recompile_limit)
    return torch.compile(function, dynamic=False)  # type: ignore[return-value]


def can_compile() -> bool:
    """Whether `torch.compile` finds the C++ compiler that its CPU code needs."""
    return shutil.which("g++") is not None or shutil.which("clang++") is not None


def should_compile(
    mode: Literal["auto", "never", "always"],
    model: nn.Module,
    device: torch.device,
    *,
    steps: float,
    batch_size: int,
) -> bool:
    """Decides by configuration, compiler, kind of network and what the whole run is expected to do.

    Without convolutions there is little to gain: a compiled MLP was a sixth slower than an eager one on a CPU.
    """
    if mode == "never" or not can_compile():
        return False
    convolves = any(isinstance(module, nn.Conv2d) for module in model.modules())
    long = steps >= COMPILE_STEPS if device.type == "cuda" else steps * batch_size >= COMPILE_SAMPLES
    return mode == "always" or (convolves and long)


class TrainStep:
    """``step(images, labels, optimizer) -> (loss, logits)``: forward, backward, update; both results detached.

    One object serves all rounds of a run, so that what is compiled is compiled once. Only batches of the full size are
    compiled, and on a GPU captured as a graph: each other size, such as an epoch's last, would cost as much again.

    Args:
        model: in train mode, on its device.
        loss: (model, images, labels) -> scalar loss and logits [B, C].
        batch_size: of all batches but the last.
        precision: float32, or bf16 for the forward and backward pass with float32 weights.
        compile: auto, never or always.
        expected_steps: of the whole run, by which auto decides.
        capture: whether steps on a GPU are captured.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: Loss,
        batch_size: int,
        precision: Precision = "float32",
        compile: Literal["auto", "never", "always"] = "auto",
        expected_steps: float = 0,
        capture: bool = True,
    ):
        device = next(model.parameters()).device
        self.model, self.backend = model, graphs.backend_of(device) if capture else None
        self._optimizer: torch.optim.Optimizer | None = None
        self.mode = "eager"
        """As of `bench.training.graphs.GraphedStep`, for the record."""

        def forward(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            with autocast(device, precision):
                return loss(model, images, labels)

        self.batch_size = batch_size
        self.eager = self.full = forward
        if should_compile(compile, model, device, steps=expected_steps, batch_size=batch_size):
            self.full = compiled(forward)

    def __call__(self, images: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer) -> tuple[Tensor, ...]:
        if optimizer is not self._optimizer:
            # A graph has the addresses of one optimiser's state.
            self._optimizer = optimizer
            self.graphed = graphs.GraphedStep(
                lambda images, labels: self._update(images, labels, optimizer),
                lambda: graphs.state_of(self.model, optimizer),
                rows=self.batch_size,
                backend=self.backend,
            )
        results = self.graphed(images, labels)
        self.mode = self.graphed.mode
        if self.mode.startswith("eager:"):  # nor would the next round's
            self.backend = None
        return results

    def _update(self, images: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer) -> tuple[Tensor, ...]:
        optimizer.zero_grad(set_to_none=True)
        loss, logits = (self.full if len(labels) == self.batch_size else self.eager)(images, labels)
        loss.backward()
        optimizer.step()
        return loss.detach(), logits.detach()
