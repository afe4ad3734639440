"""From a specification to its training stream and its fixed validation slices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from bench import seeds
from bench.data import blend, languages, text
from bench.data.shards import BlendedWindows
from bench.rewarm.spec import Generated, PretrainSpec, Side, Text

SIDES: tuple[Side, Side] = ("upstream", "downstream")


@dataclass(frozen=True)
class Validation:
    """Fixed slices of one corpus.

    Attributes:
        slices: source -> (windows, T + 1) int64.
        weights: source -> weight in the blended loss, summing to 1.
    """

    slices: dict[str, np.ndarray]
    weights: dict[str, float]


def languages_of(data: Generated) -> tuple[languages.Language, languages.Language]:
    """The upstream and the downstream language."""
    return languages.pair(
        vocabulary=data.vocabulary,
        branches=data.branches,
        concentration=data.concentration,
        noise=data.noise,
        kept=data.kept,
        number=data.language,
    )


def _language(data: Generated, side: Side) -> languages.Language:
    return languages_of(data)[SIDES.index(side)]


def _corpus(data: Text, side: Side) -> str:
    return data.upstream if side == "upstream" else data.downstream


def _windows(spec: PretrainSpec, side: Side, data_root: Path, weights: dict[str, float] | None) -> Any:
    length = spec.shape.context + 1
    if isinstance(spec.corpora, Generated):
        language = _language(spec.corpora, side)
        return languages.GeneratedWindows(language, length, "train", side, spec.corpora.language, spec.seed)
    return text.training_windows(
        data_root,
        spec.corpora.tokenizer,
        _corpus(spec.corpora, side),
        length=length,
        vocabulary=spec.shape.vocabulary,
        seed=spec.seed,
        weights=weights,
    )


def training(spec: PretrainSpec, data_root: Path) -> Any:
    """The stream of training windows, with ``windows(position, count) -> (count, T + 1) int64``.

    Window i depends on the seed and i alone. Replay blends the other corpus in by largest deficit, so that each
    replayed sequence displaces a new one.
    """
    new = _windows(spec, spec.train_on, data_root, dict(spec.sources) or None)
    if not spec.replay:
        return new
    other: Side = "upstream" if spec.train_on == "downstream" else "downstream"
    shares = blend.parts([round(1 - spec.replay, 9), spec.replay], [spec.train_on, other])
    return BlendedWindows([new, _windows(spec, other, data_root, None)], shares)


def validation(spec: PretrainSpec, data_root: Path) -> dict[Side, Validation]:
    """Fixed slices of both corpora, equal for all seeds."""
    return _validation(spec.corpora, spec.shape.context + 1, spec.shape.vocabulary, data_root)


@lru_cache(maxsize=4)
def _validation(data: Generated | Text, length: int, vocabulary: int, data_root: Path) -> dict[Side, Validation]:
    slices: dict[Side, Validation] = {}
    for side in SIDES:
        if isinstance(data, Generated):
            generator = seeds.generator("language validation", side, data.language)
            windows = languages.sample(_language(data, side), generator, data.validation_windows, length)
            slices[side] = Validation({side: windows}, {side: 1.0})
        else:
            corpus, tokens = _corpus(data, side), data.validation_tokens
            slices[side] = Validation(
                *text.validation_windows(
                    data_root, data.tokenizer, corpus, length=length, vocabulary=vocabulary, tokens=tokens
                )
            )
    return slices


def prepare(spec: PretrainSpec, data_root: Path, *, workers: int = 1) -> dict[str, str]:
    """Tokenises text corpora that are not tokenised yet; returns checksums for the record."""
    if isinstance(spec.corpora, Generated):
        return {}
    from bench.data import tokenize
    from bench.data.shards import read_index

    sums = {}
    for name in (spec.corpora.upstream, spec.corpora.downstream):
        sums["tokenizer"] = tokenize.ensure(name, spec.corpora.tokenizer, data_root, workers=workers).checksum
        for split in text.SPLITS:
            for source, paths in text.shard_paths(data_root, spec.corpora.tokenizer, name, split).items():
                for path in paths[:8]:  # a corpus of many files is known by its first
                    sums[f"{name}/{split}/{source}/{path.name}"] = read_index(path).tokens_sha256
    return sums
