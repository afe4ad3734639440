"""Several ranks under ``torchrun``: who does which share of a step, and how an error of one ends all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist

from bench.errors import FailedRun, OutOfTime, UserError
from bench.training import peers


def wanted() -> bool:
    """Whether this process is one of several that ``torchrun`` started."""
    return peers.world() > 1


@dataclass(frozen=True)
class Ranks:
    """This process among its peers.

    Attributes:
        rank, world: own number and how many there are.
        device: of this rank.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, position: int, batch: int) -> tuple[int, int]:
        """First sample and number of samples of this rank's part of a step.

        Raises:
            UserError: the ranks do not divide the batch.
        """
        if batch % self.world:
            raise UserError(f"batch {batch} is no multiple of the {self.world} ranks; choose another number of devices")
        part = batch // self.world
        return position + self.rank * part, part

    def together(self, act: Callable[[], None]) -> None:
        """Acts on every rank; if one of them ends the run, all do."""
        error: Exception | None = None
        try:
            act()
        except (FailedRun, OutOfTime, UserError) as caught:
            error = caught
        if self.world > 1:
            told = torch.tensor([0 if error is None else 1], device=self.device)
            dist.all_reduce(told, op=dist.ReduceOp.MAX)
            if error is None and int(told) > 0:
                error = OutOfTime("another rank has ended the run")
        if error is not None:
            raise error


@contextlib.contextmanager
def ranks(device: torch.device) -> Iterator[Ranks]:
    """Joins the process group that ``torchrun`` describes: NCCL on GPUs, gloo on CPUs; alone without it."""
    with peers.joined(device) as own:
        yield Ranks(dist.get_rank(), dist.get_world_size(), own) if wanted() else Ranks(0, 1, own)
