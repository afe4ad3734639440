"""The same run gives the same numbers: twice bit for bit, with other threads nearly, and as recorded in golden files.

``python -m pytest tests/faults/test_determinism.py --force-regen`` writes the golden losses anew, which a change of the
arithmetic must explain.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import config, record
from bench.paths import Layout
from bench.training.context import Context
from bench.workflow import execute, plan

STEPS = 20
TOLERANCE = 1e-5 if (platform.system(), platform.machine()) == ("Linux", "x86_64") else 1e-3
"""Relative, of 20 losses: the goldens were made on Linux x86-64."""
THREADS_TOLERANCE = 0.02
"""Relative, of metrics after a whole toy run with two threads instead of one: sums are split otherwise."""


def surroundings(spec: Any, folder: Path) -> Context:
    execute.prepare_torch(1)
    return Context(spec.identity, spec.label(), Layout("toy", folder), torch.device("cpu"), compile="never")


def warmstart_losses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    from bench.training.step import TrainStep
    from bench.warmstart import train as rounds
    from bench.warmstart.spec import FRESH, Network, Optimizer, Restart, Round, Stop, Training

    spec = Training(
        seed=0,
        dataset="synthetic",
        population=192,
        network=Network(name="thin_resnet18", width=8),
        optimizer=Optimizer(name="adam", batch_size=32),
        rounds=(
            Round(samples=64, start=FRESH, epochs=4),
            Round(samples=128, start=Restart(method="shrink_perturb", shrink=0.4, perturb=0.1), epochs=3),
        ),
        stop=Stop(epochs=3),
    )
    losses: list[float] = []
    whole = TrainStep.__call__

    def step(self: TrainStep, *arguments: Any) -> Any:
        loss, logits = whole(self, *arguments)
        losses.append(float(loss))
        return loss, logits

    monkeypatch.setattr(TrainStep, "__call__", step)
    rounds.train(spec, surroundings(spec, folder))
    return losses


def rewarm_losses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    from bench.rewarm import train as pretrain
    from bench.rewarm.progress import Progress
    from bench.rewarm.spec import Evaluation, Generated, PretrainSpec, Schedule

    spec = PretrainSpec(
        seed=0,
        model="2x32x2",
        vocabulary=16,
        context=16,
        batch=4,
        corpora=Generated(vocabulary=16, validation_windows=8),
        evaluation=Evaluation(every=20, dense_every=20),
        schedule=Schedule(max_lr=3e-3, steps=STEPS, warmup=0.2),
    )
    losses: list[float] = []
    whole = Progress.advance

    def advance(self: Progress, loss: torch.Tensor) -> None:
        losses.append(float(loss))
        whole(self, loss)

    monkeypatch.setattr(Progress, "advance", advance)
    pretrain.train(spec, surroundings(spec, folder))
    return losses


def certified_losses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    from bench.certified import train
    from bench.certified.spec import Certified, Network, Schedule
    from bench.certified.step import Step

    spec = Certified(
        seed=0,
        dataset="synthetic_certified",
        network=Network(width=2, units=8),
        schedule=Schedule(zero=2, ramp=5, final=3, milestones=(8,)),
        regularizers=("tightness", "relu"),
        init="ibp",
        population=64,
        batch=32,
        report_samples=20,
    )
    losses: list[float] = []
    whole = Step.__call__

    def step(self: Step, *arguments: Any) -> None:
        before = float(arguments[-1].loss)
        whole(self, *arguments)
        losses.append((float(arguments[-1].loss) - before) / len(arguments[0]))

    monkeypatch.setattr(Step, "__call__", step)
    train.train(spec, surroundings(spec, folder))
    return losses


LOSSES: dict[str, Callable[[Path, pytest.MonkeyPatch], list[float]]] = {
    "warmstart": warmstart_losses,
    "rewarm": rewarm_losses,
    "certified": certified_losses,
}


@pytest.mark.parametrize("paper", LOSSES)
def test_golden_losses_of_twenty_steps(
    paper: str, tmp_path: Path, monkeypatch, num_regression, summing_order: str
) -> None:
    """There are goldens for each order of summing: twenty steps of Adam make 1e-2 of its 1e-7."""
    losses = LOSSES[paper](tmp_path, monkeypatch)
    assert len(losses) == STEPS and all(math.isfinite(loss) for loss in losses)
    golden = f"{paper}_{summing_order}"
    num_regression.check({"loss": losses}, basename=golden, default_tolerance={"rtol": TOLERANCE, "atol": 0})


SCALE = """\
scale: ci
threads: {threads}
device: cpu
compile: never
common: {{warmstart: {{seeds: 1, stand_in: {{cifar10: synthetic}}, population: 240, width: 8, batch_size: 64}}}}
exhibits:
  warmstart/fig1: {{epochs: 2}}
"""


def trained(folder: Path, monkeypatch: pytest.MonkeyPatch, *, threads: int = 1) -> dict[str, record.Record]:
    """An exhibit of scale ci, shortened, in a results folder of its own."""
    monkeypatch.setenv("BENCH_RESULTS", str(folder / "results"))
    folder.mkdir()
    (folder / "ci.yaml").write_text(SCALE.format(threads=threads))
    made = plan.make(config.load(str(folder / "ci.yaml")), ["warmstart/fig1"])
    tally = execute.run_all(made, made.to_train(), tell=lambda text: None)
    assert not tally.failed and tally.trained
    return {path.stem: record.read(path) for path in made.layout.runs.glob("*.json")}


@pytest.mark.slow
def test_an_exhibit_of_scale_ci_twice_and_with_other_threads(tmp_path: Path, monkeypatch) -> None:
    first = trained(tmp_path / "a", monkeypatch)
    second = trained(tmp_path / "b", monkeypatch)
    assert {key: one.results() for key, one in first.items()} == {key: one.results() for key, one in second.items()}
    assert {key: one.artefacts for key, one in first.items()} == {key: one.artefacts for key, one in second.items()}
    threaded = trained(tmp_path / "c", monkeypatch, threads=2)
    torch.set_num_threads(1)
    assert threaded.keys() == first.keys(), "the number of threads is no part of what a run is"
    for key, one in first.items():
        for name, value in one.results()["metrics"].items():
            other = threaded[key].metrics[name]
            # Accuracies move in steps of a sample: a point of accuracy at this size is less than one of them.
            assert other == pytest.approx(value, rel=THREADS_TOLERANCE, abs=2.5), f"{key} {name}"
