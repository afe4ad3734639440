"""Whether code or a machine has lost an effect: the claims that the reference reproduced, beside the same claims now.

An alarm is raised where a claim now has the verdict "not reproduced", or where its effect has shrunk against the reference's
own values beyond chance: 1 % over all claims together (Holm 1979). It fails only when five further seeds confirm it. A claim
that slid to "undecided" is told and does not fail: rounding alone is another draw of a seed's noise.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench import config, exhibit, stats
from bench.errors import UserError
from bench.finding import without_difference
from bench.looks import Looks
from bench.report import claims, reference
from bench.report.claims import Key
from bench.stats import Finding
from bench.workflow import plan as planning
from bench.workflow import reproduce
from bench.workflow.plan import Plan

if TYPE_CHECKING:
    import numpy as np

LEVEL = 0.01
"""Chance of an alarm over all claims together where nothing has changed."""
SLACK = 0.1
"""Share of an effect whose loss is no matter: a test of exactly 0 would find every shift of rounding."""
SEEDS = 5
"""Seeds that are compared, and as many further ones that confirm an alarm."""


@dataclass(frozen=True)
class Alarm:
    """A claim whose effect may have been lost.

    Attributes:
        key: exhibit and name of the claim.
        why: for people.
        sure: whether further seeds are not needed, since there is nothing that they could show.
    """

    key: Key
    why: str
    sure: bool = False


def shrunk(before: np.ndarray, after: np.ndarray, *, paired: bool) -> np.ndarray:
    """One-sided p value of the hypothesis that at least 1 - `SLACK` of an effect is left.

    Args:
        before: distances from the threshold into the claimed region, (..., seeds).
        after: the same of the new runs, (..., seeds); of the same seeds in the same order when `paired`.
        paired: whether a seed that is trained again gives nearly the same value; otherwise Welch's test.
    """
    import numpy as np
    from scipy.special import stdtr

    kept = (1 - SLACK) * before
    if paired:
        loss = after - kept
        error, degrees = loss.std(-1, ddof=1) / math.sqrt(loss.shape[-1]), np.asarray(loss.shape[-1] - 1.0)
        mean = loss.mean(-1)
    else:
        a, b = (values.var(-1, ddof=1) / values.shape[-1] for values in (after, kept))
        error, mean = np.sqrt(a + b), after.mean(-1) - kept.mean(-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            degrees = (a + b) ** 2 / (a**2 / (after.shape[-1] - 1) + b**2 / (kept.shape[-1] - 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        p = stdtr(degrees, mean / error)
    return np.where(error > 0, p, np.where(mean < 0, 0.0, 1.0))


def shrinkage(before: Finding, after: Finding, *, paired: bool) -> float:
    """p value of a claim's effect having shrunk; 1 where its tests cannot be compared."""
    if len(before.parts) != len(after.parts):
        return 1.0
    if before.rule == "average":
        return shrinkage(before.parts[0], after.parts[0], paired=paired)
    if before.parts:
        pairs = zip(before.parts, after.parts, strict=True)
        parts = [shrinkage(old, new, paired=paired) for old, new in pairs if _reproduces(old)]
        if not parts:
            return 1.0
        return max(parts) if before.rule == "one" else min(1.0, len(parts) * min(parts))
    old, new = _distances(before), _distances(after)
    if old is None or new is None or not _reproduces(before):
        return 1.0
    if _equal(after):  # two arms that do the same now, as when a method has been switched off
        return 0.0
    shared = sorted(set(old) & set(new))
    if paired and len(shared) > 1:
        old, new = ({seed: values[seed] for seed in shared} for values in (old, new))
    if min(len(old), len(new)) < 2:
        return 1.0
    import numpy as np

    return float(shrunk(np.array([*old.values()]), np.array([*new.values()]), paired=paired and len(shared) > 1))


def _reproduces(finding: Finding) -> bool:
    return finding.verdict == "reproduced"


