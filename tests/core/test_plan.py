"""Caching: what trains again and what does not, shown on the invented paper."""

from __future__ import annotations

import shutil
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from bench import config, record
from bench.cli.main import main
from bench.errors import UserError
from bench.report import plan_text
from bench.workflow import execute, jobs, planfile
from bench.workflow import plan as planning
from bench.workflow.jobs import jobs_of
from bench.workflow.plan import Plan


def make(scale: Path, **exhibits: dict) -> Plan:
    suite = config.load(str(scale))
    changed = {f"invented/{name}": settings for name, settings in exhibits.items()}
    return planning.make(suite.model_copy(update={"exhibits": changed}))


def train(plan: Plan) -> execute.Tally:
    return execute.run_all(plan, plan.to_train(), tell=lambda text: None)


def test_shared_beginnings_are_planned_once(invented: Path) -> None:
    plan = make(invented)
    # 3 seeds: one shared beginning, two continuations, two measurements each; the figure needs no run of its own.
    assert len(plan.runs) == 3 * 5
    assert len(plan.keys_of("invented/distance")) == 6
    assert next(iter(plan.runs.values())).spec.parent_spec is None
    seen = set()
    for run in plan.runs.values():
        assert run.spec.parent_spec is None or plan.key(run.spec.parent_spec) in seen
        seen.add(run.key)


def test_more_seeds_train_only_the_new_ones(invented: Path) -> None:
    train(make(invented))
    five = make(invented, distance={"seeds": 5})
    assert sorted({run.spec.seed for run in five.to_train()}) == [3, 4]


def test_changing_one_run_trains_that_run(invented: Path) -> None:
    train(make(invented))
    plan = make(invented, distance={"drifts": [0.1, 0.3]})
    todo = plan.to_train()
    assert len(todo) == 6  # three continuations with the new drift and their measurements; the beginnings are there
    assert all("0.3" in run.spec.label() for run in todo)
    before = planning.make(config.load(str(invented)))
    curve = "invented/curve"
    assert plan.keys_of(curve) == before.keys_of(curve)


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
    assert line.startswith("error: ") and "'--limit': -3" in line


def test_missing_parent_weights_are_made_again(invented: Path) -> None:
    plan = make(invented)
    train(plan)
    shutil.rmtree(plan.layout.artefacts)
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
    accepting = planning.make(suite)
    assert accepting.to_train() == []
    assert {run.state for run in accepting.runs.values()} == {"older code"}


def test_fields_at_their_default_leave_the_key_alone(invented: Path) -> None:
    planning.make(config.load(str(invented)))
    from bench_extra.invented.walk import Walk

    assert Walk(seed=1).identity == Walk(seed=1, drift=0.1, steps=20).identity
    assert Walk(seed=1).identity != Walk(seed=1, drift=0.2).identity
    assert Walk(seed=1).identity != Walk(seed=2).identity
    assert Walk(seed=1).group == Walk(seed=2).group
    assert Walk(seed=1, parent=Walk(seed=1)).group == Walk(seed=2, parent=Walk(seed=2)).group
    assert Walk(seed=1, parent=Walk(seed=1)).identity != Walk(seed=1).identity


def test_jobs_keep_families_together_and_hold_every_missing_run_once(invented: Path) -> None:
    plan = make(invented)
    (job,) = jobs_of(plan)
    order = {key: index for index, key in enumerate(job.keys)}
    assert len(job.keys) == len(order) == len(plan.runs)
    for run in plan.runs.values():
        if run.spec.parent_spec is not None:
            assert order[plan.key(run.spec.parent_spec)] < order[run.key]


def test_long_families_are_split_and_wait_for_their_parents(invented: Path) -> None:
    suite = config.load(str(invented)).model_copy(update={"job_minutes": 1e-9})
    plan = planning.make(suite)
    by_name = {job.name: job for job in jobs_of(plan)}
    job_of = {key: job for job in by_name.values() for key in job.keys}
    assert sorted(job_of) == sorted(plan.runs) and sum(len(job.keys) for job in by_name.values()) == len(plan.runs)
    for run in plan.runs.values():
        parent = run.spec.parent_spec
        if parent is not None and job_of[plan.key(parent)] is not job_of[run.key]:
            assert job_of[plan.key(parent)].name in job_of[run.key].after
    assert all(name in by_name for job in by_name.values() for name in job.after)


