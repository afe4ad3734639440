"""Hypotheses and their findings: verdicts at the looks that a scale declares, of single tests and of several together.

A hypothesis says in which region a mean over seeds is claimed to lie. It is reproduced when the interval of the mean lies
inside, not reproduced when the interval lies outside, and undecided otherwise; for a region with two ends these are two
one-sided tests (Schuirmann 1987). Several hypotheses that must all hold are reproduced when each one is, at its own level
(Berger 1982), and fail when one of them fails at its level divided by their number (Bonferroni). Where one of several is
enough, it is the other way round. So a claim errs in at most `ALPHA` of the cases, however many parts it has.

A finding keeps what it tested: `judged` decides it again at other looks. The verdict of a single test is that of the first
look that decides, and stays: the error that is spent over the looks is the chance that any of them errs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bench.interval import LEVEL, PLAIN, Scale, interval, sd, shown
from bench.looks import ALPHA, FIXED, Looks

Verdict = Literal["reproduced", "not reproduced", "undecided", "not run", "not comparable", "estimate"]
VERDICTS: tuple[Verdict, ...] = ("reproduced", "not reproduced", "undecided", "not comparable", "not run")
"""What becomes of a claim; an estimate is none."""
DECIDED = ("reproduced", "not reproduced")

Rule = Literal["single", "all", "one", "average"]
"""How a finding follows from its parts: there are none, all must hold, one must hold, or the first must hold (a mean over
settings) and none of the others (the settings) may lie significantly the other way."""

EQUAL = 1e-12
"""Part of what was compared, below which a difference is none."""


@dataclass(frozen=True)
class Hypothesis:
    """A mean over seeds, and the region in which a claim says that it lies.

    Attributes:
        name: what is tested, for people.
        values: by seed, on the scale on which their mean is taken.
        low, high: ends of the region, on that scale.
        scale: how to show them.
        exact: whether the claim is one of exactness, so that it is decided although there is no difference in any seed.
        size: largest magnitude of what was compared.
        missing: seeds that should be there, where their number is fixed beforehand.
    """

    name: str
    values: Mapping[int, float]
    low: float = -math.inf
    high: float = math.inf
    scale: Scale = PLAIN
    exact: bool = False
    size: float = 0.0
    missing: tuple[int, ...] = ()


@dataclass(frozen=True)
class Finding:
    """The result of one test, or of several.

    Attributes:
        verdict: reproduced, not reproduced, undecided, not comparable, not run; or an estimate, which is never judged.
        estimate: what was estimated, such as a mean difference; ``None`` when nothing was.
        low, high: ends of its interval, ``None`` with fewer than two values.
        n: number of values, pairs where the design is paired.
        test: what was tested, for people.
        detail: the numbers behind it, for people.
        level: of the interval, two-sided.
        tested: whether it could have been decided, rightly or wrongly.
        distance: from the nearest end of the claimed region to the estimate, in half intervals; negative outside.
        hypothesis: of a single test.
        rule, parts: of several.
        open_because: why it is not decided, whatever the test says.
        may_pass: whether that keeps it only from failing.
    """

    verdict: Verdict
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    test: str = ""
    detail: str = ""
    level: float = LEVEL
    tested: bool = False
    distance: float | None = None
    hypothesis: Hypothesis | None = None
    rule: Rule = "single"
    parts: tuple[Finding, ...] = ()
    open_because: str = ""
    may_pass: bool = False


def judged(finding: Finding, looks: Looks = FIXED, *, passing: int = 1, failing: int = 1) -> Finding:
    """The finding of the same test at declared looks.

    Args:
        finding: of any looks.
        looks: when it may be decided.
        passing: number of tests of which one alone, passing wrongly, makes the whole claim pass.
        failing: number of tests of which one alone, failing wrongly, makes the whole claim fail.
    """
    if finding.parts:
        number = len(finding.parts)
        passing *= number if finding.rule == "one" else 1
        failing *= 1 if finding.rule == "one" else number
        parts = [judged(part, looks, passing=passing, failing=failing) for part in finding.parts]
        result = _together(finding.rule, parts)
    elif finding.hypothesis is not None and finding.verdict != "not comparable":
        result = _over_looks(finding.hypothesis, looks, passing, failing)
    else:
        return finding
    if finding.open_because:
        return left_open(result, finding.open_because, may_pass=finding.may_pass)
    return result


def several(rule: Rule, parts: Sequence[Finding]) -> Finding:
    """The finding of several parts together; a single part is itself."""
    if not parts:
        return Finding("not run", detail="no parts")
    return parts[0] if len(parts) == 1 else judged(Finding("undecided", rule=rule, parts=tuple(parts)))


def left_open(finding: Finding, why: str, *, may_pass: bool = False) -> Finding:
    """The same estimate without a decision, and why; with `may_pass` only a failure is left open."""
    kept = replace(finding, open_because=why, may_pass=may_pass)
    if may_pass and finding.verdict != "not reproduced":
        return kept
    if finding.verdict not in DECIDED:
        return replace(kept, tested=False)
    return replace(kept, verdict="undecided", tested=False, detail="; ".join(filter(None, (finding.detail, why))))


def leaves(finding: Finding) -> list[Finding]:
    """The single tests of a finding."""
    return [leaf for part in finding.parts for leaf in leaves(part)] if finding.parts else [finding]


def expected_wrong(findings: Iterable[Finding]) -> float:
    """Expected number of tested claims that chance alone gets wrong, at most.

    A claim counts whether or not it was decided in the end. The bound is reached where every claim lies exactly at its
    threshold; the farther away, the fewer.
    """
    return ALPHA * sum(finding.tested for finding in findings)


def _over_looks(hypothesis: Hypothesis, looks: Looks, passing: int, failing: int) -> Finding:
    """What the first look says that decides, or the last one that these seeds allow."""
    values = hypothesis.values
    if not values:
        return Finding("not run", test=hypothesis.name, detail="no values", hypothesis=hypothesis)
    reached = looks.reached(values)
    if not reached:
        result = _too_early(hypothesis, looks)
    for n in reached:
        result = _at_look(hypothesis, looks, n, passing, failing)
        if result.verdict in DECIDED:
            break
    missing = _missing(hypothesis, looks)
    if missing and not looks.at:  # where their number is fixed beforehand, all seeds must be there
        result = replace(result, verdict="undecided", tested=False)
    if result.verdict == "undecided":
        return replace(result, detail="; ".join(filter(None, (result.detail, _next(hypothesis, looks), missing))))
    return result


def _missing(hypothesis: Hypothesis, looks: Looks) -> str:
    missing = list(hypothesis.missing)
    if looks.at:
        first = looks.begin(hypothesis.values)
        missing = sorted(set(range(first, max(hypothesis.values))) - set(hypothesis.values))
    return f"seeds missing: {', '.join(map(str, missing))}" if missing else ""


def _next(hypothesis: Hypothesis, looks: Looks) -> str:
    reached = looks.reached(hypothesis.values)
    later = [n for n in looks.at if n > max(reached, default=0)]
    return f"{looks.in_a_row(hypothesis.values)} seeds, next look at {later[0]}" if later else ""


def _too_early(hypothesis: Hypothesis, looks: Looks) -> Finding:
    """What is there before the first look; nothing is decided."""
    numbers = [number for number in hypothesis.values.values() if not math.isnan(number)]
    why = "" if looks.at else "one seed has no interval"
    mean, low, high = back(hypothesis.scale, *interval(numbers)) if numbers else (None, None, None)
    text = "" if mean is None else shown(mean, low, high)
    detail = "; ".join(filter(None, (text, why)))
    n = len(hypothesis.values)
    return Finding("undecided", mean, low, high, n, hypothesis.name, detail, hypothesis=hypothesis)


def back(scale: Scale, mean: float, low: float | None, high: float | None) -> tuple[float, float | None, float | None]:
    """A mean and its interval in the values' own unit."""
    ends = [None if end is None else scale.backward(end) for end in (low, high)]
    return scale.backward(mean), ends[0], ends[1]


