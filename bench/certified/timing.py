"""Seconds of a training epoch in each phase, on the machine at hand (Table 3)."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import torch

from bench.certified.spec import PHASES, Timing
from bench.certified.train import Trainer, tf32
from bench.certified.turns import Turns, seconds_metric
from bench.run import Result

if TYPE_CHECKING:
    from bench.training.context import Context


class Stopwatch:
    """Times stretches of one training: whole epochs, or so many steps of each, scaled to an epoch.

    Attributes:
        length: phase -> its epochs, of the phases that the schedule has.
        samples: visited by a stretch.
    """

    def __init__(self, spec: Timing, context: Context):
        self.spec, self.device = spec, context.device
        self.trainer = Trainer(spec.of, context)
        schedule = spec.of.schedule
        # The middle of each phase: its first batch may be of another kind (eps = 0 at the start of the ramp).
        self.middle = {
            "zero": schedule.zero // 2,
            "ramp": schedule.zero + schedule.ramp // 2,
            "final": schedule.warmup + schedule.final // 2,
        }
        length = {"zero": schedule.zero, "ramp": schedule.ramp, "final": schedule.final}
        self.length = {phase: epochs for phase, epochs in length.items() if epochs}
        self.starts = self.trainer.starts[: spec.steps]
        # Only batches of the full size count where an epoch is scaled.
        self.scale = self.trainer.per_epoch / len(self.starts)
        self.samples = len(self.starts) * spec.of.batch_size

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def stretch(self, phase: str) -> float:
        """Seconds of an epoch of a phase; what it computes is no result."""
        self._wait()
        started = time.perf_counter()
        with tf32(self.spec.of.tf32):
            self.trainer.train_epoch(self.middle[phase], self.starts)
        self._wait()
        return (time.perf_counter() - started) * self.scale


def train(spec: Timing | Turns, context: Context) -> Result:
    """Times each phase after a stretch that warms up, in turns where there are several; nothing is evaluated.

    Stretches that are short against the changes of a machine's speed meet all trainings alike, so that many of them give
    ratios that can be trusted.
    """
    timings = {"": spec} if isinstance(spec, Timing) else dict(zip(spec.names, spec.of, strict=True))
    watches = {name: Stopwatch(timing, context) for name, timing in timings.items()}
    (repeats,) = {timing.repeats for timing in timings.values()}
    columns: dict[str, list[Any]] = {"name": [], "phase": [], "repeat": [], "seconds_epoch": []}
    metrics: dict[str, float] = {}
    totals = dict.fromkeys(watches, 0.0)
    visited = 0
    for phase in PHASES:
        taking = {name: watch for name, watch in watches.items() if phase in watch.length}
        measured: dict[str, list[float]] = {name: [] for name in taking}
        for repeat in range(-1, repeats):
            for name, watch in taking.items():
                seconds = watch.stretch(phase)
                visited += watch.samples
                if repeat >= 0:
                    measured[name].append(seconds)
                    for column, value in zip(columns.values(), (name, phase, repeat, seconds), strict=True):
                        column.append(value)
            context.progress(
                len(columns["phase"]), repeats * sum(len(watch.length) for watch in watches.values()), "epochs"
            )
        for name, watch in taking.items():
            mean = statistics.fmean(measured[name])
            metrics[seconds_metric(phase, name)] = mean
            totals[name] += watch.length[phase] * mean
    metrics |= {seconds_metric("total", name): total for name, total in totals.items()}
    return Result(metrics, {"epochs": columns}, {"samples": float(visited), "seconds": sum(totals.values())})
