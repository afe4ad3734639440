"""Intervals and verdicts: t intervals, paired where runs share a seed, equivalence by interval inclusion (TOST)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Verdict = Literal["reproduced", "not reproduced", "undecided", "not run", "not comparable"]
VERDICTS: tuple[Verdict, ...] = ("reproduced", "not reproduced", "undecided", "not comparable", "not run")

Numbers = Mapping[int, float] | Sequence[float]
"""Values by seed, or in the order of seeds from 0."""


class Values(dict[int, float]):
    """Seed -> value; differences and ratios are those of the seeds that both have."""

    def __sub__(self, other: Mapping[int, float]) -> Values:
        return Values({seed: self[seed] - other[seed] for seed in self if seed in other})

    def __truediv__(self, other: Mapping[int, float]) -> Values:
        return Values({seed: self[seed] / other[seed] for seed in self if seed in other})


LEVEL = 0.95

SMALLEST = 1e-6
"""Half an interval that still decides about digits."""


@dataclass(frozen=True)
class Finding:
    """The result of one test.

    Attributes:
        verdict: reproduced, not reproduced, undecided, not comparable, or not run.
        estimate: what was estimated, such as a mean difference; ``None`` when nothing was.
        low: lower end of the 95 % interval, ``None`` with fewer than two values.
        high: upper end.
        n: number of values, pairs where the design is paired.
        test: what was tested, for people.
        detail: the numbers behind it, for people.
        chances: tests of which one alone, wrong by chance, would give this verdict.
    """

    verdict: Verdict
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    test: str = ""
    detail: str = ""
    chances: int = 1


def by_seed(values: Numbers) -> dict[int, float]:
    """Values as a dictionary by seed."""
    return dict(values) if isinstance(values, Mapping) else dict(enumerate(values))


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
    mean = math.fsum(numbers) / len(numbers)
    if len(numbers) < 2:
        return mean, None, None
    from scipy.special import stdtrit

    variance = math.fsum((number - mean) ** 2 for number in numbers) / (len(numbers) - 1)
    half = float(stdtrit(len(numbers) - 1, 0.5 + level / 2)) * math.sqrt(variance / len(numbers))
    return mean, mean - half, mean + half


def sd(values: Numbers) -> float | None:
    """Standard deviation with n - 1 in the denominator; ``None`` with fewer than two values."""
    numbers = list(by_seed(values).values())
    if len(numbers) < 2:
        return None
    mean = math.fsum(numbers) / len(numbers)
    return math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / (len(numbers) - 1))


def _paired(first: Numbers, second: Numbers) -> tuple[dict[int, float], list[int]]:
    """Differences of the seeds that both have, and the seeds that one of them lacks."""
    a, b = by_seed(first), by_seed(second)
    shared = sorted(set(a) & set(b))
    return {seed: a[seed] - b[seed] for seed in shared}, sorted(set(a) ^ set(b))


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


def _decide(
    values: Numbers,
    test: str,
    holds: Callable[[float, float], bool],
    fails: Callable[[float, float], bool],
    missing: Sequence[int] = (),
) -> Finding:
    """Verdict of one interval: `holds` and `fails` look at (low, high)."""
    numbers = by_seed(values)
    if not numbers:
        return Finding("not run", test=test, detail="no values")
    mean, low, high = interval(numbers)
    detail = shown(mean, low, high)
    if low is None or high is None:
        return Finding("undecided", mean, None, None, len(numbers), test, f"{detail}; one seed has no interval")
    if missing:
        seeds = ", ".join(str(seed) for seed in missing)
        return Finding("undecided", mean, low, high, len(numbers), test, f"{detail}; seeds missing: {seeds}")
    verdict: Verdict = "reproduced" if holds(low, high) else "not reproduced" if fails(low, high) else "undecided"
    return Finding(verdict, mean, low, high, len(numbers), test, detail)


def above(values: Numbers, threshold: float, *, name: str = "mean") -> Finding:
    """Reproduced when the interval of the mean lies above `threshold`, not reproduced when it lies below."""
    return _decide(
        values, f"{name} > {threshold:g}", lambda low, high: low > threshold, lambda low, high: high <= threshold
    )


def below(values: Numbers, threshold: float, *, name: str = "mean") -> Finding:
    """Reproduced when the interval of the mean lies below `threshold`, not reproduced when it lies above."""
    return _decide(
        values, f"{name} < {threshold:g}", lambda low, high: high < threshold, lambda low, high: low >= threshold
    )


def greater(first: Numbers, second: Numbers, *, by: float = 0.0, name: str = "paired difference") -> Finding:
    """Whether `first` exceeds `second` by more than `by`, paired by seed."""
    differences, missing = _paired(first, second)
    return _decide(differences, f"{name} > {by:g}", lambda low, high: low > by, lambda low, high: high <= by, missing)


def equivalent(first: Numbers, second: Numbers, *, margin: float, name: str = "paired difference") -> Finding:
    """Whether `first` and `second` differ by less than `margin`, paired by seed: the interval lies within it."""
    differences, missing = _paired(first, second)
    return _decide(
        differences,
        f"|{name}| < {margin:g}",
        lambda low, high: -margin < low and high < margin,
        lambda low, high: low >= margin or high <= -margin,
        missing,
    )


def equivalent_to(values: Numbers, target: float, *, margin: float, expected: Iterable[int] | None = None) -> Finding:
    """Whether the mean equals `target` within `margin`; a wide interval never passes.

    Args:
        values: by seed.
        target: the published number.
        margin: declared beside the target.
        expected: seeds that should be there; a missing one leaves the verdict undecided.
    """
    numbers = by_seed(values)
    missing = [] if expected is None else sorted(set(expected) - set(numbers))
    return _decide(
        numbers,
        f"|mean - {target:g}| < {margin:g}",
        lambda low, high: target - margin < low and high < target + margin,
        lambda low, high: low >= target + margin or high <= target - margin,
        missing,
    )


def all_of(parts: Sequence[Finding]) -> Finding:
    """A claim that holds when all its parts do; fails when one fails, is undecided when one is.

    The estimate and interval are those of the weakest part.
    """
    if not parts:
        return not_run("no parts")
    order = {"not run": 0, "not reproduced": 1, "undecided": 2, "not comparable": 3, "reproduced": 4}
    weakest = min(parts, key=lambda part: (order[part.verdict], part.low if part.low is not None else -math.inf))
    counts = ", ".join(
        f"{sum(part.verdict == verdict for part in parts)} {verdict}"
        for verdict in VERDICTS
        if any(part.verdict == verdict for part in parts)
    )
    if len(parts) == 1:
        return weakest
    return Finding(
        weakest.verdict,
        weakest.estimate,
        weakest.low,
        weakest.high,
        min(part.n for part in parts),
        f"{len(parts)} tests, all must hold",
        f"{counts}; weakest: {weakest.test}: {weakest.detail}",
        # One wrong failure is enough to lose the claim; to pass wrongly, the very part that is false must pass.
        sum(part.chances for part in parts) if weakest.verdict == "not reproduced" else 1,
    )


def any_of(parts: Sequence[Finding]) -> Finding:
    """A claim that holds when one of its parts does, and fails when all fail."""
    if not parts:
        return not_run("no parts")
    order = {"reproduced": 0, "undecided": 1, "not comparable": 2, "not run": 3, "not reproduced": 4}
    best = min(parts, key=lambda part: order[part.verdict])
    test = best.test if len(parts) == 1 else f"one of {len(parts)} tests must hold"
    chances = sum(part.chances for part in parts) if best.verdict == "reproduced" else 1
    return Finding(
        best.verdict, best.estimate, best.low, best.high, best.n, test, f"{best.test}: {best.detail}", chances
    )


def report(values: Numbers, detail: str = "") -> Finding:
    """A number that the paper makes no clear claim about: estimated, never judged."""
    numbers = by_seed(values)
    if not numbers:
        return not_run(detail or "no values")
    mean, low, high = interval(numbers)
    detail = "; ".join(part for part in (shown(mean, low, high), detail) if part)
    return Finding("undecided", mean, low, high, len(numbers), "reported only", detail)


def describe(values: Numbers, *, verdict: Verdict, detail: str) -> Finding:
    """Mean and interval under a verdict that was decided otherwise."""
    numbers = by_seed(values)
    mean, low, high = interval(numbers)
    return Finding(verdict, mean, low, high, len(numbers), "", f"{shown(mean, low, high)}; {detail}")


def not_run(detail: str) -> Finding:
    return Finding("not run", detail=detail)


def false_alarms(outcomes: Iterable[Finding], *, level: float = LEVEL) -> float:
    """Expected number of decisions that chance alone gets wrong, at most: one tail of the interval for each test.

    It is reached where every true difference lies exactly at its threshold; the farther away, the fewer.
    """
    decided = sum(outcome.chances for outcome in outcomes if outcome.verdict in ("reproduced", "not reproduced"))
    return decided * (1 - level) / 2


def undecided(outcome: Finding, why: str) -> Finding:
    """The same estimate without a decision, and why."""
    return replace(outcome, verdict="undecided", detail=f"{outcome.detail}; {why}" if outcome.detail else why)