def _at_look(hypothesis: Hypothesis, looks: Looks, n: int, passing: int, failing: int) -> Finding:
    """What the first n seeds say."""
    values = {seed: hypothesis.values[seed] for seed in looks.seeds(hypothesis.values, n)}
    level = 1 - 2 * looks.tail(n)
    if outside := [str(seed) for seed, number in values.items() if math.isnan(number)]:
        detail = f"outside of its range in seeds {', '.join(outside)}"
        return Finding("undecided", n=n, test=hypothesis.name, detail=detail, level=level, hypothesis=hypothesis)
    mean, spread = math.fsum(values.values()) / n, sd(values)
    assert spread is not None
    error = spread / math.sqrt(n)
    half = looks.multiplier(n) * error
    inside = min(mean - hypothesis.low, hypothesis.high - mean)
    ends = back(hypothesis.scale, mean, mean - half, mean + half)
    detail = shown(*ends) + (f" ({level:.1%} interval, look at {n} seeds)" if looks.at else "")
    tested = hypothesis.exact or not without_difference(hypothesis, values)
    verdict: Verdict = "undecided"
    if not tested:
        detail += "; no difference in any seed, which decides nothing"
    elif inside > looks.multiplier(n, passing) * error:
        verdict = "reproduced"
    elif -inside >= looks.multiplier(n, failing) * error:
        verdict = "not reproduced"
    distance = None if not tested else inside / half if half else math.copysign(math.inf, inside)
    return Finding(verdict, *ends, n, hypothesis.name, detail, level, tested, distance, hypothesis)


