"""Two ways of doing the same work, measured in turns, so that a busy machine slows both.

Each allocates memory as it would in a process of its own: ours as a trainer's does (`bench.execute.keep_freed`), the
other as the C library does by itself.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.execute import give_back, keep_freed, return_freed


@dataclass(frozen=True)
class Timing:
    """Result of `alternate`.

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


def alternate(ours: Callable[[], float], peer: Callable[[], float], *, turns: int = 5) -> Timing:
    """Measures `ours` and `peer` in turns.

    Args:
        ours: one turn of our work; returns its rate in units per second, warm-up left out: its first step finds no
            memory that the other has left.
        peer: the same of the other way.
        turns: of each.
    """
    pairs = []
    for _ in range(turns):
        keep_freed()
        one = ours()
        return_freed()
        give_back()
        pairs.append((one, peer()))
    ratios = [one / other for one, other in pairs]
    middle = statistics.median(ratios)
    return Timing(
        ours=statistics.median(one for one, _ in pairs),
        peer=statistics.median(other for _, other in pairs),
        ratio=middle,
        spread=(max(ratios) - min(ratios)) / 2 / middle,
    )
