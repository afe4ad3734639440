"""The precision that a device really computes in."""

from __future__ import annotations

import torch

from bench.training.precision import has_bf16


def dtype(precision: str, device: torch.device) -> torch.dtype:
    """Of activations and products; weights, moments, softmax and evaluation stay float32.

    A processor without bfloat16 units emulates it a hundred times slower than float32, which is taken there: the
    record's notes say so.
    """
    return torch.bfloat16 if precision == "bf16" and has_bf16(device) else torch.float32
