"""Whole runs: evaluation, interruption, failure, records, and 20 golden losses."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import record
from bench.errors import FailedRun, OutOfTime, UserError
from bench.rewarm.engine import Engine
from bench.rewarm.progress import Progress
from bench.rewarm.spec import PAPERS_TEXT, Evaluation, PretrainSpec, Schedule
from bench.rewarm.train import train
from bench.run import Result
from bench.training.context import Context
from bench.workflow import execute
from bench.workflow.plan import Plan

Make = Callable[..., PretrainSpec]
Surroundings = Callable[..., Context]


def numbers(result: Result) -> dict[str, Any]:
    return {"metrics": result.metrics, "series": result.series}


def run(plan: Plan) -> dict[str, record.Record]:
    """Trains a plan; label -> record."""
    tally = execute.run_all(plan, list(plan.runs.values()), tell=lambda text: None)
    assert not tally.failed, tally.failed
    return {planned.spec.label(): record.read(plan.layout.record(planned.key)) for planned in plan.runs.values()}


def test_golden_losses(toy: Make, context: Surroundings) -> None:
    """Losses of the first 20 steps, on any processor; whoever changes them says why and raises `PretrainSpec.version`."""
    spec = toy(evaluation=Evaluation(every=1, dense_every=1))
    result = train(spec, context(spec))
    golden = json.loads((Path(__file__).parent / "golden_losses.json").read_text())
    assert result.series["training"]["step"] == list(range(1, 21))
    assert result.series["training"]["loss"] == pytest.approx(golden["training"], rel=1e-2)
    assert result.series["evaluations"]["loss_dn"] == pytest.approx(golden["downstream"], rel=1e-2)


def test_evaluations_are_at_the_steps_that_the_specification_names(toy: Make, context: Surroundings) -> None:
    spec = toy()
    result = train(spec, context(spec))
    rows = result.series["evaluations"]
    assert rows["step"] == spec.evaluation_steps() == [0, 1, 2, 4, 5, 10, 15, 20]
    assert rows["tokens"] == [48 * step for step in rows["step"]]
    assert rows["lr"] == pytest.approx([spec.schedule.rate(step) for step in rows["step"]])
    assert result.metrics["loss_dn_end"] == rows["loss_dn"][-1] < rows["loss_dn"][0] == result.metrics["loss_dn_start"]
    # With warm-up the first update has rate 0.
    assert rows["loss_dn"][1] == rows["loss_dn"][0]
    assert rows["loss_dn"][0] == pytest.approx(math.log(16), abs=0.3)
    assert result.notes["warmup_steps"] == 2.0 and result.notes["tokens_per_step"] == 48


def test_training_learns_the_language(toy: Make, context: Surroundings) -> None:
    spec = toy(model="1x32x2", batch=16, schedule={"steps": 150, "max_lr": 1e-2})
    result = train(spec, context(spec))
    assert result.metrics["loss_dn_end"] < result.metrics["loss_dn_start"] - 0.4
    assert result.series["training"]["loss"][-1] == pytest.approx(result.metrics["loss_dn_end"], abs=0.3)


def test_starting_points(toy: Make, plan_of: Callable[..., Plan], tmp_path: Path) -> None:
    """A child begins where its parent was: at its end, at a step that it kept, with or without its moments."""
    parent = toy(train_on="upstream", keep=(0.5,), keep_moments=True)
    assert parent.keeps() == ("step10", "weights", "step10-moments", "weights-moments")
    children = {
        "end": toy(parent=parent),
        "step10": toy(parent=parent, start="step10"),
        "kept": toy(parent=parent, moments="kept"),
    }
    plan = plan_of(list(children.values()), tmp_path)
    records = run(plan)
    of_parent = records[parent.label()].result.series["evaluations"]
    start = {name: records[child.label()].result.series["evaluations"] for name, child in children.items()}
    at = of_parent["step"].index(10)
    assert start["step10"]["loss_up"][0] == of_parent["loss_up"][at]
    assert start["end"]["loss_up"][0] == start["kept"]["loss_up"][0] == of_parent["loss_up"][-1]
    assert start["end"]["loss_dn"][-1] != start["kept"]["loss_dn"][-1]
    assert records[children["step10"].label()].result.notes["origin"] == "upstream step10"
    assert records[parent.label()].artefacts.keys() == set(parent.keeps())


def test_one_seed_meets_the_same_text_whatever_its_schedule(toy: Make, context: Surroundings) -> None:
    series = []
    for rate in (1e-3, 1e-3, 2e-3):
        spec = toy(schedule={"max_lr": rate}, evaluation=Evaluation(every=1, dense_every=1))
        made = context(spec)
        series.append(train(spec, made).series)
    assert series[0] == series[1]
    # The first update has rate 0, so the first two losses are of the same weights on the same windows.
    assert series[0]["training"]["loss"][:2] == series[2]["training"]["loss"][:2]
    assert series[0]["training"]["loss"][4] != series[2]["training"]["loss"][4]


class Interrupted(Context):
    """Saves at its `ends_at`-th boundary and says that time is over."""

    ends_at = 3
    boundaries = 0

    def checkpoint(self, make_state: Callable[[], Any], *, force: bool = False) -> None:
        self.boundaries += 1
        if self.boundaries == self.ends_at:
            self.deadline = 0.0
        super().checkpoint(make_state, force=force)


@pytest.mark.parametrize("fields", [{}, {"micro_batch": 2}], ids=["whole batches", "accumulated"])
@pytest.mark.parametrize("ends_at", [1, 3, 7])
def test_out_of_time_goes_on_bit_for_bit(
    toy: Make, context: Surroundings, tmp_path: Path, fields: dict[str, Any], ends_at: int
) -> None:
    spec = toy(**fields)
    made = context(spec)
    whole = train(spec, made)
    digest = dict(made.kept)
    cut = Interrupted(**{name: getattr(made, name) for name in ("key", "label", "layout", "device", "data_root")})
    cut.ends_at, cut.compile = ends_at, "never"
    with pytest.raises(OutOfTime):
        train(spec, cut)
    again = context(spec)
    result = train(spec, again)
    assert again.resumed
    assert numbers(result) == numbers(whole)
    assert again.kept == digest, "the final weights differ"


SCRIPT = """
import sys
from pathlib import Path
import importlib.util
spec = importlib.util.spec_from_file_location("toys", sys.argv[1])
toys = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toys)
from bench.workflow import execute
runs = [toys.make_toy(seed=seed, schedule={"steps": 400}) for seed in range(2)]
plan = toys.make_plan(runs, Path(sys.argv[2]))
tally = execute.run_all(plan, list(plan.runs.values()))
sys.exit(len(tally.failed))
"""


def script(tmp_path: Path) -> list[str]:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return [sys.executable, str(path), str(Path(__file__).parent / "conftest.py")]


@pytest.mark.slow
def test_sigkill_at_any_moment(toy: Make, plan_of: Callable[..., Plan], tmp_path: Path) -> None:
    runs = [toy(seed=seed, schedule={"steps": 400}) for seed in range(2)]
    whole = {label: one.results() for label, one in run(plan_of(runs, tmp_path / "whole")).items()}
    environment = {**os.environ, "BENCH_CHECKPOINT_SECONDS": "0"}
    folder = tmp_path / "killed"
    kills = 0
    for attempt in range(20):
        process = subprocess.Popen(
            [*script(tmp_path), str(folder)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
        )
        # Not before it has saved something new.
        states = {path: path.stat().st_mtime_ns for path in folder.glob("toy/scratch/*/state.pt")}
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            now = {path: path.stat().st_mtime_ns for path in folder.glob("scratch/*/state.pt") if path.exists()}
            if now and now != states and attempt < 3:
                time.sleep(0.05 * attempt)
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.02)
        process.wait()
        if len(list(folder.glob("runs/*.json"))) == 2:
            break
    assert kills >= 2
    found = {label: one.results() for label, one in run(plan_of(runs, folder)).items()}
    assert found == whole


def test_exploding_loss_keeps_the_last_good_state(toy: Make, context: Surroundings) -> None:
    spec = toy(schedule={"steps": 200, "max_lr": 50.0, "warmup": 0.5}, evaluation=Evaluation(every=10))
    made = context(spec)
    with pytest.raises(FailedRun, match=r"failed at step \d+: .*loss is .*at step \d+ is kept") as error:
        train(spec, made)
    state = torch.load(made.scratch / "state.pt", weights_only=True)
    assert 0 < state["step"] < error.value.step <= state["step"] + 10
    assert all(bool(weight.isfinite().all()) for weight in state["weights"].values())
    assert all(math.isfinite(loss) for loss in state["series"]["loss_dn"])


def test_a_loss_that_is_not_a_number_names_its_step(
    toy: Make, context: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = Progress.advance

    def poisoned(self: Progress, loss: torch.Tensor) -> None:
        advance(self, loss * math.nan if self.step == 7 else loss)

    monkeypatch.setattr(Progress, "advance", poisoned)
    spec = toy()
    with pytest.raises(FailedRun, match="nan") as error:
        train(spec, context(spec))
    assert error.value.step == 8


def test_broken_weights_are_not_saved(toy: Make, context: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    state = Engine.state

    def broken(self: Engine) -> dict[str, dict[str, torch.Tensor]]:
        copy = state(self)
        copy["weights"]["embed_out.weight"][3, 1] = math.inf
        return copy

    monkeypatch.setattr(Engine, "state", broken)
    spec = toy()
    with pytest.raises(FailedRun, match=r"embed_out\.weight"):
        train(spec, context(spec, checkpoint_seconds=0.0))


def test_weights_of_another_shape(toy: Make, plan_of: Callable[..., Plan], tmp_path: Path) -> None:
    parent = toy(train_on="upstream")
    child = toy(parent=parent, model="1x32x2")
    plan = plan_of([child], tmp_path)
    tally = execute.run_all(plan, list(plan.runs.values()), tell=lambda text: None)
    why = tally.failed[plan.key(child)]
    assert "is (16, 16), this model needs (16, 32)" in why and "choose the model" in why


def test_a_record_of_the_papers_longest_run_is_small_enough(toy: Make, context: Surroundings) -> None:
    """1,110 evaluations with 24 sources: what is recorded of them stays below the limit."""
    spec = PretrainSpec(seed=0, corpora=PAPERS_TEXT, schedule=Schedule(max_lr=3e-4), stop=0.8061)
    small = toy()
    run = Progress(small, context(small), writes=False)
    run.spec, run._by_source = spec, spec.source_steps()
    names = [f"loss_up.Source number {index}" for index in range(17)] + [
        f"loss_dn.Source {index}" for index in range(7)
    ]
    for step in spec.evaluation_steps():
        run.step = step
        run._sum, run._count = 2.123456789 * 100, 100
        losses = {"loss_up": 2.123456789, "loss_dn": 2.23456789, **dict.fromkeys(names, 2.3456789)}
        run.pause(losses, lambda: {})
    result = run.result({})
    assert len(result.series["evaluations"]["step"]) == len(spec.evaluation_steps()) > 1000
    assert len(result.series["sources"]["step"]) <= 120
    made = record.of_run(spec, "key", result, {}, {})
    record.write(context(small).layout.record("key"), made)
    assert context(small).layout.record("key").stat().st_size < 0.75 * record.MAX_BYTES


def test_smoke_cuts_run(toy: Make, plan_of: Callable[..., Plan], tmp_path: Path) -> None:
    parent = toy(train_on="upstream", keep=(0.5,), keep_moments=True)
    full = [
        toy(parent=parent, moments="kept", replay=0.01, schedule={"shape": "wsd"}),
        toy(parent=parent, start="step10", micro_batch=2, precision="bf16", sharding="shard"),
    ]
    records = run(plan_of([spec.smoke() for spec in full], tmp_path))
    assert {one.result.costs["steps"] for one in records.values()} == {2.0}
    assert full[0].smoke().shape == full[0].shape


def test_precision_that_is_emulated_is_not_used(
    toy: Make, context: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.training import precision

    spec = toy(precision="bf16")
    monkeypatch.setattr(precision, "has_bf16", lambda device: False)
    plain = train(spec, context(spec))
    monkeypatch.setattr(precision, "has_bf16", lambda device: True)
    half = train(spec, context(spec))
    assert (plain.notes["arithmetic"], half.notes["arithmetic"]) == ("float32", "bfloat16")
    assert plain.series != half.series
    assert half.metrics["loss_dn_end"] == pytest.approx(plain.metrics["loss_dn_end"], abs=0.02)


def test_ranks_that_do_not_divide_the_batch() -> None:
    from bench.training.distributed import Ranks

    assert [Ranks(rank, 2, torch.device("cpu")).share(40, 8) for rank in range(2)] == [(40, 4), (44, 4)]
    with pytest.raises(UserError, match="batch 8 is no multiple of the 3 ranks"):
        Ranks(0, 3, torch.device("cpu")).share(0, 8)
