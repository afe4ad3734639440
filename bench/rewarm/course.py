"""One run on its way: position, learning rate, what has been measured, what to save and when it has failed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from bench import seeds
from bench.errors import FailedRun
from bench.models import pythia
from bench.rewarm import streams
from bench.rewarm.spec import PretrainSpec, moments_of
from bench.run import Result
from bench.training.context import Context

PAUSE_EVERY = 50
"""Steps after which losses are looked at and a state may be saved, if no evaluation comes before."""
EXPLODED = 2.5
"""A training loss above this many times that of a uniform guess ends the run."""
REMEMBERED = 50_000_000
"""Parameters up to which the state of the last evaluation is remembered, to be saved when a run fails."""
DECIMALS = 6
"""Of recorded losses: float32 sums have no more, and a long run's record must stay small."""

State = dict[str, Any]


class Course:
    """A run between its first step and its outcome. It holds no network: an engine does.

    Args:
        spec: the run.
        context: its surroundings.
        writes: whether this process saves, keeps and reports (the first rank does).
    """

    def __init__(self, spec: PretrainSpec, context: Context, *, writes: bool = True):
        self.spec, self.context, self.writes = spec, context, writes
        for name, checksum in streams.prepare(spec, context.data_root, workers=context.threads).items():
            context.used_data(name, checksum)
        self.stream = streams.training(spec, context.data_root)
        self.validation = streams.validation(spec, context.data_root)
        self._evaluations = frozenset(spec.evaluation_steps())
        self._by_source = spec.source_steps()
        self._kept = spec.kept_steps()
        self.step = 0
        self.series: dict[str, list[Any]] = {}
        self.sources: dict[str, list[Any]] = {}
        self.training: dict[str, list[Any]] = {"step": [], "loss": []}
        self._recent: list[Tensor] = []
        self._sum, self._count = 0.0, 0
        self._seconds, self._resumed_at = 0.0, time.monotonic()
        self._good: State | None = None
        self._limit = EXPLODED * math.log(spec.shape.vocabulary)
        self.evaluated = -1
        self.measured: Mapping[str, float] = {}
        """Losses of the evaluation that is due, as the engine found them."""
        self.facts: dict[str, Any] = {}
        """What the engine adds to the record's notes."""

    def start(self) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor] | None]:
        """Weights and moments to begin with: of an interrupted attempt, a parent, a public checkpoint, or random."""
        saved = self.context.resume()
        if saved is not None:
            self.step, self.evaluated = saved["step"], saved["evaluated"]
            self.series, self.sources, self.training = saved["series"], saved["sources"], saved["training"]
            self._sum, self._count, self._seconds = saved["sum"], saved["count"], saved["seconds"]
            return saved["weights"], saved["moments"]
        spec = self.spec
        if spec.checkpoint is not None:
            found = pythia.public_weights(
                spec.model, spec.checkpoint.step, deduped=spec.checkpoint.deduped, data_root=self.context.data_root
            )
            return pythia.check(found, spec.shape, f"Pythia-{spec.model}"), None
        if spec.parent is None:
            return pythia.initial_weights(spec.shape, seeds.generator("rewarm", "weights", spec.model, spec.seed)), None
        weights = pythia.check(self.context.parent_tensors(spec.start), spec.shape, spec.parent.label())
        kept = self.context.parent_tensors(moments_of(spec.start)) if spec.moments == "kept" else None
        return weights, kept

    @property
    def done(self) -> bool:
        return self.step >= self.spec.steps

    @property
    def evaluation_due(self) -> bool:
        return self.step in self._evaluations and self.evaluated < self.step

    @property
    def pause_due(self) -> bool:
        """Whether to look at the losses now; evaluations are pauses too."""
        return self.step % PAUSE_EVERY == 0 or self.step in self._evaluations

    def rate(self) -> float:
        return self.spec.schedule.rate(self.step)

    def position(self) -> int:
        """First sample of the next step in the training stream."""
        return (self.spec.first_step + self.step) * self.spec.batch

    def advance(self, loss: Tensor) -> None:
        """After a step; `loss` stays on the device until the next pause."""
        self._recent.append(loss)
        self.step += 1

    def look(self) -> None:
        """Fetches the losses since the last pause.

        Raises:
            FailedRun: one is not finite or has exploded; the last good state is saved.
        """
        if not self._recent:
            return
        values = torch.stack(self._recent).double().tolist()
        first = self.step - len(values)
        self._recent = []
        for number, value in enumerate(values):
            if not math.isfinite(value) or value > self._limit:
                rate = self.spec.schedule.rate(first + number)
                raise self._failed(first + number + 1, f"the training loss is {value:.4g} at learning rate {rate:.3g}")
        self._sum += math.fsum(values)
        self._count += len(values)

    def _failed(self, step: int, why: str) -> FailedRun:
        """The error that ends the run, after the last good state has been saved: an evaluation's, or an earlier save."""
        kept = ""
        if self._good is not None and self.writes:
            good = self._good
            self.context.deadline = None
            self.context.checkpoint(lambda: good, force=True)
            kept = f"; its state at step {good['step']} is kept"
        return FailedRun(self.spec.label(), step, f"{why}; lower max_lr or lengthen the warm-up{kept}")

    def record(self, state: Callable[[], State]) -> None:
        """Notes the evaluation at this step, and keeps the weights that are wanted here.

        Raises:
            FailedRun: a loss is not finite.
        """
        if not all(math.isfinite(value) for value in self.measured.values()):
            raise self._failed(self.step, "a validation loss is not finite")
        self.evaluated = self.step
        losses = {name: round(value, DECIMALS) for name, value in self.measured.items()}
        whole = {name: value for name, value in losses.items() if "." not in name}
        parts = {name: value for name, value in losses.items() if "." in name}
        tokens = self.step * self.spec.tokens_per_step
        _append(self.series, {"step": self.step, "tokens": tokens, "lr": float(f"{self.rate():.9g}"), **whole})
        if parts and self.step in self._by_source:
            _append(self.sources, {"step": self.step, **parts})
        if self._count:
            _append(self.training, {"step": self.step, "loss": round(self._sum / self._count, DECIMALS)})
            self._sum, self._count = 0.0, 0
        if self.step in self._kept and self.step > 0:
            now = state()  # on every rank: a sharded network is gathered
            if self.writes:
                name = self._kept[self.step]
                self.context.keep(name, now["weights"])
                if self.spec.keep_moments:
                    self.context.keep(moments_of(name), now["moments"])
        if self.writes and self.spec.parameters() <= REMEMBERED and self.spec.sharding == "replicate":
            self._good = self.state(state())

    def state(self, engine: State) -> State:
        """Everything needed to go on bit for bit."""
        return {
            **engine,
            "step": self.step,
            "evaluated": self.evaluated,
            "series": {name: list(values) for name, values in self.series.items()},
            "sources": {name: list(values) for name, values in self.sources.items()},
            "training": {name: list(values) for name, values in self.training.items()},
            "sum": self._sum,
            "count": self._count,
            "seconds": self._elapsed(),
        }

    def save(self, state: Callable[[], State]) -> None:
        """A moment at which a state may be saved.

        Raises:
            OutOfTime: the time budget is over; the state has been saved.
        """
        if self.spec.sharding == "shard":
            now = state()  # gathered by all ranks, whether or not it is time to write
            state = lambda: now  # noqa: E731
        if not self.writes:
            return
        self.context.checkpoint(lambda: self.state(self._finite(state())))
        shown = {name: values[-1] for name, values in self.series.items() if name in ("loss_up", "loss_dn")}
        self.context.progress(self.step, self.spec.steps, "step", **shown)

    def _finite(self, engine: State) -> State:
        """Refuses to save broken weights: the loss that shows them comes with the next step."""
        for name, weight in engine["weights"].items():
            if not bool(torch.isfinite(weight).all()):
                raise self._failed(self.step, f"{name} is not finite")
        return engine

    def _elapsed(self) -> float:
        return self._seconds + time.monotonic() - self._resumed_at

    def outcome(self) -> Result:
        """What the run reports; seconds are those of the run in its company."""
        spec = self.spec
        evaluations = self.series
        metrics = {f"{name}_start": evaluations[name][0] for name in ("loss_up", "loss_dn")}
        metrics |= {f"{name}_end": evaluations[name][-1] for name in ("loss_up", "loss_dn")}
        tokens = spec.steps * spec.tokens_per_step
        seconds = self._elapsed()
        costs = {
            "steps": float(spec.steps),
            "tokens": float(tokens),
            "seconds": seconds,
            "tokens_per_second": tokens / seconds,
        }
        notes = {
            "warmup_steps": spec.schedule.warmup_steps,
            "schedule_steps": spec.schedule.steps,
            "tokens_per_step": spec.tokens_per_step,
            "origin": spec.origin(),
            **self.facts,
        }
        series = {"evaluations": evaluations, "training": self.training}
        return Result(metrics, series | ({"sources": self.sources} if self.sources else {}), costs, notes)


def _append(columns: dict[str, list[Any]], row: Mapping[str, Any]) -> None:
    for name, value in row.items():
        columns.setdefault(name, []).append(value)
