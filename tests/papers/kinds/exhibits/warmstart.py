"""Two rounds of a small convolutional network, kept weights, and a run that starts from them."""

from __future__ import annotations

from typing import Any

from bench_extra.kinds.tiny import Settings, draw, rows

from bench.exhibit import Arm
from bench.warmstart.spec import FRESH, Network, Optimizer, Restart, Round, Stop, Training

__all__ = ["Settings", "draw", "rows"]
CAPTION = "Metrics of both runs."


def common(seed: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "dataset": "synthetic",
        "generated": 96,
        "network": Network(name="thin_resnet18", width=8),
        "optimizer": Optimizer(name="adam", batch_size=24),
        "stop": Stop(epochs=2),
    }


def first(seed: int) -> Training:
    shrunk = Restart(method="shrink_perturb", shrink=0.4, perturb=0.1)
    rounds = (Round(samples=32, start=FRESH), Round(samples=64, start=shrunk))
    return Training(**common(seed), rounds=rounds, keep_epochs=(1,), leaves=True)


def second(seed: int) -> Training:
    return Training(**common(seed), rounds=(Round(samples=64),), parent=first(seed))


def arms(settings: Settings):
    yield Arm({"method": "first phase"}, first)
    yield Arm({"method": "second phase"}, second)
