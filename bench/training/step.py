"""One training step, as fast as device, precision and expected length allow."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from bench.training.precision import Precision, autocast

Loss = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]

COMPILE_STEPS = {"cpu": 6_000, "cuda": 2_000}
"""Steps from which compiling pays: on two cores it costs 10 to 35 s and saves about 7 ms a step (thin ResNet-18)."""


def can_compile() -> bool:
    """Whether `torch.compile` finds the C++ compiler that its CPU code needs."""
    return shutil.which("g++") is not None or shutil.which("clang++") is not None


def should_compile(
    mode: Literal["auto", "never", "always"], model: nn.Module, device: torch.device, expected_steps: float
) -> bool:
    """Decides by configuration, compiler, kind of network and expected number of steps.

    Without convolutions there is little to fuse: a compiled MLP was a sixth slower than an eager one on a CPU.
    """
    if mode == "never" or not can_compile():
        return False
    convolves = any(isinstance(module, nn.Conv2d) for module in model.modules())
    return mode == "always" or (convolves and expected_steps >= COMPILE_STEPS[device.type])


class TrainStep:
    """``step(images, labels, optimizer) -> (loss, logits)``: forward, backward, update; both results detached.

    One object serves all rounds of a run, so that what is compiled is compiled once. Only batches of the full size are:
    each other size, such as an epoch's last, would cost as much again.

    Args:
        model: in train mode, on its device.
        loss: (model, images, labels) -> scalar loss and logits [B, C].
        batch_size: of all batches but the last.
        precision: float32, or bf16 for the forward and backward pass with float32 weights.
        compile: auto, never or always.
        expected_steps: of the whole run, by which auto decides.
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
    ):
        device = next(model.parameters()).device

        def forward(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            with autocast(device, precision):
                return loss(model, images, labels)

        self.batch_size = batch_size
        self.eager = self.full = forward
        if should_compile(compile, model, device, expected_steps):
            self.full = torch.compile(forward, dynamic=False)

    def __call__(self, images: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer) -> tuple[Tensor, Tensor]:
        optimizer.zero_grad(set_to_none=True)
        loss, logits = (self.full if len(labels) == self.batch_size else self.eager)(images, labels)
        loss.backward()
        optimizer.step()
        return loss.detach(), logits.detach()
