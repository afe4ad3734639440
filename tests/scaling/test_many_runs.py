"""Plans of 100, 1,000 and 10,000 runs: planning, dry run, collecting and judging take time that grows with the runs.

``python -m pytest tests/scaling/test_many_runs.py -s -m slow`` prints the table of the measurements.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import config, exhibit, machine, record
from bench.perf.workflow import used
from bench.run import Result
from bench.workflow import plan

ROOT = Path(__file__).resolve().parent.parent.parent
SIZES = (100, 1_000, 10_000)
STEPS = ("plan", "dry run", "collect", "judge")


@pytest.fixture
def many(results: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BENCH_EXTRA", str(Path(__file__).parent / "many"))
    exhibit.registry.cache_clear()
    yield
    exhibit.registry.cache_clear()


def scale_of(folder: Path, runs: int) -> Path:
    path = folder / f"many{runs}.yaml"
    path.write_text(
        f"scale: many{runs}\ndevice: cpu\nbatch_minutes: 1\nonly: [many/grid]\n"
        f"exhibits: {{many/grid: {{cells: {runs // 5}}}}}\n"
    )
    return path


def written(made: plan.Plan) -> None:
    """The records that training would leave, without a sync for each."""
    made.layout.runs.mkdir(parents=True)
    proof = {**machine.commit(), "machine": machine.machine(), "device": "cpu", "seconds": 1.0}
    for run in made.runs.values():
        outcome = Result({"value": run.spec.cell + 0.1 * run.spec.seed}, {"steps": {"step": [1, 2], "value": [0, 1]}})
        record.write(made.layout.record(run.key), record.of_run(run.spec, run.key, outcome, {}, proof))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_time_grows_with_the_runs_and_no_faster(many, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    table: dict[int, dict[str, tuple[float, float]]] = {}
    for size in SIZES:
        scale = scale_of(tmp_path, size)
        named = ("--scale", str(scale))
        made = plan.make(config.load(str(scale)), source=str(scale))
        assert len(made.runs) == size
        times = {"plan": used("bench", "plan", *named)}
        times["dry run"] = used("bench", "reproduce", *named, "--dry-run", "--budget", "1e9")
        written(made)
        times["collect"] = used("bench", "collect", *named)
        used("bench", "draw", *named)
        times["judge"] = used("bench", "judge", *named)
        table[size] = times
    print(f"\n| runs | {' | '.join(STEPS)} |\n|---:|{'---:|' * len(STEPS)}")
    for size, times in table.items():
        print(f"| {size:,} | " + " | ".join(f"{times[s][0]:.1f} s, {times[s][1]:.0f} MiB" for s in STEPS) + " |")
    for step in STEPS:
        small, large = table[1_000][step], table[10_000][step]
        # What a start costs is in both, so linear growth stays below ten; a quadratic part would show as far more.
        assert large[0] < 10 * max(small[0], 1.0), f"{step}: {small[0]:.1f} s at 1,000 runs, {large[0]:.1f} s at 10,000"
        assert large[1] < 10 * small[1], step


def test_a_plan_of_a_thousand_runs_has_few_batches(many, tmp_path: Path) -> None:
    made = plan.make(config.load(str(scale_of(tmp_path, 1_000))))
    batches = plan.batches(made)
    assert sorted(key for batch in batches for key in batch.keys) == sorted(made.runs)
    # A run takes 0.02 s, so that a minute holds thousands.
    assert len(batches) < 20


@pytest.mark.slow
@pytest.mark.parametrize("command", [("plan",), ("reproduce", "--dry-run")])
def test_scale_paper_answers_in_seconds(results: Path, command: tuple[str, ...]) -> None:
    """The best of three, since other work on the machine only adds."""
    best = min(used("bench", *command, "--scale", "paper").seconds for _ in range(3))
    print(f"\n{' '.join(command)} --scale paper: {best:.2f} s")
    assert best < (3 if command == ("plan",) else 10)


def test_the_command_line_imports_no_torch_to_plan() -> None:
    code = "import sys; from bench import __main__; __main__.main(['plan', '--scale', 'ci']); print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.search(r"False\s*\Z", answer.stdout)
