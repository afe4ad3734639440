"""Text to token shards: JSONL (plain or .zst), parquet and hub datasets; deterministic, resumable, parallel over files."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from bench import checkpoint
from bench.data import text
from bench.data.shards import Index, Writer, read_index
from bench.data.sources import Hub
from bench.errors import UserError

NEOX_MD5 = "55634e54c40440d3639fc80ef8e7bdd9"
END_OF_DOCUMENT = "<|endoftext|>"


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer on disk.

    Attributes:
        name: ``neox`` or ``bpe-N``.
        path: its tokenizer.json.
        entries: number of tokens.
        end: the end-of-document token.
        checksum: sha256 of the file.
    """

    name: str
    path: Path
    entries: int
    end: int
    checksum: str


def vocabulary(name: str, data_root: Path, *, train_on: str = "text-upstream") -> Vocabulary:
    """The GPT-NeoX tokenizer, or a byte-pair encoding of N entries trained on the upstream corpus at first use.

    Args:
        name: ``neox``, or ``bpe-N``.
        data_root: folder of the data sets.
        train_on: corpus whose training split the byte-pair encoding is trained on.

    Raises:
        UserError: unknown name, absent or damaged file.
    """
    from bench.data import encoder

    if name == "neox":
        path = data_root / "tokenizer" / "20B_tokenizer.json"
        if not path.exists():
            raise UserError(
                f"{path}: the GPT-NeoX tokenizer is absent; it is utils/20B_tokenizer.json of the repository "
                "EleutherAI/pythia (2,467,981 bytes), put it there"
            )
        if (digest := hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()) != NEOX_MD5:
            raise UserError(
                f"{path}: md5 {digest}, expected {NEOX_MD5}; fetch 20B_tokenizer.json of EleutherAI/pythia again"
            )
    elif name.startswith("bpe-") and name[4:].isdigit() and 300 <= int(name[4:]) <= 65_536:
        path = data_root / "tokens" / name / "tokenizer.json"
        if not path.exists():
            train_bpe(path, int(name[4:]), text.corpus(train_on), data_root)
    else:
        raise UserError(f"tokenizer '{name}' does not exist; known: neox, bpe-N with N from 300 to 65536")
    loaded = encoder.load(path)
    end = loaded.token_to_id(END_OF_DOCUMENT)
    if end is None:
        raise UserError(f"{path}: has no {END_OF_DOCUMENT} token; use the GPT-NeoX tokenizer or train one with `bpe-N`")
    return Vocabulary(name, path, loaded.get_vocab_size(), end, checkpoint.sha256(path))


