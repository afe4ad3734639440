"""How a GPU computes: TF32, repeatable kernels, choice of algorithms, memory. Stated here once, and told by every record.

- TF32 is off but where a run's specification allows it, and always off in evaluation and verification.
- Where a scale asks for `deterministic`, equal runs give equal bits on one kind of GPU; kernels without such a variant warn.
- Elsewhere cuDNN tries its algorithms on the first batch of each shape and keeps the fastest. Two runs may then differ in
  the last bits, and training makes tenths of a percent of them.
- Memory grows in segments that can be extended, so that batches of varying size leave no gaps.

On a CPU equal runs are equal bit for bit whatever is said here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""Settings of torch's allocator, under the name of torch 2.9 and later and under the earlier one."""


def prepare(*, deterministic: bool) -> None:
    """Sets what holds for the whole process; to be called before CUDA starts."""
    if not any(name in os.environ for name in ALLOCATOR):
        os.environ[ALLOCATOR[0]] = "expandable_segments:True"
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats itself only with a fixed workspace
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.deterministic = deterministic
    if deterministic:
        torch.use_deterministic_algorithms(True, warn_only=True)


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allows TF32 inside, or forbids it."""
    import torch

    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def in_force(device_type: str) -> dict[str, Any]:
    """For the record: what holds in this process on a GPU; nothing on a CPU."""
    if device_type != "cuda":
        return {}
    import torch

    settings = next((os.environ[name] for name in ALLOCATOR if name in os.environ), "")
    return {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "allocator": settings,
    }
