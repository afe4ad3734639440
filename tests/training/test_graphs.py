"""A captured step does what an eager one does, sees what changes, and gives way where it cannot."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.training import graphs

sys.path.insert(0, str(Path(__file__).parent))
from recorded import RecordedGraphs

ROWS = 8


class Training:
    """A small network with BatchNorm under Adam or SGD, and a penalty whose weight comes with each step."""

    def __init__(self, optimizer: str = "adam", backend: Any = None, fault: str = ""):
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 3)
        ).to(memory_format=torch.channels_last)
        self.fault = fault
        kinds = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
        extra = {"momentum": 0.9} if optimizer == "sgd" else {}
        self.optimizer = kinds[optimizer](self.model.parameters(), lr=torch.tensor(0.01), fused=True, **extra)
        self.sums = torch.zeros(())
        self.lines: list[str] = []
        self.graphed = graphs.GraphedStep(self.step, self.state, rows=ROWS, backend=backend, tell=self.lines.append)

    def state(self) -> graphs.State:
        return graphs.state_of(self.model, self.optimizer, sums=[self.sums])

    def step(self, images: Tensor, labels: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.model(images)
        loss = F.cross_entropy(logits, labels) + weight * logits.square().mean()
        loss.backward()
        if self.fault == "reads":
            float(loss.detach())
        self.optimizer.step()
        self.sums += loss.detach()
        return loss.detach(), (logits.detach().argmax(1) == labels).sum()

    def run(self, steps: int, rows: int = ROWS) -> list[list[float]]:
        generator = torch.Generator().manual_seed(1)
        results = []
        for number in range(steps):
            count = rows - 3 if number % 5 == 4 else rows
            images = torch.rand(count, 1, 6, 6, generator=generator).contiguous(memory_format=torch.channels_last)
            labels = torch.randint(0, 3, (count,), generator=generator)
            graphs.set_rate(self.optimizer, 0.01 / (1 + number))
            values = self.graphed(images, labels, torch.tensor(0.1 * number))
            results.append([float(value) for value in values])
        return results


def same(a: Training, b: Training) -> bool:
    pairs = zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs) and torch.equal(a.sums, b.sums)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_replayed_steps_are_the_eager_ones(optimizer: str) -> None:
    """Over a schedule of rates, a ramp of the penalty's weight, and batches that are not full."""
    backend = RecordedGraphs()
    eager, captured = Training(optimizer), Training(optimizer, backend)
    assert captured.run(16) == eager.run(16)
    assert same(eager, captured)
    assert captured.graphed.mode == "captured" and eager.graphed.mode == "eager"
    assert len(backend.graphs) == 1 and backend.graphs[0].replays == 16 - 3 - graphs.WARM_UP - 1
    assert not captured.lines


def test_a_capture_changes_nothing() -> None:
    a, b = Training(), Training(backend=RecordedGraphs())
    a.run(graphs.WARM_UP + 1)
    b.run(graphs.WARM_UP + 1)
    assert b.graphed._captured and same(a, b)


def test_a_step_that_reads_the_device_goes_on_eagerly() -> None:
    eager, captured = Training(fault="reads"), Training(backend=RecordedGraphs(), fault="reads")
    assert captured.run(12) == eager.run(12)
    assert same(eager, captured)
    assert "cannot be captured" in captured.graphed.mode and len(captured.lines) == 1


def test_a_rate_that_is_a_number_stays_as_it_was_captured() -> None:
    """The replay is compared at other inputs than those of the capture, so that it is seen."""
    eager, captured = Training(), Training(backend=RecordedGraphs())
    for training in (eager, captured):
        training.optimizer.param_groups[0]["lr"] = 0.01
    assert captured.run(8) == eager.run(8)
    assert "differs from an eager one" in captured.graphed.mode


def test_a_replay_that_differs_is_taken_back() -> None:
    """The state is that of eager steps throughout, also of the one that was compared."""

    class Spoiled(RecordedGraphs):
        def capture(self, step: Any) -> Any:
            graph, results = super().capture(step)
            graph.calls = [call for call in graph.calls if "_fused_adam" not in str(call[0])]
            return graph, results

    eager, captured = Training(), Training(backend=Spoiled())
    assert captured.run(12) == eager.run(12)
    assert same(eager, captured)
    assert "differs from an eager one in its parameters" in captured.graphed.mode and len(captured.lines) == 1


def test_kinds_of_steps_have_graphs_of_their_own() -> None:
    backend = RecordedGraphs()
    total = torch.zeros(())

    def step(kind: str, x: Tensor) -> tuple[Tensor]:
        total.add_(x.sum() if kind == "plain" else -x.sum())
        return (total.clone(),)

    graphed = graphs.GraphedStep(step, lambda: {"sums": [total]}, rows=2, backend=backend)
    expected = 0.0
    for number in range(20):
        expected += (2 if number % 2 else -2) * number
        (value,) = graphed(torch.full((2,), float(number)), kind="plain" if number % 2 else "negative")
        assert float(value) == expected
    assert len(backend.graphs) == 2


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_an_optimiser_of_a_gpu_goes_on_on_a_cpu(name: str) -> None:
    """The rate is a tensor there and a number here, whichever of them saved the state."""
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    weight = nn.Parameter(torch.ones(3))
    weight.grad = torch.ones(3)
    optimizer = kinds[name]([weight], lr=torch.tensor(0.5), fused=True)
    optimizer.step()
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = True
    saved = copy.deepcopy(optimizer.state_dict())
    other = kinds[name]([weight], lr=0.1, fused=True)
    other.load_state_dict(saved)
    graphs.prepare(other, torch.device("cpu"))
    assert [group["lr"] for group in other.param_groups] == [0.5]
    assert not any(group.get("capturable") for group in other.param_groups)
    graphs.set_rate(other, 0.25)
    assert other.param_groups[0]["lr"] == 0.25
    other.step()


def test_nothing_that_is_not_finite_passes() -> None:
    ones, nan = [torch.ones(2)], [torch.tensor([1.0, float("nan")])]
    assert graphs.different({"sums": ones}, {"sums": ones}, {"sums": [torch.zeros(2)]}) == ""
    assert graphs.different({"sums": nan}, {"sums": ones}, {"sums": [torch.zeros(2)]}) == "sums"
    assert graphs.different({"sums": ones}, {"sums": [2 * one for one in ones]}, {"sums": ones}) == "sums"