def _distances(finding: Finding) -> dict[int, float] | None:
    """Seed -> distance from the threshold into a region with one end; ``None`` for other regions, and without numbers."""
    tested = finding.hypothesis
    if tested is None or math.isfinite(tested.low) == math.isfinite(tested.high):
        return None
    if math.isfinite(tested.low):
        values = {seed: value - tested.low for seed, value in tested.values.items()}
    else:
        values = {seed: tested.high - value for seed, value in tested.values.items()}
    return dict(sorted(values.items())) if all(map(math.isfinite, values.values())) else None


def _equal(finding: Finding) -> bool:
    tested = finding.hypothesis
    return tested is not None and not tested.exact and without_difference(tested, tested.values)


def holm(p: Mapping[Key, float], level: float = LEVEL) -> list[Key]:
    """The hypotheses that are rejected at a level over all of them together (Holm 1979)."""
    rejected: list[Key] = []
    for number, (key, value) in enumerate(sorted(p.items(), key=lambda item: item[1])):
        if value > level / (len(p) - number):
            break
        rejected.append(key)
    return rejected


def of_seeds(finding: Finding, seeds: Collection[int], looks: Looks) -> Finding:
    """The finding of some of the seeds alone."""

    def of_part(part: Finding) -> Finding:
        tested = part.hypothesis
        if tested is not None:
            values = {seed: value for seed, value in tested.values.items() if seed in seeds}
            part = replace(part, hypothesis=replace(tested, values=values))
        return replace(part, parts=tuple(map(of_part, part.parts)))

    return stats.judged(of_part(finding), looks)


def alarms(before: Mapping[Key, Finding], after: Mapping[Key, Finding], chaotic: Collection[str] = ()) -> list[Alarm]:
    """Claims whose effect is gone, or has shrunk beyond chance.

    Args:
        before: claims that the reference reproduced.
        after: the same claims now.
        chaotic: exhibits in which the same seed trained again is a new draw, so that seeds are not paired.
    """
    raised: dict[Key, Alarm] = {}
    p = {}
    for key, old in before.items():
        new = after.get(key)
        if new is None or new.verdict == "not run":
            raised[key] = Alarm(key, f"is not run: {'it is not judged' if new is None else new.detail}", sure=True)
            continue
        p[key] = shrinkage(old, new, paired=key[0] not in chaotic)
        if new.verdict == "not reproduced":
            raised[key] = Alarm(key, f"is not reproduced ({new.detail})")
    for key in holm(p):
        raised.setdefault(key, Alarm(key, f"has shrunk (p = {p[key]:.2g}: {after[key].detail})"))
    return list(raised.values())


@dataclass(frozen=True)
class Comparison:
    """What a comparison with the reference found.

    Attributes:
        claims: number of claims that the reference reproduced.
        alarms: of the first seeds.
        confirmed: those that further seeds confirmed, or that need none.
        waiting: those whose further seeds are not there yet.
        slid: claims that are undecided now, which is no alarm.
    """

    claims: int
    alarms: list[Alarm]
    confirmed: list[Alarm]
    waiting: list[Alarm]
    slid: list[Key]


def _reproduced(plan: Plan) -> dict[Key, Finding]:
    """The claims that the reference reproduced."""
    return {
        key: finding for key, finding in claims.findings(reference.as_results(plan)).items() if _reproduces(finding)
    }


def compare(plan: Plan, after: Mapping[Key, Finding]) -> Comparison:
    """Compares the claims of a plan with those of the reference of its scale.

    Args:
        plan: of the scale.
        after: findings of its claims.

    Raises:
        UserError: the scale has no reference.
    """
    before = _reproduced(plan)
    chaotic = {name for name in plan.exhibits if exhibit.registry()[name].chaotic}
    first, further = ({key: _block(plan, key, finding, number) for key, finding in after.items()} for number in (0, 1))
    raised = alarms(before, first, chaotic)
    doubtful = [alarm for alarm in raised if not alarm.sure]
    waiting = [alarm for alarm in doubtful if plan.suite.looks and not _complete(further[alarm.key])]
    doubted = {alarm.key: before[alarm.key] for alarm in doubtful if alarm not in waiting}
    # Where no looks are declared there are no further seeds: the alarm is all that there is.
    sure = set(doubted) if not plan.suite.looks else {alarm.key for alarm in alarms(doubted, further, chaotic)}
    return Comparison(
        claims=len(before),
        alarms=raised,
        confirmed=[alarm for alarm in raised if alarm.sure or alarm.key in sure],
        waiting=waiting,
        slid=[key for key in before if key in first and first[key].verdict == "undecided"],
    )


