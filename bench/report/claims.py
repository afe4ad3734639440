"""What a claim's test says of the collected tables, at the looks of the scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench import exhibit, power, stats
from bench.exhibit import Claim
from bench.looks import Looks
from bench.report import chance, collect, coverage
from bench.stats import Finding
from bench.workflow.plan import Plan

if TYPE_CHECKING:
    import pandas as pd

Frames = Mapping[str, "tuple[pd.DataFrame, collect.Facts]"]
"""Exhibit -> its long frame and its facts."""

HUGE = 1e12
"""Stands for values that say nothing: a verdict that holds with them on either side does not rest on them."""


Key = tuple[str, str]
"""Exhibit and name of a claim."""


def findings(plan: Plan) -> dict[Key, Finding]:
    """The findings of all claims of a plan, without its estimates.

    Raises:
        UserError: an exhibit has not been collected.
    """
    read = {name: collect.read(plan, name) for name in plan.exhibits}
    every = {
        (name, claim.name): finding(plan, name, claim, read)
        for name in plan.exhibits
        for claim in exhibit.registry()[name].claims
        if claim.kind == "claim"
    }
    return {key: result for key, result in every.items() if result.verdict != "estimate"}


def looks_of(plan: Plan, name: str) -> Looks:
    """When claims of an exhibit may be decided."""
    return Looks(plan.suite.looks, plan.settings[name].first_seed)


def finding(plan: Plan, name: str, claim: Claim, read: Frames) -> Finding:
    """The finding of a claim; undecided where runs that it may need are missing, or say nothing.

    Args:
        plan: that the tables were collected for.
        name: exhibit of the claim.
        claim: the claim.
        read: all tables.
    """
    needed = (name, *claim.also)
    if why := _cannot_run(plan, needed, read, every_arm=claim.kind == "claim"):
        return stats.not_run(why)
    frames = {other: read[other][0] for other in needed}
    incomplete = any(read[other][1].missing or read[other][0].empty for other in needed)
    result = _of_frames(claim, name, frames, looks_of(plan, name), incomplete=incomplete)
    if claim.kind == "estimate" and result.verdict != "not run":
        return replace(result, verdict="estimate", tested=False)
    result = coverage.of_part(plan, name, claim, frames[name], result)
    if result.verdict not in stats.DECIDED:
        return _given_up(result, looks_of(plan, name))
    if doubts := _doubts(plan, claim, name, frames, result):
        return stats.undecided(result, doubts)
    end = plan.settings[name].first_seed + max(leaf.n for leaf in stats.leaves(result))
    for other in needed:
        facts = read[other][1]
        if any(seed < end for seed in facts.missing_seeds) or (facts.missing and not plan.suite.looks):
            return stats.undecided(result, f"missing: {len(facts.missing)} of {facts.runs} runs of {other}")
    return result


def _given_up(finding: Finding, looks: Looks) -> Finding:
    """Says of a claim that was looked at that it is not worth further seeds."""
    if not power.given_up(finding, looks):
        return finding
    n, last = max(leaf.n for leaf in stats.leaves(finding)), looks.at[-1]
    why = "after the last look" if n >= last else f"its chance of being decided by {last} is below {power.GIVE_UP:.0%}"
    return replace(finding, detail=f"{finding.detail}; given up at {n} seeds: {why}")


def _cannot_run(plan: Plan, needed: Sequence[str], read: Frames, *, every_arm: bool) -> str:
    """Why a claim cannot be judged at all, or ""."""
    absent = [name for name in needed if name not in read or len(read[name][1].missing) >= read[name][1].runs]
    if absent:
        return f"no run of {', '.join(absent)} is there"
    for name in needed if every_arm else ():
        if arms := read[name][1].missing_arms:
            return f"no run of {len(arms)} arms of {name} is there ({arms[0]}{', …' if len(arms) > 1 else ''})"
    first = {name: plan.settings[name].first_seed for name in needed}
    if len(set(first.values())) > 1:
        return f"seeds begin at {' and '.join(f'{seed} in {name}' for name, seed in first.items())}; give all one block"
    return ""


def _of_frames(claim: Claim, name: str, frames: Mapping[str, Any], looks: Looks, *, incomplete: bool) -> Finding:
    try:
        return stats.judged(claim.test(frames if claim.also else frames[name]), looks)
    except Exception as error:
        said = " ".join(str(error.args[0] if error.args else error).split())  # of a KeyError, without quotes
        # A test may ask for rows that this scale, or a run that is missing, leaves out; anything else is its own fault.
        if incomplete or isinstance(error, KeyError | IndexError):
            return stats.not_run(f"rows are missing: {said}")
        return stats.not_run(f"its test failed with {type(error).__name__}: {said}")


def _doubts(plan: Plan, claim: Claim, name: str, frames: Mapping[str, pd.DataFrame], finding: Finding) -> str:
    """Which values say nothing although the verdict rests on them, or ""."""
    doubts = {
        other: chance.doubts(frame, exhibit.registry()[other], plan.settings[other]) for other, frame in frames.items()
    }
    texts = sorted({text for column in doubts.values() for text in column if text})
    for extreme in (-HUGE, HUGE) if texts else ():
        changed = {
            other: frame.assign(value=frame["value"].mask(doubts[other] != "", extreme))
            for other, frame in frames.items()
        }
        repeated = _of_frames(claim, name, changed, looks_of(plan, name), incomplete=True)
        if repeated.verdict != finding.verdict:
            return "; ".join(texts)
    return ""
