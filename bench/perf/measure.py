"""Ways of doing the same work, measured in turns, so that a busy machine slows all.

Each allocates memory as it would in a process of its own: ours as a trainer's does (`bench.workflow.execute.keep_freed`), the
other as the C library does by itself.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.workflow.execute import give_back, keep_freed, return_freed


@dataclass(frozen=True)
class Timing:
    """One way against a peer.

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

    def row(self) -> dict[str, float]:
        """Its columns in the table."""
        return {"ours": self.ours, "peer": self.peer, "ratio": self.ratio, "spread": self.spread}


def rate(work: Callable[[], float]) -> float:
    """Units per second of one call; `work` returns the number of units that it has done."""
    started = time.perf_counter()
    units = work()
    return units / (time.perf_counter() - started)


def in_turns(ours: Sequence[Callable[[], float]], peer: Callable[[], float], *, turns: int = 5) -> list[Timing]:
    """Measures several ways of ours, and one peer of all of them, in turns.

    Args:
        ours: one turn of each way; returns its rate in units per second, warm-up left out: its first step finds no
            memory that another has left.
        peer: the same of the peer.
        turns: of each.

    Returns:
        of each way in `ours`, against the peer.
    """
    rounds = []
    for _ in range(turns):
        keep_freed()
        found = [way() for way in ours]
        return_freed()
        give_back()
        rounds.append((found, peer()))
    return [_timing([found[way] for found, _ in rounds], [other for _, other in rounds]) for way in range(len(ours))]


def alternate(ours: Callable[[], float], peer: Callable[[], float], *, turns: int = 5) -> Timing:
    """`in_turns` of one way."""
    return in_turns([ours], peer, turns=turns)[0]


def _timing(ours: Sequence[float], peer: Sequence[float]) -> Timing:
    ratios = [one / other for one, other in zip(ours, peer, strict=True)]
    middle = statistics.median(ratios)
    return Timing(
        ours=statistics.median(ours),
        peer=statistics.median(peer),
        ratio=middle,
        spread=(max(ratios) - min(ratios)) / 2 / middle,
    )
