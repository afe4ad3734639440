"""Times of an epoch: which phases are timed, how a part of an epoch is scaled, how the schedule adds up."""

from __future__ import annotations

import itertools

import pytest
from pydantic import ValidationError

from bench.certified import timing
from bench.certified.spec import Timing
from bench.certified.turns import Turns

from .conftest import MakeContext, tiny


@pytest.mark.parametrize("steps", [None, 2])
def test_epochs_of_each_phase_are_timed_and_summed_over_the_schedule(
    steps: int | None, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock that ticks a second at each look, an epoch takes one; a part of it is scaled to all its steps."""
    spec = Timing(seed=0, of=tiny(), repeats=2, steps=steps)
    ticks = itertools.count()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(ticks)))
    outcome = timing.train(spec, make_context(spec))
    whole = spec.of.steps_per_epoch()
    scale = whole / (steps or whole)
    schedule = spec.of.schedule
    assert outcome.series["epochs"]["phase"] == [name for name in ("zero", "ramp", "final") for _ in range(2)]
    assert outcome.series["epochs"]["repeat"] == [0, 1] * 3
    assert outcome.metrics["seconds_ramp"] >= scale
    assert outcome.metrics["seconds_total"] == pytest.approx(
        sum(getattr(schedule, name) * outcome.metrics[f"seconds_{name}"] for name in ("zero", "ramp", "final"))
    )
    assert outcome.costs["samples"] == 3 * 3 * (steps or whole) * spec.of.batch_size


def test_what_is_compared_takes_turns(make_context: MakeContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretches of the trainings follow each other, and those that warm up do not count."""
    names, repeats, phases = ("first", "second"), 5, ("zero", "ramp", "final")
    spec = Turns(seed=0, names=names, of=(Timing(seed=0, of=tiny(), repeats=repeats, steps=2),) * 2)
    calls: list[tuple[timing.Stopwatch, str]] = []

    def stretch(watch: timing.Stopwatch, phase: str) -> float:
        calls.append((watch, phase))
        number = (len(calls) - 1) // 2 % (repeats + 1)
        return 100.0 if number == 0 else number if watch is calls[0][0] else 2.0 * number

    monkeypatch.setattr(timing.Stopwatch, "stretch", stretch)
    outcome = timing.train(spec, make_context(spec))
    watches = [watch for watch, _ in calls]
    assert watches == [watches[0], watches[1]] * (3 * (repeats + 1))
    assert [phase for _, phase in calls] == [phase for phase in phases for _ in range(2 * (repeats + 1))]
    assert outcome.series["epochs"]["name"] == [*names] * (3 * repeats)
    schedule = tiny().schedule
    for name, seconds in zip(names, (3.0, 6.0), strict=True):
        assert {outcome.metrics[f"seconds_{phase}_{name}"] for phase in phases} == {seconds}
        assert outcome.metrics[f"seconds_total_{name}"] == seconds * schedule.epochs


@pytest.mark.parametrize(("names", "repeats"), [(("same", "same"), (1, 1)), (("one",), (1, 1)), (("a", "b"), (1, 2))])
def test_turns_that_cannot_be_told_apart_or_end_apart_are_refused(
    names: tuple[str, ...], repeats: tuple[int, ...]
) -> None:
    of = tuple(Timing(seed=0, of=tiny(), repeats=number, steps=2) for number in repeats)
    with pytest.raises(ValidationError):
        Turns(seed=0, names=names, of=of)


def test_a_phase_that_the_schedule_lacks_is_not_timed(make_context: MakeContext) -> None:
    of = tiny().model_copy(update={"schedule": tiny().schedule.model_copy(update={"zero": 0, "milestones": ()})})
    outcome = timing.train(Timing(seed=0, of=of, repeats=1, steps=2), make_context(Timing(seed=0, of=of)))
    assert "seconds_zero" not in outcome.metrics
    assert outcome.metrics["seconds_ramp"] > 0 < outcome.metrics["seconds_final"]
