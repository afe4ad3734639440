"""Several processes at one run, as ``torchrun`` starts them: the first leads, the others follow.

``torchrun --nproc-per-node=N -m bench run --scale S`` trains one run after the other with N processes each. All make the
same plan; the leader alone locks, decides what is trained, writes checkpoints, records and failures, and speaks.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

PATIENCE = timedelta(days=1)
"""For a peer that waits while the leader waits for a lock; a peer that dies is noticed by `torchrun` at once."""


def world() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Whether this process is the first, or alone."""
    return int(os.environ.get("RANK", "0")) == 0


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[torch.device]:
    """Joins the group that ``torchrun`` describes, unless this process is alone or has joined; gives its own device."""
    if world() == 1:
        yield device
        return
    import torch
    import torch.distributed as dist

    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if dist.is_initialized():
        yield device
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield device
    finally:
        dist.destroy_process_group()


def agreed(decision: Any) -> Any:
    """The leader's decision, in every process; everything that the leader wrote before is on the disk by then."""
    if world() == 1:
        return decision
    import torch
    import torch.distributed as dist

    told = [decision]
    dist.broadcast_object_list(told, src=0, device=torch.device("cpu"))
    return told[0]
