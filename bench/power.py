"""What further seeds can be expected to decide, and how many seeds an effect needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.finding import Finding, Hypothesis, Rule, leaves
from bench.interval import sd
from bench.looks import FIXED, Looks

if TYPE_CHECKING:
    import numpy as np

GIVE_UP = 0.2
"""Chance of still being decided by the last look, at the estimate, below which a claim is given up."""
PATHS = 4000
"""Simulated continuations of a test: chances are right to 0.01."""
SUFFICES = 0.8
"""Power that is usually asked for (Cohen 1988)."""
MOST = 1000
"""Seeds beyond which an effect is out of reach."""


def chances(finding: Finding, looks: Looks, *, at_estimate: bool = False) -> dict[int, float]:
    """Chance that a claim is decided by each later look, given the values at hand.

    Values of further seeds are drawn from a normal distribution. Its mean and spread are drawn for each path from what the
    values at hand say of them (a flat prior), so that three lucky seeds promise little; or they are the estimates. Parts
    are drawn independently of one another. A part without two values, or whose values are equal, is taken to stay open.

    Args:
        finding: judged at these looks.
        looks: those of the scale.
        at_estimate: whether the mean and the spread are the estimates.

    Returns:
        Look -> chance, of the looks that the seeds at hand do not reach.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    passed, failed = _paths(finding, looks, 1, 1, rng, at_estimate)
    decided = np.minimum(passed, failed)
    return {n: float((decided <= n).mean()) for n in looks.at if n > _reached(finding, looks)}


def given_up(finding: Finding, looks: Looks) -> bool:
    """Whether an undecided claim has been looked at and has too little chance of ever being decided.

    This binds nobody: where other claims bring its runs to the next look, it is looked at there.
    """
    if not looks.at or finding.verdict != "undecided" or not all(leaf.tested for leaf in leaves(finding)):
        return False
    later = chances(finding, looks, at_estimate=True)
    return not later or later[max(later)] < GIVE_UP


def _reached(finding: Finding, looks: Looks) -> int:
    """The last look that all tests of a finding have reached; 0 before the first."""
    if finding.parts:
        return min(_reached(part, looks) for part in finding.parts)
    values = {} if finding.hypothesis is None else finding.hypothesis.values
    return max(looks.reached(values), default=0) if values else 0


NEVER = 10**9
"""Look of a decision that is not made."""


