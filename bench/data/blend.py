"""Which source the next sample comes from: largest deficit, no random numbers, any position in constant time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np

from bench.errors import UserError

LONGEST_PERIOD = 1_000_000
ROUNDED = 2e-3
"""Share by which weights may miss their sum through rounding: three of 0.333 or of 1/3 are thirds."""
LARGEST_DENOMINATOR = 1000


def parts(weights: Sequence[float], names: Sequence[str]) -> tuple[int, ...]:
    """Weights as whole numbers without a common divisor: 67.0 and 33.0 percent are 67 and 33, a third each is 1, 1, 1.

    Weights are taken by their decimal digits. Where these miss 1 (or 100 percent) by rounding, they are the nearest
    fractions with small denominators.

    Raises:
        UserError: a weight is negative or not finite, they do not sum to 1 (or to 100 percent), or have too many digits.
    """
    shown = ", ".join(f"{name} {weight:g}" for name, weight in zip(names, weights, strict=True))
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights):
        raise UserError(f"mixture: weights must be finite and not negative ({shown})")
    exact = [Fraction(str(weight)) for weight in weights]
    total = sum(exact, Fraction(0))
    if total not in (1, 100):
        near = next((whole for whole in (1, 100) if abs(total - whole) <= ROUNDED * whole), None)
        if near is None:
            raise UserError(f"mixture: weights sum to {float(total):g}, expected 1 or 100 ({shown})")
        rounded = [(weight / total).limit_denominator(LARGEST_DENOMINATOR) for weight in exact]
        close = all(abs(new * total - old) <= old / 10_000 for new, old in zip(rounded, exact, strict=True))
        if sum(rounded) != 1 or not close:
            raise UserError(
                f"mixture: weights sum to {float(total):.12g}, expected {near}; give them with fewer digits ({shown})"
            )
        exact = rounded
    whole = math.lcm(*(weight.denominator for weight in exact))
    counts = [int(weight * whole) for weight in exact]
    shared = math.gcd(*counts)
    counts = [count // shared for count in counts]
    if sum(counts) > LONGEST_PERIOD:
        raise UserError(
            f"mixture: weights with fewer digits, please: the blend repeats after {sum(counts):,} samples ({shown})"
        )
    return tuple(counts)


@lru_cache(maxsize=32)
def _period(counts: tuple[int, ...], first: int) -> tuple[np.ndarray, np.ndarray]:
    """Sources of one period that starts at sample `first`, and how many samples each had before each position."""
    length = sum(counts)
    taken = [0] * len(counts)
    sources = np.empty(length, dtype=np.int64)
    before = np.empty(length, dtype=np.int64)
    for offset in range(length):
        # In whole numbers, so that a tie is a tie: w_j max(i, 1) - taken_j, times the sum of the weights.
        age = max(offset, 1) if first == 0 else offset
        deficits = [
            count * age - length * had if count else -math.inf for count, had in zip(counts, taken, strict=True)
        ]
        source = deficits.index(max(deficits))
        sources[offset], before[offset] = source, taken[source]
        taken[source] += 1
    return sources, before


def blend(counts: tuple[int, ...], position: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The samples ``position .. position + length - 1`` of a mixture.

    Sample i comes from the source with the largest ``w_j max(i, 1) - taken_j``, the first in a tie (GPT-NeoX's rule).
    After sum(`counts`) samples every deficit is zero: the sum of deficits is zero, none falls below -1 as only the
    largest is served, and all are whole there. So the order repeats, except that sample 0 counts as 1.

    Args:
        counts: from `parts`.
        position: first sample.
        length: how many.

    Returns:
        (source of each sample, its index within that source), int64, both (length,).
    """
    period = sum(counts)
    samples = np.arange(position, position + length)
    rounds, offset = np.divmod(samples, period)
    opening, steady = _period(counts, 0), _period(counts, period)
    sources = np.where(rounds == 0, opening[0][offset], steady[0][offset])
    before = np.where(rounds == 0, opening[1][offset], steady[1][offset])
    return sources, before + rounds * np.asarray(counts)[sources]
