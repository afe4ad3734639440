"""Times of an epoch: which phases are timed, how a part of an epoch is scaled, how the schedule adds up."""

from __future__ import annotations

import itertools

import pytest

from bench.certified import timing
from bench.certified.spec import Timing

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


def test_a_phase_that_the_schedule_lacks_is_not_timed(make_context: MakeContext) -> None:
    of = tiny().model_copy(update={"schedule": tiny().schedule.model_copy(update={"zero": 0, "milestones": ()})})
    outcome = timing.train(Timing(seed=0, of=of, repeats=1, steps=2), make_context(Timing(seed=0, of=of)))
    assert "seconds_zero" not in outcome.metrics
    assert outcome.metrics["seconds_ramp"] > 0 < outcome.metrics["seconds_final"]
