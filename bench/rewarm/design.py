"""The experimental design: settings with the paper's values, and its sixteen runs by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from pydantic import Field

from bench.exhibit import Arm, ExhibitSettings
from bench.rewarm.spec import (
    PAPERS_TEXT,
    Checkpoint,
    Data,
    Evaluation,
    Optimizer,
    PretrainSpec,
    Schedule,
    Side,
)

SHORT = 22_114 / 131_296
"""Where the short runs stop (50 B tokens), as a share of the schedule; no schedule is shortened."""
LONG = 105_837 / 131_296
"""Where the long runs stop (239.3 B tokens): the rate has reached its floor."""

CONSTANT, HALF, SAME, DOUBLE = 0.1, 0.5, 1.0, 2.0
"""Learning rates as multiples of the peak of pre-training; 0.1 is its floor, held constant without warm-up."""
WARMUPS = (0.0, 0.005, 0.01, 0.02)

MODEL = "Pythia-410M"
"""The paper's model, under whose name numbers stand; at a reduced scale another stands in for it."""
PILE, SLIMPAJAMA = "Pile", "SlimPajama"
"""The paper's names of the two corpora; at a reduced scale others stand in for them."""
CORPORA = (PILE, SLIMPAJAMA)

Start = Literal["random", "10000", "27000", "143000"]
PUBLIC_STEPS: dict[str, int] = {"10000": 10_000, "27000": 27_000, "143000": 143_000}
PYTHIA_STEPS = 143_000


class RewarmSettings(ExhibitSettings):
    """Settings that every exhibit of this paper has; the tags are those of ``bench/rewarm/protocol.md``."""

    seeds: int = Field(1, ge=1, le=1000, description="repetitions of each configuration; the paper has one [P]")
    model: str = Field("410m", description="shape by name, or layers x width x heads as 4x128x4 [P]")
    vocabulary: int | None = Field(None, ge=1, le=65_536, description="rows of the embeddings; the shape's by default")
    context: int | None = Field(None, ge=2, description="tokens of a sequence; the shape's by default (2048) [A]")
    corpora: Data = Field(PAPERS_TEXT, description="the two corpora: text, or generated languages [P]")
    mixture: dict[str, float] = Field(
        default_factory=dict,
        description="weights of the downstream sources in training instead of Table 1's; the authors' configuration "
        "may have lacked Wikipedia and Book [U]",
    )
    start: Literal["public", "trained"] = Field(
        "public", description="start from the public Pythia checkpoints [P], or from upstream runs trained here"
    )
    deduped: bool = Field(False, description="start from Pythia of the deduplicated Pile [U]")
    max_lr: float = Field(3e-4, gt=0, le=1, description="peak of pre-training; re-warmed to 0.5, 1 and 2 times it [P]")
    optimizer: Optimizer = Field(default_factory=Optimizer, description="AdamW and clipping of all runs [P]")
    schedule_steps: int = Field(131_296, ge=10, description="length of the downstream schedule, steps [A]")
    upstream_steps: int = Field(PYTHIA_STEPS, ge=10, description="length of pre-training, steps [A]")
    batch: int = Field(1104, ge=1, description="sequences in a downstream step [A]")
    upstream_batch: int = Field(1024, ge=1, description="sequences in a step of pre-training [A]")
    micro_batch: int = Field(16, ge=0, description="sequences at once on a device, gradients add up; 0 for all")
    precision: Literal["float32", "bf16"] = Field(
        "bf16", description="arithmetic; bf16 stands for the paper's fp16, weights stay float32"
    )
    evaluation: Evaluation = Field(default_factory=Evaluation, description="when validation losses are taken [A]")

    def upstream(self, seed: int) -> PretrainSpec:
        """Pre-training as Pythia's: 1 % warm-up, keeping the states that later runs start from."""
        early = tuple(PUBLIC_STEPS[name] / PYTHIA_STEPS for name in ("10000", "27000"))
        return self._run(
            seed,
            train_on="upstream",
            schedule=Schedule(max_lr=self.max_lr, steps=self.upstream_steps),
            batch=self.upstream_batch,
            keep=early,
            keep_moments=True,
        )

    def _run(self, seed: int, **fields: Any) -> PretrainSpec:
        values: dict[str, Any] = {
            "seed": seed,
            "model": self.model,
            "vocabulary": self.vocabulary,
            "context": self.context,
            "corpora": self.corpora,
            "batch": self.batch,
            "micro_batch": self.micro_batch,
            "precision": self.precision,
            "optimizer": self.optimizer,
            "evaluation": self.evaluation,
            **fields,
        }
        if values["micro_batch"] and values["batch"] % values["micro_batch"]:
            values["micro_batch"] = math.gcd(values["batch"], values["micro_batch"])
        if values.get("train_on", "downstream") == "downstream" and self.mixture:
            values["sources"] = tuple(self.mixture.items())
        return PretrainSpec(**values)

    def origin(self, start: Start, seed: int) -> dict[str, Any]:
        """Fields that say where the weights come from."""
        if start == "random":
            return {}
        if self.start == "public":
            return {"checkpoint": Checkpoint(step=PUBLIC_STEPS[start], deduped=self.deduped)}
        name = "weights" if start == "143000" else f"step{self.iteration(start)}"
        return {"parent": self.upstream(seed), "start": name}

    def iteration(self, start: Start) -> int:
        """Upstream step of a starting point at this scale, 0 for random weights."""
        if start == "random":
            return 0
        return round(PUBLIC_STEPS[start] / PYTHIA_STEPS * self.upstream_steps)

    def downstream(
        self,
        seed: int,
        multiple: float,
        warmup: float,
        stop: float,
        *,
        start: Start = "143000",
        train_on: Side = "downstream",
        **fields: Any,
    ) -> PretrainSpec:
        """Continued pre-training.

        Args:
            seed: of the run, and of the upstream run that it starts from.
            multiple: learning rate over the peak of pre-training; `CONSTANT` is held without warm-up.
            warmup: share of the schedule.
            stop: share of the schedule at which the run ends.
            start: upstream step, by its name in the paper.
            train_on: which corpus; upstream text goes on where pre-training ended.
            fields: override the rest.
        """
        shape: dict[str, Any] = {"shape": "constant"} if multiple == CONSTANT else {}
        schedule = Schedule(max_lr=multiple * self.max_lr, warmup=warmup, steps=self.schedule_steps, **shape)
        values = {"schedule": schedule, "stop": stop, "train_on": train_on, **self.origin(start, seed)}
        if train_on == "upstream" and self.start == "trained":
            values["first_step"] = math.ceil(self.upstream_steps * self.upstream_batch / self.batch)
        return self._run(seed, **{**values, **fields})

    @property
    def model_name(self) -> str:
        """The model at this scale, for people."""
        return f"Pythia-{self.model.upper()}" if self.model.endswith("m") else f"GPT-NeoX {self.model}"

    @property
    def same_losses(self) -> bool:
        """Whether losses can be set beside the published curves: the 410M model on the paper's corpora and tokens."""
        return self.model == "410m" and self.corpora == PAPERS_TEXT and self.vocabulary is None

    def unit(self) -> tuple[float, str]:
        """Tokens of one unit on x axes, and its sign: billions or millions."""
        return (1e9, "B") if self.schedule_tokens() >= 2e9 else (1e6, "M")

    def schedule_tokens(self) -> float:
        return float(self.schedule_steps * self.downstream(0, SAME, 0.01, SHORT, start="random").tokens_per_step)


