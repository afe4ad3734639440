"""What a run is: one configuration trained with one seed, its cost, and what it reports."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field


class StrictModel(BaseModel):
    """A validated, hashable value: unknown keys are errors and nothing changes after construction."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Cost:
    """Estimated work of a run.

    Attributes:
        amount: samples (or tokens) that are trained on, each counted once per visit.
        flops: floating-point operations of training and evaluation.
        unit: what `amount` counts, "samples" or "tokens".
        kind: names the measured throughput that turns flops into hours (see `bench.workflow.plan.throughput`).
        memory_mb: peak memory of the process, MiB.
    """

    amount: float
    flops: float
    unit: str = "samples"
    kind: str = "default"
    memory_mb: int = 2000


@dataclass(frozen=True)
class Result:
    """What training returns; everything in it is finite, or the run has failed.

    Attributes:
        metrics: final scalars, in the papers' units (percent, nats).
        series: name -> columns of equal length, e.g. ``{"epochs": {"epoch": [...], "val_acc": [...]}}``.
        costs: what it took (samples, steps, seconds by phase); never part of a bit-for-bit comparison.
        notes: facts that explain a metric, such as which stopping rule fired.
    """

    metrics: dict[str, float]
    series: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


SMOKE_BATCH = 16
"""Samples of a step of `RunSpec.smoke` at most: enough for BatchNorm, few enough for every network on 16 GB."""


class RunSpec(StrictModel):
    """One configuration and one seed; papers subclass it and may add ``parent: SomeSpec | None``.

    The identity of a run is the hash of its whole chain of parents. Fields at their default do not enter it, so a new
    option invalidates no record.
    """

    kind: ClassVar[str] = ""
    """Name of this kind of run in its identity; it stays when files are renamed."""
    trainer: ClassVar[str] = ""
    """Dotted module with ``train(spec, context) -> Result``."""
    whole_machine: ClassVar[bool] = False
    """Whether it needs the machine to itself, because it measures time."""
    version: ClassVar[int] = 1
    """Raised when the meaning of the fields changes."""

    seed: int = Field(ge=0, description="repetition; runs that differ in it alone form a group")

    def cost(self) -> Cost:
        raise NotImplementedError

    def label(self) -> str:
        """A short name for people: logs, progress, errors."""
        return f"{type(self).__name__} seed {self.seed}"

    def gpus(self, offered: int) -> int:
        """Number of GPUs, of the `offered` ones of one machine, that the run uses; several are driven by torchrun."""
        return min(1, offered)

    def keeps(self) -> tuple[str, ...]:
        """Names of the artefacts that the run leaves for children or verification."""
        return ()

    def needs(self) -> tuple[str, ...]:
        """Names of the parent's artefacts that the run starts from."""
        return () if self.parent_spec is None else ("weights",)

    def code(self) -> tuple[str, ...]:
        """Modules whose code decides the result, beside what `trainer` imports: models found by name, methods."""
        return ()

    def smoke(self) -> RunSpec:
        """The run in its true shape, cut to two training steps and one evaluation on generated samples."""
        raise NotImplementedError

    def data(self) -> tuple[str, ...]:
        """Names of the data sets that must be there before the run starts."""
        return ()

    @classmethod
    def remarks(cls, specs: Sequence[Self]) -> list[str]:
        """Lines that `plan` prints about runs of this class, such as what they are trained on, and warnings."""
        return []

    @property
    def parent_spec(self) -> RunSpec | None:
        return getattr(self, "parent", None)

    def chain(self) -> Iterator[RunSpec]:
        """The run and its ancestors, youngest first."""
        spec: RunSpec | None = self
        while spec is not None:
            yield spec
            spec = spec.parent_spec

    def description(self) -> dict[str, Any]:
        """The fields that depart from their defaults, plus kind and version, as JSON values."""
        fields = self.model_dump(mode="json", exclude_defaults=True, exclude={"parent"})
        parent = self.parent_spec
        inherited = {} if parent is None else {"parent": parent.description()}
        # The seed is named even where a subclass gives it a default.
        return {"kind": self.kind, "version": self.version, "seed": self.seed, **fields, **inherited}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        copied = super().model_copy(update=update, deep=deep)
        for name in ("identity", "group"):  # pydantic copies cached properties too
            copied.__dict__.pop(name, None)
        return copied

    @cached_property
    def identity(self) -> str:
        """Sixteen hexadecimal digits of the hash of `description`."""
        text = json.dumps(self.description(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def group(self) -> str:
        """Identity without the seeds along the chain: equal for repetitions of one configuration."""

        def without_seed(description: dict[str, Any]) -> dict[str, Any]:
            return {
                name: without_seed(value) if name == "parent" else value
                for name, value in description.items()
                if name != "seed"
            }

        text = json.dumps(without_seed(self.description()), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]