def without_difference(hypothesis: Hypothesis, values: Mapping[int, float]) -> bool:
    """Whether what was compared is equal in every seed, as two arms are that predict the same."""
    return all(abs(value) <= EQUAL * hypothesis.size for value in values.values())


WORST_FIRST: tuple[Verdict, ...] = ("not run", "not reproduced", "undecided", "not comparable", "reproduced")
BEST_FIRST: tuple[Verdict, ...] = ("reproduced", "undecided", "not comparable", "not run", "not reproduced")


def _weakness(part: Finding) -> tuple[int, float]:
    return WORST_FIRST.index(part.verdict), -math.inf if part.distance is None else part.distance


def _strength(part: Finding) -> tuple[int, float]:
    return BEST_FIRST.index(part.verdict), math.inf if part.distance is None else -part.distance


def _together(rule: Rule, parts: Sequence[Finding]) -> Finding:
    """The finding of parts that have been judged at their levels; its estimate is that of the part that decides.

    Of tests that must all hold that is the weakest: the one of the least distance to its threshold, in units of half its
    interval.
    """
    number = len(parts)
    if rule == "one":
        named, role, test = min(parts, key=_strength), "strongest", f"one of {number} tests must hold"
    elif rule == "average":
        # A setting has a say only where it lies the other way, or cannot be judged.
        against = [part for part in parts[1:] if part.verdict == "not reproduced" or not part.tested]
        named, role = min([parts[0], *against], key=_weakness), "decisive"
        test = f"mean of {number - 1} settings, and none of them the other way"
    else:
        named, role, test = min(parts, key=_weakness), "weakest", f"{number} tests, all must hold"
    verdicts = [part.verdict for part in parts]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in VERDICTS if verdict in verdicts)
    tested = sum(part.tested for part in parts)
    partly = f"{tested} of {number} could be judged; " if 0 < tested < number else ""
    return replace(
        named,
        test=test,
        detail=f"{counts}; {partly}{role}: {named.test}: {named.detail}",
        tested=tested > 0,
        hypothesis=None,
        rule=rule,
        parts=tuple(parts),
        open_because="",
        may_pass=False,
    )
