"""What the machine can do at most: a large matrix product and a large copy, measured, not read from a data sheet."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

REPEATS = 5
SIDE = {"cpu": 2048, "cuda": 8192}
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
    """FLOP/s of a large matrix product in `dtype`."""
    side = SIDE[device.type]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / _best(lambda: left @ right, device)


def memory(device: torch.device) -> float:
    """Bytes per second of a large copy, read and written bytes counted."""
    source = torch.zeros(COPIED[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * len(source) / _best(lambda: target.copy_(source), device)
