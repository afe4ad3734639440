"""What a run of this paper is: a starting point, a mixture, a schedule and an end. Without torch.

A record's series are ``evaluations`` (step, tokens, lr, loss_up, loss_dn), ``sources`` (step, ``loss_up.SOURCE`` and
``loss_dn.SOURCE`` of corpora with several sources, at `MOST_SOURCE_ROWS` evaluations at most) and ``training`` (step, mean
loss since the row before). Losses are nats per token, rounded to six decimals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from bench.errors import UserError
from bench.models import pythia
from bench.rewarm.schedule import Curve, learning_rate
from bench.run import Cost, RunSpec, StrictModel

Side = Literal["upstream", "downstream"]
SMALL = 4_000_000
"""Parameters up to which a network takes one device: below, launches and allocations cost more than arithmetic."""
MOST_SOURCE_ROWS = 120
"""Evaluations whose losses are recorded by source: a record has 200 kB at most, and there are up to 24 sources."""
SMOKE_CONTEXT = 64
"""Tokens of a sequence in a smoke test of a large network: no weight depends on it."""


class Generated(StrictModel):
    """Two generated token languages with known entropy and partial overlap."""

    kind: Literal["generated"] = "generated"
    vocabulary: int = Field(64, ge=8, le=256, description="tokens of the languages")
    branches: int = Field(4, ge=1, le=64, description="likely successors of each pair of tokens")
    concentration: float = Field(0.5, gt=0, description="of the Dirichlet distribution of their probabilities")
    noise: float = Field(0.03, ge=0, lt=1, description="share of uniformly drawn tokens")
    kept: float = Field(0.96, ge=0, le=1, description="share of contexts that speak the same language downstream")
    language: int = Field(0, ge=0, description="which pair of languages; another number is an independent draw")
    validation_windows: int = Field(128, ge=1, description="fixed validation windows of each language")


class Text(StrictModel):
    """Two tokenised corpora."""

    kind: Literal["text"] = "text"
    upstream: str = Field(description="corpus of pre-training; the paper's is pile")
    downstream: str = Field(description="corpus of continued pre-training; the paper's is slimpajama-627b")
    tokenizer: str = Field(
        "neox", pattern=r"^(neox|bpe-\d+)$", description="neox, or bpe-N trained on the upstream text"
    )
    validation_tokens: int = Field(
        2_000_000, ge=1, description="fixed validation tokens of each source, the first of its validation file"
    )

    @field_validator("upstream", "downstream")
    @classmethod
    def _known(cls, name: str) -> str:
        from bench.data import text

        try:
            text.corpus(name)
        except UserError as error:
            raise ValueError(str(error)) from error
        return name


Share = Annotated[float, Field(ge=0, lt=1)]
PAPERS_TEXT = Text(upstream="pile", downstream="slimpajama-627b")
"""The paper's corpora. Runs name theirs always, so that no record is of another text than it seems."""
Data = Annotated[Generated | Text, Field(discriminator="kind")]


class Schedule(StrictModel):
    """Learning rate by step; lengths are shares of the schedule, which need not be the length of the run."""

    shape: Curve = Field("clipped_cosine", description="clipped_cosine is the paper's (GPT-NeoX before August 2023)")
    max_lr: float = Field(gt=0, description="peak")
    min_ratio: float = Field(0.1, ge=0, le=1, description="floor as a share of the peak (section 3)")
    steps: int = Field(131_296, ge=1, description="length of the schedule (authors' configuration)")
    warmup: float = Field(0.01, ge=0, le=1, description="warm-up as a share of the schedule, not rounded to steps")

    @property
    def warmup_steps(self) -> float:
        return self.warmup * self.steps

    def rate(self, step: int) -> float:
        """The rate of the update that follows `step` updates."""
        return learning_rate(
            step,
            max_lr=self.max_lr,
            min_lr=self.min_ratio * self.max_lr,
            total_steps=self.steps,
            warmup_steps=self.warmup_steps,
            shape=self.shape,
        )


class Optimizer(StrictModel):
    """AdamW; no weight decay acts on LayerNorms and biases (authors' code)."""

    betas: tuple[Share, Share] = Field((0.9, 0.95), description="decay rates of the two moments (section 3)")
    eps: float = Field(1e-8, gt=0, description="added to the root of the second moment (section 3)")
    weight_decay: float = Field(0.1, ge=0, description="decoupled weight decay, times the learning rate (section 3)")
    clip_norm: float = Field(1.0, gt=0, description="largest norm of all gradients together (section 3)")


class Evaluation(StrictModel):
    """When the validation slices are evaluated: at steps 0 and 1, at the end of warm-up, and on two grids."""

    every: int = Field(100, ge=1, description="steps between evaluations (authors' configuration)")
    dense_every: int = Field(50, ge=1, description="steps between evaluations at the start (authors' configuration)")
    dense_until: float = Field(0.02, ge=0, le=1, description="share of the schedule that counts as the start")


