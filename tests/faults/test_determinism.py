"""The same run gives the same numbers: twice bit for bit, with other threads nearly, and as recorded in golden files.

``python -m pytest tests/faults/test_determinism.py --force-regen`` writes the golden losses anew, which a change of the
arithmetic must explain.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import config, exhibit, record
from bench.workflow import execute, process
from bench.workflow import plan as planning

PAPERS = Path(__file__).resolve().parent.parent / "papers"
TOLERANCE = 1e-2
"""Relative, of about ten steps: processors sum in different orders, and Adam makes 1e-3 of that in twelve steps."""
THREADS_TOLERANCE = 0.02
"""Relative, of metrics after a whole toy run with two threads instead of one: sums are split otherwise."""

Trained = dict[str, tuple[list[float], dict[str, Any], dict[str, str]]]
"""Label of a run -> its losses, its metrics and series, checksums of its weights."""


def train_kinds(folder: Path, patch: pytest.MonkeyPatch, threads: int = 1) -> Trained:
    """The tiny runs of each trainer (`tests/papers/kinds`), in a results folder of their own."""
    patch.setenv("BENCH_EXTRA", str(PAPERS))
    patch.setenv("BENCH_RESULTS", str(folder))
    exhibit.registry.cache_clear()
    losses: list[float] = []
    backward = torch.Tensor.backward

    def noted(loss: torch.Tensor, *arguments: Any, **named: Any) -> None:
        losses.append(float(loss.detach()))
        backward(loss, *arguments, **named)

    patch.setattr(torch.Tensor, "backward", noted)
    suite = config.Suite(
        scale="toy", threads=threads, device="cpu", compile="never", keep="everything", only=("kinds",)
    )
    plan = planning.make(suite)
    trained: Trained = {}
    for run in plan.to_train():
        losses.clear()
        tally = execute.run_all(plan, [run], tell=lambda text: None)
        assert not tally.failed
        written = record.read(plan.layout.record(run.key))
        of_run = recorded_losses(written) or list(losses)
        trained[f"{run.exhibits[0]} {run.spec.label()}"] = (of_run, written.results(), written.artefacts)
    return trained


def recorded_losses(written: record.Record) -> list[float]:
    """Every loss of a record's series; warmstart records none, and its steps are listened to."""
    columns = (column for series in written.series.values() for column in series.items())
    return [float(value) for name, values in columns if "loss" in name for value in values]


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Trained, Trained]]:
    """All tiny runs, trained twice in this process."""
    with pytest.MonkeyPatch.context() as patch:
        first, second = (train_kinds(tmp_path_factory.mktemp(name), patch) for name in ("first", "second"))
    exhibit.registry.cache_clear()
    yield first, second


@pytest.mark.parametrize("paper", ["warmstart", "rewarm", "certified"])
def test_losses_are_as_recorded(paper: str, kinds: tuple[Trained, Trained], num_regression: Any) -> None:
    losses = next(losses for label, (losses, _, _) in kinds[0].items() if label.startswith(f"kinds/{paper} "))
    assert len(losses) >= 4 and all(math.isfinite(loss) for loss in losses)
    num_regression.check({"loss": losses}, basename=paper, default_tolerance={"rtol": TOLERANCE, "atol": 0})


def test_a_second_training_is_equal_bit_for_bit(kinds: tuple[Trained, Trained]) -> None:
    first, second = kinds
    assert len(first) == 7
    assert first == second


@pytest.mark.slow
def test_the_number_of_threads_changes_little(kinds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threaded = train_kinds(tmp_path, monkeypatch, threads=2)
    process.prepare_torch(1)
    exhibit.registry.cache_clear()
    assert threaded.keys() == kinds[0].keys()
    for label, (_, results, _) in threaded.items():
        expected = kinds[0][label][1]["metrics"]
        for name, value in results["metrics"].items():
            # Accuracies move in steps of a sample: 2.5 points are the least that some of these sizes know.
            assert value == pytest.approx(expected[name], rel=THREADS_TOLERANCE, abs=2.5), f"{label} {name}"
