"""Work sized by the memory that a device has left, and halved when it runs out."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")

SHARE = 0.7
"""Of the free memory of a GPU that work may be planned for: estimates leave out workspaces and fragments."""


def room(device: torch.device, cpu_bytes: float) -> float:
    """Bytes for the tensors of one piece of work: a share of what a GPU has left, a constant on a CPU.

    A constant keeps batches on CPUs, and with them the order of sums, alike on all machines.
    """
    if device.type != "cuda":
        return cpu_bytes
    free, _ = torch.cuda.mem_get_info(device)
    # What torch has reserved and does not use is free for tensors, too.
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return SHARE * (free + unused)


def ran_out(error: BaseException) -> bool:
    """Whether memory did not suffice, of a GPU or of the machine."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )


def release() -> None:
    """Gives memory back that ended work has left."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def fitting(
    act: Callable[[int], T],
    size: int,
    *,
    tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> tuple[T, int]:
    """``act(size)``, with half the size whenever memory runs out; the result, and the size that fitted.

    Args:
        act: does the same work whatever the size, from the beginning.
        size: pieces at once, at least 1.
        tell: gets one line for each smaller size.

    Raises:
        Exception: what `act` raises, and its out-of-memory error where one piece at once does not fit.
    """
    while True:
        try:
            return act(size), size
        except Exception as error:
            if size <= 1 or not ran_out(error):
                raise
        # Not in the handler: the error's traceback holds on to the tensors.
        size = (size + 1) // 2
        tell(f"out of memory: going on with {size} at once")
        release()
