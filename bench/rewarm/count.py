"""Counts tokens of the corpora by source, what is drawn of each, and how far the two corpora are apart."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.data import blend, languages, text, tokenize
from bench.rewarm.corpora import CountSpec
from bench.rewarm.spec import Generated, Text
from bench.run import Result
from bench.training.context import Context

MOST_BLENDED = 1_000_000
"""Samples after which the shares of a blend have settled to less than a thousandth of a percent."""


def train(spec: CountSpec, context: Context) -> Result:
    """Reads the shards (made now where they are absent); trains nothing.

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
    pair = languages.pair(
        vocabulary=data.vocabulary,
        branches=data.branches,
        concentration=data.concentration,
        noise=data.noise,
        kept=data.kept,
        number=data.language,
    )
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
    root = context.data_root
    columns: dict[str, list[Any]] = {name: [] for name in ("corpus", "source", "weight", "drawn", "train", "val")}
    for corpus in (data.upstream, data.downstream):
        context.used_data("tokenizer", tokenize.ensure(corpus, data.tokenizer, root, workers=context.threads).checksum)
        counts = text.token_counts(root, data.tokenizer, corpus)
        own = dict(spec.mixture) if spec.mixture and corpus == data.downstream else text.corpus(corpus).weights
        # Validation may have sources that training has not, where one stream holds them all.
        trained = {source: split["train"] for source, split in counts.items() if "train" in split}
        weights = own or _shares(trained)
        drawn = _drawn(weights, spec.sequences) if own else dict(weights)
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


def _drawn(weights: Any, sequences: int) -> dict[str, float]:
    """Percent of the schedule's sequences that come from each source."""
    names = list(weights)
    counts = blend.parts([weights[name] for name in names], names)
    sources, _ = blend.blend(counts, 0, min(sequences, MOST_BLENDED))
    found = np.bincount(sources, minlength=len(names))
    return {name: 100 * int(count) / len(sources) for name, count in zip(names, found, strict=True)}


def _unigram(root: Path, data: Text, corpus: str, vocabulary: int) -> np.ndarray:
    """Shares of the tokens in the validation text, blended as the validation loss is."""
    sources = text.open_sources(root, data.tokenizer, corpus, "val", vocabulary=vocabulary)
    names, counts = text.mixture(sources, text.corpus(corpus).weights)
    total = np.zeros(vocabulary)
    for name, weight in zip(names, counts, strict=True):
        found = sum(np.bincount(shard.tokens, minlength=vocabulary)[:vocabulary] for shard in sources[name])
        total += weight / sum(counts) * found / np.sum(found)
    return total


def divergence(first: np.ndarray, second: np.ndarray) -> float:
    """Jensen-Shannon divergence of two distributions over tokens, nats (at most ln 2)."""
    middle = (first + second) / 2

    def against(own: np.ndarray) -> float:
        some = own > 0
        return float(np.sum(own[some] * np.log(own[some] / middle[some])))

    return (against(first) + against(second)) / 2
