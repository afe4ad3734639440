"""Text to token shards: deterministic, resumable, parallel over files."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from bench import checkpoint
from bench.data import text
from bench.data.documents import Input, inputs
from bench.data.shards import Index, Writer, read_index
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
        done = json.loads(marker.read_text(encoding="utf-8"))
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
        UserError: a file is absent, without text, empty, or cannot be reached, or the corpus is another than its name says.
    """
    from tqdm import tqdm

    corpus = text.corpus(name)
    _check_whole(corpus, data_root)
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


def _check_whole(corpus: text.Corpus, data_root: Path) -> None:
    """Refuses a reduced copy of a corpus under the name of the whole, as its validation text shows."""
    lacking = set(corpus.distinct)
    documents = (meta for part, _ in inputs(corpus, "val", data_root) for _, meta in part.documents())
    while lacking and (meta := next(documents, None)) is not None:
        lacking.discard(meta.get(corpus.meta, ""))
    if lacking:
        raise UserError(
            f"{data_root / corpus.folder}: the validation text of '{corpus.name}' lacks {', '.join(sorted(lacking))}; a "
            f"copy without them is the corpus '{corpus.instead}': name that, and put the copy into a folder of that name"
        )


def ensure(name: str, tokenizer: str, data_root: Path, *, workers: int = 1) -> Vocabulary:
    """The tokenizer; the corpus is tokenised first where it is not yet, by one process at a time."""
    from filelock import FileLock

    folder = data_root / "tokens" / tokenizer
    done = text.complete(data_root, tokenizer, name)
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "tokenize.lock"):
            if not done.exists():
                tokenize(name, tokenizer, data_root, workers=workers)
                checkpoint.write_text(done, "")
    return vocabulary(tokenizer, data_root)
