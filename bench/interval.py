"""Values by seed, the scale on which their mean is taken, its t interval, and how people read it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

LEVEL = 0.95

Numbers = Mapping[int, float] | Sequence[float]
"""Values by seed, or in the order of seeds from 0."""


class Values(dict[int, float]):
    """Seed -> value; differences and ratios are those of the seeds that both have."""

    def __sub__(self, other: Mapping[int, float]) -> Values:
        return Values({seed: self[seed] - other[seed] for seed in self if seed in other})

    def __truediv__(self, other: Mapping[int, float]) -> Values:
        return Values({seed: self[seed] / other[seed] for seed in self if seed in other})


def by_seed(values: Numbers) -> dict[int, float]:
    """Values as a dictionary by seed."""
    return dict(values) if isinstance(values, Mapping) else dict(enumerate(values))


@dataclass(frozen=True)
class Scale:
    """What the mean is taken of, where that is not the value itself.

    Attributes:
        forward: value -> number whose mean and t interval are taken.
        backward: number -> value.
        low, high: ends of the range of the values; those outside of it are NaN and decide nothing.
        mean: what the mean of the numbers is, back on the values' scale.
    """

    forward: Callable[[float], float]
    backward: Callable[[float], float]
    low: float = -math.inf
    high: float = math.inf
    mean: str = "mean"

    def of(self, values: Numbers) -> Values:
        """The numbers by seed; NaN for a value outside of the range, or infinitely far out on this scale."""
        return Values({seed: self._number(value) for seed, value in by_seed(values).items()})

    def _number(self, value: float) -> float:
        try:
            inside = self.low <= value <= self.high and math.isfinite(value)
            return self.forward(value) if inside else math.nan
        except ValueError:  # the logarithm of 0
            return math.nan

    def threshold(self, value: float) -> float:
        """A threshold on this scale; infinite where it lies at an end of the range or beyond."""
        if value <= self.low:
            return -math.inf
        return math.inf if value >= self.high else self.forward(value)


PLAIN = Scale(float, float)
LOG = Scale(math.log, math.exp, low=0.0, mean="geometric mean")
"""Ratios: twice as much and half as much are equally far from 1."""
R_SQUARED = Scale(
    lambda value: math.atanh(math.sqrt(value)), lambda number: math.tanh(max(0.0, number)) ** 2, 0.0, 1.0, "R²"
)
"""Fisher's transformation of the root (Fisher 1921), so that the interval stays between 0 and 1."""


def correlation(points: int | None = None) -> Scale:
    """Fisher's transformation of correlations (Fisher 1921).

    Args:
        points: pairs behind each rank correlation. One of exactly 1 then counts as half-way to the next possible value,
            since a few points in perfect order say no more; without it, a correlation of exactly 1 decides nothing.
    """
    most = 1.0 if points is None else 1 - 6 / (points**3 - points)
    return Scale(lambda value: math.atanh(max(-most, min(most, value))), math.tanh, -1.0, 1.0, "correlation")


def interval(values: Numbers, *, level: float = LEVEL) -> tuple[float, float | None, float | None]:
    """Mean and two-sided t interval of independent values.

    Returns:
        (mean, low, high); low and high are ``None`` with fewer than two values.

    Raises:
        ValueError: there is no value.
    """
    numbers = list(by_seed(values).values())
    if not numbers:
        raise ValueError("no values")
    mean, spread = math.fsum(numbers) / len(numbers), sd(numbers)
    if spread is None:
        return mean, None, None
    from scipy.special import stdtrit

    half = float(stdtrit(len(numbers) - 1, 0.5 + level / 2)) * spread / math.sqrt(len(numbers))
    return mean, mean - half, mean + half


def sd(values: Numbers) -> float | None:
    """Standard deviation with n - 1 in the denominator; ``None`` with fewer than two values."""
    numbers = list(by_seed(values).values())
    if len(numbers) < 2:
        return None
    mean = math.fsum(numbers) / len(numbers)
    return math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / (len(numbers) - 1))


SMALLEST = 1e-6
"""Half an interval that still decides about digits."""


def shown(mean: float, low: float | None, high: float | None) -> str:
    """A mean with its interval for people, to two digits of half the interval; to four of their own without a width."""
    if low is None or high is None:
        return _plain(mean)
    half = (high - low) / 2
    if not SMALLEST < half < math.inf:
        return f"{_plain(mean)} [{_plain(low)}, {_plain(high)}]"
    places = 1 - math.floor(math.log10(half))
    # Adding zero takes the sign off a zero.
    texts = [f"{round(number, places) + 0.0:.{max(places, 0)}f}" for number in (mean, low, high)]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]"


def _plain(number: float) -> str:
    """Four digits, without an exponent where that is short."""
    rounded = float(f"{number:.4g}")
    return f"{rounded:.0f}" if 1e4 <= abs(rounded) < 1e15 else f"{rounded:g}"
