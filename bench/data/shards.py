"""Tokenised text on disk: flat uint16 tokens, document boundaries, an index with checksums; and windows cut from it.

A shard is three files: ``NAME.bin`` (uint16 tokens, little-endian), ``NAME.offsets`` (int64, the first token of each
document and the end of the last) and ``NAME.json``, which is written last and says that the shard is whole.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bench import checkpoint, seeds
from bench.errors import UserError

FORMAT = 1
TOKEN, OFFSET = np.dtype("<u2"), np.dtype("<i8")


@dataclass(frozen=True)
class Index:
    """Contents of ``NAME.json``.

    Attributes:
        tokens, documents: counts, end-of-document tokens included.
        vocabulary: entries of the tokenizer; every token is smaller.
        tokenizer: its checksum.
        origin: checksum of what was tokenised, or its pinned address.
        tokens_sha256, offsets_sha256: of the two binary files.
    """

    tokens: int
    documents: int
    vocabulary: int
    tokenizer: str
    origin: str
    tokens_sha256: str
    offsets_sha256: str


class Writer:
    """Writes one shard document by document; nothing appears under its name before `close`.

    Raises:
        UserError: a token beyond the vocabulary, or no document at all.
    """

    def __init__(self, path: Path, *, vocabulary: int, tokenizer: str, origin: str):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.vocabulary, self.tokenizer, self.origin = path, vocabulary, tokenizer, origin
        self._part = path.with_suffix(".bin.part")
        self._stream: BinaryIO = self._part.open("wb")
        self._digest = hashlib.sha256()
        self._offsets = [0]

    def add(self, tokens: Sequence[int] | np.ndarray) -> None:
        """One document, its end token included."""
        values = np.asarray(tokens, dtype=np.int64)
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) < min(self.vocabulary, 2**16):
            raise UserError(
                f"{self.path}: document {len(self._offsets)} has token {int(values.max())}, beyond the vocabulary of "
                f"{self.vocabulary}; use the tokenizer that the model was made for"
            )
        content = values.astype(TOKEN).tobytes()
        self._digest.update(content)
        self._stream.write(content)
        self._offsets.append(self._offsets[-1] + len(values))

    def close(self) -> Index:
        self._stream.close()
        if self._offsets[-1] == 0:
            self._part.unlink()
            raise UserError(f"{self.path}: no document in {self.origin}; an empty shard cannot be trained on")
        offsets = np.asarray(self._offsets, dtype=OFFSET).tobytes()
        checkpoint.write_bytes(self.path.with_suffix(".offsets"), offsets)
        self._part.replace(self.path.with_suffix(".bin"))
        index = Index(
            tokens=self._offsets[-1],
            documents=len(self._offsets) - 1,
            vocabulary=self.vocabulary,
            tokenizer=self.tokenizer,
            origin=self.origin,
            tokens_sha256=self._digest.hexdigest(),
            offsets_sha256=hashlib.sha256(offsets).hexdigest(),
        )
        content = {"format": FORMAT, **asdict(index)}
        checkpoint.write_text(self.path.with_suffix(".json"), json.dumps(content, indent=1) + "\n")
        return index

    def abandon(self) -> None:
        self._stream.close()
        self._part.unlink(missing_ok=True)


def read_index(path: Path) -> Index:
    """The index of the shard at `path` (without suffix).

    Raises:
        UserError: there is none, or it is of another format.
    """
    file = path.with_suffix(".json")
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        version = content.pop("format")
        index = Index(**content)
    except FileNotFoundError:
        raise UserError(f"{file}: no such shard; a run that needs it makes it") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: not the index of a shard ({error}); delete it and tokenize again") from error
    if version != FORMAT:
        raise UserError(f"{file}: format {version}, this version reads {FORMAT}; delete it and tokenize again")
    return index


@dataclass(frozen=True)
class Shard:
    """A memory-mapped shard.

    Attributes:
        index: what its JSON says.
        tokens: (tokens,) uint16.
        offsets: (documents + 1,) int64.
    """

    index: Index
    tokens: np.ndarray
    offsets: np.ndarray


@lru_cache(maxsize=256)
def _checked(path: str, size: int, modified: int, expected: str) -> None:
    if (digest := checkpoint.sha256(Path(path))) != expected:
        raise UserError(
            f"{path}: sha256 {digest[:12]}…, its index says {expected[:12]}…; the file was changed, delete it and "
            "tokenize again"
        )


def open_shard(path: Path, *, vocabulary: int | None = None) -> Shard:
    """Maps a shard into memory after checking sizes and checksums (once for each process and file).

    Args:
        path: without suffix.
        vocabulary: of the model that will read it.

    Raises:
        UserError: absent, empty, changed since it was written, or made for a larger vocabulary.
    """
    index = read_index(path)
    mapped = []
    for suffix, kind, count, digest in (
        (".bin", TOKEN, index.tokens, index.tokens_sha256),
        (".offsets", OFFSET, index.documents + 1, index.offsets_sha256),
    ):
        file = path.with_suffix(suffix)
        if not file.exists():
            raise UserError(f"{file}: absent, but its index is there; delete the index and tokenize again")
        status = file.stat()
        if status.st_size != count * kind.itemsize:
            raise UserError(
                f"{file}: {status.st_size} bytes, its index says {count * kind.itemsize}; delete it and tokenize again"
            )
        if status.st_size == 0 or index.tokens == 0:
            raise UserError(f"{file}: an empty shard; delete it and tokenize again")
        _checked(str(file), status.st_size, status.st_mtime_ns, digest)
        mapped.append(np.memmap(file, dtype=kind, mode="r"))
    if vocabulary is not None and index.vocabulary > vocabulary:
        largest = int(mapped[0].max())
        if largest >= vocabulary:
            raise UserError(
                f"{path}.bin: token {largest} lies beyond the model's vocabulary of {vocabulary}; tokenize with the "
                "tokenizer of this model"
            )
    return Shard(index, *mapped)


def holding(paths: Sequence[Path], tokens: int) -> tuple[list[Path], int]:
    """The first shards that together hold at least `tokens`, and how many they hold; all where there are fewer."""
    held = 0
    for number, path in enumerate(paths, start=1):
        held += read_index(path).tokens
        if held >= tokens:
            return list(paths[:number]), held
    return list(paths), held


def first(opened: Sequence[Shard], tokens: int) -> list[Shard]:
    """The first documents that together hold at least `tokens`; all where there are fewer."""
    chosen: list[Shard] = []
    for shard in opened:
        if tokens <= 0:
            break
        documents = min(int(np.searchsorted(shard.offsets, tokens)), shard.index.documents)
        size = int(shard.offsets[documents])
        index = replace(shard.index, tokens=size, documents=documents)
        chosen.append(Shard(index, shard.tokens[:size], shard.offsets[: documents + 1]))
        tokens -= size
    return chosen


class PackedWindows:
    """One source as an endless stream of training windows.

    In each epoch the documents are shuffled, concatenated, and cut into windows of `length` tokens at stride
    ``length - 1``, so that every token but the first is predicted once; the windows are shuffled too. Epochs follow
    one another with permutations of their own. Window i depends on the names and i alone, never on the run's length.

    Args:
        shards: all of the source, in order.
        length: tokens in a window, one more than the context.
        names: of the seed, e.g. ``("train", "arxiv", seed)``.
        shuffled: false for validation: documents in file order, windows in order.

    Raises:
        UserError: the source is shorter than one window.
    """

    def __init__(self, shards: Sequence[Shard], length: int, *names: object, shuffled: bool = True):
        self.shards, self.length, self.names, self.shuffled = list(shards), length, names, shuffled
        self._first_document = np.cumsum([0, *(shard.index.documents for shard in self.shards)])
        self._sizes = np.concatenate([np.diff(shard.offsets) for shard in self.shards])
        self.tokens = int(self._sizes.sum())
        self.per_epoch = (self.tokens - 1) // (length - 1)
        if self.per_epoch < 1:
            raise UserError(
                f"{'/'.join(map(str, names))}: {self.tokens} tokens are less than one window of {length}; "
                "use a shorter context or more text"
            )
        self._epoch = -1
        self._documents = self._ends = self._windows = np.empty(0, dtype=np.int64)

    def windows(self, position: int, count: int) -> np.ndarray:
        """Windows ``position .. position + count - 1``, (count, length) int64."""
        out = np.empty((count, self.length), dtype=np.int64)
        for row in range(count):
            epoch, offset = divmod(position + row, self.per_epoch)
            self._enter(epoch)
            self._read(int(self._windows[offset]) * (self.length - 1), out[row])
        return out

    def _enter(self, epoch: int) -> None:
        if epoch == self._epoch:
            return
        self._epoch = epoch
        self._documents = self._permutation("documents", epoch, len(self._sizes))
        self._ends = np.cumsum(self._sizes[self._documents])
        self._windows = self._permutation("windows", epoch, self.per_epoch)

    def _permutation(self, what: str, epoch: int, size: int) -> np.ndarray:
        if not self.shuffled:
            return np.arange(size)
        import torch

        return torch.randperm(size, generator=seeds.generator(what, *self.names, epoch)).numpy()

    def _read(self, start: int, out: np.ndarray) -> None:
        """Copies the epoch's tokens from `start` on, document after document."""
        number = int(np.searchsorted(self._ends, start, side="right"))
        filled = 0
        while filled < len(out):
            document = int(self._documents[number])
            file = bisect_right(self._first_document, document) - 1
            shard = self.shards[file]
            local = document - int(self._first_document[file])
            skipped = start + filled - (int(self._ends[number]) - int(self._sizes[document]))
            first = int(shard.offsets[local]) + skipped
            piece = shard.tokens[first : min(int(shard.offsets[local + 1]), first + len(out) - filled)]
            out[filled : filled + len(piece)] = piece
            filled += len(piece)
            number += 1


class BlendedWindows:
    """A mixture of streams, sample by sample in the order of `bench.data.blend`.

    Args:
        streams: objects with ``windows(position, count)``.
        counts: their shares as whole numbers, from `bench.data.blend.parts`.
    """

    def __init__(self, streams: Sequence[Any], counts: tuple[int, ...]):
        self.streams, self.counts = list(streams), counts

    def windows(self, position: int, count: int) -> np.ndarray:
        """Windows ``position .. position + count - 1``, (count, length) int64."""
        from bench.data.blend import blend

        if len(self.streams) == 1:
            return self.streams[0].windows(position, count)
        sources, numbers = blend(self.counts, position, count)
        rows: list[np.ndarray | None] = [None] * count
        for source in np.unique(sources):
            # The numbers of one source are consecutive, so they are read at once.
            samples = np.flatnonzero(sources == source)
            windows = self.streams[source].windows(int(numbers[samples[0]]), len(samples))
            for sample, window in zip(samples, windows, strict=True):
                rows[sample] = window
        return np.stack(rows)  # type: ignore[arg-type]
