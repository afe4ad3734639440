"""What the machine can do at most: large matrix products and a large copy, measured, not read from a data sheet."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch

from bench.training.precision import Precision, has_bf16

REPEATS = 5
SIDES = {"cpu": (512, 2048), "cuda": (8192,)}
"""Rows of the square matrices."""
COPIED = {"cpu": 256 * 2**20, "cuda": 4 * 2**30}
"""Bytes of the copied block; far more than any cache holds."""


def _best(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of some calls."""
    found = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - started)
    return min(found[1:])


def arithmetic(device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """FLOP/s of the fastest large matrix product in `dtype`.

    Products and convolutions come from different libraries, of which one may not know the processor's widest units:
    each product is also made as a convolution of 1 x 1.
    """
    found = 0.0
    for side in SIDES[device.type]:
        left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        pixels = left.t()[None, :, :, None].contiguous(memory_format=torch.channels_last)
        for work in (partial(torch.mm, left, right), partial(torch.conv2d, pixels, right[:, :, None, None])):
            found = max(found, 2 * side**3 / _best(work, device))
    return found


def by_precision(device: torch.device) -> dict[Precision, float]:
    """`arithmetic` of float32, and of bfloat16 where the hardware computes it."""
    found: dict[Precision, float] = {"float32": arithmetic(device)}
    if has_bf16(device):
        found["bf16"] = arithmetic(device, torch.bfloat16)
    return found


def memory(device: torch.device) -> float:
    """Bytes per second of a large copy, read and written bytes counted."""
    source = torch.zeros(COPIED[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * len(source) / _best(lambda: target.copy_(source), device)