def _block(plan: Plan, key: Key, finding: Finding, number: int) -> Finding:
    """The finding of the first five seeds, or of the five further ones; of all where no looks are declared."""
    if not plan.suite.looks or not any(leaf.hypothesis for leaf in stats.leaves(finding)):
        return finding
    begin = plan.settings[key[0]].first_seed + number * SEEDS
    return of_seeds(finding, range(begin, begin + SEEDS), Looks(plan.suite.looks, begin))


def _complete(finding: Finding) -> bool:
    tested = [leaf.hypothesis for leaf in stats.leaves(finding)]
    return all(hypothesis is None or len(hypothesis.values) >= SEEDS for hypothesis in tested)


def tell(comparison: Comparison) -> int:
    """Prints what a comparison found and returns an exit code: 1 where an effect was lost, or that is not known yet."""
    print(
        f"reference: {comparison.claims} claims are reproduced there; {len(comparison.confirmed)} of them were lost here, "
        f"{len(comparison.slid)} are undecided here"
    )
    for alarm in comparison.alarms:
        word = (
            "REGRESSION"
            if alarm in comparison.confirmed
            else "ALARM"
            if alarm in comparison.waiting
            else "not confirmed:"
        )
        more = f"; {SEEDS} further seeds will tell (`make regress` trains them)" if alarm in comparison.waiting else ""
        print(f"{word} {' '.join(alarm.key)} {alarm.why}{more}", file=sys.stderr)
    return 1 if comparison.confirmed or comparison.waiting else 0


def regress(scale: str, names: Sequence[str] = (), *, profile: str = "local", budget: float | None = None) -> int:
    """Trains what the reference reproduced, and confirms alarms on five further seeds; returns an exit code.

    Args:
        scale: name or path.
        names: exhibits or papers; all when empty.
        profile: of Snakemake.
        budget: hours of machine time that are allowed.

    Raises:
        UserError: the scale has no reference, or none of these claims is reproduced in it.
    """
    whole = planning.make(config.load(scale), names, source=scale)
    wanted = _with_others(_reproduced(whole))
    if not wanted:
        raise UserError(
            f"{reference.folder(whole.suite.scale)}: reproduces none of these claims at the present settings; there is "
            "nothing to lose"
        )
    code = reproduce.reproduce(scale, wanted, profile=profile, budget=budget)
    comparison = _now(scale, wanted) if code == 0 else None
    if comparison is not None and comparison.waiting:
        more = _with_others(alarm.key for alarm in comparison.waiting)
        planning.give_seeds(whole, dict.fromkeys(more, 2 * SEEDS))
        print(f"{len(comparison.waiting)} alarms; training {SEEDS} further seeds of {', '.join(more)}", flush=True)
        code = reproduce.reproduce(scale, wanted, profile=profile, budget=budget)
        comparison = _now(scale, wanted) if code == 0 else None
    return code if comparison is None else tell(comparison)


def _now(scale: str, names: Sequence[str]) -> Comparison:
    plan = planning.make(config.load(scale), names, source=scale)
    return compare(plan, claims.findings(plan))


def _with_others(keys: Iterable[Key]) -> list[str]:
    """The exhibits of claims, and those whose rows they need besides."""
    known = exhibit.registry()
    also = {(name, claim.name): claim.also for name, of_part in known.items() for claim in of_part.claims}
    return list(dict.fromkeys(name for key in keys for name in (key[0], *also[key])))
