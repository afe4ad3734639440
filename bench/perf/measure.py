"""Implementations of the same work, timed by turns, so that other work on the machine slows all of them.

Each has the allocator settings that it would have in its own process: ours keep freed memory, as trainers do.
"""

from __future__ import annotations

import importlib
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from bench import machine
from bench.workflow import process

Row = dict[str, Any]
"""A line of the table: path, variant, unit, ours, peer, ratio, spread, note."""
TURNS = {"cpu": 3, "cuda": 5}
WARM_UP = {"cpu": 1, "cuda": 8}
"""Steps in which code is compiled and graphs are captured."""
LOSSES = 20
"""First losses that are compared, at most."""


@dataclass(frozen=True)
class Timing:
    """One implementation against a peer.

    Attributes:
        ours: units per second, median over the turns.
        peer: units per second, median over the turns.
        ratio: median of the ratios of neighbouring turns.
        spread: half the range of those ratios, relative to their median.
    """

    ours: float
    peer: float
    ratio: float
    spread: float


def rate(work: Callable[[], float]) -> float:
    """Units per second of one call; `work` returns the number of units that it has done."""
    started = time.perf_counter()
    units = work()
    return units / (time.perf_counter() - started)


def in_turns(ours: Sequence[Callable[[], float]], peer: Callable[[], float], *, turns: int) -> list[Timing]:
    """Times several implementations of ours and one peer of all of them, by turns.

    Args:
        ours: one turn of each; returns its rate in units per second.
        peer: the same of the peer.
        turns: of each.

    Returns:
        of each in `ours`, against the peer.
    """
    rounds = []
    for _ in range(turns):
        process.keep_freed()
        rates = [turn() for turn in ours]
        process.return_freed()
        process.give_back_memory()
        rounds.append((rates, peer()))
    return [
        _timing([rates[index] for rates, _ in rounds], [other for _, other in rounds]) for index in range(len(ours))
    ]


def _timing(ours: Sequence[float], peer: Sequence[float]) -> Timing:
    ratios = [one / other for one, other in zip(ours, peer, strict=True)]
    middle = statistics.median(ratios)
    return Timing(statistics.median(ours), statistics.median(peer), middle, (max(ratios) - min(ratios)) / 2 / middle)


class Loop:
    """Training steps of one implementation; a call is a turn and returns its rate in units per second.

    Args:
        step: one update on a batch; returns the loss, detached.
        batches: without end, the same for all loops that are compared.
        units: samples or tokens of a batch.
        steps: of a turn.
        warm: steps before them that are not timed.
        device: of the training.

    Attributes:
        losses: of all steps so far.
    """

    def __init__(
        self,
        step: Callable[..., Tensor],
        batches: Iterable[tuple[Any, ...]],
        *,
        units: int,
        steps: int,
        device: torch.device,
        warm: int = 1,
    ):
        self.step, self.batches, self.device = step, iter(batches), device
        self.units, self.steps, self.warm = units, steps, warm
        self.losses: list[float] = []

    def take(self, steps: int) -> float:
        """Takes steps and returns the number of their units."""
        losses = [self.step(*batch) for batch in itertools.islice(self.batches, steps)]
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.losses += [float(loss) for loss in losses]
        return steps * self.units

    def __call__(self) -> float:
        self.take(self.warm)
        return rate(lambda: self.take(self.steps))


def compared(
    path: str, unit: str, ours: Mapping[str, Loop], peer: Loop, *, tolerance: float, note: str = ""
) -> Iterator[Row]:
    """One row for each of our loops, against one peer.

    Args:
        path: of the rows.
        unit: of the rates.
        ours: variant -> loop; its name begins with the precision.
        peer: what one would run instead.
        tolerance: of the first losses in float32, relative.
        note: remark.

    Raises:
        AssertionError: losses in float32 are not the peer's.
    """
    for loop in (*ours.values(), peer):
        loop.take(WARM_UP[loop.device.type])
    timings = in_turns(list(ours.values()), peer, turns=TURNS[peer.device.type])
    for (variant, loop), timing in zip(ours.items(), timings, strict=True):
        pairs = [*zip(loop.losses, peer.losses, strict=False)][:LOSSES]
        worst = max(abs(one - other) / abs(other) for one, other in pairs)
        if variant.startswith("float32"):
            assert worst < tolerance, f"{path} {variant}: losses differ by {worst:.2g} (relative)"
        remarks = [note] * bool(note) + [f"first {len(pairs)} losses within {worst:.1g}"]
        yield {"path": path, "variant": variant, "unit": unit, **asdict(timing), "note": "; ".join(remarks)}


MIB = 2**20


def peak_memory(module: str, side: str) -> float:
    """MiB that three steps take at most beyond the start, in this process: of it on a CPU, of torch on a GPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if side == "ours":
        process.keep_freed()

    def peak() -> float:
        return torch.cuda.max_memory_allocated() / MIB if device.type == "cuda" else machine.peak_memory_mb()

    before = peak()
    importlib.import_module(module).loop_for_memory(side, device).take(3)
    return peak() - before


def memory_row(module: str, variant: str) -> Row:
    """Peak memory of a paper's ``loop_for_memory("ours" or "peer", device)``, each in its own process."""
    call = [sys.executable, "-m", "bench.perf.measure", module]
    ours, peer = (
        float(subprocess.run([*call, side], check=True, capture_output=True, encoding="utf-8").stdout)
        for side in ("ours", "peer")
    )
    return {
        "path": f"{module.rpartition('.')[2]}/memory",
        "variant": variant,
        "unit": "MiB",
        "ours": ours,
        "peer": peer,
        "ratio": peer / ours,
        "spread": None,
        "note": "peak of three steps beyond the start; the ratio is peer over ours",
    }


if __name__ == "__main__":
    print(peak_memory(*sys.argv[1:3]))
