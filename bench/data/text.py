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
        otherwise: glob of a re-upload, where nothing matches `pattern`.
    """

    pattern: str
    source: str | None = None
    otherwise: str = ""

    @property
    def patterns(self) -> tuple[str, ...]:
        return (self.pattern, self.otherwise) if self.otherwise else (self.pattern,)


@dataclass(frozen=True)
class Corpus:
    """Text with sources.

    Attributes:
        name: also the folder of its tokens.
        folder: below the data folder; files there are preferred to the hub.
        train, val: their files.
        title: what it is, for people.
        meta: field below ``meta`` that names a document's source.
        sources: value of that field -> source; a value that is not listed is the name itself.
        weights: source -> sampling weight, percent; ``None`` for the tokens' own shares.
        subset: split -> source -> GPT-NeoX tokens, of which the first documents are used; all of a source without.
        tokens: source -> GPT-NeoX tokens of the training text, about; for estimates before it is tokenised.
        distinct: sources that the validation text must have, since a reduced copy that lacks them is another corpus.
        instead: that other corpus.
    """

    name: str
    folder: str
    train: tuple[Files, ...]
    val: tuple[Files, ...]
    title: str = ""
    meta: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, float] | None = None
    subset: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)
    distinct: tuple[str, ...] = ()
    instead: str = ""

    @property
    def hubs(self) -> tuple[Hub, ...]:
        """Repositories of ``sources.yaml`` from which files are streamed that are not in the folder, in this order."""
        source = catalogue().get(self.name)
        return () if source is None else tuple(hub for hub in (source.hub, source.mirror) if hub is not None)

    def files(self, split: str) -> tuple[Files, ...]:
        return self.train if split == "train" else self.val


# Table 1 of the paper: sampling weights of the subsampled SlimPajama, percent, in the paper's order; and its tokens.
SLIMPAJAMA_WEIGHTS = {
    "StackExchange": 2.0,
    "ArXiv": 2.5,
    "Wikipedia": 4.5,
    "Book": 4.5,
    "Github": 4.5,
    "C4": 15.0,
    "CommonCrawl": 67.0,
}
SLIMPAJAMA_SUBSET = {
    "train": {
        "StackExchange": 9_950_000_000,
        "ArXiv": 13_770_000_000,
        "Wikipedia": 11_780_000_000,
        "Book": 14_220_000_000,
        "Github": 15_410_000_000,
        "C4": 78_490_000_000,
        "CommonCrawl": 153_250_000_000,
    },
    "val": {
        "StackExchange": 13_080_000,
        "ArXiv": 22_730_000,
        "Wikipedia": 15_790_000,
        "Book": 22_040_000,
        "Github": 22_420_000,
        "C4": 72_490_000,
        "CommonCrawl": 147_280_000,
    },
}
# Shares of SlimPajama's bytes by source (its data card), percent; the sample of 6 B tokens was drawn from all of it.
SLIMPAJAMA_SHARES = {
    "StackExchange": 3.3,
    "ArXiv": 4.6,
    "Wikipedia": 3.8,
    "Book": 4.2,
    "Github": 5.2,
    "C4": 26.7,
    "CommonCrawl": 52.2,
}
SLIMPAJAMA_SETS = {f"RedPajama{name}": name for name in SLIMPAJAMA_WEIGHTS}
PILE_DISTINCT = ("Books3", "BookCorpus2", "OpenSubtitles", "YoutubeSubtitles", "OpenWebText2")
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
            title="books, abstracts, encyclopedia and reviews in one stream",
            meta="pile_set_name",
            tokens={"upstream": 9_683_000},
        ),
        Corpus(
            "text-downstream",
            "text",
            train=tuple(Files(f"downstream/{name}/train.jsonl*", name) for name in REAL_TEXT_WEIGHTS),
            val=tuple(Files(f"downstream/{name}/val.jsonl*", name) for name in REAL_TEXT_WEIGHTS),
            title="abstracts, books, reviews and encyclopedia by source",
            weights=REAL_TEXT_WEIGHTS,
            tokens={"arxiv": 1_398_000, "books": 1_463_000, "reviews": 5_508_000, "wikipedia": 1_829_000},
        ),
        # The paper's. Its host is gone, so that it is read from a copy below the data folder.
        Corpus(
            "pile",
            "pile",
            train=(Files("train/*.jsonl*", "Pile"),),
            val=(Files("val.jsonl*"),),
            title="The Pile",
            meta="pile_set_name",
            tokens={"Pile": 300_000_000_000},
            distinct=PILE_DISTINCT,
            instead="pile-uncopyrighted",
        ),
        Corpus(
            "pile-uncopyrighted",
            "pile-uncopyrighted",
            train=(Files("train/*.jsonl*", "Pile"),),
            val=(Files("val.jsonl*"),),
            title="The Pile without Books3, BookCorpus2, OpenSubtitles, YTSubtitles and OWT2",
            meta="pile_set_name",
            # The others make 75 % of the Pile by its paper's Table 1.
            tokens={"Pile": 225_000_000_000},
        ),
        # The paper's. The authors' random part of it is unpublished; the first documents of each source stand for it.
        Corpus(
            "slimpajama-627b",
            "slimpajama-627b",
            train=(Files("train/*/*.jsonl*", otherwise="data/train-*.parquet"),),
            val=(Files("validation/*/*.jsonl*", otherwise="data/validation-*.parquet"),),
            title="SlimPajama-627B, of it the 297 B tokens of Table 1",
            meta="redpajama_set_name",
            sources=SLIMPAJAMA_SETS,
            weights=SLIMPAJAMA_WEIGHTS,
            subset=SLIMPAJAMA_SUBSET,
            tokens=SLIMPAJAMA_SUBSET["train"],
        ),
        Corpus(
            "slimpajama-6b",
            "slimpajama-6b",
            train=(Files("data/train-*.parquet"),),
            val=(Files("data/validation-*.parquet"),),
            title="a sample of 6 B tokens of SlimPajama",
            meta="redpajama_set_name",
            sources=SLIMPAJAMA_SETS,
            weights=SLIMPAJAMA_WEIGHTS,
            tokens={name: round(6e9 * share / 100) for name, share in SLIMPAJAMA_SHARES.items()},
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
    """Source -> its shards without suffix, both sorted; of a subset those that hold it.

    Raises:
        UserError: nothing has been tokenised, or less than the subset's training text.
    """
    top = folder(data_root, tokenizer, name, split)
    paths: dict[str, list[Path]] = {}
    for path in sorted(top.glob("*/*.json")):
        paths.setdefault(path.parent.name, []).append(path.with_suffix(""))
    if not paths:
        raise UserError(f"{top}: no tokens of {name} by the tokenizer {tokenizer}; a run that needs them makes them")
    for source, tokens in corpus(name).subset.get(split, {}).items():
        if source in paths:
            needed, held = shards.holding(paths[source], tokens)
            if held < tokens and split == "train":
                raise UserError(
                    f"{top / source}: {held / 1e9:.3g} B tokens, {name} has {tokens / 1e9:.4g} B of this source; add the "
                    "files that are missing and tokenize again"
                )
            paths[source] = needed
    return paths


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
    subset = corpus(name).subset.get(split, {})
    opened = {}
    for source, files in paths.items():
        opened[source] = [shards.open_shard(path, vocabulary=vocabulary) for path in files]
        if source in subset:
            opened[source] = shards.first(opened[source], subset[source])
    return opened


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
        tokens = {name: sum(shard.index.tokens for shard in files) for name, files in opened.items()}
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
        subset = corpus(name).subset.get(split, {})
        for source, paths in shard_paths(data_root, tokenizer, name, split).items():
            total = sum(shards.read_index(path).tokens for path in paths)
            counts.setdefault(source, {})[split] = min(total, subset.get(source, total))
    return counts


def complete(data_root: Path, tokenizer: str, name: str) -> Path:
    """The file that says that both splits of a corpus have been tokenised."""
    return data_root / "tokens" / tokenizer / name / "complete"


def training_tokens(data_root: Path, tokenizer: str, name: str) -> dict[str, int]:
    """Source -> tokens of the training text: counted where it has been tokenised, otherwise about; empty if unknown."""
    if complete(data_root, tokenizer, name).exists():
        counts = token_counts(data_root, tokenizer, name)
        return {source: split["train"] for source, split in counts.items() if "train" in split}
    return dict(corpus(name).tokens) if tokenizer == "neox" else {}