def _paths(
    finding: Finding, looks: Looks, passing: int, failing: int, rng: np.random.Generator, at_estimate: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The look at which each path passes, and the one at which it fails."""
    import numpy as np

    if finding.open_because or (not finding.parts and finding.hypothesis is None):
        return np.full(PATHS, NEVER), np.full(PATHS, NEVER)
    if not finding.parts:
        assert finding.hypothesis is not None
        return _of_test(finding, finding.hypothesis, looks, passing, failing, rng, at_estimate)
    number = len(finding.parts)
    passing *= number if finding.rule == "one" else 1
    failing *= 1 if finding.rule == "one" else number
    parts = [_paths(part, looks, passing, failing, rng, at_estimate) for part in finding.parts]
    return _combined(finding.rule, np.array([part[0] for part in parts]), np.array([part[1] for part in parts]))


def _combined(rule: Rule, passed: np.ndarray, failed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    if rule == "one":
        return passed.min(0), failed.max(0)
    fails = failed.min(0)
    passes = passed[0] if rule == "average" else passed.max(0)
    return np.where(passes < fails, passes, NEVER), fails


def _of_test(
    finding: Finding,
    tested: Hypothesis,
    looks: Looks,
    passing: int,
    failing: int,
    rng: np.random.Generator,
    at_estimate: bool,
) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    passed, failed = np.full(PATHS, NEVER), np.full(PATHS, NEVER)
    n = looks.in_a_row(tested.values)
    values = [tested.values[seed] for seed in looks.seeds(tested.values, n)]
    spread = sd(values)
    if finding.verdict in ("reproduced", "not reproduced"):
        (passed if finding.verdict == "reproduced" else failed)[:] = 0
        return passed, failed
    if not spread:
        return passed, failed
    mean, squares = np.full(PATHS, math.fsum(values) / n), np.full(PATHS, spread**2 * (n - 1))
    true_sd, true_mean = np.full(PATHS, spread), mean
    if not at_estimate:
        true_sd = spread * np.sqrt((n - 1) / rng.chisquare(n - 1, PATHS))
        true_mean = mean + true_sd / math.sqrt(n) * rng.normal(size=PATHS)
    for look in (later for later in looks.at if later > n):
        more = look - n
        new = true_mean + true_sd / math.sqrt(more) * rng.normal(size=PATHS)
        squares = squares + (new - mean) ** 2 * n * more / look
        if more > 1:
            squares = squares + true_sd**2 * rng.chisquare(more - 1, PATHS)
        mean, n = mean + (new - mean) * more / look, look
        error = np.sqrt(squares / (look - 1) / look)
        inside = np.minimum(mean - tested.low, tested.high - mean)
        still = np.minimum(passed, failed) == NEVER
        passed = np.where(still & (inside > looks.multiplier(look, passing) * error), look, passed)
        failed = np.where(still & (-inside >= looks.multiplier(look, failing) * error), look, failed)
    return passed, failed


@dataclass(frozen=True)
class Need:
    """How many seeds an effect needs.

    Attributes:
        seeds: least number with which the claim is reproduced in `SUFFICES` of the cases, with one look; ``None`` where more
            than `MOST` would be needed, or the means lie outside of the claimed region.
        chance: with the number that was asked about.
    """

    seeds: int | None
    chance: float


def need(finding: Finding, asked: int) -> Need:
    """What means and spreads like those of a finding need, at one look; parts count as if independent.

    Args:
        finding: its values give the means and the spreads.
        asked: number of seeds whose chance is wanted.
    """
    low, high = 1, 2
    while high <= MOST and chance_to_pass(finding, high) < SUFFICES:
        low, high = high, 2 * high
    while high <= MOST and high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if chance_to_pass(finding, middle) >= SUFFICES else (middle, high)
    found = min(high, MOST)
    enough = chance_to_pass(finding, found) >= SUFFICES
    return Need(found if enough else None, chance_to_pass(finding, asked))


def chance_to_pass(finding: Finding, n: int, passing: int = 1) -> float:
    """Chance that a claim is reproduced with n seeds and one look, if the means and spreads are those of its values."""
    if finding.parts:
        passing *= len(finding.parts) if finding.rule == "one" else 1
        parts = finding.parts[:1] if finding.rule == "average" else finding.parts
        shares = [chance_to_pass(part, n, passing) for part in parts]
        return 1 - math.prod(1 - share for share in shares) if finding.rule == "one" else math.prod(shares)
    tested = finding.hypothesis
    spread = None if tested is None else sd(tested.values)
    if tested is None or spread is None or n < 2:
        return 0.0
    mean = math.fsum(tested.values.values()) / len(tested.values)
    sides = [
        _beyond(distance / spread if spread else math.copysign(math.inf, distance), n, passing)
        for distance in (mean - tested.low, tested.high - mean)
    ]
    return max(0.0, sum(sides) - 1)


def _beyond(effect: float, n: int, passing: int) -> float:
    """Chance that a t interval lies beyond a threshold that is `effect` standard deviations away."""
    from scipy.special import nctdtr, ndtr

    shift, bound = effect * math.sqrt(n), FIXED.multiplier(n, passing)
    if math.isnan(shift):
        return 0.0
    if abs(shift) > 30:  # where the noncentral t distribution is not computed reliably
        return float(ndtr(shift - bound))
    return 1 - float(nctdtr(n - 1, shift, bound))
