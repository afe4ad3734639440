"""The arithmetic of the forward and backward pass: float32, or bfloat16 with float32 weights."""

from __future__ import annotations

from typing import Literal

import torch

from bench.machine import cpu_flags

Precision = Literal["float32", "bf16"]


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is computed by the hardware; where it is emulated it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = cpu_flags()
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def compute_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Type of activations and matrix products; weights and the optimiser's state stay float32.

    It is float32 where the processor only emulates bfloat16, a hundred times slower: the record's notes say which was used.
    """
    return torch.bfloat16 if precision == "bf16" and has_bf16(device) else torch.float32


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Context in which convolutions and matrix products run in `precision`; reductions stay in float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
