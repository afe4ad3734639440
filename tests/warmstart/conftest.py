"""Small runs of the warm-start trainer and the surroundings that they need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.paths import Layout
from bench.run import Result
from bench.training.context import Context
from bench.warmstart import train as training
from bench.warmstart.spec import FRESH, Network, Optimizer, Round, Stop, Training


@dataclass
class Surroundings(Context):
    """A context whose time is over at its `ends_at`-th boundary."""

    ends_at: int = 0
    boundaries: int = 0

    def checkpoint(self, make_state: Callable[[], Mapping[str, Any]], *, force: bool = False) -> None:
        self.boundaries += 1
        if self.boundaries == self.ends_at:
            self.deadline = 0.0
        super().checkpoint(make_state, force=force)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def surroundings(tmp_path: Path) -> Callable[..., Surroundings]:
    """``surroundings(spec, parent=other)``: what a run needs, below a temporary folder."""

    def make(spec: Training, **fields: Any) -> Surroundings:
        parent = None if spec.parent is None else spec.parent.identity
        return Surroundings(
            key=spec.identity,
            label=spec.label(),
            layout=Layout("toy", tmp_path),
            device=torch.device("cpu"),
            compile="never",
            parent_key=parent,
            **fields,
        )

    return make


@pytest.fixture
def trained(surroundings: Callable[..., Surroundings]) -> Callable[[Training], Result]:
    """Trains a run, its parents first."""

    def train(spec: Training) -> Result:
        if spec.parent is not None:
            train(spec.parent)
        return training.train(spec, surroundings(spec))

    return train


@pytest.fixture
def toy() -> Callable[..., Training]:
    """A run on random pixels: 96 images of which 64 are fitted, three epochs a round, batches of 24."""

    def make(**fields: Any) -> Training:
        chosen: dict[str, Any] = {
            "seed": 0,
            "generated": 96,
            "network": Network(name="thin_resnet18", width=8),
            "optimizer": Optimizer(name="adam", batch_size=24),
            "rounds": (Round(samples=64, start=FRESH),),
            "stop": Stop(epochs=3),
        }
        return Training(**{**chosen, **fields})

    return make
