"""The arithmetic of the forward and backward pass: float32, or bfloat16 with float32 weights."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["float32", "bf16"]


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is computed by the hardware; where it is emulated it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = _cpu_flags()
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def _cpu_flags() -> set[str]:
    """Features of the processor under Linux's names (``flags`` on x86-64, ``Features`` on aarch64); empty elsewhere."""
    try:
        with open("/proc/cpuinfo") as stream:
            for line in stream:
                name, _, value = line.partition(":")
                if name.strip() in ("flags", "Features"):
                    return set(value.split())
    except OSError:
        pass
    return set()


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Context in which convolutions and matrix products run in `precision`; reductions stay in float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
