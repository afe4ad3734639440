"""What exhibits of this paper share: settings with the paper's values, its sixteen runs by name, rows of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from bench.exhibit import ArmRun, ExhibitSettings, Row, by_seed, row
from bench.record import Record
from bench.rewarm.spec import Checkpoint, Data, Evaluation, Generated, PretrainSpec, Schedule, Side, Text

SHORT = 22_114 / 131_296
"""Where the short runs stop (50 B tokens), as a share of the schedule; no schedule is shortened."""
LONG = 105_837 / 131_296
"""Where the long runs stop (239.3 B tokens): the rate has reached its floor."""
TAIL = 0.01
"""Final losses are means over the evaluations in this last share of the schedule (protocol, section b)."""

CONSTANT, HALF, SAME, DOUBLE = 0.1, 0.5, 1.0, 2.0
"""Learning rates as multiples of the peak of pre-training; 0.1 is its floor, held constant without warm-up."""
WARMUPS = (0.0, 0.005, 0.01, 0.02)

MODEL = "Pythia-410M"
"""The paper's model, under whose name numbers stand; at a reduced scale another stands in for it."""
PILE, SLIMPAJAMA = "Pile", "SlimPajama"
"""The paper's names of the two corpora; at a reduced scale others stand in for them."""
SHORT_NAMES = {PILE: "up", SLIMPAJAMA: "dn"}

Start = Literal["random", "10000", "27000", "143000"]
PUBLIC_STEPS: dict[str, int] = {"10000": 10_000, "27000": 27_000, "143000": 143_000}
PYTHIA_STEPS = 143_000


class RewarmSettings(ExhibitSettings):
    """Settings that every exhibit of this paper has; tags as in the protocol."""

    seeds: int = Field(1, ge=1, le=1000, description="repetitions of each configuration; the paper has one [P]")
    model: str = Field("410m", description="shape by name, or layers x width x heads as 4x128x4 [P]")
    vocabulary: int | None = Field(None, ge=1, le=65_536, description="rows of the embeddings; the shape's by default")
    context: int | None = Field(None, ge=2, description="tokens of a sequence; the shape's by default (2048) [A]")
    corpora: Data = Field(default_factory=Text, description="the two corpora: text, or generated languages [P]")
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
        chosen: dict[str, Any] = {
            "seed": seed,
            "model": self.model,
            "vocabulary": self.vocabulary,
            "context": self.context,
            "corpora": self.corpora,
            "batch": self.batch,
            "micro_batch": self.micro_batch,
            "precision": self.precision,
            "evaluation": self.evaluation,
            **fields,
        }
        if chosen["micro_batch"] and chosen["batch"] % chosen["micro_batch"]:
            chosen["micro_batch"] = math.gcd(chosen["batch"], chosen["micro_batch"])
        if chosen.get("train_on", "downstream") == "downstream" and self.mixture:
            chosen["sources"] = tuple(self.mixture.items())
        return PretrainSpec(**chosen)

    def origin(self, start: Start, seed: int) -> dict[str, Any]:
        """Fields that say where the weights come from."""
        if start == "random":
            return {}
        if self.start == "public":
            return {"checkpoint": Checkpoint(step=PUBLIC_STEPS[start], deduped=self.deduped)}
        above = self.upstream(seed)
        name = "weights" if start == "143000" else f"step{self.iteration(start)}"
        return {"parent": above, "start": name}

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
        chosen = {"schedule": schedule, "stop": stop, "train_on": train_on, **self.origin(start, seed)}
        if train_on == "upstream" and self.start == "trained":
            chosen["first_step"] = math.ceil(self.upstream_steps * self.upstream_batch / self.batch)
        return self._run(seed, **{**chosen, **fields})

    @property
    def model_name(self) -> str:
        """The model at this scale, for people."""
        return f"Pythia-{self.model.upper()}" if self.model.endswith("m") else f"GPT-NeoX {self.model}"

    @property
    def same_losses(self) -> bool:
        """Whether losses can be set beside the published curves: the 410M model on the paper's corpora and tokens."""
        return self.model == "410m" and self.corpora == Text() and self.vocabulary is None

    def unit(self) -> tuple[float, str]:
        """Tokens of one unit on x axes, and its sign: billions or millions."""
        return (1e9, "B") if self.schedule_tokens() >= 2e9 else (1e6, "M")

    def schedule_tokens(self) -> float:
        return float(self.schedule_steps * self.downstream(0, SAME, 0.01, SHORT, start="random").tokens_per_step)


