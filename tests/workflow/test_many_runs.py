"""Plans of hundreds and thousands of runs: few jobs, and time that grows with the runs and no faster."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml

from bench import config, machine, record
from bench.run import Result
from bench.workflow import plan
from bench.workflow.jobs import jobs_of

Call = Callable[..., subprocess.CompletedProcess[str]]
STEPS = (("plan",), ("reproduce", "--dry-run"), ("collect",), ("judge",))


def planned(invented: Path, folder: Path, seeds: int) -> plan.Plan:
    """Five runs for each seed: the walk of the curve, and two continuations with their measurements for the distance."""
    content = yaml.safe_load(invented.read_text()) | {"scale": f"many{seeds}", "common": {"invented": {"seeds": seeds}}}
    path = folder / f"many{seeds}.yaml"
    path.write_text(yaml.safe_dump(content))
    return plan.make(config.load(str(path)), source=str(path))


def write_records(work: plan.Plan) -> None:
    """The records that training would leave."""
    proof = {**machine.commit(), "machine": machine.machine(), "device": "cpu", "seconds": 1.0}
    series = {"path": {"step": [1, 2], "position": [0.0, 1.0]}}
    for number, run in enumerate(work.runs.values()):
        result = Result({"distance": float(number % 7), "position": 1.0}, series)
        record.write(work.layout.record(run.key), record.of_run(run.spec, run.key, result, {}, proof))


def test_a_thousand_runs_make_few_jobs(invented: Path, tmp_path: Path) -> None:
    work = planned(invented, tmp_path, 200)
    assert len(work.runs) == 1000
    jobs = jobs_of(work)
    assert sorted(key for job in jobs for key in job.keys) == sorted(work.runs)
    assert len(jobs) < 20, "a run takes a fraction of a second"


def cpu_seconds(call: Callable[[], subprocess.CompletedProcess[str]]) -> float:
    """What the processes of a command take, whatever else the machine does meanwhile."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = call()
    assert answer.returncode == 0, answer.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_time_grows_with_the_runs_and_no_faster(
    bench: Call, invented: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    seconds: dict[tuple[str, int], float] = {}
    for seeds in (100, 1000):
        work = planned(invented, tmp_path, seeds)
        write_records(work)
        for command in STEPS:
            seconds[command[0], seeds] = cpu_seconds(partial(bench, *command, "--scale", work.source))
    for command in STEPS:
        small, large = seconds[command[0], 100], seconds[command[0], 1000]
        # What a start costs is in both, so linear growth stays below ten; a quadratic part would show as far more.
        assert large < 10 * max(small, 1.0), seconds


@pytest.mark.slow
@pytest.mark.parametrize(("command", "limit"), [(("plan",), 3), (("reproduce", "--dry-run"), 15)])
def test_scale_paper_answers_in_seconds(bench: Call, command: tuple[str, ...], limit: float) -> None:
    """The best of two."""
    assert min(cpu_seconds(lambda: bench(*command, "--scale", "paper")) for _ in range(2)) < limit