def test_jobs_grow_where_there_would_be_too_many(invented: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MOST_JOBS", 5)
    suite = config.load(str(invented)).model_copy(update={"job_minutes": 1e-9})
    packed = jobs_of(planning.make(suite))
    assert len(packed) <= 5
    assert len({key for job in packed for key in job.keys}) == sum(len(job.keys) for job in packed) == 15


@pytest.mark.parametrize("scale", ["ci", "small", "paper", "paper-cpu"])
def test_no_job_waits_for_itself(scale: str, plan_of) -> None:
    packed = jobs_of(plan_of(scale))
    tuple(TopologicalSorter({job.name: job.after for job in packed}).static_order())


def test_a_run_that_measures_time_asks_for_the_whole_machine(invented: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {job.whole_machine for job in jobs_of(make(invented))} == {False}
    from bench_extra.invented.walk import Walk

    monkeypatch.setattr(Walk, "whole_machine", True)
    plan = make(invented)
    planfile.freeze(plan)
    frozen = planfile.PlanFile.read(str(plan.layout.plan))
    assert frozen.share(frozen.content["jobs"][0]["name"]) == planfile.WHOLE_MACHINE


def test_a_job_that_misses_runs_again_is_not_done(invented: Path) -> None:
    plan = make(invented)
    job = jobs_of(plan)[0]
    for name in (job.name, "data", "0123456789ab"):
        marker = plan.layout.marker(name)
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    planfile.freeze(plan)
    assert not plan.layout.marker(job.name).exists()
    assert plan.layout.marker("data").exists() and plan.layout.marker("0123456789ab").exists()


def test_a_job_of_another_plan_is_refused(invented: Path) -> None:
    plan = make(invented)
    planfile.freeze(plan)
    with pytest.raises(UserError, match="no job 0123456789ab"):
        planfile.runs_of_job(plan, "0123456789ab")
    with pytest.raises(UserError, match="other code or settings"):
        planfile.runs_of_job(make(invented, distance={"seeds": 1}), jobs_of(plan)[0].name)
    plan.layout.plan.write_text("{")
    with pytest.raises(UserError, match="not a plan"):
        planfile.runs_of_job(plan, "0123456789ab")


def test_budget_stops_before_a_day(invented: Path) -> None:
    plan = make(invented, curve={"steps": 10**13})
    with pytest.raises(UserError, match="allow it with BUDGET="):
        planning.check_budget(plan, None, free_bytes=10**12)
    planning.check_budget(plan, 1e12, free_bytes=10**12)
    with pytest.raises(UserError, match="GB are free"):
        planning.check_budget(make(invented), None, free_bytes=10)


def test_a_failed_run_is_named_blocks_its_children_and_nothing_else(invented: Path) -> None:
    plan = make(invented, distance={"failing_drift": 0.2})
    tally = train(plan)
    assert len(tally.failed) == 6  # three walks and the three measurements that need them
    assert len(tally.trained) == 9
    why = [why for key, why in tally.failed.items() if plan.runs[key].spec.kind == "invented/walk"]
    assert all("failed at step 20: position is nan" in text for text in why)
    assert not any(plan.layout.record(key).exists() for key in tally.failed)
    again = make(invented, distance={"failing_drift": 0.2})
    assert len(again.to_train()) == 6
    assert again.to_train()[0].why == "failed before"


def test_artefacts_are_pruned_by_policy(invented: Path) -> None:
    plan = make(invented)
    train(plan)
    nothing = planning.make(config.load(str(invented)).model_copy(update={"keep": "nothing"}))
    execute.prune(nothing)
    assert not list(plan.layout.artefacts.rglob("*.safetensors"))
    assert make(invented).to_train() == []


def test_records_of_two_trainings_are_equal(invented: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make(invented)
    train(plan)
    monkeypatch.setenv("BENCH_RESULTS", str(tmp_path / "other"))
    other = make(invented)
    train(other)
    for key in plan.runs:
        first, second = record.read(plan.layout.record(key)), record.read(other.layout.record(key))
        assert first.results() == second.results()
        assert first.artefacts == second.artefacts


def test_a_departure_that_exhibits_share_is_shown_once(invented: Path) -> None:
    shared = plan_text.as_text(make(invented, distance={"seeds": 4, "drifts": [0.1]}, curve={"seeds": 4}))
    assert shared.count(" -> ") == 1 + 2  # the heading has one too
    assert "  invented seeds: 5 -> 4 (all)" in shared
    assert "  invented drifts: [0.1, 0.2] -> [0.1] (distance)" in shared


def test_a_departure_within_a_setting_shows_all_of_it() -> None:
    shown = plan_text.as_text(planning.make(config.load("ci"), ["rewarm/fig1"]))
    assert "rewarm evaluation: {every: 100, dense_every: 50, dense_until: 0.02} -> " in shown
    assert " -> {every: 64, dense_every: 5, dense_until: 0.02} (fig1)" in shown