@dataclass(frozen=True)
class Arm:
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


ARMS = {
    "L1": Arm(CONSTANT, 0.0, LONG),
    "L2": Arm(HALF, 0.01, LONG),
    "L3": Arm(SAME, 0.01, LONG),
    "L4": Arm(DOUBLE, 0.01, LONG),
    "L5": Arm(SAME, 0.01, LONG, "random"),
    "W0": Arm(SAME, 0.0, SHORT),
    "W05": Arm(SAME, 0.005, SHORT),
    "W2": Arm(SAME, 0.02, SHORT),
    "E27a": Arm(SAME, 0.0, SHORT, "27000"),
    "E27b": Arm(SAME, 0.01, SHORT, "27000"),
    "E10a": Arm(SAME, 0.0, SHORT, "10000"),
    "E10b": Arm(SAME, 0.01, SHORT, "10000"),
    "P1": Arm(CONSTANT, 0.0, SHORT, train_on="upstream"),
    "P2": Arm(HALF, 0.01, SHORT, train_on="upstream"),
    "P3": Arm(SAME, 0.01, SHORT, train_on="upstream"),
    "P4": Arm(DOUBLE, 0.01, SHORT, train_on="upstream"),
}
"""The sixteen distinct runs of the paper (protocol, section b)."""


def members_of(settings: RewarmSettings, methods: Mapping[str, str]) -> list[ArmRun]:
    """Runs by name, each seed's under the label that the paper's legend gives it in an exhibit."""
    return [
        ArmRun({"model": MODEL, "method": method}, ARMS[name].spec(settings, seed))
        for name, method in methods.items()
        for seed in settings.seed_range()
    ]


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


@dataclass(frozen=True)
class Curves:
    """The evaluations of one run, as shares of the schedule.

    Attributes:
        share: of the schedule, ascending from 0.
        tokens: seen so far.
        loss: corpus -> nats per token.
        warmup: share of the schedule at which the warm-up ends.
        schedule_tokens: of the whole schedule.
    """

    share: list[float]
    tokens: list[float]
    loss: dict[str, list[float]]
    warmup: float
    schedule_tokens: float

    def within(self, low: float, high: float, corpus: str) -> list[float]:
        """Losses at evaluations in (low, high]."""
        return [
            loss for share, loss in zip(self.share, self.loss[corpus], strict=True) if low + 1e-9 < share <= high + 1e-9
        ]

    def level(self, horizon: float, corpus: str) -> float:
        """Mean loss over the last 1 % of the schedule before `horizon`, or the last evaluation before it."""
        found = self.within(horizon - TAIL, horizon, corpus) or self.within(-1.0, horizon, corpus)[-1:]
        return math.fsum(found) / len(found)

    def until(self, horizon: float) -> Curves:
        count = sum(share <= horizon + 1e-9 for share in self.share)
        loss = {corpus: values[:count] for corpus, values in self.loss.items()}
        return Curves(self.share[:count], self.tokens[:count], loss, self.warmup, self.schedule_tokens)


def curves_of(record: Record) -> Curves:
    """The evaluations that a run left."""
    series, notes = record.series["evaluations"], record.result.notes
    steps = float(notes["schedule_steps"])
    return Curves(
        share=[step / steps for step in series["step"]],
        tokens=list(series["tokens"]),
        loss={corpus: list(series[f"loss_{short}"]) for corpus, short in SHORT_NAMES.items()},
        warmup=float(notes["warmup_steps"]) / steps,
        schedule_tokens=steps * float(notes["tokens_per_step"]),
    )


