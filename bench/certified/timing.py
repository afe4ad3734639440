"""Seconds of a training epoch in each phase, on the machine at hand (Table 3)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from bench.certified.spec import PHASES, Timing
from bench.certified.train import Trainer, tf32
from bench.run import Outcome

if TYPE_CHECKING:
    from bench.training.context import Context


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def train(spec: Timing, context: Context) -> Outcome:
    """Times whole epochs, or `steps` of each scaled to an epoch, after one that warms up; nothing is evaluated."""
    trainer = Trainer(spec.of, context)
    schedule = spec.of.schedule
    # The middle of each phase: its first batch may be of another kind (eps = 0 at the start of the ramp).
    middle = {
        "zero": schedule.zero // 2,
        "ramp": schedule.zero + schedule.ramp // 2,
        "final": schedule.warmup + schedule.final // 2,
    }
    length = {"zero": schedule.zero, "ramp": schedule.ramp, "final": schedule.final}
    starts = trainer.starts[: spec.steps]
    # Only batches of the full size count where an epoch is scaled.
    scale = trainer.per_epoch / len(starts)
    columns: dict[str, list[Any]] = {"phase": [], "repeat": [], "seconds_epoch": []}
    metrics: dict[str, float] = {}
    total = 0.0
    for phase in PHASES:
        if not length[phase]:
            continue
        measured = []
        for repeat in range(-1, spec.repeats):
            _wait(context.device)
            started = time.perf_counter()
            with tf32(spec.of.tf32):
                trainer.train_epoch(middle[phase], starts)
            _wait(context.device)
            seconds = (time.perf_counter() - started) * scale
            if repeat >= 0:
                measured.append(seconds)
                for name, value in zip(columns, (phase, repeat, seconds), strict=True):
                    columns[name].append(value)
            context.progress(len(columns["phase"]), spec.repeats * len(length), "epochs")
        mean = sum(measured) / len(measured)
        metrics[f"seconds_{phase}"] = mean
        total += length[phase] * mean
    metrics["seconds_total"] = total
    visited = (spec.repeats + 1) * len(starts) * spec.of.batch_size * sum(map(bool, length.values()))
    # What the epochs compute is no result: only their times are.
    return Outcome(metrics, {"epochs": columns}, {"samples": float(visited), "seconds": total})
