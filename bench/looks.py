"""Looks: the numbers of seeds, declared beforehand, at which a claim may be decided, and how far out it must lie there.

Whoever looks at a t interval of 95 % whenever further seeds are there errs far more often than in 5 % of the cases (in 9 %
a side with six looks). A scale therefore declares its looks, and the error of a one-sided test over all of them together is
`ALPHA`. How much of it may be spent by each look follows Pocock's boundaries as a spending function (Pocock 1977; Lan and
DeMets 1983). Which claim gets seeds may depend on results; when a claim is looked at may not.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

ALPHA = 0.025
"""Error of a test on one side, over all of its looks together."""

LEAST = 5
"""Seeds below which nothing is decided where looks are declared: three of them agree by chance too often."""

JUDGED, BLOCK = 2000, 100
"""First seed that verdicts may come from, below which settings are settled, and the seeds of a block: 2000 to 2099, …"""


@dataclass(frozen=True)
class Looks:
    """When a claim may be decided.

    Attributes:
        at: numbers of seeds; none where the number is fixed beforehand, whatever it is: the ordinary t interval.
        first_seed: where the block of seeds begins; ``None`` for the least one that is there.
    """

    at: tuple[int, ...] = ()
    first_seed: int | None = None

    def reached(self, seeds: Collection[int]) -> list[int]:
        """The looks that these seeds allow: a look at n is one at the first n seeds of the block, without a gap."""
        if not self.at:
            return [len(seeds)] if len(seeds) > 1 else []
        have = self.in_a_row(seeds)
        return [n for n in self.at if n <= have]

    def in_a_row(self, seeds: Collection[int]) -> int:
        """Number of seeds from the first of the block on without a gap."""
        first, n = self.begin(seeds), 0
        while first + n in seeds:
            n += 1
        return n

    def begin(self, seeds: Collection[int]) -> int:
        """First seed of the block."""
        return min(seeds, default=0) if self.first_seed is None else self.first_seed

    def seeds(self, seeds: Collection[int], n: int) -> list[int]:
        """The n seeds of a look that is reached."""
        return list(range(self.begin(seeds), self.begin(seeds) + n)) if self.at else sorted(seeds)

    def multiplier(self, n: int, parts: int = 1) -> float:
        """Standard errors from the mean to the end of its interval at a look.

        Args:
            n: seeds of the look.
            parts: tests among which the error of the look is divided (Bonferroni).
        """
        return _quantile(n, self.tail(n, parts))

    def tail(self, n: int, parts: int = 1) -> float:
        """Chance of a t variable beyond the end of the interval at a look: its level is one less twice of this."""
        return tails(self.at, ALPHA / parts)[self.at.index(n)] if self.at else ALPHA / parts


FIXED = Looks()
"""One look at all seeds that are there."""


@lru_cache(maxsize=4096)
def _quantile(n: int, tail: float) -> float:
    from scipy.special import stdtrit

    return -float(stdtrit(n - 1, tail))


def spent(share: float) -> float:
    """Share of the error that may be spent when this share of the seeds is there (Lan and DeMets 1983, Pocock's type)."""
    return math.log(1 + (math.e - 1) * share)


CELLS, NODES, HALVINGS = 60, 12, 40
"""Grid of the calibration: multipliers are right to 0.01."""


@lru_cache(maxsize=256)
def tails(at: tuple[int, ...], alpha: float = ALPHA) -> tuple[float, ...]:
    """Marginal tail of the t interval at each look, so that all looks together err in a share `alpha` of the cases.

    The spread is unknown, so that the statistic of a look is t and not normal. With the sum S and the sum of squares Q of n
    values around the threshold, u = S / sqrt(n Q) is a function of t alone, and independent of Q. With m further values,
    u' = sqrt(w n / n') u + sqrt((1 - w) m / n') v, where n' = n + m, v is the same statistic of the new values alone, and
    w = Q / Q' has the beta distribution of n / 2 and m / 2. So u goes from look to look as a Markov chain, and the mass of
    the paths that have not been decided is followed on a grid: nothing is simulated. The multipliers are 3.88, 2.96 and 2.45
    at 5, 10 and 20 seeds, and 3.41, 3.10 and 2.75 at 5, 8 and 12.
    """
    import numpy as np
    from scipy.special import betaincinv, stdtr

    n, last = at[0], at[-1]
    found = [alpha * spent(n / last)]
    edges = np.linspace(-1, _to_u(n, _quantile(n, found[0])), CELLS + 1)
    mass = np.diff(_distribution(n, edges))
    for later in at[1:]:
        m = later - n
        share = betaincinv(n / 2, m / 2, (np.arange(NODES) + 0.5) / NODES)[:, None]  # w, nodes of equal weight
        shift = np.sqrt(share * n / later) * (edges[1:] + edges[:-1]) / 2
        width = np.sqrt((1 - share) * m / later)

        below = partial(_mass_below, m=m, mass=mass, shift=shift, width=width)
        wanted = float(mass.sum()) - alpha * (spent(later / last) - spent(n / last))
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if below(middle) < wanted else (low, middle)
        found.append(1 - float(stdtr(later - 1, _to_t(later, high))))
        edges = np.linspace(-1, high, CELLS + 1)
        if later != last:
            mass = np.diff([below(edge) for edge in edges])
        n = later
    return tuple(found)


def _mass_below(u: float, *, m: int, mass: np.ndarray, shift: np.ndarray, width: np.ndarray) -> float:
    """Mass of the paths that were not decided before and lie below u after m further values."""
    return float((mass * _distribution(m, (u - shift) / width)).sum() / NODES)


def _to_u(n: int, t: float) -> float:
    return t / math.sqrt(n - 1 + t * t)


def _to_t(n: int, u: float) -> float:
    return u * math.sqrt((n - 1) / (1 - u * u))


def _distribution(n: int, u: np.ndarray) -> np.ndarray:
    """Distribution of u for n values without an effect; one value alone is at -1 or 1."""
    import numpy as np
    from scipy.special import stdtr

    if n == 1:
        return np.where(u < -1, 0.0, np.where(u < 1, 0.5, 1.0))
    inside = np.clip(u, -1, 1)
    with np.errstate(divide="ignore"):
        return stdtr(n - 1, inside * np.sqrt((n - 1) / (1 - inside * inside)))
