"""Two processes under `torchrun` on the CPU against one: equal losses, one writer, resume with another number."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import record
from bench.rewarm.spec import PretrainSpec
from bench.workflow import execute
from bench.workflow.plan import Plan

pytestmark = pytest.mark.slow

SCRIPT = """
import importlib.util, sys
from pathlib import Path
from bench.workflow import execute
from bench.training import distributed
spec = importlib.util.spec_from_file_location("toys", sys.argv[1])
toys = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toys)
steps = int(sys.argv[3])
runs = [toys.ranked()[0].parent] if len(sys.argv) > 4 else toys.ranked()
plan = toys.make_plan(runs, Path(sys.argv[2]))
if steps:
    from bench.rewarm.progress import Progress
    pause = Progress.pause
    def timed(self, losses, engine):
        if self.step >= steps:
            self.context.deadline = 0.0
        pause(self, losses, engine)
    Progress.pause = timed
tally = execute.run_all(plan, list(plan.runs.values()))
if distributed.leads():
    print("trained", len(tally.trained), "left", len(tally.left), "failed", len(tally.failed))
sys.exit(len(tally.failed))
"""

Losses = dict[str, dict[str, list[float]]]


@pytest.fixture
def call(tmp_path: Path) -> Callable[..., str]:
    """``call(folder, ranks=2, stop=0)``: trains `ranked` with so many processes; gives what they print."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)

    def start(folder: Path, *, ranks: int, stop: int = 0, first: bool = False) -> str:
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
        toys = str(Path(__file__).parent / "conftest.py")
        done = subprocess.run(
            [sys.executable, *launch, str(path), toys, str(folder), str(stop), *(["first"] if first else [])],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return start


def losses(folder: Path) -> Losses:
    found = [record.read(path) for path in folder.glob("runs/*.json")]
    return {
        one.label: {**one.result.series["evaluations"], "training": one.result.series["training"]["loss"]}
        for one in found
    }


def same(found: Losses, expected: Losses) -> None:
    assert found.keys() == expected.keys()
    for label, series in expected.items():
        for name in ("loss_up", "loss_dn", "training"):
            assert found[label][name] == pytest.approx(series[name], abs=1e-5), (label, name)


@pytest.fixture
def alone(ranked: list[PretrainSpec], plan_of: Callable[..., Plan], tmp_path: Path) -> Losses:
    plan = plan_of(ranked, tmp_path / "alone")
    assert not execute.run_all(plan, list(plan.runs.values()), tell=lambda text: None).failed
    return losses(tmp_path / "alone")


def test_two_ranks_give_the_losses_of_one(call: Callable[..., str], alone: Losses, tmp_path: Path) -> None:
    """One process; two with DDP, DDP with gradient accumulation, FSDP2, kept moments."""
    said = call(tmp_path / "two", ranks=2)
    assert said.count("trained 6 left 0 failed 0") == 1
    same(losses(tmp_path / "two"), alone)
    # One process locked, saved and cleaned up.
    assert not list((tmp_path / "two" / "scratch").glob("*/state.pt"))


def test_resume_with_another_number_of_ranks(
    call: Callable[..., str], ranked: list[PretrainSpec], plan_of: Callable[..., Plan], tmp_path: Path
) -> None:
    first = ranked[0].parent
    assert first is not None
    plan = plan_of([first], tmp_path / "alone")
    execute.run_all(plan, list(plan.runs.values()), tell=lambda text: None)
    folder = tmp_path / "mixed"
    assert "trained 0 left 1 failed 0" in call(folder, ranks=2, stop=7, first=True)
    assert list(folder.glob("scratch/*/state.pt"))
    call(folder, ranks=1, first=True)
    same(losses(folder), losses(tmp_path / "alone"))
    (made,) = [record.read(path) for path in folder.glob("runs/*.json")]
    assert made.provenance["resumed"]


def test_a_trainer_for_one_process_refuses_several(invented: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *("-m", "bench", "run", "--scale", str(invented)),
        ],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode != 0
    assert "it trains in one process; call `python -m bench run` without torchrun" in done.stderr
