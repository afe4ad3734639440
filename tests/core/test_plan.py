"""Caching: what trains again and what does not, shown on the invented paper."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench import config, exhibit, record
from bench.cli.main import main
from bench.report import plan_text as overview
from bench.workflow import execute, plan
from bench.workflow import planfile as workflow
from bench.workflow.plan import Plan


def make(scale: Path, **exhibits: dict) -> Plan:
    suite = config.load(str(scale))
    changed = {f"invented/{name}": settings for name, settings in exhibits.items()}
    return plan.make(suite.model_copy(update={"exhibits": changed}))


def train(made: Plan) -> execute.Tally:
    return execute.run_all(made, made.to_train(), tell=lambda text: None)


def test_shared_beginnings_are_planned_once(invented: Path) -> None:
    made = make(invented)
    # 3 seeds: one shared beginning, two continuations, two measurements each; the figure needs no run of its own.
    assert len(made.runs) == 3 * 5
    assert len(made.keys_of("invented/distance")) == 6
    assert next(iter(made.runs.values())).spec.parent_spec is None
    seen = set()
    for run in made.runs.values():
        assert run.spec.parent_spec is None or made.key(run.spec.parent_spec) in seen
        seen.add(run.key)


def test_more_seeds_train_only_the_new_ones(invented: Path) -> None:
    train(make(invented))
    five = make(invented, distance={"seeds": 5})
    assert sorted({run.spec.seed for run in five.to_train()}) == [3, 4]


def test_changing_one_run_trains_that_run(invented: Path) -> None:
    train(make(invented))
    made = make(invented, distance={"drifts": [0.1, 0.3]})
    todo = made.to_train()
    assert len(todo) == 6  # three continuations with the new drift and their measurements; the beginnings are there
    assert all("0.3" in run.spec.label() for run in todo)
    before = plan.make(config.load(str(invented)))
    curve = "invented/curve"
    assert made.keys_of(curve) == before.keys_of(curve)


def test_nothing_to_do_when_all_is_there(invented: Path) -> None:
    first = train(make(invented))
    assert len(first.trained) == 15
    assert make(invented).to_train() == []


def test_a_call_with_nothing_to_train_says_so(invented: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--scale", str(invented)]) == 0
    assert "nothing to train" not in capsys.readouterr().out
    assert main(["run", "--scale", str(invented)]) == 0
    assert capsys.readouterr().out.startswith("nothing to train")


def test_a_limit_below_one_run_is_refused(invented: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--scale", str(invented), "--limit", "-3"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: argument --limit: -3: expected a whole number from 1 on; see `")


def test_missing_parent_weights_are_made_again(invented: Path) -> None:
    made = make(invented)
    train(made)
    shutil.rmtree(made.layout.artefacts)
    assert make(invented).to_train() == []  # records are enough to draw
    more = make(invented, distance={"drifts": [0.1, 0.4]})
    labels = [run.spec.label() for run in more.to_train()]
    assert sum("distance" not in label and "0.4" not in label for label in labels) == 3  # the three beginnings
    assert "needed again" in next(run.why for run in more.to_train() if "0.4" not in run.spec.label())
    assert not train(more).failed


def test_older_code_is_accepted_only_where_the_scale_says_so(invented: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(make(invented))
    monkeypatch.setattr("bench.workflow.keys.fingerprint", lambda *modules: "0" * 8)
    strict = make(invented)
    assert len(strict.to_train()) == 15
    assert strict.to_train()[0].why == "the code that trains it has changed"
    suite = config.load(str(invented)).model_copy(update={"older_code": "accept"})
    kind = plan.make(suite)
    assert kind.to_train() == []
    assert {run.state for run in kind.runs.values()} == {"older code"}


def test_fields_at_their_default_leave_the_key_alone(invented: Path) -> None:
    plan.make(config.load(str(invented)))
    from bench_extra.walk import Walk

    assert Walk(seed=1).identity == Walk(seed=1, drift=0.1, steps=20).identity
    assert Walk(seed=1).identity != Walk(seed=1, drift=0.2).identity
    assert Walk(seed=1).identity != Walk(seed=2).identity
    assert Walk(seed=1).group == Walk(seed=2).group
    assert Walk(seed=1, parent=Walk(seed=1)).group == Walk(seed=2, parent=Walk(seed=2)).group
    assert Walk(seed=1, parent=Walk(seed=1)).identity != Walk(seed=1).identity


def test_batches_keep_families_together_and_hold_every_missing_run_once(invented: Path) -> None:
    made = make(invented)
    (batch,) = plan.batches(made)
    assert list(batch.keys) == sorted(batch.keys, key=list(made.runs).index) or len(set(batch.keys)) == 15
    order = {key: index for index, key in enumerate(batch.keys)}
    for run in made.runs.values():
        if run.spec.parent_spec is not None:
            assert order[made.key(run.spec.parent_spec)] < order[run.key]


def test_long_families_are_split_and_wait_for_their_parents(invented: Path) -> None:
    suite = config.load(str(invented)).model_copy(update={"job_minutes": 1e-9})
    batches = {batch.name: batch for batch in plan.batches(plan.make(suite))}
    assert len(batches) == 15
    assert sorted(len(batch.after) for batch in batches.values()) == [0] * 3 + [1] * 12
    assert all(name in batches for batch in batches.values() for name in batch.after)


@pytest.mark.parametrize("cores", [2, 4])
@pytest.mark.parametrize("exhibits", [["rewarm"], ["warmstart/table1", "warmstart/fig1", "warmstart/fig2"], None])
def test_jobs_are_made_so_that_all_cores_end_together(
    exhibits: list[str] | None, cores: int, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = config.load("ci")
    names = [name for name in exhibit.registry() if not exhibits or {name, name.split("/")[0]} & {*exhibits}]
    made = plan.make(suite, names)

    def end(jobs: list[plan.Batch]) -> float:
        busy = [0.0] * cores
        for job in sorted(jobs, key=lambda job: job.minutes, reverse=True):
            busy.sort()
            busy[0] += job.minutes
        return max(busy)

    chosen = plan.batches(made, cores=cores)
    monkeypatch.setattr(plan, "LONGER", ())
    as_set = plan.batches(made, cores=cores)
    assert sorted(key for job in chosen for key in job.keys) == sorted(key for job in as_set for key in job.keys)
    assert end(chosen) <= end(as_set)
    if cores == 2:
        assert end(chosen) < 1.07 * sum(job.minutes for job in chosen) / cores


def test_jobs_grow_where_there_would_be_too_many(invented: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MOST_JOBS", 5)
    suite = config.load(str(invented)).model_copy(update={"job_minutes": 1e-9})
    batches = plan.batches(plan.make(suite))
    assert len(batches) <= 5
    assert len({key for batch in batches for key in batch.keys}) == sum(len(batch.keys) for batch in batches) == 15


def test_a_run_that_measures_time_asks_for_the_whole_machine(invented: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {batch.whole_machine for batch in plan.batches(make(invented))} == {False}
    from bench_extra.walk import Walk

    monkeypatch.setattr(Walk, "whole_machine", True)
    made = make(invented)
    plan.freeze(made)
    frozen = workflow.PlanFile.read(str(made.layout.plan))
    assert frozen.share(frozen.content["batches"][0]["name"]) == workflow.WHOLE_MACHINE


def test_a_batch_that_misses_runs_again_is_not_done(invented: Path) -> None:
    made = make(invented)
    batch = plan.batches(made)[0]
    for name in (batch.name, "data", "0123456789ab"):
        marker = made.layout.marker(name)
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    plan.freeze(made)
    assert not made.layout.marker(batch.name).exists()
    assert made.layout.marker("data").exists() and made.layout.marker("0123456789ab").exists()


def test_budget_stops_before_a_day(invented: Path) -> None:
    made = make(invented, curve={"steps": 10**13})
    with pytest.raises(plan.UserError, match="allow it with BUDGET="):
        plan.check_budget(made, None, free_bytes=10**12)
    plan.check_budget(made, 1e12, free_bytes=10**12)
    with pytest.raises(plan.UserError, match="GB are free"):
        plan.check_budget(make(invented), None, free_bytes=10)


def test_a_failed_run_is_named_blocks_its_children_and_nothing_else(invented: Path) -> None:
    made = make(invented, distance={"failing_drift": 0.2})
    tally = train(made)
    assert len(tally.failed) == 6  # three walks and the three measurements that need them
    assert len(tally.trained) == 9
    why = [why for key, why in tally.failed.items() if made.runs[key].spec.trainer.endswith("walk")]
    assert all("failed at step 20: position is nan" in text for text in why)
    assert not any(made.layout.record(key).exists() for key in tally.failed)
    again = make(invented, distance={"failing_drift": 0.2})
    assert len(again.to_train()) == 6
    assert again.to_train()[0].why == "failed before"


def test_artefacts_are_pruned_by_policy(invented: Path) -> None:
    made = make(invented)
    train(made)
    nothing = plan.make(config.load(str(invented)).model_copy(update={"keep": "nothing"}))
    execute.prune(nothing)
    assert not list(made.layout.artefacts.rglob("*.safetensors"))
    assert make(invented).to_train() == []


def test_records_of_two_trainings_are_equal(invented: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(invented)
    train(made)
    monkeypatch.setenv("BENCH_RESULTS", str(tmp_path / "other"))
    other = make(invented)
    train(other)
    for key in made.runs:
        first, second = record.read(made.layout.record(key)), record.read(other.layout.record(key))
        assert first.results() == second.results()
        assert first.artefacts == second.artefacts


def test_a_departure_that_exhibits_share_is_said_once(invented: Path) -> None:
    shared = overview.as_text(make(invented, distance={"seeds": 4, "drifts": [0.1]}, curve={"seeds": 4}))
    assert shared.count(" -> ") == 1 + 2  # the heading has one too
    assert "  invented seeds: 5 -> 4 (all)" in shared
    assert "  invented drifts: [0.1, 0.2] -> [0.1] (distance)" in shared


def test_a_departure_within_a_setting_shows_all_of_it() -> None:
    shown = overview.as_text(plan.make(config.load("ci"), ["rewarm/fig1"]))
    assert "rewarm evaluation: {every: 100, dense_every: 50, dense_until: 0.02} -> " in shown
    assert " -> {every: 64, dense_every: 5, dense_until: 0.02} (fig1)" in shown
