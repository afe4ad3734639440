"""Further seeds where they decide most: for each core-hour, the exhibits whose open claims are most likely to be decided.

Which claim gets seeds may depend on results; a claim is looked at only at the declared looks, so that its error stays what
it is. All is read from the records: the budget counts what all calls together have spent beyond the seeds of the scale
file, so that a call that was interrupted goes on, and one that is repeated spends nothing twice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from bench import checkpoint, config, exhibit, power, record, words
from bench.errors import UserError
from bench.finding import DECIDED, Finding
from bench.looks import Looks
from bench.run import RunSpec
from bench.workflow import plan as planning
from bench.workflow.plan import Plan

Key = tuple[str, str]
"""Exhibit and name of a claim."""
Judge = Callable[[Plan], Mapping[Key, Finding]]
"""Gives the findings of a plan's claims, from its collected tables."""
Train = Callable[[Sequence[str]], int]
"""Trains and collects exhibits, all when empty; returns an exit code."""

SHARE = 0.25
"""Of the hours that are left, what one round may take before the claims are judged again."""


@dataclass(frozen=True)
class Open:
    """A claim that is not decided.

    Attributes:
        key: exhibit and name.
        exhibits: those whose rows it needs.
        chances: look -> chance of being decided by it.
        given_up: whether it is not worth seeds of its own.
    """

    key: Key
    exhibits: tuple[str, ...]
    chances: Mapping[int, float]
    given_up: bool


@dataclass(frozen=True)
class Step:
    """Exhibits that are brought to their next look.

    Attributes:
        seeds: exhibit -> number of its seeds.
        hours: core-hours of the runs that this takes, those of earlier steps not counted again.
        decisions: expected number of claims that it decides.
    """

    seeds: Mapping[str, int]
    hours: float
    decisions: float


class Costs:
    """Core-hours of runs: measured ones of the same configuration, or the estimate."""

    def __init__(self, plan: Plan):
        self._kind = plan.machine
        self._threads = plan.suite.threads if self._kind == "cpu" else 1
        measured: dict[str, list[float]] = {}
        for run in plan.runs.values():
            path = plan.layout.record(run.used)
            if path.exists():
                seconds = float(record.read(path).provenance.get("seconds", 0.0))
                measured.setdefault(run.spec.group, []).append(self._threads * seconds / 3600)
        self._measured = {group: sum(hours) / len(hours) for group, hours in measured.items()}

    def hours(self, specs: Iterable[RunSpec]) -> float:
        return sum(self._of(spec) for spec in specs)

    def _of(self, spec: RunSpec) -> float:
        known = self._measured.get(spec.group)
        if known is not None:
            return known
        cores = 2 if self._kind == "cpu" else 1  # of the machine that estimates are for
        return cores * planning.hours(spec.cost(), self._kind)


class Runs:
    """The runs of an exhibit with any number of seeds, parents included."""

    def __init__(self, plan: Plan):
        self._plan = plan
        self.of = lru_cache(maxsize=None)(self._of)

    def _of(self, name: str, seeds: int) -> dict[str, RunSpec]:
        plan = planning.make(self._plan.suite, [name], layout=self._plan.layout, more={name: seeds})
        return {run.spec.identity: run.spec for run in plan.runs.values()}


def open_claims(plan: Plan, findings: Mapping[Key, Finding]) -> list[Open]:
    """The claims that are undecided and have a look before them."""
    also = {(name, claim.name): claim.also for name in plan.exhibits for claim in exhibit.registry()[name].claims}
    found = []
    for key, finding in findings.items():
        looks = Looks(plan.suite.looks, plan.settings[key[0]].first_seed)
        if finding.verdict == "undecided" and (chances := power.chances(finding, looks)):
            found.append(Open(key, (key[0], *also[key]), chances, power.given_up(finding, looks)))
    return found


def steps(plan: Plan, claims: Sequence[Open], hours: float) -> list[Step]:
    """What to train, in order: always the step with the most expected decisions for each core-hour that can be paid.

    Args:
        plan: with the seeds that are there.
        claims: the open ones; those given up count where other claims bring their runs to a look.
        hours: that may be spent.
    """
    runs, costs = Runs(plan), Costs(plan)
    seeds = {name: settings.seeds for name, settings in plan.settings.items()}
    have = {run.spec.identity for run in plan.runs.values()}
    found: list[Step] = []
    while True:
        best: tuple[float, dict[str, int]] | None = None
        for target in _targets(claims, seeds, plan.suite.looks):
            gain = sum(_gain(claim, seeds, target) for claim in claims)
            cost = costs.hours(_new(runs, target, have).values())
            first = {name: _next(plan.suite.looks, seeds[name]) for name in target}
            if gain > 0 and costs.hours(_new(runs, first, have).values()) <= hours:
                rate = gain / max(cost, 1e-9)
                if best is None or rate > best[0]:
                    best = rate, first
        if best is None:
            return found
        new = _new(runs, best[1], have)
        step = Step(best[1], costs.hours(new.values()), sum(_gain(claim, seeds, best[1]) for claim in claims))
        found.append(step)
        hours -= step.hours
        have |= set(new)
        seeds |= best[1]


def _targets(claims: Sequence[Open], seeds: Mapping[str, int], looks: Sequence[int]) -> list[dict[str, int]]:
    """The sets of exhibits that a claim needs at a later look; a step goes towards one of them."""
    wanted: dict[tuple[tuple[str, int], ...], None] = {}
    for claim in claims:
        for n in looks if not claim.given_up else ():
            target = {name: n for name in claim.exhibits if seeds[name] < n}
            if target:
                wanted[tuple(sorted(target.items()))] = None
    return [dict(target) for target in wanted]


