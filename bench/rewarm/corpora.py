"""Counting the corpora as a run of its own: what Table 1 is made from. Without torch."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from bench.rewarm.spec import Data, Text
from bench.run import Cost, RunSpec


class CountSpec(RunSpec):
    """Tokens of both corpora by source, and what a seed's training stream draws of each downstream source."""

    kind: ClassVar[str] = "rewarm/counts"
    trainer: ClassVar[str] = "bench.rewarm.count"

    corpora: Data = Field(default_factory=Text, description="the two corpora")
    mixture: tuple[tuple[str, float], ...] = Field((), description="sampling weights instead of the corpus's own")
    vocabulary: int = Field(50_304, ge=1, le=65_536, description="rows of the embeddings")
    context: int = Field(2048, ge=2, description="tokens of a sequence")
    sequences: int = Field(ge=1, description="sequences of the downstream schedule")

    def cost(self) -> Cost:
        return Cost(0.0, 0.0, unit="tokens", kind="rewarm", memory_mb=1000)

    def label(self) -> str:
        name = self.corpora.downstream if isinstance(self.corpora, Text) else "generated languages"
        return f"tokens of {name}, seed {self.seed}"

    def parameters(self) -> int:
        return 0

    def smoke(self) -> CountSpec:
        from bench.rewarm.spec import Generated

        return self.model_copy(
            update={"seed": 0, "corpora": Generated(validation_windows=1), "mixture": (), "sequences": 8}
        )
