"""Timings of several trainings that are compared, as one run: measured in turns, since the speed of a machine drifts."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from bench.certified.sizes import PROCESS_MB
from bench.certified.spec import Timing
from bench.run import Cost, RunSpec


def seconds_metric(span: str, name: str = "") -> str:
    """A record's metric: seconds of an epoch of a phase, or of the whole schedule (``total``), of what is so named."""
    return f"seconds_{span}_{name}" if name else f"seconds_{span}"


class Turns(RunSpec):
    """Seconds of a training epoch in each phase, of several trainings that take turns.

    A record has what the record of a `Timing` has, for each name: metrics with the name behind (``seconds_ramp_ours``), and
    it in the column ``name`` of the series ``epochs``.
    """

    kind: ClassVar[str] = "certified/timing"
    trainer: ClassVar[str] = "bench.certified.timing"
    whole_machine: ClassVar[bool] = True

    names: tuple[str, ...] = Field(min_length=1, description="what the timings are called, in the order of `of`")
    of: tuple[Timing, ...] = Field(min_length=1, description="what takes turns")

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        if len(set(self.names)) != len(self.of) or len(self.names) != len(self.of):
            raise ValueError(f"{len(self.of)} timings need as many different names, not {', '.join(self.names)}")
        if len({timing.repeats for timing in self.of}) > 1:
            raise ValueError("timings that take turns are repeated equally often")
        return self

    def cost(self) -> Cost:
        costs = [timing.cost() for timing in self.of]
        memory = PROCESS_MB + sum(cost.memory_mb - PROCESS_MB for cost in costs)
        first = costs[0]
        return Cost(
            sum(cost.amount for cost in costs), sum(cost.flops for cost in costs), first.unit, first.kind, memory
        )

    def parameters(self) -> int:
        return 0

    def label(self) -> str:
        first = self.of[0].of
        return f"timing of {first.dataset} {first.network.name}, {', '.join(self.names)}, seed {self.seed}"

    def data(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for timing in self.of for name in timing.data()))

    def code(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(module for timing in self.of for module in timing.code()))

    def smoke(self) -> Turns:
        return self.model_copy(update={"seed": 0, "of": tuple(timing.smoke() for timing in self.of)})
