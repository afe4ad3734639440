"""Times of an epoch: which phases are timed, how a part of an epoch is scaled, how the schedule adds up."""

from __future__ import annotations

import itertools

import pytest
from pydantic import ValidationError

from bench.certified import timing
from bench.certified.spec import TimingComparison

from .conftest import MakeContext, tiny


@pytest.mark.parametrize("steps", [None, 2])
def test_epochs_of_each_phase_are_timed_and_summed_over_the_schedule(
    steps: int | None, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock that ticks a second at each look, an epoch takes one; a part of it is scaled to all its steps."""
    spec = TimingComparison(seed=0, names=("ours",), of=(tiny(),), repeats=2, steps=steps)
    ticks = itertools.count()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(ticks)))
    result = timing.train(spec, make_context(spec))
    (training,) = spec.of
    whole = training.steps_per_epoch()
    assert result.series["epochs"]["phase"] == [name for name in ("zero", "ramp", "final") for _ in range(2)]
    assert result.series["epochs"]["repeat"] == [0, 1] * 3
    assert result.metrics["seconds_ramp_ours"] >= whole / (steps or whole)
    assert result.metrics["seconds_total_ours"] == pytest.approx(
        sum(epochs * result.metrics[f"seconds_{name}_ours"] for name, epochs in training.schedule.lengths().items())
    )
    assert result.costs["samples"] == 3 * 3 * (steps or whole) * training.batch_size


def test_trainings_that_are_compared_alternate(make_context: MakeContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of the trainings follow each other, and those that warm up do not count."""
    names, repeats, phases = ("first", "second"), 5, ("zero", "ramp", "final")
    spec = TimingComparison(seed=0, names=names, of=(tiny(), tiny()), repeats=repeats, steps=2)
    calls: list[tuple[timing.Stopwatch, str]] = []

    def measure(watch: timing.Stopwatch, phase: str) -> float:
        calls.append((watch, phase))
        number = (len(calls) - 1) // 2 % (repeats + 1)
        return 100.0 if number == 0 else number if watch is calls[0][0] else 2.0 * number

    monkeypatch.setattr(timing.Stopwatch, "measure", measure)
    result = timing.train(spec, make_context(spec))
    watches = [watch for watch, _ in calls]
    assert watches == [watches[0], watches[1]] * (3 * (repeats + 1))
    assert [phase for _, phase in calls] == [phase for phase in phases for _ in range(2 * (repeats + 1))]
    assert result.series["epochs"]["name"] == [*names] * (3 * repeats)
    for name, seconds in zip(names, (3.0, 6.0), strict=True):
        assert {result.metrics[f"seconds_{phase}_{name}"] for phase in phases} == {seconds}
        assert result.metrics[f"seconds_total_{name}"] == seconds * tiny().schedule.epochs


@pytest.mark.parametrize("names", [("same", "same"), ("one",), ("a", "b", "c")])
def test_trainings_without_a_name_of_their_own_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="as many different names"):
        TimingComparison(seed=0, names=names, of=(tiny(), tiny()))


def test_a_phase_that_the_schedule_lacks_is_not_timed(make_context: MakeContext) -> None:
    schedule = tiny().schedule.model_copy(update={"zero": 0, "milestones": ()})
    spec = TimingComparison(seed=0, names=("ours",), of=(tiny(schedule=schedule),), repeats=1, steps=2)
    result = timing.train(spec, make_context(spec))
    assert "seconds_zero_ours" not in result.metrics
    assert result.metrics["seconds_ramp_ours"] > 0 < result.metrics["seconds_final_ours"]


def test_the_estimate_is_that_of_its_trainings() -> None:
    alone = TimingComparison(seed=0, names=("a",), of=(tiny(),), repeats=1, steps=2).cost()
    both = TimingComparison(seed=0, names=("a", "b"), of=(tiny(), tiny()), repeats=1, steps=2).cost()
    assert (both.amount, both.flops) == (2 * alone.amount, 2 * alone.flops)
    assert alone.memory_mb < both.memory_mb < 2 * alone.memory_mb
