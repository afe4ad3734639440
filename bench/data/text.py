"""Text corpora: where their files are, how their sources are blended, and their token streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.data import blend, shards
from bench.data.sources import Hub, catalogue
from bench.errors import UserError, closest

SPLITS = ("train", "val")


@dataclass(frozen=True)
class Files:
    """Files of one split.

    Attributes:
        pattern: glob below the corpus's folder, or inside the hub's repository.
        source: whose text it is; ``None`` when a field of each document says so.
    """

    pattern: str
    source: str | None = None


@dataclass(frozen=True)
class Corpus:
    """Text with sources.

    Attributes:
        name: also the folder of its tokens.
        folder: below the data folder; files there are preferred to the hub.
        train, val: their files.
        meta: field below ``meta`` that names a document's source.
        sources: value of that field -> source; a value that is absent keeps its own name.
        weights: source -> sampling weight, percent; ``None`` for the tokens' own shares.
    """

    name: str
    folder: str
    train: tuple[Files, ...]
    val: tuple[Files, ...]
    meta: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, float] | None = None

    @property
    def hub(self) -> Hub | None:
        """The repository of ``sources.yaml`` from which absent files are streamed."""
        found = catalogue().get(self.name)
        return None if found is None else found.hub

    def files(self, split: str) -> tuple[Files, ...]:
        return self.train if split == "train" else self.val


# Table 1 of the paper: sampling weights of the subsampled SlimPajama, percent, in the paper's order.
SLIMPAJAMA_WEIGHTS = {
    "StackExchange": 2.0,
    "ArXiv": 2.5,
    "Wikipedia": 4.5,
    "Book": 4.5,
    "Github": 4.5,
    "C4": 15.0,
    "CommonCrawl": 67.0,
}
SLIMPAJAMA_SETS = {f"RedPajama{name}": name for name in SLIMPAJAMA_WEIGHTS}
# Near the tokens' own shares, so that no source is repeated before another.
REAL_TEXT_WEIGHTS = {"arxiv": 14.0, "books": 14.0, "reviews": 54.0, "wikipedia": 18.0}

CORPORA = {
    corpus.name: corpus
    for corpus in (
        Corpus(
            "text-upstream",
            "text",
            train=(Files("upstream/train.jsonl*", "upstream"),),
            val=(Files("upstream/val.jsonl*"),),
            meta="pile_set_name",
        ),
        Corpus(
            "text-downstream",
            "text",
            train=tuple(Files(f"downstream/{name}/train.jsonl*", name) for name in REAL_TEXT_WEIGHTS),
            val=tuple(Files(f"downstream/{name}/val.jsonl*", name) for name in REAL_TEXT_WEIGHTS),
            weights=REAL_TEXT_WEIGHTS,
        ),
        Corpus(
            "pile",
            "pile",
            train=(Files("train/*.jsonl.zst", "Pile"),),
            val=(Files("val.jsonl.zst"),),
            meta="pile_set_name",
        ),
        # 6 B tokens: a run of 297 B repeats them about 50 times.
        Corpus(
            "slimpajama",
            "slimpajama",
            train=(Files("data/train-*.parquet"),),
            val=(Files("data/validation-*.parquet"),),
            meta="redpajama_set_name",
            sources=SLIMPAJAMA_SETS,
            weights=SLIMPAJAMA_WEIGHTS,
        ),
        Corpus(
            "slimpajama-627b",
            "slimpajama-627b",
            train=(Files("train/*/*.jsonl.zst"),),
            val=(Files("validation/*/*.jsonl.zst"),),
            meta="redpajama_set_name",
            sources=SLIMPAJAMA_SETS,
            weights=SLIMPAJAMA_WEIGHTS,
        ),
    )
}


def corpus(name: str) -> Corpus:
    """A corpus by name.

    Raises:
        UserError: there is none.
    """
    if name not in CORPORA:
        raise UserError(f"corpus '{name}' does not exist{closest(name, CORPORA)}")
    return CORPORA[name]


def folder(data_root: Path, tokenizer: str, name: str, split: str) -> Path:
    """Where the shards of a split lie, a folder for each source."""
    return data_root / "tokens" / tokenizer / name / split


def shard_paths(data_root: Path, tokenizer: str, name: str, split: str) -> dict[str, list[Path]]:
    """Source -> its shards without suffix, both sorted.

    Raises:
        UserError: nothing has been tokenised.
    """
    top = folder(data_root, tokenizer, name, split)
    found: dict[str, list[Path]] = {}
    for path in sorted(top.glob("*/*.json")):
        found.setdefault(path.parent.name, []).append(path.with_suffix(""))
    if not found:
        raise UserError(
            f"{top}: no tokens of {name} by the tokenizer {tokenizer}; a run that needs them makes them"
        )
    return found


def open_sources(
    data_root: Path,
    tokenizer: str,
    name: str,
    split: str,
    *,
    vocabulary: int,
    weights: Mapping[str, float] | None = None,
) -> dict[str, list[shards.Shard]]:
    """Source -> its open shards.

    Args:
        data_root, tokenizer, name, split: as in `folder`.
        vocabulary: of the model.
        weights: of the mixture; the corpus's own when ``None``.

    Raises:
        UserError: a shard is absent, damaged, or beyond the vocabulary; a source of the mixture is missing.
    """
    paths = shard_paths(data_root, tokenizer, name, split)
    for source in (corpus(name).weights if weights is None else weights) or {}:
        if source not in paths:
            raise UserError(
                f"{folder(data_root, tokenizer, name, split)}: source '{source}' of the mixture is missing (found "
                f"{', '.join(paths)}); tokenize it, or leave it out of the weights"
            )
    return {
        source: [shards.open_shard(path, vocabulary=vocabulary) for path in files] for source, files in paths.items()
    }


def mixture(
    opened: Mapping[str, Sequence[shards.Shard]], weights: Mapping[str, float] | None
) -> tuple[list[str], tuple[int, ...]]:
    """Names and whole-numbered shares of a mixture; by tokens where no weights are given.

    Raises:
        UserError: the weights do not sum to 1 or 100, or name a source that is not there.
    """
    if weights is None:
        if len(opened) == 1:
            return list(opened), (1,)
        tokens = {name: sum(shard.index.tokens for shard in found) for name, found in opened.items()}
        total = sum(tokens.values())
        shares = {name: round(1000 * count / total) for name, count in tokens.items()}
        largest = max(shares, key=lambda name: shares[name])
        shares[largest] += 1000 - sum(shares.values())
        weights = {name: share / 10 for name, share in shares.items()}
    if missing := [name for name in weights if name not in opened]:
        raise UserError(f"mixture: source '{missing[0]}' is missing; there are {', '.join(opened)}")
    return list(weights), blend.parts(list(weights.values()), list(weights))


def training_windows(
    data_root: Path,
    tokenizer: str,
    name: str,
    *,
    length: int,
    vocabulary: int,
    seed: int,
    weights: Mapping[str, float] | None = None,
) -> shards.BlendedWindows:
    """The training stream of a corpus: each source packed and shuffled, the sources blended by weight.

    Args:
        data_root: folder of the data sets.
        tokenizer: name of the tokenizer, e.g. ``neox``.
        name: the corpus.
        length: tokens in a window, one more than the context.
        vocabulary: of the model.
        seed: the run's.
        weights: source -> weight instead of the corpus's own.
    """
    opened = open_sources(data_root, tokenizer, name, "train", vocabulary=vocabulary, weights=weights)
    names, counts = mixture(opened, corpus(name).weights if weights is None else weights)
    streams: list[Any] = [shards.PackedWindows(opened[each], length, name, each, seed) for each in names]
    return shards.BlendedWindows(streams, counts)


def validation_windows(
    data_root: Path, tokenizer: str, name: str, *, length: int, vocabulary: int, tokens: int
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The fixed validation slices of a corpus: the first `tokens` of each source, in file order.

    Returns:
        source -> (windows, length) int64, and source -> weight in the blended loss, summing to 1.
    """
    opened = open_sources(data_root, tokenizer, name, "val", vocabulary=vocabulary)
    names, counts = mixture(opened, corpus(name).weights)
    slices = {}
    for each in names:
        stream = shards.PackedWindows(opened[each], length, name, each, shuffled=False)
        slices[each] = stream.windows(0, min(stream.per_epoch, max(1, tokens // (length - 1))))
    return slices, {each: count / sum(counts) for each, count in zip(names, counts, strict=True)}


def token_counts(data_root: Path, tokenizer: str, name: str) -> dict[str, dict[str, int]]:
    """Source -> split -> tokens, end-of-document tokens included: the second and third columns of Table 1."""
    counts: dict[str, dict[str, int]] = {}
    for split in SPLITS:
        for source, paths in shard_paths(data_root, tokenizer, name, split).items():
            total = sum(shards.read_index(path).tokens for path in paths)
            counts.setdefault(source, {})[split] = total
    return counts
