"""One training step, as fast as device, precision and expected length allow."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

Loss = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]

COMPILE_STEPS = {"cpu": 20_000, "cuda": 2_000}
"""Steps from which compiling pays: it costs 25 to 50 s for each shape on two cores and gains a fifth there."""


def can_compile() -> bool:
    """Whether `torch.compile` finds the C++ compiler that its CPU code needs."""
    return shutil.which("g++") is not None or shutil.which("clang++") is not None


def should_compile(mode: Literal["auto", "never", "always"], device: torch.device, expected_steps: float) -> bool:
    """Decides by configuration, compiler and the expected number of steps."""
    if mode == "never" or not can_compile():
        return False
    return mode == "always" or expected_steps >= COMPILE_STEPS[device.type]


class TrainStep:
    """``step(images, labels) -> (loss, logits)``: forward, backward, update.

    Args:
        model: in train mode, on its device.
        optimizer: over the parameters that are trained.
        loss: (model, images, labels) -> scalar loss and logits [B, C].
        precision: float32, or bf16 for the forward and backward pass with float32 weights.
        compile: auto, never or always.
        expected_steps: of the whole run, by which auto decides.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        loss: Loss,
        precision: Literal["float32", "bf16"] = "float32",
        compile: Literal["auto", "never", "always"] = "auto",
        expected_steps: float = 0,
    ):
        self.model, self.optimizer = model, optimizer
        device = next(model.parameters()).device
        half = precision == "bf16"

        def forward(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
                return loss(model, images, labels)

        compiled = should_compile(compile, device, expected_steps)
        self.forward = torch.compile(forward, dynamic=False) if compiled else forward

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        loss, logits = self.forward(images, labels)
        loss.backward()
        self.optimizer.step()
        return loss.detach(), logits.detach()
