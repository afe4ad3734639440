"""Further seeds: spent where they decide most, counted once, within the hours, and gone on with after a stop."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from bench import config, exhibit, record, stats
from bench.errors import UserError
from bench.exhibit import Claim, by_seed
from bench.report import claims, collect, reference
from bench.workflow import decide, execute
from bench.workflow import plan as planning
from bench.workflow.decide import Open
from bench.workflow.plan import Plan

Made = Callable[..., Plan]
TABLE, CURVE = "invented/distance", "invented/curve"
SCALE = {"first_seed": 0, "looks": [5, 10, 20]}


def open_claim(chances: dict[int, float], *exhibits: str, given_up: bool = False) -> Open:
    return Open((exhibits[0], "D"), exhibits, chances, given_up)


@pytest.fixture
def plan(made: Made, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Five seeds of the invented paper, of which each run costs an hour."""
    monkeypatch.setattr(decide.Costs, "hours", lambda self, specs: float(len(list(specs))))
    return made(common={"seeds": 5}, scale=SCALE)


def test_costs_are_those_of_the_records(made: Made) -> None:
    plan = made()
    costs, walks = decide.Costs(plan), [run.spec for run in plan.runs.values() if run.spec.kind == "invented/walk"]
    seconds = [record.read(plan.layout.record(run.key)).provenance["seconds"] for run in plan.runs.values()]
    assert 0 < costs.hours(walks) <= sum(seconds) / 3600
    unknown = walks[0].model_copy(update={"steps": 1_000_000})
    assert costs.hours([unknown]) > costs.hours(walks)  # an estimate


def test_a_step_is_the_one_with_the_most_decisions_for_an_hour(plan: Plan) -> None:
    """The table's runs have parents and cost more."""
    table, curve = open_claim({10: 0.5, 20: 0.9}, TABLE), open_claim({10: 0.5, 20: 0.9}, CURVE)
    found = decide.steps(plan, [table, curve], 1e9)
    assert [dict(step.seeds) for step in found] == [{CURVE: 10}, {CURVE: 20}, {TABLE: 10}, {TABLE: 20}]
    assert [step.decisions for step in found] == pytest.approx([0.5, 0.4, 0.5, 0.4])
    better = decide.steps(plan, [open_claim({10: 0.9, 20: 0.99}, TABLE), open_claim({10: 1e-6, 20: 2e-6}, CURVE)], 1e9)
    assert list(better[0].seeds) == [TABLE]


def test_runs_that_exhibits_share_are_paid_once(plan: Plan) -> None:
    """The curve shows the parents of the table's runs."""
    (first, second) = decide.steps(plan, [open_claim({10: 0.9}, TABLE), open_claim({10: 1e-6}, CURVE)], 1e9)
    assert list(first.seeds) == [TABLE] and first.hours > 0
    assert list(second.seeds) == [CURVE] and second.hours == 0


def test_a_claim_of_two_exhibits_takes_seeds_of_both(plan: Plan) -> None:
    (step, *_) = decide.steps(plan, [open_claim({10: 0.5}, TABLE, CURVE)], 1e9)
    assert dict(step.seeds) == {TABLE: 10, CURVE: 10} and step.decisions == pytest.approx(0.5)


def test_steps_stop_at_the_hours_and_take_what_still_can_be_paid(plan: Plan) -> None:
    chances = [open_claim({10: 0.5, 20: 0.9}, TABLE), open_claim({10: 0.001, 20: 0.002}, CURVE)]
    whole = decide.steps(plan, chances, 1e9)
    some = decide.steps(plan, chances, whole[0].hours * 1.01)
    assert sum(step.hours for step in some) <= whole[0].hours * 1.01 and len(some) < len(whole)
    small = decide.steps(plan, chances, whole[0].hours / 2)
    assert all(list(step.seeds) == [CURVE] for step in small)
    assert decide.steps(plan, chances, 0.0) == []


def test_what_is_given_up_takes_no_seeds_and_counts_where_others_bring_it(plan: Plan) -> None:
    hopeless = open_claim({10: 0.1, 20: 0.2}, TABLE, given_up=True)
    assert decide.steps(plan, [hopeless], 1e9) == []
    (step, *_) = decide.steps(plan, [hopeless, open_claim({10: 0.5}, TABLE)], 1e9)
    assert step.decisions == pytest.approx(0.6)


@pytest.mark.parametrize("hours", [0.0, -1.0, math.nan, math.inf])
def test_hours_of_nothing_are_refused(hours: float) -> None:
    with pytest.raises(UserError, match="expected core-hours, more than 0"):
        decide.check_hours(hours)