class Checkpoint(StrictModel):
    """A public Pythia checkpoint."""

    step: int = Field(143_000, ge=0, description="upstream step: a branch of the repository")
    deduped: bool = Field(False, description="the variant trained on the deduplicated Pile")


class PretrainSpec(RunSpec):
    """A (continued) pre-training."""

    kind: ClassVar[str] = "rewarm"
    trainer: ClassVar[str] = "bench.rewarm.train"
    version: ClassVar[int] = 1

    parent: PretrainSpec | None = Field(None, description="run whose weights it starts from; random weights without")
    start: str = Field("weights", description="artefact of the parent: weights, or stepN of a step that it keeps")
    checkpoint: Checkpoint | None = Field(None, description="public weights to start from instead of a parent")
    moments: Literal["fresh", "kept"] = Field("fresh", description="optimiser moments at the switch (authors: fresh)")

    model: str = Field("410m", description="shape by name, or layers x width x heads as 4x128x4")
    vocabulary: int | None = Field(None, ge=1, le=65_536, description="rows of the embeddings; the shape's by default")
    context: int | None = Field(None, ge=2, description="tokens of a sequence; the shape's by default")

    corpora: Data = Field(description="the two corpora")
    train_on: Side = Field("downstream", description="which of them is trained on")
    replay: float = Field(0.0, ge=0, lt=1, description="share of sequences from the other corpus (paper: none)")
    sources: tuple[tuple[str, float], ...] = Field((), description="sampling weights instead of the corpus's own")
    first_step: int = Field(0, ge=0, description="position in the training stream at which to begin, steps")

    schedule: Schedule = Field(description="learning rate")
    optimizer: Optimizer = Field(default_factory=Optimizer, description="AdamW and clipping, with the paper's values")
    stop: float = Field(1.0, gt=0, le=10, description="length of the run as a share of the schedule")
    batch: int = Field(1104, ge=1, description="sequences in a step (authors' configuration; absent from the paper)")
    micro_batch: int = Field(0, ge=0, description="sequences at once on one device, gradients add up; 0 for all")
    precision: Literal["float32", "bf16"] = Field("float32", description="of the arithmetic; weights stay float32")
    sharding: Literal["replicate", "shard"] = Field("replicate", description="several devices: DDP, or FSDP2")
    evaluation: Evaluation = Field(default_factory=Evaluation, description="when to evaluate")
    keep: tuple[float, ...] = Field((), description="shares of the run at which weights are kept, beside the last")
    keep_moments: bool = Field(False, description="keep optimiser moments with the weights")

    @model_validator(mode="after")
    def _consistent(self) -> PretrainSpec:
        pythia.shape(self.model)
        self.schedule.rate(0)
        if self.parent is not None and self.checkpoint is not None:
            raise ValueError("a run starts from a parent or from a public checkpoint, not from both")
        if self.moments == "kept" and (self.parent is None or not self.parent.keep_moments):
            raise ValueError("kept moments need a parent with keep_moments")
        if self.parent is not None and self.start not in self.parent.keeps():
            raise ValueError(f"the parent does not keep '{self.start}'; it keeps {', '.join(self.parent.keeps())}")
        if any(not 0 < share <= 1 for share in self.keep) or 0 in self.kept_steps():
            raise ValueError(f"keep {self.keep}: expected shares of the run, above 0 (at least a step) and up to 1")
        if self.sources and isinstance(self.corpora, Generated):
            raise ValueError("sources are of text corpora; a generated language has one")
        if self.micro_batch and self.batch % self.micro_batch:
            raise ValueError(f"batch {self.batch} is no multiple of micro_batch {self.micro_batch}")
        if isinstance(self.corpora, Generated) and self.shape.vocabulary < self.corpora.vocabulary:
            raise ValueError(
                f"vocabulary {self.shape.vocabulary} is smaller than the language's {self.corpora.vocabulary}"
            )
        return self

    @property
    def shape(self) -> pythia.Shape:
        return pythia.shape(self.model, vocabulary=self.vocabulary, context=self.context)

    @property
    def steps(self) -> int:
        """Updates that the run makes."""
        return max(1, round(self.stop * self.schedule.steps))

    @property
    def tokens_per_step(self) -> int:
        return self.batch * self.shape.context

    def kept_steps(self) -> dict[int, str]:
        """Step -> name of the artefact that is left there; the last is called ``weights``."""
        kept = {round(share * self.steps): f"step{round(share * self.steps)}" for share in self.keep}
        return {**kept, self.steps: "weights"}

    def evaluation_steps(self) -> list[int]:
        """Steps at which the validation slices are evaluated, ascending; 0 is before training."""
        grid = self.evaluation
        dense = round(grid.dense_until * self.schedule.steps)
        steps = {0, 1, self.steps, math.ceil(self.schedule.warmup_steps), *self.kept_steps()}
        steps.update(range(0, min(dense, self.steps) + 1, grid.dense_every))
        steps.update(range(0, self.steps + 1, grid.every))
        return sorted(step for step in steps if step <= self.steps)

    def source_steps(self) -> frozenset[int]:
        """Evaluations that are recorded by source: evenly spread, the first and the last among them."""
        steps = self.evaluation_steps()
        stride = math.ceil(len(steps) / (MOST_SOURCE_ROWS - 1))
        return frozenset({*steps[::stride], steps[-1]})

    def keeps(self) -> tuple[str, ...]:
        names = tuple(self.kept_steps().values())
        return (*names, *(moments_of(name) for name in names)) if self.keep_moments else names

    def needs(self) -> tuple[str, ...]:
        if self.parent is None:
            return ()
        return (self.start, moments_of(self.start)) if self.moments == "kept" else (self.start,)

    def parameters(self) -> int:
        return self.shape.parameters()

    def validation_tokens(self) -> int:
        """Tokens of one evaluation, both corpora; for text an upper estimate with seven sources each."""
        if isinstance(self.corpora, Generated):
            return 2 * self.corpora.validation_windows * self.shape.context
        return (
            2 * 7 * self.corpora.validation_tokens
            if self.shape.vocabulary > 50_000
            else 2 * 4 * self.corpora.validation_tokens
        )

    def cost(self) -> Cost:
        tokens = self.steps * self.tokens_per_step
        evaluated = len(self.evaluation_steps()) * self.validation_tokens()
        # A forward pass is a third of a step.
        flops = (tokens + evaluated / 3) * self.shape.flops_per_token()
        memory = 1200 + 24 * self.parameters() / 2**20 + (0 if self.small else 4000)
        return Cost(float(tokens), flops, unit="tokens", kind=self._kind(), memory_mb=round(memory))

    def _kind(self) -> str:
        """Throughput differs most by size: tiny models are bound by memory, large ones by arithmetic."""
        if self.parameters() <= 500_000:
            return "rewarm-language"
        return "rewarm-tiny" if self.small else "rewarm"

    @property
    def small(self) -> bool:
        return self.parameters() <= SMALL

    def gpus(self, offered: int) -> int:
        """One GPU for a small network; a large one takes as many as divide its batch."""
        if offered < 1 or (self.small and self.sharding == "replicate"):
            return min(1, offered)
        return max(count for count in range(1, offered + 1) if self.batch % count == 0)

    def code(self) -> tuple[str, ...]:
        return ("bench.rewarm.schedule",)

    @classmethod
    def remarks(cls, specs: Sequence[PretrainSpec]) -> list[str]:
        from bench.paths import data_root
        from bench.rewarm import passes

        return passes.remarks(specs, data_root())

    def data(self) -> tuple[str, ...]:
        """The tokenizer of text corpora; their text is tokenised, or streamed from the hub, when a run first needs it."""
        return ("neox-tokenizer",) if isinstance(self.corpora, Text) and self.corpora.tokenizer == "neox" else ()

    def smoke(self) -> PretrainSpec:
        """Two steps of the same network from random weights, or from a parent's, on generated languages.

        Rates, sources and lengths are alike for all, so that runs that differ in nothing else are one kind. Large networks
        get short sequences, one at a time.
        """
        generated = isinstance(self.corpora, Generated)
        vocabulary = min(self.corpora.vocabulary if isinstance(self.corpora, Generated) else 64, self.shape.vocabulary)
        return PretrainSpec(
            seed=0,
            parent=None if self.parent is None else self.parent.smoke(),
            moments=self.moments,
            model=self.model,
            vocabulary=self.vocabulary,
            context=self.context if self.small else min(self.shape.context, SMOKE_CONTEXT),
            corpora=Generated(vocabulary=vocabulary, validation_windows=1),
            train_on=self.train_on if generated else "downstream",
            replay=0.25 if self.replay else 0.0,
            schedule=Schedule(shape=self.schedule.shape, max_lr=1e-3, steps=2, warmup=0.5),
            batch=2,
            micro_batch=0 if self.small and not self.micro_batch else 1,
            optimizer=self.optimizer,
            precision=self.precision,
            sharding=self.sharding,
            evaluation=Evaluation(every=2, dense_every=2),
            keep_moments=self.keep_moments,
        )

    def origin(self) -> str:
        """Where the weights come from, for people."""
        if self.checkpoint is not None:
            return f"step{self.checkpoint.step}{' deduped' if self.checkpoint.deduped else ''}"
        if self.parent is None:
            return "random"
        return "upstream end" if self.start == "weights" else f"upstream {self.start}"

    def label(self) -> str:
        rate = f"{self.schedule.max_lr:g} WU {self.schedule.warmup:g}"
        shape = "" if self.schedule.shape == "clipped_cosine" else f" {self.schedule.shape}"
        extra = f" replay {self.replay:g}" if self.replay else ""
        extra += " kept moments" if self.moments == "kept" else ""
        return f"{self.model} {self.train_on}{shape} {rate}{extra} from {self.origin()}, seed {self.seed}"


def moments_of(artefact: str) -> str:
    """Name of the artefact with the optimiser moments that belong to the weights `artefact`."""
    return f"{artefact}-moments"
