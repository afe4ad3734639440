"""Runs that must not become results: each fails by its name, the others go on, and nothing failed has a record."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import config
from bench.errors import FailedRun, UserError
from bench.paths import Layout
from bench.run import Result, RunSpec
from bench.workflow import execute, process, reproduce
from bench.workflow import plan as planning
from bench.workflow.plan import Plan


@pytest.fixture
def broken(invented: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Plan, execute.Tally]]:
    """``broken(act)``: trains the invented paper, whose continuations with drift 0.2 and seed 1 do `act` at the end."""

    def train(act: Callable[[], Result]) -> tuple[Plan, execute.Tally]:
        plan = planning.make(config.load(str(invented)))
        from bench_extra.invented import walk

        whole = walk.train

        def instead(spec, context):
            result = whole(spec, context)
            return act() if spec.parent is not None and spec.drift == 0.2 and spec.seed == 1 else result

        monkeypatch.setattr(walk, "train", instead)
        return plan, execute.run_all(plan, plan.to_train(), tell=lambda text: None)

    return train


def raising(error: BaseException) -> Callable[[], Result]:
    def act() -> Result:
        raise error

    return act


def _out_of_memory() -> BaseException:
    import torch

    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")


LABEL = "walk of 20 drift 0.2 seed 1"

CASES = {
    "NaN in a metric": (lambda: Result({"position": math.nan}), "position is nan"),
    "infinity in a metric": (lambda: Result({"position": math.inf}), "position is inf"),
    "NaN in a series": (
        lambda: Result({"position": 1.0}, {"path": {"position": [1.0, math.nan]}}),
        "path.position is nan in row 1",
    ),
    "the trainer's own alarm": (raising(FailedRun(LABEL, 7, "the loss is nan")), "failed at step 7: the loss is nan"),
    "out of memory on the GPU": (None, "out of memory (CUDA out of memory. Tried to allocate 2.00 GiB.)"),
    "out of memory on the CPU": (raising(MemoryError()), "out of memory (no detail)"),
    "an error in the code": (raising(ZeroDivisionError("division by zero")), "ZeroDivisionError: division by zero"),
}


@pytest.mark.parametrize("case", CASES)
def test_it_fails_by_name_and_others_go_on(case: str, broken, capsys) -> None:
    act, expected = CASES[case]
    plan, tally = broken(act or raising(_out_of_memory()))
    failed = [plan.runs[key].spec for key in tally.failed]
    assert sorted(type(spec).__name__ for spec in failed) == ["Measure", "Walk"], "the run, and the one that needs it"
    assert {spec.seed for spec in failed} == {1}
    assert len(tally.trained) == 13
    (why,) = [why for key, why in tally.failed.items() if type(plan.runs[key].spec).__name__ == "Walk"]
    assert expected in why and len(why.splitlines()) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("FAILED ")]
    assert lines == [f"FAILED {LABEL}: {why}"], "and no line for what would have started from it"
    assert [type(plan.runs[key].spec).__name__ for key in tally.blocked] == ["Measure"]
    assert LABEL not in why, "the line names its run once"
    for key in tally.failed:
        assert not plan.layout.record(key).exists()
        assert json.loads(plan.layout.failure(key).read_text())["why"] == tally.failed[key]


def test_a_failed_run_is_tried_again_and_its_failure_forgotten(broken, monkeypatch, invented: Path) -> None:
    plan, tally = broken(raising(MemoryError()))
    monkeypatch.undo()
    monkeypatch.setenv("BENCH_RESULTS", str(plan.layout.root.parent))
    monkeypatch.setenv("BENCH_EXTRA", str(invented.parent))
    again = planning.make(config.load(str(invented)))
    assert {run.key for run in again.to_train()} == set(tally.failed)
    assert not execute.run_all(again, again.to_train(), tell=lambda text: None).failed
    assert not list(plan.layout.runs.glob("*.failed"))


def test_a_missing_gpu_stops_before_anything_runs(invented: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    suite = config.load(str(invented)).model_copy(update={"device": "cuda"})
    plan = planning.make(suite)
    with pytest.raises(UserError, match="device: cuda is asked for and torch finds no GPU") as caught:
        execute.run_all(plan, plan.to_train(), tell=lambda text: None)
    assert len(str(caught.value).splitlines()) == 1
    assert not list(plan.layout.runs.glob("*.json"))


def exploding_warm_start() -> RunSpec:
    from bench.warmstart.spec import FRESH, Network, Optimizer, Round, Stop, Training

    return Training(
        seed=0,
        dataset="synthetic",
        generated=96,
        network=Network(name="mlp", width=8),
        optimizer=Optimizer(name="sgd", lr=10.0, momentum=0.99, batch_size=24, weight_decay=10.0),
        rounds=(Round(samples=64, start=FRESH),),
        stop=Stop(epochs=60),
    )


def exploding_pre_training() -> RunSpec:
    from bench.rewarm.spec import Evaluation, Generated, PretrainSpec, Schedule

    return PretrainSpec(
        seed=0,
        model="2x32x2",
        vocabulary=16,
        context=16,
        batch=4,
        corpora=Generated(vocabulary=16, validation_windows=8),
        evaluation=Evaluation(every=10, dense_every=10),
        schedule=Schedule(max_lr=50.0, steps=100, warmup=0.0),
        micro_batch=2,
    )


@pytest.mark.parametrize("exploding", [exploding_warm_start, exploding_pre_training])
def test_a_loss_that_explodes_ends_the_run_at_its_step(exploding: Callable[[], RunSpec], tmp_path: Path) -> None:
    import torch

    from bench.training.context import Context

    process.prepare_torch(1)
    spec = exploding()
    context = Context(spec.identity, spec.label(), Layout("toy", tmp_path), torch.device("cpu"), compile="never")
    with pytest.raises(FailedRun, match=r"failed at step \d+: .*loss is"):
        importlib.import_module(spec.trainer).train(spec, context)


def test_the_end_of_a_call_names_causes_and_not_what_waited_for_them(
    invented: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = planning.make(config.load(str(invented)))
    monkeypatch.setattr(reproduce.subprocess, "run", lambda *arguments, **named: None)
    monkeypatch.setattr(reproduce, "MOST_LINES", 2)
    plan.layout.runs.mkdir(parents=True)
    for number, run in enumerate(plan.runs.values()):
        content = {"label": run.spec.label(), "why": "the loss is nan", "blocked": number >= 3}
        plan.layout.failure(run.key).write_text(json.dumps(content))
    assert reproduce._after_failure("toy", [], plan, 0.0) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4 and all(line.startswith("FAILED ") and "the loss is nan" in line for line in lines[:2])
    assert lines[2] == f"and 1 more, in {plan.layout.runs}/*.failed"
    assert lines[3].startswith("15 runs failed, 12 of them because")