@dataclass(frozen=True)
class Continuation:
    """One of the sixteen runs.

    Attributes:
        multiple: learning rate over the peak of pre-training.
        warmup: share of the schedule.
        stop: share of the schedule.
        start: upstream step.
        train_on: which corpus.
    """

    multiple: float
    warmup: float
    stop: float
    start: Start = "143000"
    train_on: Side = "downstream"

    def spec(self, settings: RewarmSettings, seed: int) -> PretrainSpec:
        return settings.downstream(
            seed, self.multiple, self.warmup, self.stop, start=self.start, train_on=self.train_on
        )


CONTINUATIONS = {
    "L1": Continuation(CONSTANT, 0.0, LONG),
    "L2": Continuation(HALF, 0.01, LONG),
    "L3": Continuation(SAME, 0.01, LONG),
    "L4": Continuation(DOUBLE, 0.01, LONG),
    "L5": Continuation(SAME, 0.01, LONG, "random"),
    "W0": Continuation(SAME, 0.0, SHORT),
    "W05": Continuation(SAME, 0.005, SHORT),
    "W2": Continuation(SAME, 0.02, SHORT),
    "E27a": Continuation(SAME, 0.0, SHORT, "27000"),
    "E27b": Continuation(SAME, 0.01, SHORT, "27000"),
    "E10a": Continuation(SAME, 0.0, SHORT, "10000"),
    "E10b": Continuation(SAME, 0.01, SHORT, "10000"),
    "P1": Continuation(CONSTANT, 0.0, SHORT, train_on="upstream"),
    "P2": Continuation(HALF, 0.01, SHORT, train_on="upstream"),
    "P3": Continuation(SAME, 0.01, SHORT, train_on="upstream"),
    "P4": Continuation(DOUBLE, 0.01, SHORT, train_on="upstream"),
}
"""The sixteen distinct runs of the paper (``bench/rewarm/protocol.md``, section b)."""


def arms_of(methods: Mapping[str, str]) -> Callable[[RewarmSettings], Iterator[Arm]]:
    """The arms of an exhibit: name of a run -> the label that the paper's legend gives it."""

    def arms(settings: RewarmSettings) -> Iterator[Arm]:
        for name, method in methods.items():
            yield Arm({"model": MODEL, "method": method}, partial(CONTINUATIONS[name].spec, settings))

    return arms


CONST_NAME, SCRATCH = "Constant 3e-05 Iter. 143000", "MaxLR 3e-04 Iter. 0"
HALF_NAME, SAME_NAME, DOUBLE_NAME = (f"MaxLR {rate} Iter. 143000" for rate in ("1.5e-04", "3e-04", "6e-04"))
LONG_RUNS = {"L1": CONST_NAME, "L2": HALF_NAME, "L5": SCRATCH, "L3": SAME_NAME, "L4": DOUBLE_NAME}
"""Figures 2 and 3, in the order of the paper's legend."""
REWARMED = (HALF_NAME, SAME_NAME, DOUBLE_NAME)
SAME_DATA = {
    "P1": "Constant 3e-05",
    "P2": "MaxLR 1.5e-04",
    "P3": "MaxLR 3e-04",
    "P4": "MaxLR 6e-04",
}
"""Figures 5 and 6."""
STARTS = {
    "E10a": "WU 0 Iter. 10000",
    "E10b": "WU 0.01 Iter. 10000",
    "E27a": "WU 0 Iter. 27000",
    "E27b": "WU 0.01 Iter. 27000",
    "W0": "WU 0 Iter. 143000",
    "L3": "WU 0.01 Iter. 143000",
}
"""Figures 7 to 9; the paper's Figure 8 omits the warm-up from its legend."""