def _next(looks: Sequence[int], seeds: int) -> int:
    return next(n for n in looks if n > seeds)


def _new(runs: Runs, target: Mapping[str, int], have: Iterable[str]) -> dict[str, RunSpec]:
    """Identity -> run, of those that a target takes beside the ones that are there or planned."""
    known = set(have)
    whole = {identity: spec for name, n in target.items() for identity, spec in runs.of(name, n).items()}
    return {identity: spec for identity, spec in whole.items() if identity not in known}


def _gain(claim: Open, seeds: Mapping[str, int], target: Mapping[str, int]) -> float:
    """Chance that a claim is decided by the looks that a step brings it to."""
    before = min(seeds[name] for name in claim.exhibits)
    after = min(target.get(name, seeds[name]) for name in claim.exhibits)

    def by(n: int) -> float:
        return max((chance for look, chance in claim.chances.items() if look <= n), default=0.0)

    return by(after) - by(before)


def spent(plan: Plan) -> float:
    """Core-hours of the records of seeds beyond those of the scale file."""
    plain = planning.make(plan.suite, list(plan.exhibits), source=plan.source, layout=plan.layout, more={})
    costs = Costs(plan)
    return costs.hours(
        run.spec
        for run in plan.runs.values()
        if run.spec.identity not in plain.key_by_identity and plan.layout.record(run.used).exists()
    )


def check_hours(hours: float) -> None:
    """Raises `UserError` for a budget of nothing or of no number."""
    if not (math.isfinite(hours) and hours > 0):
        raise UserError(f"{hours:g} hours to decide claims with: expected core-hours, more than 0, e.g. 0.5")


def decide(
    scale: str,
    names: Sequence[str],
    hours: float | None,
    *,
    judge: Judge,
    train: Train,
    dry_run: bool = False,
    tell: Callable[[str], None] = print,
) -> int:
    """Trains further seeds until the hours are spent or nothing more can be expected; returns an exit code.

    Args:
        scale: name or path.
        names: exhibits or papers, all when empty.
        hours: core-hours, measured ones, of all calls together; without a limit where ``None``.
        judge: gives the findings of the claims.
        train: trains and collects.
        dry_run: only print what would be trained, and what it is expected to decide.
        tell: gets a line for each step.

    Raises:
        UserError: no looks are declared, or the hours are not more than 0.
    """
    if hours is not None:
        check_hours(hours)
    suite = config.load(scale)
    if not suite.looks:
        raise UserError(f"scale {suite.scale}: declares no looks; its number of seeds is fixed beforehand")
    if not dry_run and (code := train(names)) != 0:
        return code
    while True:
        plan = planning.make(suite, names, source=scale)
        before = judge(plan)
        claims, left = open_claims(plan, before), math.inf if hours is None else hours - spent(plan)
        planned = steps(plan, claims, left)
        tell(_summary(before, claims, planned, left))
        if dry_run:
            for step in planned:
                tell(f"  {_text(step, plan)}")
        if dry_run or not planned:
            return 0
        batch = _round(planned, left)
        tell(f"next: {_text(batch, plan)}")
        planning.give_seeds(plan, batch.seeds)
        if (code := train(list(batch.seeds))) != 0:
            return code
        plan = planning.make(suite, names, source=scale)
        after = judge(plan)
        _tell_result(plan, batch, before, after, tell)


def _round(planned: Sequence[Step], left: float) -> Step:
    """The first steps together that one round trains, each exhibit to its next look."""
    seeds: dict[str, int] = {}
    hours = decisions = 0.0
    for step in planned:
        if seeds and (hours + step.hours > SHARE * left or set(seeds) & set(step.seeds)):
            break
        seeds |= step.seeds
        hours, decisions = hours + step.hours, decisions + step.decisions
    return Step(seeds, hours, decisions)


def _summary(findings: Mapping[Key, Finding], claims: Sequence[Open], planned: Sequence[Step], left: float) -> str:
    hopeless = sum(claim.given_up for claim in claims)
    undecided = sum(finding.verdict == "undecided" for finding in findings.values())
    expected, cost = sum(step.decisions for step in planned), sum(step.hours for step in planned)
    parts = [f"{undecided} of {len(findings)} claims open"]
    parts += [f"{hopeless} of them given up"] if hopeless else []
    parts += [f"{left:.2f} core-hours left"] if math.isfinite(left) else []
    parts += [f"{cost:.2f} core-hours are expected to decide {expected:.1f}" if planned else "nothing more to expect"]
    return ", ".join(parts)


def _text(step: Step, plan: Plan) -> str:
    seeds = ", ".join(f"{n - plan.settings[name].seeds} seeds of {name} (to {n})" for name, n in step.seeds.items())
    return f"{seeds}: {words.duration(3600 * step.hours)} of one core, expected {step.decisions:.1f} decisions"


def _tell_result(
    plan: Plan, step: Step, before: Mapping[Key, Finding], after: Mapping[Key, Finding], tell: Callable[[str], None]
) -> None:
    """Says and notes what came of a step."""
    new = {
        " ".join(key): finding.verdict
        for key, finding in after.items()
        if finding.verdict in DECIDED and before[key].verdict not in DECIDED
    }
    named = ", ".join(f"{key} {verdict}" for key, verdict in new.items())
    tell(f"decided {len(new)}, expected {step.decisions:.1f}" + (f": {named}" if named else ""))
    path = plan.layout.decisions
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    note = {
        "seeds": dict(step.seeds),
        "core_hours": round(step.hours, 4),
        "expected": round(step.decisions, 2),
        "decided": new,
        "given_up": [" ".join(claim.key) for claim in open_claims(plan, after) if claim.given_up],
    }
    checkpoint.write_text(path, json.dumps([*known, note], indent=1) + "\n")
