"""Whole runs with captured steps end as they do eagerly, bit for bit, with graphs that a CPU can replay."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.certified.spec import Certified
from bench.certified.spec import Network as CertifiedNetwork
from bench.paths import Layout
from bench.run import Result, RunSpec
from bench.training import graphs
from bench.training.context import Context
from bench.warmstart.spec import Network, Optimizer, Penalty, Restart, Round, Stop, Training

sys.path.insert(0, str(Path(__file__).parent))
from recorded import RecordedGraphs


def warmstart(**options: Any) -> Training:
    """Two rounds of some epochs on two full batches and a rest."""
    optimizer = {"name": "sgd", "batch_size": 8, "lr": 0.05, **options.pop("optimizer", {})}
    fields = {
        "seed": 0,
        "dataset": "synthetic",
        "network": Network(width=8),
        "optimizer": Optimizer(**optimizer),
        "rounds": (
            Round(samples=19),
            Round(samples=19, start=Restart(method="shrink_perturb", shrink=0.5, perturb=0.1)),
        ),
        "stop": Stop(epochs=4),
        "generated": 60,
        "augment": True,
    }
    return Training.model_validate({**fields, **options})


def certified(**options: Any) -> Certified:
    """All phases: clean, regularised, a ramp of eps, the target; learning rates that fall; a batch that is not full."""
    schedule = {"zero": 1, "ramp": 2, "final": 1, "milestones": (3,)}
    fields = {
        "seed": 0,
        "dataset": "cifar10",
        "network": CertifiedNetwork(width=2, units=8),
        "batch": 4,
        "generated": 26,
        "report_samples": 4,
        "schedule": schedule,
    }
    return Certified.model_validate({**fields, **options})


RUNS: dict[str, RunSpec] = {
    "warmstart": warmstart(),
    "warmstart adam": warmstart(optimizer={"name": "adam", "lr": 1e-3, "schedule": "cosine"}),
    "warmstart penalty": warmstart(penalty=Penalty(kind="adversarial", weight=0.1, fgsm_eps=0.01), augment=False),
    "warmstart last layer": warmstart(rounds=(Round(samples=19, trains="last"),), stop=Stop(epochs=4)),
    "certified vanilla": certified(),
    "certified ours": certified(init="ibp", regularizers=("tightness", "relu"), micro_batch=2),
}


def trained(spec: RunSpec, folder: Path) -> tuple[Result, dict[str, str]]:
    context = Context(
        key=spec.identity, label=spec.label(), layout=Layout("x", folder), device=torch.device("cpu"), compile="never"
    )
    result = importlib.import_module(spec.trainer).train(spec, context)
    context.close()
    return result, context.execution


def comparable(result: Result) -> dict[str, Any]:
    series = {
        name: {column: values for column, values in columns.items() if not column.startswith("seconds")}
        for name, columns in result.series.items()
        if name != "phases"
    }
    return {"metrics": result.metrics, "series": series}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", RUNS)
def test_captured_runs_end_as_eager_ones(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    eager, _ = trained(RUNS[name], tmp_path / "eager")
    backend = RecordedGraphs()

    def prepare(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        for group in optimizer.param_groups:
            group["lr"] = torch.tensor(float(group["lr"]), dtype=torch.float64)

    monkeypatch.setattr(graphs, "backend_of", lambda device: backend)
    monkeypatch.setattr(graphs, "prepare", prepare)
    captured, execution = trained(RUNS[name], tmp_path / "captured")
    assert comparable(captured) == comparable(eager)
    assert backend.graphs and all(graph.replays for graph in backend.graphs)
    assert execution["steps"] == "captured"