def train_bpe(path: Path, entries: int, corpus: text.Corpus, data_root: Path) -> None:
    """Trains a byte-level byte-pair encoding on a corpus's training split; equal text gives an equal file."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=entries,
        special_tokens=[END_OF_DOCUMENT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    documents = (content for part, _ in inputs(corpus, "train", data_root) for content, _ in part.documents())
    tokenizer.train_from_iterator(documents, trainer)
    checkpoint.write_text(path, tokenizer.to_str(pretty=True))


@dataclass(frozen=True)
class Input:
    """One file to tokenise: local, or in a hub repository at a pinned commit.

    Attributes:
        path: local path, or path inside the repository.
        local: folder of the corpus, for local copies of the repository's files.
        hub: the repository.
    """

    path: str
    local: str
    hub: Hub | None = None

    @property
    def stem(self) -> str:
        """Name of its shards: the path below the corpus's folder, without what says how the file is packed."""
        below = Path(self.path) if self.hub is not None else Path(self.path).relative_to(self.local)
        name = below.as_posix().removesuffix(".zst")
        for suffix in (".jsonl", ".json", ".parquet"):
            name = name.removesuffix(suffix)
        return name.replace("/", "-").replace(".", "-")

    @property
    def address(self) -> str:
        if self.hub is None:
            return self.path
        return f"hf://datasets/{self.hub.repository}@{self.hub.revision}/{self.path}"

    def size(self) -> int:
        """Bytes of a local file; 0 where they are not known."""
        return Path(self.path).stat().st_size if self.hub is None else 0

    def origin(self) -> str:
        """What a shard's index names as its origin: the file's sha256, or the pinned address."""
        return self.address if self.hub is not None else f"sha256:{checkpoint.sha256(Path(self.path))}"

    def documents(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(text, meta) of each document in the order of the file; empty ones are left out.

        Raises:
            UserError: names the file and the line that has no text field, or one that is not Unicode.
        """
        rows = _jsonl(Path(self.path)) if self.hub is None and not self.path.endswith(".parquet") else _streamed(self)
        for line, row in rows:
            if not isinstance(row, dict) or not isinstance(row.get("text"), str):
                fields = ", ".join(sorted(row)) if isinstance(row, dict) else type(row).__name__
                raise UserError(f"{self.address}:{line}: no field 'text' with a string (found: {fields})")
            try:
                row["text"].encode()
            except UnicodeEncodeError as error:
                half = row["text"][error.start]
                raise UserError(
                    f"{self.address}:{line}: {half!r} at character {error.start} of 'text' is half of a "
                    "surrogate pair, expected Unicode; remove it or the document"
                ) from None
            if row["text"]:
                yield row["text"], self._meta(line, row.get("meta") or {})

    def _meta(self, line: int, meta: Any) -> dict[str, Any]:
        """The field ``meta``: an object, or one written as a string."""
        try:
            fields = json.loads(meta) if isinstance(meta, str) else meta
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            raise UserError(f"{self.address}:{line}: 'meta' is no object (found: {str(meta)[:60]!r})")
        return fields


def _jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as raw:
        stream: Any = raw
        if path.suffix == ".zst":
            import pyarrow

            # Arrow's reader notices a file that ends too early, which zstandard's takes for its end.
            stream = pyarrow.CompressedInputStream(raw, "zstd")
        lines = iter(io.TextIOWrapper(stream, encoding="utf-8"))
        for line in itertools.count(1):
            try:
                content = next(lines)
                row = json.loads(content) if content.strip() else None
            except StopIteration:
                return
            except OSError as error:
                raise UserError(f"{path}: damaged or cut short ({error}); fetch the file again") from error
            except UnicodeDecodeError as error:
                raise UserError(f"{path}:{line}: damaged or no UTF-8 text ({error}); fetch the file again") from error
            except ValueError as error:
                raise UserError(
                    f"{path}:{line}: not JSON ({error}); expected one object with 'text' in each line"
                ) from error
            if content.strip():
                yield line, row


def _unreachable(address: str, local: str, error: Exception) -> UserError:
    reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    return UserError(
        f"{address}: cannot be read from the hub ({type(error).__name__}: {reason}); put a copy of the repository's "
        f"files under {local} and call again"
    )


def _streamed(part: Input) -> Iterator[tuple[int, Any]]:
    from datasets import load_dataset

    kind = "parquet" if part.path.endswith(".parquet") else "json"
    try:
        rows = load_dataset(kind, data_files=part.address, split="train", streaming=True)
        yield from enumerate(rows, start=1)
    except Exception as error:  # each layer below has exceptions of its own for "no network"
        if part.hub is None:
            raise UserError(f"{part.path}: not a readable {kind} file ({error})") from error
        raise _unreachable(part.address, part.local, error) from error


def inputs(corpus: text.Corpus, split: str, data_root: Path) -> list[tuple[Input, str | None]]:
    """(file, source) of a split: local files where there are any, otherwise the hub's at the pinned commit.

    Raises:
        UserError: a pattern matches nothing and the hub cannot be reached.
    """
    parts: list[tuple[Input, str | None]] = []
    local = data_root / corpus.folder
    for files in corpus.files(split):
        paths = sorted(local.glob(files.pattern))
        if paths:
            parts += [(Input(str(path), str(local)), files.source) for path in paths]
        elif corpus.hub is None:
            raise UserError(f"{local / files.pattern}: no such file; {corpus.name} needs it for its {split} split")
        else:
            listed = _hub_files(corpus.hub, files.pattern, str(local))
            parts += [(Input(path, str(local), corpus.hub), files.source) for path in listed]
    names: dict[str, str] = {}
    for part, _ in parts:
        if part.stem in names:
            raise UserError(f"{names[part.stem]} and {part.path}: the same text twice; remove one")
        names[part.stem] = part.path
    return parts


def _hub_files(hub: Hub, pattern: str, local: str) -> list[str]:
    from fnmatch import fnmatch

    from huggingface_hub import HfApi

    try:
        names = HfApi().list_repo_files(hub.repository, revision=hub.revision, repo_type="dataset")
    except Exception as error:
        raise _unreachable(f"hf://datasets/{hub.repository}@{hub.revision}/{pattern}", local, error) from error
    matching = sorted(name for name in names if fnmatch(name, pattern))
    if not matching:
        raise UserError(f"{hub.repository} at {hub.revision[:12]}: no file matches {pattern}")
    return matching


def tokenize_file(
    part: Input, source: str | None, folder: Path, vocabulary: Vocabulary, corpus: text.Corpus
) -> dict[str, Index]:
    """Shards of one file, ``folder/<source>/<stem>``, an end token after each document; skips what is done.

    Returns:
        source -> index.
    """
    from bench.data.encoder import Encoder

    marker = folder / f"{part.stem}.done"
    origin = part.origin()
    identity = {"origin": origin, "tokenizer": vocabulary.checksum}
    if marker.exists():
        done = json.loads(marker.read_text())
        paths = {name: folder / name / part.stem for name in done["sources"]}
        if {key: done[key] for key in identity} == identity and all(
            path.with_suffix(".json").exists() for path in paths.values()
        ):
            return {name: read_index(path) for name, path in paths.items()}
        for path in paths.values():  # of other text; a source that is gone must not stay
            path.with_suffix(".json").unlink(missing_ok=True)
        marker.unlink()
    encode = Encoder(vocabulary.path)
    writers: dict[str, Writer] = {}
    try:
        for content, meta in part.documents():
            name = source or _source_of(meta, corpus, part)
            if name not in writers:
                writers[name] = Writer(
                    folder / name / part.stem,
                    vocabulary=vocabulary.entries,
                    tokenizer=vocabulary.checksum,
                    origin=origin,
                )
            writers[name].add(np.append(encode(content), vocabulary.end))
        if not writers:
            raise UserError(f"{part.address}: holds no document; an empty shard cannot be trained on")
        indices = {name: writer.close() for name, writer in writers.items()}
    except BaseException:
        for writer in writers.values():
            writer.abandon()
        raise
    checkpoint.write_text(marker, json.dumps({**identity, "sources": sorted(indices)}) + "\n")
    return indices


def _source_of(meta: dict[str, Any], corpus: text.Corpus, part: Input) -> str:
    name = meta.get(corpus.meta)
    if not isinstance(name, str) or not name:
        raise UserError(f"{part.address}: a document has no meta.{corpus.meta}, which names its source")
    return corpus.sources.get(name, name.replace("/", "-"))


def tokenize(name: str, tokenizer: str, data_root: Path, *, workers: int = 1) -> dict[str, dict[str, Index]]:
    """Tokenises both splits of a corpus; files that are done are left alone.

    Args:
        name: the corpus.
        tokenizer: ``neox`` or ``bpe-N``.
        data_root: folder of the data sets.
        workers: processes, a file each.

    Returns:
        address of each file -> source -> index.

    Raises:
        UserError: a file is absent, without text, empty, or cannot be reached.
    """
    from tqdm import tqdm

    corpus = text.corpus(name)
    entries = vocabulary(tokenizer, data_root)
    jobs = [
        (part, source, text.folder(data_root, tokenizer, name, split), entries, corpus)
        for split in text.SPLITS
        for part, source in inputs(corpus, split, data_root)
    ]
    results = {}
    bar = tqdm(total=len(jobs), desc=f"tokenize {name}", unit="file", disable=None)
    with bar:
        if workers <= 1 or len(jobs) == 1:
            for job in jobs:
                results[job[0].address] = tokenize_file(*job)
                bar.update()
            return results
        # Fresh interpreters: threads that training a tokenizer started do not survive a fork.
        jobs.sort(key=lambda job: -job[0].size())  # the longest first, so that the last to end are short
        with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
            waiting = {pool.submit(tokenize_file, *job): job[0].address for job in jobs}
            try:
                for future in as_completed(waiting):
                    results[waiting[future]] = future.result()
                    bar.update()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return results


def ensure(name: str, tokenizer: str, data_root: Path, *, workers: int = 1) -> Vocabulary:
    """The tokenizer; the corpus is tokenised first where it is not yet, by one process at a time."""
    from filelock import FileLock

    folder = data_root / "tokens" / tokenizer
    done = folder / name / "complete"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "tokenize.lock"):
            if not done.exists():
                tokenize(name, tokenizer, data_root, workers=workers)
                checkpoint.write_text(done, "")
    return vocabulary(tokenizer, data_root)
