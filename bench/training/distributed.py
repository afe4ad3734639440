"""Several processes train one run, as ``torchrun`` starts them: the first leads, the others follow.

``torchrun --nproc-per-node=N -m bench run --scale S`` trains one run after the other with N processes each. All make the
same plan. The leader alone locks, decides what is trained, writes checkpoints, records and failures, and prints.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from bench.errors import FailedRun, OutOfTime, UserError

if TYPE_CHECKING:
    import torch

PATIENCE = timedelta(days=1)
"""How long a process waits for the leader, which may wait for a lock; `torchrun` notices at once when a process dies."""


def world() -> int:
    """Number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def leads() -> bool:
    """Whether this process is the first or the only one."""
    return rank() == 0


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[torch.device]:
    """Joins the group that ``torchrun`` describes, unless there is none or it has been joined; yields this rank's device.

    The group uses NCCL for GPUs and gloo for CPUs.
    """
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

    decisions = [decision]
    dist.broadcast_object_list(decisions, src=0, device=torch.device("cpu"))
    return decisions[0]


@dataclass(frozen=True)
class Ranks:
    """This process and how many there are.

    Attributes:
        rank: number of this process, from 0.
        world: number of processes.
        device: of this process.
    """

    rank: int
    world: int
    device: torch.device

    def share(self, position: int, batch: int) -> tuple[int, int]:
        """First sample and number of samples of this rank's part of a step.

        Args:
            position: first sample of the step.
            batch: samples of the step.

        Raises:
            UserError: the ranks do not divide the batch.
        """
        if batch % self.world:
            raise UserError(f"batch {batch} is no multiple of the {self.world} ranks; choose another number of devices")
        part = batch // self.world
        return position + self.rank * part, part

    def in_step(self, act: Callable[[], None]) -> None:
        """Calls `act` on every rank; if it ends the run on one of them, it ends on all.

        Raises:
            FailedRun, OutOfTime, UserError: what `act` raised here, or `OutOfTime` where it ended on another rank.
        """
        error: Exception | None = None
        try:
            act()
        except (FailedRun, OutOfTime, UserError) as caught:
            error = caught
        if self.world > 1:
            import torch
            import torch.distributed as dist

            ended = torch.tensor([0 if error is None else 1], device=self.device)
            dist.all_reduce(ended, op=dist.ReduceOp.MAX)
            if error is None and int(ended) > 0:
                error = OutOfTime("another rank has ended the run")
        if error is not None:
            raise error


@contextlib.contextmanager
def ranks(device: torch.device) -> Iterator[Ranks]:
    """`joined` with what a trainer asks of the group."""
    with joined(device) as local:
        yield Ranks(rank(), world(), local)
