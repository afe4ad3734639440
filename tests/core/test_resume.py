"""Interrupted and resumed equals uninterrupted, bit for bit, however the interruption came."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import config, record
from bench.errors import UserError
from bench.paths import Layout
from bench.workflow import execute, pack
from bench.workflow import plan as planning


def records(layout: Layout) -> dict[str, dict]:
    return {path.stem: record.read(path).results() for path in layout.runs.glob("*.json")}


@pytest.fixture
def uninterrupted(invented: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict]:
    monkeypatch.setenv("BENCH_RESULTS", str(tmp_path / "whole"))
    plan = planning.make(config.load(str(invented)))
    execute.run_all(plan, plan.to_train(), tell=lambda text: None)
    expected = records(plan.layout)
    monkeypatch.setenv("BENCH_RESULTS", str(tmp_path / "results"))
    return expected


def test_out_of_time_goes_on_where_it_stopped(
    invented: Path, uninterrupted: dict[str, dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WALK_SECONDS", "0.002")
    calls = 0
    while (plan := planning.make(config.load(str(invented)))).to_train():
        calls += 1  # each call has a little longer, so that one on the busiest machine gets on too
        tally = execute.run_all(plan, plan.to_train(), minutes=0.03 * calls / 60, tell=lambda text: None)
        assert not tally.failed
        assert calls < 100
    assert calls > 3
    assert records(plan.layout) == uninterrupted
    assert any(record.read(path).provenance["resumed"] for path in plan.layout.runs.glob("*.json"))


def test_two_processes_never_train_the_same_run(invented: Path, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This one begins while the other trains, and waits for its runs."""
    monkeypatch.setenv("WALK_SECONDS", "0.01")
    monkeypatch.setenv("BENCH_CHECKPOINT_SECONDS", "0")
    command = [sys.executable, "-m", "bench", "run", "--scale", str(invented)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as other:
        until = time.monotonic() + 120
        while not list(results.glob("toy/scratch/*/state.pt")):
            assert other.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        plan = planning.make(config.load(str(invented)))
        tally = execute.run_all(plan, plan.to_train(), tell=lambda text: None)
        assert not tally.failed and len(tally.trained) < 15
        assert other.wait(timeout=120) == 0
    assert planning.make(config.load(str(invented))).to_train() == []


def test_state_travels_in_parts(
    invented: Path, uninterrupted: dict[str, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WALK_SECONDS", "0.01")
    plan = planning.make(config.load(str(invented)))
    execute.run_all(plan, plan.to_train()[:1], tell=lambda text: None)
    for seconds in range(1, 20):  # a limit may fall between two walks, or before the first
        plan = planning.make(config.load(str(invented)))
        tally = execute.run_all(plan, plan.to_train(), minutes=0.1 * seconds / 60, tell=lambda text: None)
        if list(plan.layout.scratch.glob("*/state.pt")):
            break
    assert tally.left and not tally.failed
    parts = pack.pack(plan.layout, tmp_path / "carried", part_bytes=5_000)
    assert len(parts) > 2
    assert all(part.stat().st_size <= 5_000 for part in parts)
    monkeypatch.setenv("BENCH_RESULTS", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("WALK_SECONDS", "0")
    elsewhere = Layout.of("toy")
    assert pack.unpack(elsewhere, tmp_path / "carried") > 0
    there = planning.make(config.load(str(invented)))
    assert {run.key for run in there.to_train()} == set(tally.left)
    execute.run_all(there, there.to_train(), tell=lambda text: None)
    assert records(elsewhere) == uninterrupted


def test_an_altered_or_missing_part_is_refused(invented: Path, results: Path, tmp_path: Path) -> None:
    plan = planning.make(config.load(str(invented)))
    with pytest.raises(UserError, match=r"nothing|no records"):
        pack.pack(plan.layout, tmp_path / "carried")
    execute.run_all(plan, plan.to_train(), tell=lambda text: None)
    parts = pack.pack(plan.layout, tmp_path / "carried", part_bytes=20_000)
    content = parts[0].read_bytes()
    parts[0].write_bytes(content[:-1] + b"?")
    with pytest.raises(UserError, match="checksum differs"):
        pack.unpack(plan.layout, tmp_path / "carried")
    parts[0].unlink()
    with pytest.raises(UserError, match="part is missing"):
        pack.unpack(plan.layout, tmp_path / "carried")
    with pytest.raises(UserError, match=r"toy\.parts\.json: no such file"):
        pack.unpack(plan.layout, tmp_path / "nowhere")


def test_a_damaged_state_says_what_to_do(invented: Path, results: Path) -> None:
    plan = planning.make(config.load(str(invented)))
    run = plan.to_train()[0]
    state = plan.layout.scratch / run.key / "state.pt"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"nonsense")
    tally = execute.run_all(plan, [run], tell=lambda text: None)
    assert "delete it to start this run again" in tally.failed[run.key]
