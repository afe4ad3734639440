"""Graphs, breaks and recompiles of compiled steps, counted with a backend that generates nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from bench import models
from bench.models import pythia
from bench.paths import Layout
from bench.rewarm.engine import Engine, equal_parts
from bench.rewarm.spec import PretrainSpec
from bench.training import step as steps
from bench.training.context import Context
from bench.training.distributed import Ranks
from bench.training.step import TrainStep
from bench.warmstart.losses import make_loss
from bench.warmstart.spec import Penalty


class Count:
    """How often the backend was asked for code, and why tracing stopped."""

    def __init__(self) -> None:
        self.graphs = 0

    def backend(self, module: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        self.graphs += 1
        self.dynamic |= any(
            isinstance(node.meta.get("example_value"), torch.SymInt)
            for node in module.graph.nodes
            if node.op == "placeholder"
        )
        return module.forward

    dynamic = False

    @property
    def breaks(self) -> dict[str, int]:
        return dict(counters["graph_break"])


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Iterator[Count]:
    torch._dynamo.reset()
    counters.clear()
    result = Count()
    compile = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda function, **options: compile(function, backend=result.backend, **options)
    )
    monkeypatch.setattr(steps, "can_compile", lambda: True)
    yield result
    torch._dynamo.reset()


def resnet() -> TrainStep:
    model = models.build_seeded("thin_resnet18", 0, num_classes=10, in_shape=(3, 8, 8), width=8)
    loss = make_loss(Penalty())
    return TrainStep(model.to(memory_format=torch.channels_last), loss=loss, batch_size=4, compile="always")


def small(width: int = 8, weight: float = 0.0) -> TrainStep:
    """Two layers: what counts is how often they are traced."""
    model = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))
    model(torch.zeros(2, 3, 8, 8))
    loss = make_loss(Penalty(kind="confidence" if weight else "none", weight=weight))
    return TrainStep(model.to(memory_format=torch.channels_last), loss=loss, batch_size=4, compile="always")


def epoch(step: TrainStep) -> None:
    """Two full batches at different learning rates, and a last one that is not full."""
    optimizer = torch.optim.SGD(step.model.parameters(), lr=0.1, fused=True)
    images = torch.randn(4, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(4, dtype=torch.int64)
    for number, rows in enumerate((4, 4, 3)):
        optimizer.param_groups[0]["lr"] = 0.1 / (number + 1)
        step(images[:rows], labels[:rows], optimizer)


def test_runs_of_one_shape_share_what_is_compiled(count: Count) -> None:
    """Over rates, a last partial batch, and a second network of the same shape."""
    for _ in range(2):
        epoch(resnet())
    assert (count.graphs, count.breaks, count.dynamic) == (1, {}, False)


def test_twelve_widths_and_twelve_penalties_in_one_process(count: Count) -> None:
    """A sweep in one job: torch's own limit of eight would leave the rest uncompiled without an error."""
    for width in range(8, 20):
        epoch(small(width))
    assert (count.graphs, count.breaks, count.dynamic) == (12, {}, False)
    for number in range(12):
        epoch(small(weight=0.1 * (number + 1)))
    assert (count.graphs, count.breaks, count.dynamic) == (24, {}, False)


def pretraining(batch: int, micro_batch: int) -> Engine:
    spec = PretrainSpec.model_validate(
        {
            "seed": 0,
            "model": "2x64x4",
            "corpora": {"kind": "generated"},
            "vocabulary": 128,
            "context": 32,
            "schedule": {"max_lr": 1e-3},
            "batch": batch,
            "micro_batch": micro_batch,
        }
    )
    device = torch.device("cpu")
    context = Context(key="x", label="x", layout=Layout("x", Path("none")), device=device, compile="always")
    weights = pythia.initial_weights(spec.shape, torch.Generator().manual_seed(0))
    engine = Engine(spec, context, Ranks(0, 1, device), weights)
    engine._evaluated_at_once = 16
    return engine


def test_pretraining_has_one_graph_for_training_and_one_for_evaluation(count: Count) -> None:
    """Whatever is left over of the validation windows, over learning rates, and in several runs of one process."""
    for evaluated in (32, 37, 26):
        engine = pretraining(64, 16)
        for number in range(2):
            engine.summed_loss(torch.zeros(evaluated, 33, dtype=torch.int64))
            engine.step(np.zeros((64, 33), dtype=np.int64), 1e-3 / (number + 1))
    assert (count.graphs, count.breaks, count.dynamic) == (2, {}, False)


@pytest.mark.parametrize(
    ("share", "most", "parts"), [(1104, 16, 16), (138, 16, 6), (138, 138, 138), (10, 16, 10), (139, 16, 16)]
)
def test_micro_batches_divide_a_ranks_share(share: int, most: int, parts: int) -> None:
    assert equal_parts(share, most) == parts
