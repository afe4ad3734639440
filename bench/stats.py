"""The tests that claims are made of: t intervals over seeds, paired where runs share a seed.

Each gives a finding at one look, with the ordinary 95 % interval; the scale's own looks come in when claims are judged (see
`bench.finding`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from bench.finding import (
    DECIDED,
    VERDICTS,
    Finding,
    Hypothesis,
    Verdict,
    back,
    expected_wrong,
    judged,
    leaves,
    left_open,
    several,
)
from bench.interval import (
    LEVEL,
    LOG,
    PLAIN,
    R_SQUARED,
    Numbers,
    Scale,
    Values,
    by_seed,
    correlation,
    interval,
    sd,
    shown,
)

__all__ = [
    "DECIDED", "LEVEL", "LOG", "PLAIN", "R_SQUARED", "VERDICTS",
    "Finding", "Hypothesis", "Numbers", "Scale", "Values", "Verdict",
    "above", "all_of", "any_of", "below", "by_seed", "correlation", "describe", "equivalent", "equivalent_to", "estimate",
    "expected_wrong", "greater", "interval", "judged", "leaves", "not_run", "not_worse", "on_average", "sd", "shown",
    "undecided",
]  # fmt: skip

DIFFERENCE = "paired difference"


def above(values: Numbers, threshold: float, *, name: str = "", on: Scale = PLAIN, exact: bool = False) -> Finding:
    """Reproduced when the interval of the mean lies above `threshold`, not reproduced when it lies below.

    Args:
        values: by seed.
        threshold: in the values' own unit.
        name: of the mean, for people.
        on: scale on which the mean is taken, such as `LOG` for ratios.
        exact: whether values of 0 in every seed decide: otherwise they say that nothing was compared.
    """
    return _of_mean(f"{name or on.mean} > {threshold:g}", values, threshold, math.inf, on, exact=exact)


def below(values: Numbers, threshold: float, *, name: str = "", on: Scale = PLAIN, exact: bool = False) -> Finding:
    """Reproduced when the interval of the mean lies below `threshold`, not reproduced when it lies above."""
    return _of_mean(f"{name or on.mean} < {threshold:g}", values, -math.inf, threshold, on, exact=exact)


def equivalent_to(
    values: Numbers, target: float, *, margin: float, expected: Iterable[int] = (), name: str = "", on: Scale = PLAIN
) -> Finding:
    """Whether the mean equals `target` within `margin`; a wide interval never passes.

    Args:
        values: by seed.
        target: the published number.
        margin: declared beside the target, in its unit.
        expected: seeds that should be there; a missing one leaves the verdict undecided.
        name: of the mean, for people.
        on: scale on which the mean is taken.
    """
    test = f"|{name or on.mean} - {target:g}| < {margin:g}"
    missing = tuple(sorted(set(expected) - set(by_seed(values))))
    return _of_mean(test, values, target - margin, target + margin, on, missing=missing)


def greater(first: Numbers, second: Numbers, *, by: float = 0.0, name: str = DIFFERENCE, on: Scale = PLAIN) -> Finding:
    """Whether `first` exceeds `second` by more than `by`, paired by seed.

    On another scale than the plain one, `by` and the difference are those of the transformed values.
    """
    return _of_difference(f"{name} > {by:g}", first, second, by, math.inf, on=on)


def not_worse(
    first: Numbers, second: Numbers, *, margin: float, lower_is_better: bool = False, name: str = DIFFERENCE
) -> Finding:
    """Whether `first` is worse than `second` by less than `margin`, if at all, paired by seed (non-inferiority)."""
    if lower_is_better:
        return _of_difference(f"{name} < {margin:g}", first, second, -math.inf, margin)
    return _of_difference(f"{name} > {-margin:g}", first, second, -margin, math.inf)


def equivalent(
    first: Numbers, second: Numbers, *, margin: float, name: str = DIFFERENCE, exact: bool = False
) -> Finding:
    """Whether `first` and `second` differ by less than `margin`, paired by seed: the interval lies within it."""
    return _of_difference(f"|{name}| < {margin:g}", first, second, -margin, margin, exact=exact)


def _magnitude(*values: Numbers) -> float:
    return max((abs(value) for numbers in values for value in by_seed(numbers).values()), default=0.0)


def _of_mean(
    test: str,
    values: Numbers,
    low: float,
    high: float,
    on: Scale,
    *,
    exact: bool = False,
    missing: tuple[int, ...] = (),
) -> Finding:
    region = on.threshold(low), on.threshold(high)
    return _tested(Hypothesis(test, on.of(values), *region, on, exact, _magnitude(values), missing))


def _of_difference(
    test: str, first: Numbers, second: Numbers, low: float, high: float, *, on: Scale = PLAIN, exact: bool = False
) -> Finding:
    a, b = on.of(first), on.of(second)
    return _tested(Hypothesis(test, a - b, low, high, PLAIN, exact, _magnitude(a, b), tuple(sorted(set(a) ^ set(b)))))


def _tested(hypothesis: Hypothesis) -> Finding:
    return judged(Finding("undecided", hypothesis=hypothesis))


def all_of(parts: Sequence[Finding]) -> Finding:
    """A claim that holds when all its parts do; the estimate and interval are those of the weakest part."""
    return several("all", parts)


def any_of(parts: Sequence[Finding]) -> Finding:
    """A claim that holds when one of its parts does, and fails when all fail."""
    return several("one", parts)


def on_average(differences: Sequence[Numbers], *, by: float = 0.0, name: str = "difference") -> Finding:
    """Whether a difference exceeds `by` on average over settings, and lies significantly below it in none of them.

    Args:
        differences: of each setting, by seed.
        by: threshold of the mean and of each setting.
        name: of the difference, for people.
    """
    settings = [by_seed(values) for values in differences]
    seeds = sorted(set.intersection(*map(set, settings))) if settings else []
    mean = {seed: math.fsum(values[seed] for values in settings) / len(settings) for seed in seeds}
    return several("average", [above(values, by, name=name) for values in (mean, *settings)] if settings else [])


def estimate(values: Numbers, detail: str = "", *, on: Scale = PLAIN) -> Finding:
    """A number that the paper makes no claim about: shown with its interval, never judged."""
    numbers = [number for number in on.of(values).values() if not math.isnan(number)]
    if not numbers:
        return not_run(detail or "no values")
    mean, low, high = back(on, *interval(numbers))
    detail = "; ".join(filter(None, (shown(mean, low, high), detail)))
    return Finding("estimate", mean, low, high, len(numbers), "estimate", detail)


def describe(values: Numbers, *, verdict: Verdict, detail: str) -> Finding:
    """Mean and interval under a verdict that was decided otherwise."""
    numbers = by_seed(values)
    mean, low, high = interval(numbers)
    return Finding(verdict, mean, low, high, len(numbers), "", f"{shown(mean, low, high)}; {detail}")


def not_run(detail: str) -> Finding:
    return Finding("not run", detail=detail)


def undecided(finding: Finding, why: str, *, may_pass: bool = False) -> Finding:
    """The same estimate without a decision, and why; with `may_pass` only a failure is left open."""
    return left_open(finding, why, may_pass=may_pass)
