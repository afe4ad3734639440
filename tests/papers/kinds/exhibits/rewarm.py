"""Pre-training on a generated language, and two continuations on another: rewarmed, and with kept moments."""

from __future__ import annotations

from typing import Any

from bench_extra.kinds.tiny import Settings, draw, rows

from bench.exhibit import Arm
from bench.rewarm.spec import Evaluation, Generated, PretrainSpec, Schedule

__all__ = ["Settings", "draw", "rows"]
CAPTION = "Metrics of the three runs."


def common(seed: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "model": "2x32x2",
        "vocabulary": 16,
        "context": 16,
        "batch": 4,
        "corpora": Generated(vocabulary=16, validation_windows=8),
        "evaluation": Evaluation(every=4, dense_every=2, dense_until=0.25),
    }


def upstream(seed: int) -> PretrainSpec:
    schedule = Schedule(max_lr=3e-3, steps=8)
    return PretrainSpec(**common(seed), train_on="upstream", schedule=schedule, keep=(0.5,), keep_moments=True)


def rewarmed(seed: int) -> PretrainSpec:
    return PretrainSpec(**common(seed), schedule=Schedule(max_lr=3e-3, steps=8, warmup=0.2), parent=upstream(seed))


def continued(seed: int) -> PretrainSpec:
    return PretrainSpec(
        **common(seed),
        schedule=Schedule(max_lr=1e-3, steps=8),
        parent=upstream(seed),
        start="step4",
        moments="kept",
        micro_batch=2,
    )


def arms(settings: Settings):
    yield Arm({"method": "upstream"}, upstream)
    yield Arm({"method": "rewarmed"}, rewarmed)
    yield Arm({"method": "continued"}, continued)
