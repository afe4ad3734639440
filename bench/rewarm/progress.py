"""State of one run: step, evaluations, losses since the last look, what to save, and when it has failed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from bench.errors import FailedRun
from bench.rewarm.engine import State
from bench.rewarm.spec import PretrainSpec, moments_of
from bench.run import Result
from bench.training.context import Context

PAUSE_EVERY = 50
"""Steps after which losses are fetched and a state may be saved, if no evaluation comes before."""
EXPLODED = 2.5
"""A training loss above this many times that of a uniform guess ends the run."""
REMEMBERED = 50_000_000
"""Parameters up to which the state of the last evaluation is remembered, to be saved when a run fails."""
DECIMALS = 6
"""Of recorded losses: float32 sums have no more, and a long run's record must stay small."""


class Progress:
    """A run between its first step and its result. The weights are the engine's.

    Args:
        spec: the run.
        context: its surroundings.
        saved: what `state` gave in an interrupted attempt.
        writes: whether this process saves, keeps and reports; the first rank does.
    """

    def __init__(
        self, spec: PretrainSpec, context: Context, saved: Mapping[str, Any] | None = None, *, writes: bool = True
    ):
        self.spec, self.context, self.writes = spec, context, writes
        saved = saved or {}
        self.step: int = saved.get("step", 0)
        self._evaluated: int = saved.get("evaluated", -1)
        self._series: dict[str, list[Any]] = saved.get("series", {})
        self._sources: dict[str, list[Any]] = saved.get("sources", {})
        self._training: dict[str, list[Any]] = saved.get("training", {"step": [], "loss": []})
        self._sum: float = saved.get("sum", 0.0)
        self._count: int = saved.get("count", 0)
        self._seconds: float = saved.get("seconds", 0.0)
        self._began = time.monotonic()
        self._recent: list[Tensor] = []
        self._good: dict[str, Any] | None = None
        self._evaluations = frozenset(spec.evaluation_steps())
        self._by_source = spec.source_steps()
        self._kept = spec.kept_steps()
        self._limit = EXPLODED * math.log(spec.shape.vocabulary)

    @property
    def done(self) -> bool:
        return self.step >= self.spec.steps

    @property
    def position(self) -> int:
        """First sample of the next step in the training stream."""
        return (self.spec.first_step + self.step) * self.spec.batch

    @property
    def evaluation_due(self) -> bool:
        return self.step in self._evaluations and self._evaluated < self.step

    @property
    def pause_due(self) -> bool:
        """Whether to fetch losses and perhaps save now; evaluations are pauses too."""
        return self.step % PAUSE_EVERY == 0 or self.step in self._evaluations

    def advance(self, loss: Tensor) -> None:
        """Counts a step; `loss` stays on the device until the next pause."""
        self._recent.append(loss)
        self.step += 1

    def pause(self, losses: Mapping[str, float], engine: Callable[[], State]) -> None:
        """Checks the losses, notes an evaluation, keeps weights for children, and saves when it is time.

        Args:
            losses: of the evaluation at this step; empty where none is due.
            engine: gives the engine's state; called on every rank or on none, since a sharded network is gathered.

        Raises:
            FailedRun: a loss or a weight is not finite or a loss has exploded; the last good state has been saved.
            OutOfTime: the time budget is over; the state has been saved.
        """
        self._check_recent()
        if losses:
            self._record(losses)
            self._keep(engine)
        self._save(engine)

    def _check_recent(self) -> None:
        """Fetches the training losses since the last pause."""
        if not self._recent:
            return
        values = torch.stack(self._recent).double().tolist()
        first = self.step - len(values)
        self._recent = []
        for step, value in enumerate(values, start=first):
            if not math.isfinite(value) or value > self._limit:
                rate = self.spec.schedule.rate(step)
                raise self._failure(step + 1, f"the training loss is {value:.4g} at learning rate {rate:.3g}")
        self._sum += math.fsum(values)
        self._count += len(values)

    def _record(self, losses: Mapping[str, float]) -> None:
        if not all(math.isfinite(value) for value in losses.values()):
            raise self._failure(self.step, "a validation loss is not finite")
        self._evaluated = self.step
        rounded = {name: round(value, DECIMALS) for name, value in losses.items()}
        by_source = {name: value for name, value in rounded.items() if "." in name}
        blended = {name: value for name, value in rounded.items() if name not in by_source}
        tokens = self.step * self.spec.tokens_per_step
        rate = float(f"{self.spec.schedule.rate(self.step):.9g}")
        _append(self._series, {"step": self.step, "tokens": tokens, "lr": rate, **blended})
        if by_source and self.step in self._by_source:
            _append(self._sources, {"step": self.step, **by_source})
        if self._count:
            _append(self._training, {"step": self.step, "loss": round(self._sum / self._count, DECIMALS)})
            self._sum, self._count = 0.0, 0

    def _keep(self, engine: Callable[[], State]) -> None:
        """Leaves the weights that children start from, and remembers this state in case the run fails."""
        if self.step in self._kept and self.step > 0:
            state = engine()
            if self.writes:
                name = self._kept[self.step]
                self.context.keep(name, state["weights"])
                if self.spec.keep_moments:
                    self.context.keep(moments_of(name), state["moments"])
        if self.writes and self.spec.parameters() <= REMEMBERED and self.spec.sharding == "replicate":
            self._good = self.state(engine())

    def _save(self, engine: Callable[[], State]) -> None:
        if self.spec.sharding == "shard":
            gathered = engine()  # by all ranks, whether or not it is time to write
            engine = lambda: gathered  # noqa: E731
        if not self.writes:
            return
        self.context.checkpoint(lambda: self.state(self._finite(engine())))
        latest = {name: self._series[name][-1] for name in ("loss_up", "loss_dn") if name in self._series}
        self.context.progress(self.step, self.spec.steps, "steps", **latest)

    def _finite(self, engine: State) -> State:
        """Refuses to save broken weights: the loss that shows them comes with the next step."""
        for name, weight in engine["weights"].items():
            if not bool(torch.isfinite(weight).all()):
                raise self._failure(self.step, f"{name} is not finite")
        return engine

    def _failure(self, step: int, why: str) -> FailedRun:
        """The error that ends the run, after the last good state has been saved: an evaluation's, or an earlier save."""
        kept = ""
        if self._good is not None and self.writes:
            good = self._good
            self.context.deadline = None
            self.context.checkpoint(lambda: good, force=True)
            kept = f"; its state at step {good['step']} is kept"
        return FailedRun(self.spec.label(), step, f"{why}; lower max_lr or lengthen the warm-up{kept}")

    def state(self, engine: State) -> dict[str, Any]:
        """Everything needed to go on bit for bit."""
        return {
            **engine,
            "step": self.step,
            "evaluated": self._evaluated,
            "series": {name: list(values) for name, values in self._series.items()},
            "sources": {name: list(values) for name, values in self._sources.items()},
            "training": {name: list(values) for name, values in self._training.items()},
            "sum": self._sum,
            "count": self._count,
            "seconds": self._elapsed(),
        }

    def _elapsed(self) -> float:
        return self._seconds + time.monotonic() - self._began

    def result(self, facts: Mapping[str, Any]) -> Result:
        """What the run reports.

        Args:
            facts: what the engine adds to the notes.
        """
        spec = self.spec
        metrics = {f"{name}_start": self._series[name][0] for name in ("loss_up", "loss_dn")}
        metrics |= {f"{name}_end": self._series[name][-1] for name in ("loss_up", "loss_dn")}
        tokens, seconds = spec.steps * spec.tokens_per_step, self._elapsed()
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
            **facts,
        }
        series = {"evaluations": self._series, "training": self._training}
        return Result(metrics, series | ({"sources": self._sources} if self._sources else {}), costs, notes)


def _append(columns: dict[str, list[Any]], row: Mapping[str, Any]) -> None:
    for name, value in row.items():
        columns.setdefault(name, []).append(value)