def curve_rows(
    member: ArmRun,
    curves: Curves,
    panels: Mapping[str, str],
    *,
    shift: float = 0.0,
) -> Iterable[Row]:
    """Losses by billions of tokens, and where the warm-up ends.

    Args:
        member: whose they are.
        curves: its evaluations.
        panels: corpus -> panel of the figure.
        shift: tokens before the run, for a sequence of runs on one axis.
    """
    for corpus, panel in panels.items():
        for tokens, loss in zip(curves.tokens, curves.loss[corpus], strict=True):
            at = {"x_name": "tokens_1e9", "x": (shift + tokens) / 1e9}
            yield row(member, "val_loss", loss, dataset=corpus, panel=panel, **at)
    yield row(member, "warmup_tokens", (shift + curves.warmup * curves.schedule_tokens) / 1e9)
    yield row(member, "schedule_tokens", curves.schedule_tokens / 1e9)


Scalar = Callable[[Curves, str], float]
"""A number of a run on one corpus."""


def start(curves: Curves, corpus: str) -> float:
    """Loss before training."""
    return curves.loss[corpus][0]


def warmup_end(curves: Curves, corpus: str) -> float:
    """Loss at the evaluation where a 1 % warm-up ends."""
    return curves.loss[corpus][min(range(len(curves.share)), key=lambda i: abs(curves.share[i] - 0.01))]


def peak(low: float, high: float) -> Scalar:
    """Highest loss at evaluations in (low, high] of the schedule; at the first after `low` if none is as early."""
    return lambda curves, corpus: max(curves.within(low, high, corpus) or curves.within(low, math.inf, corpus)[:1])


def level(horizon: float) -> Scalar:
    """Loss at a horizon, as the protocol defines it."""
    return lambda curves, corpus: curves.level(horizon, corpus)


def scalar_rows(
    member: ArmRun, curves: Curves, scalars: Mapping[str, Scalar], corpora: Sequence[str] = (PILE, SLIMPAJAMA)
) -> Iterable[Row]:
    """Each number on each corpus, under its metric's name."""
    for corpus in corpora:
        for metric, scalar in scalars.items():
            yield row(member, metric, scalar(curves, corpus), dataset=corpus)


def losses_by_seed(frame: Any, method: str, corpus: str) -> dict[int, tuple[list[float], list[float]]]:
    """Seed -> (share of the schedule, loss) of one curve, ascending.

    Raises:
        KeyError: there is no such curve.
    """
    whole = by_seed(frame, "schedule_tokens", method=method)
    chosen = frame[(frame["metric"] == "val_loss") & (frame["method"] == method) & (frame["dataset"] == corpus)]
    if chosen.empty:
        raise KeyError(f"val_loss {method} {corpus}")
    found = {}
    for seed, group in chosen.groupby("seed"):
        ordered = group.sort_values("x")
        found[int(seed)] = ((ordered["x"] / whole[int(seed)]).tolist(), ordered["value"].tolist())
    return found


def minus(first: Mapping[int, float], second: Mapping[int, float]) -> dict[int, float]:
    """Differences of the seeds that both have."""
    return {seed: first[seed] - second[seed] for seed in first if seed in second}


TITLE_WIDTH = 90
"""Letters of a title that fit the width of a page."""


def stand_ins(settings: RewarmSettings) -> str:
    """What stands for the paper's model, corpora, rates and checkpoints, for the title of a figure; "" at its own.

    What is too long for the width of a page takes two lines.
    """
    parts = []
    if settings.corpora != Text():
        if isinstance(settings.corpora, Generated):
            parts.append("two generated languages for Pile and SlimPajama")
        else:
            parts.append(f"{settings.corpora.upstream} and {settings.corpora.downstream} for Pile and SlimPajama")
    if settings.model != "410m":
        parts.append(f"{settings.model_name} for {MODEL}")
    if settings.max_lr != 3e-4:
        parts.append(f"rate {settings.max_lr:.2g} for 3e-04")
    if settings.upstream_steps != PYTHIA_STEPS:
        parts.append(f"step {settings.upstream_steps:,} for 143,000")
    whole = "; ".join(parts)
    return whole if len(whole) <= TITLE_WIDTH else ";\n".join(("; ".join(parts[:2]), "; ".join(parts[2:])))


def perplexity_fit(curves: Curves) -> float:
    """R² of the least-squares line of Pile perplexity on SlimPajama perplexity, over all evaluations."""
    import numpy as np

    x, y = (np.exp(curves.loss[corpus]) for corpus in (SLIMPAJAMA, PILE))
    return float(np.corrcoef(x, y)[0, 1] ** 2)
