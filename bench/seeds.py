"""Seeds derive from names, never from order, so that compared methods share their splits, batches and noise."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def seed(*names: object) -> int:
    """A 63-bit seed that depends on the names alone, e.g. ``seed("cifar10", "split", 0)``."""
    text = "\x1f".join(str(name) for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(*names: object) -> torch.Generator:
    """A CPU generator seeded by `names`: the same draws whatever device trains."""
    import torch

    return torch.Generator().manual_seed(seed(*names))
