"""Small networks of every architecture, and contexts of runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench import models
from bench.certified.eps_schedule import Schedule
from bench.certified.spec import Certified, Network
from bench.paths import Layout
from bench.training.context import Context

ARCHITECTURES: list[tuple[str, str, tuple[int, int, int], int]] = [
    ("cnn7", "full", (3, 12, 12), 5),
    ("cnn7", "convs", (3, 12, 12), 5),
    ("cnn7", "partial", (3, 12, 12), 5),
    ("cnn7", "none", (3, 12, 12), 5),
    ("cnn7", "full", (1, 28, 28), 10),
    ("wide_resnet8", "full", (3, 12, 12), 5),
    ("wide_resnet8", "none", (3, 12, 12), 5),
    ("resnext", "full", (3, 12, 12), 5),
    ("resnext", "partial", (3, 64, 64), 7),
]
"""Name, BatchNorm, image shape, classes; the last has identity shortcuts and strided grouped convolutions."""


def network(name: str, norm: str, shape: tuple[int, int, int], classes: int, *, trained: bool = True) -> nn.Module:
    """A network of reduced width, with weights and statistics as training leaves them or as drawn."""
    options: dict[str, Any] = {} if norm == "full" else {"norm": norm}
    model = models.build_seeded(name, 1, num_classes=classes, in_shape=shape, width=4, units=8, **options)
    if trained:
        draw = torch.Generator().manual_seed(2)
        for tensor in model.parameters():
            tensor.data += 0.1 * torch.randn(tensor.shape, generator=draw)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean += 0.3 * torch.randn(module.num_features, generator=draw)
                module.running_var *= 0.5 + torch.rand(module.num_features, generator=draw)
    return model


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads wait for each other longer than layers of these sizes take, on a busy machine a hundred times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=ARCHITECTURES, ids=lambda a: f"{a[0]}-{a[1]}-{a[2][1]}")
def architecture(request: pytest.FixtureRequest) -> tuple[str, str, tuple[int, int, int], int]:
    return request.param


MakeContext = Callable[..., Context]


@pytest.fixture
def make_context(tmp_path: Path) -> MakeContext:
    def make(spec: Any, key: str = "key", **fields: Any) -> Context:
        layout = Layout("test", tmp_path / "results")
        device = torch.device("cpu")
        return Context(key=key, label=spec.label(), layout=layout, device=device, compile="never", **fields)

    return make


def tiny(**fields: Any) -> Certified:
    """Eight steps in three epochs on generated images of scale ci."""
    defaults: dict[str, Any] = {
        "seed": 7,
        "dataset": "synthetic_certified",
        "network": Network(width=2, units=8),
        "schedule": Schedule(zero=1, ramp=2, final=1, milestones=(3,)),
        "population": 70,
        "report_samples": 40,
    }
    return Certified(**{**defaults, **fields})
