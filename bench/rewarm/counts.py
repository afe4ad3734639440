"""Counting the corpora as a run of its own, from which Table 1 is made: tokens by source, what is drawn of each, divergence.

Nothing here imports torch before it counts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from bench.data import blend, text
from bench.rewarm.spec import Data, Generated, Text
from bench.run import Cost, Result, RunSpec

if TYPE_CHECKING:
    from bench.training.context import Context

MOST_BLENDED = 1_000_000
"""Samples after which the shares of a blend have settled to less than a thousandth of a percent."""


class CountSpec(RunSpec):
    """Tokens of both corpora by source, and what a seed's training stream draws of each downstream source."""

    kind: ClassVar[str] = "rewarm/counts"
    trainer: ClassVar[str] = "bench.rewarm.counts"

    corpora: Data = Field(description="the two corpora")
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
        generated = Generated(validation_windows=1)
        return self.model_copy(update={"seed": 0, "corpora": generated, "mixture": (), "sequences": 8})


def train(spec: CountSpec, context: Context) -> Result:
    """Counts in the token shards, which are written first where there are none; trains nothing.

    Raises:
        UserError: a corpus is absent, or a source of the mixture is.
    """
    started = time.monotonic()
    if isinstance(spec.corpora, Generated):
        columns, metrics = _languages(spec, spec.corpora)
    else:
        columns, metrics = _text(spec, spec.corpora, context)
    return Result(
        metrics,
        {"sources": columns},
        {"seconds": time.monotonic() - started, "tokens": 0.0},
        {"sequences": spec.sequences, "context": spec.context},
    )


def _languages(spec: CountSpec, data: Generated) -> tuple[dict[str, list[Any]], dict[str, float]]:
    """A generated language has no end: its training tokens are those of the schedule."""
    from bench.rewarm import streams

    pair = streams.languages_of(data)
    names = ["upstream", "downstream"]
    columns: dict[str, list[Any]] = {
        "corpus": names,
        "source": ["generated", "generated"],
        "weight": [100.0, 100.0],
        "drawn": [100.0, 100.0],
        "train": [spec.sequences * spec.context] * 2,
        "val": [data.validation_windows * spec.context] * 2,
    }
    metrics = {f"entropy_{name}": language.entropy_rate() for name, language in zip(names, pair, strict=True)}
    return columns, {**metrics, "divergence": divergence(pair[0].unigram(), pair[1].unigram())}


def _text(spec: CountSpec, data: Text, context: Context) -> tuple[dict[str, list[Any]], dict[str, float]]:
    from bench.data import tokenize

    root = context.data_root
    columns: dict[str, list[Any]] = {name: [] for name in ("corpus", "source", "weight", "drawn", "train", "val")}
    for corpus in (data.upstream, data.downstream):
        context.used_data("tokenizer", tokenize.ensure(corpus, data.tokenizer, root, workers=context.threads).checksum)
        counts = text.token_counts(root, data.tokenizer, corpus)
        mixture = dict(spec.mixture) if spec.mixture and corpus == data.downstream else text.corpus(corpus).weights
        # Validation may have sources that training has not, where one stream holds them all.
        trained = {source: split["train"] for source, split in counts.items() if "train" in split}
        weights = mixture or _shares(trained)
        drawn = _drawn(weights, spec.sequences) if mixture else dict(weights)
        for source in [*weights, *(name for name in counts if name not in weights)]:
            columns["corpus"].append(corpus)
            columns["source"].append(source)
            columns["weight"].append(float(weights.get(source, 0.0)))
            columns["drawn"].append(float(drawn.get(source, 0.0)))
            columns["train"].append(int(counts.get(source, {}).get("train", 0)))
            columns["val"].append(int(counts.get(source, {}).get("val", 0)))
    tokens = [_unigram(root, data, corpus, spec.vocabulary) for corpus in (data.upstream, data.downstream)]
    return columns, {"divergence": divergence(*tokens)}


def _shares(counts: dict[str, int]) -> dict[str, float]:
    total = sum(counts.values())
    return {source: 100 * count / total for source, count in counts.items()}


def _drawn(weights: Mapping[str, float], sequences: int) -> dict[str, float]:
    """Percent of the schedule's sequences that come from each source."""
    names = list(weights)
    counts = blend.parts([weights[name] for name in names], names)
    sources, _ = blend.blend(counts, 0, min(sequences, MOST_BLENDED))
    samples = np.bincount(sources, minlength=len(names))
    return {name: 100 * int(count) / len(sources) for name, count in zip(names, samples, strict=True)}


def _unigram(root: Path, data: Text, corpus: str, vocabulary: int) -> np.ndarray:
    """Shares of the tokens in the validation text, blended as the validation loss is."""
    sources = text.open_sources(root, data.tokenizer, corpus, "val", vocabulary=vocabulary)
    names, counts = text.mixture(sources, text.corpus(corpus).weights)
    total = np.zeros(vocabulary)
    for name, weight in zip(names, counts, strict=True):
        tokens = sum(np.bincount(shard.tokens, minlength=vocabulary)[:vocabulary] for shard in sources[name])
        total += weight / sum(counts) * tokens / np.sum(tokens)
    return total


def divergence(first: np.ndarray, second: np.ndarray) -> float:
    """Jensen-Shannon divergence of two distributions over tokens, nats (at most ln 2)."""
    middle = (first + second) / 2

    def from_middle(shares: np.ndarray) -> float:
        some = shares > 0
        return float(np.sum(shares[some] * np.log(shares[some] / middle[some])))

    return (from_middle(first) + from_middle(second)) / 2
