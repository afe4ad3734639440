"""Seconds of a training epoch in each phase, of trainings that alternate on the machine at hand (Table 3)."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import torch

from bench.certified.eps_schedule import PHASES
from bench.certified.spec import Certified, TimingComparison, seconds_metric
from bench.certified.train import Trainer
from bench.run import Result
from bench.training.policy import tf32

if TYPE_CHECKING:
    from bench.training.context import Context


class Stopwatch:
    """Times parts of one training: whole epochs, or a number of steps of each, scaled to an epoch.

    Attributes:
        lengths: phase -> its epochs, of the phases that the schedule has.
        samples: trained on in one part.
    """

    def __init__(self, training: Certified, steps: int | None, context: Context):
        self.tf32, self.device = training.tf32, context.device
        self.trainer = Trainer(training, context)
        schedule = training.schedule
        # The middle of each phase: its first batch may be of another kind (eps = 0 at the start of the ramp).
        self.middle = {
            "zero": schedule.zero // 2,
            "ramp": schedule.zero + schedule.ramp // 2,
            "final": schedule.warmup + schedule.final // 2,
        }
        self.lengths = {phase: epochs for phase, epochs in schedule.lengths().items() if epochs}
        self.starts = self.trainer.starts[:steps]
        # Only batches of the full size count where an epoch is scaled.
        self.scale = self.trainer.per_epoch / len(self.starts)
        self.samples = len(self.starts) * training.batch_size

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def measure(self, phase: str) -> float:
        """Seconds of an epoch of a phase."""
        self._synchronize()
        started = time.perf_counter()
        with tf32(self.tf32):
            self.trainer.train_epoch(self.middle[phase], self.starts)
        self._synchronize()
        return (time.perf_counter() - started) * self.scale


def train(spec: TimingComparison, context: Context) -> Result:
    """Times each phase after a part that warms up, the trainings one after the other; nothing is evaluated.

    A part is short against the changes of a machine's speed, which therefore meet all trainings alike.
    """
    watches = {
        name: Stopwatch(training, spec.steps, context) for name, training in zip(spec.names, spec.of, strict=True)
    }
    columns: dict[str, list[Any]] = {"name": [], "phase": [], "repeat": [], "seconds_epoch": []}
    metrics: dict[str, float] = {}
    totals = dict.fromkeys(watches, 0.0)
    parts = spec.repeats * sum(len(watch.lengths) for watch in watches.values())
    samples = 0
    for phase in PHASES:
        timed = {name: watch for name, watch in watches.items() if phase in watch.lengths}
        seconds: dict[str, list[float]] = {name: [] for name in timed}
        for repeat in range(-1, spec.repeats):
            for name, watch in timed.items():
                value = watch.measure(phase)
                samples += watch.samples
                if repeat >= 0:
                    seconds[name].append(value)
                    for column, entry in zip(columns.values(), (name, phase, repeat, value), strict=True):
                        column.append(entry)
            context.progress(len(columns["phase"]), parts, "epochs")
        for name, watch in timed.items():
            mean = statistics.fmean(seconds[name])
            metrics[seconds_metric(phase, name)] = mean
            totals[name] += watch.lengths[phase] * mean
    metrics |= {seconds_metric("total", name): total for name, total in totals.items()}
    return Result(metrics, {"epochs": columns}, {"samples": float(samples), "seconds": sum(totals.values())})
