"""The whole way through Snakemake, on the invented paper: what is made, and what an edit makes again."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from bench import config, record
from bench.cli.main import main
from bench.workflow import execute, planfile, reproduce
from bench.workflow import plan as planning
from bench.workflow.plan import Plan

ROOT = Path(__file__).resolve().parent.parent.parent
Call = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = pytest.mark.timeout(900)  # Snakemake starts several processes, which takes long on a busy machine


@pytest.fixture
def scale(invented: Path, tmp_path: Path) -> Path:
    """A scale file of one's own, to edit."""
    return Path(shutil.copy(invented, tmp_path / "toy.yaml"))


def edit(scale: Path, **exhibits: dict) -> None:
    content = yaml.safe_load(scale.read_text())
    content["exhibits"] = {f"invented/{name}": settings for name, settings in exhibits.items()}
    scale.write_text(yaml.safe_dump(content))


def call_reproduce(bench: Call, scale: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return bench("reproduce", "--scale", str(scale), *more)


def snakemake(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Snakemake itself, on a plan that is frozen already."""
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--profile", "configs/profiles/local", *arguments],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )


def rules(answer: subprocess.CompletedProcess[str]) -> list[str]:
    """Rules of the jobs that ran, in order."""
    return re.findall(r"Finished jobid: \d+ \(Rule: (\w+)\)", answer.stderr + answer.stdout)


def stamps(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_everything_is_made_and_edits_make_only_what_they_touch(bench: Call, scale: Path, results: Path) -> None:
    first = call_reproduce(bench, scale)
    assert first.returncode == 0, first.stdout + first.stderr
    root = results / "toy"
    for name in ("paper.pdf", "index.html", "verdicts.csv", "verdicts.md", "report.zip"):
        assert (root / name).stat().st_size > 100, name
    for name in ("distance.csv", "distance.tex", "distance.md", "curve.csv", "curve.pdf", "curve.png"):
        assert (root / "exhibits" / "invented" / name).stat().st_size > 50, name
    assert "paper.pdf" in first.stdout

    again = call_reproduce(bench, scale)
    assert again.returncode == 0 and rules(again) == [], "nothing changed"

    records = stamps(root / "runs")
    figure = (root / "exhibits" / "invented" / "curve.pdf").stat().st_mtime_ns
    edit(scale, distance={"drifts": [0.1, 0.3]})
    changed = call_reproduce(bench, scale)
    assert changed.returncode == 0, changed.stderr
    ran = rules(changed)
    assert ran.count("collect") == 1 and "draw_table" in ran and "draw_figure" not in ran
    assert (root / "exhibits" / "invented" / "curve.pdf").stat().st_mtime_ns == figure
    after = stamps(root / "runs")
    assert {name: after[name] for name in records} == records, "records that are right stay"
    assert len(after) == len(records) + 6

    # A lost figure is drawn again from the records alone.
    (root / "exhibits" / "invented" / "curve.png").unlink()
    redrawn = call_reproduce(bench, scale)
    assert "draw_figure" in rules(redrawn) and "run" not in rules(redrawn)
    assert stamps(root / "runs") == after


@pytest.mark.slow
def test_carried_records_fill_the_gaps_of_what_was_drawn_without_them(
    bench: Call, scale: Path, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though they were there before it was drawn; nothing is trained."""
    at_scale, carried = ["--scale", str(scale)], str(tmp_path / "carried")
    monkeypatch.setenv("BENCH_RESULTS", str(tmp_path / "elsewhere"))
    assert main(["run", *at_scale]) == main(["pack", *at_scale, "--into", carried]) == 0
    monkeypatch.setenv("BENCH_RESULTS", str(results))
    for step in (["run", "--limit", "2"], ["collect"], ["draw"], ["judge"], ["paper"]):
        assert main([*step, *at_scale]) == 0
    drawn = results / "toy" / "exhibits" / "invented" / "distance.md"
    assert "missing" in drawn.read_text()
    assert main(["unpack", *at_scale, "--from", carried]) == 0
    answer = call_reproduce(bench, scale)
    assert answer.returncode == 0, answer.stderr
    assert "run" not in rules(answer) and "draw_figure" in rules(answer)
    assert "missing" not in drawn.read_text()


@pytest.mark.slow
def test_deleted_records_are_trained_again(bench: Call, scale: Path, results: Path) -> None:
    """Also where they are all that a job had made, so that the next job is the same one."""
    assert call_reproduce(bench, scale).returncode == 0
    runs = results / "toy" / "runs"
    before = {path.name: record.read(path).results() for path in runs.glob("*.json")}
    shutil.rmtree(runs)
    answer = call_reproduce(bench, scale)
    assert answer.returncode == 0, answer.stderr
    assert "run" in rules(answer)
    assert {path.name: record.read(path).results() for path in runs.glob("*.json")} == before


@pytest.mark.parametrize(("jobs", "seconds"), [(0, 1), (15, 1), (105, 10), (500, 50)])
def test_finished_jobs_cost_snakemake_little(jobs: int, seconds: int, invented: Path) -> None:
    """For each of them it looks at all waiting jobs once in this time; at most ten times a second, that is."""
    assert reproduce.job_rate(jobs) == f"100000/{seconds}s"
    plan = planning.make(config.load(str(invented)))
    assert "--max-jobs-per-timespan" in reproduce.command_line(plan, "local", jobs)


@pytest.mark.slow
def test_the_longest_chain_of_jobs_starts_first(bench: Call, scale: Path, results: Path) -> None:
    scale.write_text(scale.read_text().replace("job_minutes: 60", "job_minutes: 1.0e-9"))
    assert bench("plan", "--scale", str(scale), "--freeze").returncode == 0
    path = results / "toy" / "plan.json"
    plan = json.loads(path.read_text())
    roots = [job for job in plan["jobs"] if not job["after"]]
    for job in plan["jobs"]:
        job["minutes"] = 1.0
    # One is short, but what waits for it takes the longest of all.
    for job, minutes in zip(roots, (1, 3, 0.5), strict=True):
        job["minutes"] = minutes
    next(job for job in plan["jobs"] if job["after"] == [roots[2]["name"]])["minutes"] = 9.0
    path.write_text(json.dumps(plan))
    expected = [roots[index]["name"] for index in (2, 1, 0)]
    markers = [planfile.PlanFile.read(str(path)).marker(name) for name in sorted(expected)]
    answer = snakemake(*markers, "--config", f"plan={path}", "--cores", "1")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert [Path(name).stem for name in sorted(markers, key=os.path.getmtime)] == expected


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a call that does not begin."""
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_second_call_in_the_same_folder_is_refused(
    invented: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (results / "toy").mkdir(parents=True)
    with FileLock(results / "toy" / ".lock"):
        assert "another `reproduce`" in refused(["reproduce", "--scale", str(invented)], capsys)


@pytest.mark.parametrize("name", ["with {b}", "with }"])
def test_a_folder_that_snakemake_would_misread_is_refused(
    invented: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BENCH_RESULTS", str(tmp_path / name))
    line = refused(["reproduce", "--scale", str(invented)], capsys)
    assert str(tmp_path / name) in line and "braces" in line
    assert main(["plan", "--scale", str(invented)]) == 0


def test_the_budget_stops_before_anything_runs(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(["plan", "--scale", "paper", "--exhibits", "rewarm/fig1", "--freeze"], capsys)
    assert " hours " in line and "BUDGET=" in line
    assert not (results / "paper" / "plan.json").exists()


def test_progress_is_printed_while_snakemake_works(invented: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended(Exception):
        pass

    watching: list[bool] = []

    @contextlib.contextmanager
    def watched(plan: object) -> Iterator[None]:
        watching.append(True)
        yield
        watching.clear()

    def work(call: object, lock: int) -> int:
        assert watching, "no progress is printed"
        raise Ended

    monkeypatch.setattr(reproduce, "_snakemake", work)
    monkeypatch.setattr(reproduce.status, "watched", watched)
    with pytest.raises(Ended):
        reproduce.reproduce(str(invented), [])


def test_a_rerun_repeats_disturbed_measurements_and_nothing_else(
    invented: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planned() -> Plan:
        return planning.make(config.load(str(invented)))

    plan = planned()
    execute.run_all(plan, plan.to_train(), tell=lambda text: None)
    plan = planned()
    timed = [run for run in plan.runs.values() if run.spec.kind == "invented/measure"]
    monkeypatch.setattr(type(timed[0].spec), "whole_machine", True)
    for run in plan.runs.values():
        path = plan.layout.record(run.key)
        written = record.read(path)
        provenance = {**written.provenance, "alone": run is timed[0]}
        record.write(path, dataclasses.replace(written, provenance=provenance))

    def to_repeat(**how: bool) -> set[str]:
        monkeypatch.setattr(reproduce, "_snakemake", lambda call, lock: -signal.SIGKILL)
        assert reproduce.reproduce(str(invented), [], **how) != 0
        frozen = json.loads(plan.layout.plan.read_text())
        return {key for job in frozen["jobs"] for key in job["keys"]}

    assert to_repeat() == to_repeat(rerun=True, dry_run=True) == set()
    assert to_repeat(rerun=True) == {run.key for run in timed[1:]}
    assert {path.stem for path in plan.layout.runs.glob("*.json")} == set(plan.runs) - {run.key for run in timed[1:]}
