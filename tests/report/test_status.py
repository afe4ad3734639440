"""What `bench status` and a running workflow say: finished, running, failed, waiting, and the time left."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from bench import record
from bench.run import Result
from bench.training.context import Context, progress_text
from bench.words import duration
from bench.workflow import planfile, status
from bench.workflow.plan import Plan

Made = Callable[..., Plan]


@pytest.fixture
def plan(made: Made) -> Plan:
    """A plan of which nothing is trained, frozen."""
    plan = made(train=False)
    planfile.freeze(plan)
    return plan


@pytest.fixture
def running(plan: Plan) -> Iterator[str]:
    """Key of a run whose lock another holder has, half-way."""
    key = plan.to_train()[0].key
    folder = plan.layout.scratch / key
    folder.mkdir(parents=True)
    said = {
        "label": "",
        "done": 5,
        "total": 20,
        "unit": "steps",
        "time": time.time(),
        "rate": 0.5,
        "seconds_left": 30.0,
    }
    (folder / "progress.json").write_text(json.dumps({**said, "values": {"position": 1.23456}}))
    with FileLock(plan.layout.scratch / f"{key}.lock"):
        yield key


def test_a_running_run_has_step_rate_and_time_left(plan: Plan, running: str) -> None:
    text = status.as_text(plan)
    assert "0 finished, 1 running, 0 failed, 14 waiting" in text
    assert "running  walk of 20 drift 0.1 seed 0: 5 of 20 steps, 0.5 steps/s, 30 s left, position 1.235 (" in text
    assert "and 4 more" in text


def test_a_failed_run_has_its_reason_and_the_last_line_of_its_log(plan: Plan) -> None:
    run = plan.to_train()[0]
    failure = plan.layout.failure(run.key)
    failure.parent.mkdir(parents=True, exist_ok=True)
    failure.write_text(json.dumps({"label": run.spec.label(), "why": "position is nan"}))
    job = planfile.frozen(plan.layout.plan)["jobs"][0]["name"]
    log = plan.layout.logs / "run" / f"{job}.log"
    log.parent.mkdir(parents=True)
    log.write_text(f"a start\n{run.spec.label()}: 12 of 20 steps\n\nanother run: done\n")
    text = status.as_text(plan)
    assert "1 failed" in text and f"FAILED   {run.spec.label()}: position is nan" in text
    assert f"{job}.log: {run.spec.label()}: 12 of 20 steps" in text


def test_a_stopped_run_waits_and_says_where_it_stopped(plan: Plan, running: str) -> None:
    lock = plan.layout.scratch / f"{running}.lock"
    lock.unlink()  # as a killed process leaves it: nobody holds it
    assert "waiting  walk of 20 drift 0.1 seed 0, stopped at 5 of 20 steps" in status.as_text(plan)


def test_everything_finished_is_one_line(made: Made) -> None:
    assert status.as_text(made()) == "scale toy: 15 finished, 0 running, 0 failed, 0 waiting"


def test_the_workflow_tells_runs_done_time_left_and_what_runs_now(plan: Plan, running: str) -> None:
    watch = status.Watch(plan)
    assert watch.line().startswith("0 of 15 runs done; now: walk of 20 drift 0.1 seed 0: 5 of 20 steps")
    for run in plan.to_train()[1:8]:
        plan.layout.runs.mkdir(parents=True, exist_ok=True)
        made = record.of_run(run.spec, run.key, Result(metrics={"position": 1.0}), {}, {})
        record.write(plan.layout.record(run.key), made)
    watch._began -= 100
    line = watch.line()
    assert line.startswith("7 of 15 runs done, about ") and " left; now: walk" in line


def test_a_line_names_few_of_many_that_run(plan: Plan, running: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "_is_running", lambda plan, run: True)
    line = status.Watch(plan).line()
    assert line.count(" seed ") == status.NAMED and line.endswith(f"; and {15 - status.NAMED} more")
    assert "; now: walk of 20 drift 0.1 seed 0: 5 of 20 steps" in line, "what is known comes first"


def test_lines_come_while_the_workflow_runs(plan: Plan, running: str, capfd: pytest.CaptureFixture[str]) -> None:
    text, until = "", time.monotonic() + 60
    with status.watched(plan, seconds=0.05):
        while not text and time.monotonic() < until:
            time.sleep(0.05)
            text += capfd.readouterr().err
        time.sleep(0.4)
    said = (text + capfd.readouterr().err).splitlines()
    assert said and said[0].startswith("runs: 0 of 15 runs done")
    assert len(said) <= 3, "a line that says nothing new is not repeated"


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.4, "4 s"), (120, "2 min"), (9000, "2.5 h"), (36_000_000, "10,000.0 h")]
)
def test_durations_read_easily(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("rate", "text"), [(0.98765, "0.988"), (74.26, "74.3"), (1_106.4, "1,106"), (98_765.4, "98,765")]
)
def test_rates_read_easily(rate: float, text: str) -> None:
    seen = {"done": 1, "total": 2, "unit": "samples", "rate": rate, "seconds_left": 9.0}
    assert progress_text(seen) == f"1 of 2 samples, {text} samples/s, 9 s left"


def test_a_run_says_how_fast_it_is(plan: Plan, capfd: pytest.CaptureFixture[str]) -> None:
    import torch

    context = Context(key="k", label="a run", layout=plan.layout, device=torch.device("cpu"))
    context.progress(10, 100, "epochs")
    assert context._began is not None
    context._began = (context._began[0] - 20, 10)  # as if it had begun 20 s ago
    context._told_at -= 60
    context.progress(30, 100, "epochs", train=98.25)
    context.close()
    assert "a run: 30 of 100 epochs, 1 epochs/s, 70 s left, train 98.25" in capfd.readouterr().err
    said = json.loads((Path(plan.layout.scratch) / "k" / "progress.json").read_text())
    assert said["rate"] == pytest.approx(1.0, rel=0.1) and said["values"] == {"train": 98.25}