def test_a_scale_without_looks_is_refused(made: Made) -> None:
    plan = made(train=False)
    with pytest.raises(UserError, match="declares no looks"):
        decide.decide(plan.source, [], 1.0, judge=claims.findings, train=lambda names: 0)


def train_here(source: str) -> Callable[[Sequence[str]], int]:
    def train(names: Sequence[str]) -> int:
        plan = planning.make(config.load(source), names, source=source)
        execute.run_all(plan, plan.to_train(), tell=lambda text: None)
        plan = planning.make(config.load(source), names, source=source)
        for name in plan.exhibits:
            collect.collect(plan, name)
        return 0

    return train


@pytest.fixture
def near(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Claims on one arm that lie three and no standard errors from their thresholds, besides one that is decided."""
    frame, _ = collect.read(plan, TABLE)
    mean, low, high = stats.interval(by_seed(frame, "distance", x=0.1))
    assert low is not None and high is not None
    error = (high - low) / 2 / 2.776

    def above(threshold: float) -> Callable[[Any], stats.Finding]:
        return lambda frame: stats.above(by_seed(frame, "distance", x=0.1), threshold)

    known = exhibit.registry()
    added = (
        Claim("NEAR", "far enough", "here", above(mean - 3 * error)),
        Claim("AT", "at its threshold", "here", above(mean)),
    )
    monkeypatch.setitem(known, TABLE, replace(known[TABLE], claims=(*known[TABLE].claims, *added)))
    return plan


def test_seeds_are_spent_where_they_decide_and_what_came_of_it_is_told(near: Plan) -> None:
    assert "given up at 5 seeds" in claims.findings(near)[TABLE, "AT"].detail
    said: list[str] = []
    code = decide.decide(near.source, [], 1e6, judge=claims.findings, train=train_here(near.source), tell=said.append)
    assert code == 0
    assert said[0].startswith("2 of 3 claims open, 1 of them given up") and "expected to decide" in said[0]
    assert said[1].startswith(f"next: 5 seeds of {TABLE} (to 10)") and "expected" in said[1]
    assert said[2].startswith("decided ") and "nothing more to expect" in said[-1]
    rounds = json.loads(near.layout.decisions.read_text())
    assert rounds[0]["seeds"] == {TABLE: 10} and f"{TABLE} AT" in rounds[0]["given_up"]
    again = planning.make(near.suite, source=near.source)
    assert again.settings[TABLE].seeds >= 10 and again.settings[CURVE].seeds == 5
    assert decide.spent(again) > 0 and decide.spent(near) == 0


def test_a_dry_run_trains_nothing(near: Plan) -> None:
    said: list[str] = []

    def train(names: Sequence[str]) -> int:
        raise AssertionError("trained")

    assert decide.decide(near.source, [], 1e6, judge=claims.findings, train=train, dry_run=True, tell=said.append) == 0
    assert len(said) > 1 and f"5 seeds of {TABLE} (to 10)" in said[1] and not near.layout.seeds.exists()


def test_a_stopped_call_goes_on_and_counts_what_was_spent(near: Plan) -> None:
    train, calls = train_here(near.source), []

    def stops(names: Sequence[str]) -> int:
        calls.append(list(names))
        return train(names) if len(calls) == 1 else 1

    assert decide.decide(near.source, [], 1e6, judge=claims.findings, train=stops, tell=lambda text: None) == 1
    assert json.loads(near.layout.seeds.read_text()) == {TABLE: 10}
    stopped = planning.make(near.suite, source=near.source)
    assert len(stopped.to_train()) == 25 and decide.spent(stopped) == 0
    said: list[str] = []
    assert decide.decide(near.source, [], 1e-9, judge=claims.findings, train=train, tell=said.append) == 0
    # The seeds that had been promised are there; they have used up the hours.
    assert not planning.make(near.suite, source=near.source).to_train()
    assert len(said) == 1 and "nothing more to expect" in said[0]


def test_the_rounds_stand_beside_the_reference(near: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("BENCH_REFERENCE", str(tmp_path / "reference"))
    decide.decide(near.source, [], 1e6, judge=claims.findings, train=train_here(near.source), tell=lambda text: None)
    reference.replace(planning.make(near.suite, source=near.source), why="decided")
    assert (tmp_path / "reference" / "toy" / "decisions.json").read_text() == near.layout.decisions.read_text()
    assert reference.seeds("toy")[TABLE] >= 10
