"""Text to token shards: contents, determinism, resume, parallel files, and everything that can be wrong with a corpus."""

from __future__ import annotations

import gzip
import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from bench.data import documents, shards, text, tokenize
from bench.data.text import Corpus, Files
from bench.errors import UserError

WORDS = "the warm up of a network is short and the rate of learning falls again to its floor after that"

FRAME = zstandard.ZstdCompressor().compress(b'{"text": "a"}\n{"text": "b"}\n')
"""Two documents."""
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
"""What git leaves in place of a file that git-lfs has not fetched."""


def rows_of(name: str, count: int) -> list[dict[str, Any]]:
    """Documents of growing length that name their file; the first has characters of several bytes."""
    texts = (f"{name} {number} {WORDS[number % 7 : 20 + 7 * (number % 11)]}" for number in range(count))
    return [{"text": text + (" — λ ε 𝛼" if number == 0 else "")} for number, text in enumerate(texts)]


def write(path: Path, rows: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.write_bytes(zstandard.ZstdCompressor().compress(content) if path.suffix == ".zst" else content)


@pytest.fixture
def corpora(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A data folder with "one", a stream whose documents name their source, and "two", a folder for each source."""
    one = Corpus(
        "one",
        "raw",
        train=(Files("up/train.jsonl*", "upstream"),),
        val=(Files("up/val.jsonl"),),
        meta="pile_set_name",
        sources={"ArXiv": "papers"},
    )
    two = Corpus(
        "two",
        "raw",
        train=(Files("down/a/train.jsonl.zst", "a"), Files("down/b/train.jsonl.zst", "b")),
        val=(Files("down/a/val.jsonl.zst", "a"), Files("down/b/val.jsonl.zst", "b")),
        weights={"a": 75.0, "b": 25.0},
    )
    monkeypatch.setattr(text, "CORPORA", {"one": one, "two": two, "text-upstream": one})
    write(tmp_path / "raw/up/train.jsonl.zst", rows_of("up", 40))
    named = rows_of("val", 9)
    for number, row in enumerate(named):
        row["meta"] = {"pile_set_name": "ArXiv" if number % 3 else "Books"}
    write(tmp_path / "raw/up/val.jsonl", named)
    for source in "ab":
        write(tmp_path / f"raw/down/{source}/train.jsonl.zst", rows_of(source, 30))
        write(tmp_path / f"raw/down/{source}/val.jsonl.zst", rows_of(f"val {source}", 8))
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def test_shards_hold_the_documents_each_with_its_end(corpora: Path) -> None:
    tokenize.tokenize("one", "bpe-300", corpora)
    vocabulary = tokenize.vocabulary("bpe-300", corpora)
    from tokenizers import Tokenizer

    plain = Tokenizer.from_file(str(vocabulary.path))
    (path,) = text.shard_paths(corpora, "bpe-300", "one", "train")["upstream"]
    shard = shards.open_shard(path, vocabulary=300)
    expected = [[*plain.encode(row["text"]).ids, vocabulary.end] for row in rows_of("up", 40)]
    found = [part.tolist() for part in np.split(shard.tokens, shard.offsets[1:-1])]
    assert found == expected
    assert shard.tokens.dtype == np.uint16
    assert plain.decode(found[0][:-1]) == rows_of("up", 1)[0]["text"]
    assert (shard.index.documents, shard.index.tokens) == (40, sum(map(len, expected)))
    assert plain.id_to_token(vocabulary.end) == "<|endoftext|>"


def test_sources_are_named_by_the_documents_or_by_the_folder(corpora: Path) -> None:
    for name in ("one", "two"):
        tokenize.tokenize(name, "bpe-300", corpora)
    assert text.shard_paths(corpora, "bpe-300", "one", "val").keys() == {"papers", "Books"}
    counts = text.token_counts(corpora, "bpe-300", "two")
    assert counts.keys() == {"a", "b"} and all(split.keys() == {"train", "val"} for split in counts.values())
    windows = text.training_windows(corpora, "bpe-300", "two", length=9, vocabulary=300, seed=0).windows(0, 8)
    assert windows.shape == (8, 9)
    slices, weights = text.validation_windows(corpora, "bpe-300", "two", length=9, vocabulary=300, tokens=40)
    assert weights == {"a": 0.75, "b": 0.25}
    assert {name: part.shape for name, part in slices.items()} == {"a": (5, 9), "b": (5, 9)}


def test_equal_text_gives_equal_bytes_and_what_is_done_stays(corpora: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other).mkdir()
    (other / "raw").symlink_to(corpora / "raw")
    tokenize.tokenize("one", "bpe-300", corpora)
    tokenize.tokenize("one", "bpe-300", other)
    first = files(corpora / "tokens")
    assert first and first == files(other / "tokens")
    times = {path: path.stat().st_mtime_ns for path in (corpora / "tokens").rglob("*.bin")}
    tokenize.tokenize("one", "bpe-300", corpora)
    assert times == {path: path.stat().st_mtime_ns for path in (corpora / "tokens").rglob("*.bin")}
    write(corpora / "raw/up/train.jsonl.zst", rows_of("changed", 40))
    tokenize.tokenize("one", "bpe-300", corpora)
    changed = files(corpora / "tokens")
    assert {name for name in first if first[name] != changed[name]} == {
        f"bpe-300/one/train/{name}"
        for name in ("up-train.done", *(f"upstream/up-train.{kind}" for kind in ("bin", "json", "offsets")))
    }


@pytest.mark.slow
def test_several_processes_write_the_same_bytes(tmp_path: Path) -> None:
    """With the real corpus's layout; two processes and one."""
    for corpus, sources in (("upstream", [""]), ("downstream", text.REAL_TEXT_WEIGHTS)):
        for source in sources:
            for split in text.SPLITS:
                rows = rows_of(source or "up", 30)
                if split == "val" and not source:
                    rows = [{**row, "meta": {"pile_set_name": "Books"}} for row in rows]
                write(tmp_path / "text" / corpus / source / f"{split}.jsonl.zst", rows)
    shards_by = {}
    for workers in (1, 2):
        root = tmp_path / str(workers)
        root.mkdir()
        (root / "text").symlink_to(tmp_path / "text")
        for corpus in ("text-upstream", "text-downstream"):
            tokenize.ensure(corpus, "bpe-300", root, workers=workers)
        shards_by[workers] = files(root / "tokens")
    assert shards_by[1] and shards_by[1] == shards_by[2]


KILLED = """
import os, signal, sys
from pathlib import Path
from bench.data import shards, text, tokenize
from bench.data.text import Corpus, Files
one = Corpus("one", "raw", train=(Files("up/*.jsonl", "upstream"),), val=(Files("up/val.jsonl", "upstream"),))
text.CORPORA = {"one": one, "text-upstream": one}
add, left = shards.Writer.add, int(sys.argv[2])
def counted(self, tokens):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    add(self, tokens)
shards.Writer.add = counted
tokenize.tokenize("one", "bpe-300", Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_sigkill_while_writing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one = Corpus("one", "raw", train=(Files("up/*.jsonl", "upstream"),), val=(Files("up/val.jsonl", "upstream"),))
    monkeypatch.setattr(text, "CORPORA", {"one": one, "text-upstream": one})
    for root in (tmp_path / "whole", tmp_path / "killed"):
        for name in ("0", "1", "2", "val"):
            write(root / f"raw/up/{name}.jsonl", rows_of(name, 150))
    tokenize.tokenize("one", "bpe-300", tmp_path / "whole")
    folder = tmp_path / "killed" / "tokens"
    for documents_before in (200, 220):  # in the middle of the second file, and of the third
        call = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(documents_before)]
        assert subprocess.run(call, cwd=Path(__file__).parents[2]).returncode == -signal.SIGKILL
    done = {path: path.stat().st_mtime_ns for path in folder.rglob("*.bin")}
    assert len(done) >= 2
    tokenize.tokenize("one", "bpe-300", tmp_path / "killed")
    assert {path: path.stat().st_mtime_ns for path in done} == done, "a finished file was tokenised again"
    assert files(folder) == files(tmp_path / "whole" / "tokens")


# What can be wrong with text.
def lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("jsonl", lines({"text": "fine"}, {"body": "x", "id": 1}), r":2: no field 'text' .*\(found: body, id\)"),
        ("jsonl", lines({"text": 7}), r":1: no field 'text'"),
        ("jsonl", lines(["a list"]), r":1: no field 'text' .*\(found: list\)"),
        ("jsonl", lines({"text": "x", "meta": "{"}), r":1: 'meta' is no object"),
        ("jsonl", lines({"text": ""}), "holds no document"),
        ("jsonl", b"", "holds no document"),
        ("jsonl", b'{"text": "a"}\n{"text": \n', ":2: not JSON"),
        ("jsonl", b'{"text": "\xff\xfe"}\n', ":1: damaged or no UTF-8"),
        ("jsonl", b'{"text": "a"}\n{"text": "ab\\ud800c"}\n', r":2: '\\ud800' at character 2 .* half of"),
        ("jsonl", POINTER, "git lfs pull"),
        ("jsonl", b"PAR1 and so on", r"Parquet; .*\.parquet"),
        ("jsonl", b"<!DOCTYPE html><p>404", "a web page"),
        ("jsonl.zst", b"no zstandard frame", "damaged"),
        # Cut short within the second frame: what the first one holds reads like the whole file.
        ("jsonl.zst", FRAME + FRAME[:-1], "cut short .*; fetch the file again"),
        ("jsonl.zst", FRAME[:5], "cut short"),
        ("jsonl.zst", POINTER, "git lfs pull"),
        ("jsonl.gz", gzip.compress(b'{"text": "a"}\n', mtime=0)[:-4], "cut short"),
        ("jsonl.xz", b"\xfd7zXZ\0 and so on", "unpack"),
    ],
)
def test_text_that_cannot_be_used_leaves_no_shard(corpora: Path, name: str, content: bytes, said: str) -> None:
    tokenize.vocabulary("bpe-300", corpora)
    (corpora / "raw/up/train.jsonl.zst").unlink()
    (corpora / "raw/up" / f"train.{name}").write_bytes(content)
    with pytest.raises(UserError, match=rf"train\.{name}.*{said}") as error:
        tokenize.tokenize("one", "bpe-300", corpora)
    assert "\n" not in str(error.value)
    assert not list((corpora / "tokens").rglob("*.part")) and not list((corpora / "tokens").rglob("*.bin"))


def packed(name: str, window: int = 0) -> bytes:
    """Two documents, packed in that way."""
    content = b'{"text": "a"}\n{"text": "b"}\n'
    if name == "gzip":
        return gzip.compress(content[:14], mtime=0) + gzip.compress(content[14:], mtime=0)
    skipped = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"skip"
    parameters = zstandard.ZstdCompressionParameters(window_log=window, enable_ldm=True)
    frame = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return skipped + frame.compress(content) + frame.flush()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.jsonl.zst", packed("zstd", window=28)),
        ("train.jsonl.zst", packed("zstd", window=31)),
        ("train.jsonl.zst", packed("gzip")),
        ("train.jsonl.gz", packed("gzip")),
        ("train.jsonl", packed("gzip")),
        ("train.jsonl.zstd", packed("zstd", window=17)),
        ("train.jsonl.zst", 3 * FRAME),
    ],
)
def test_files_are_read_whatever_they_are_packed_by(corpora: Path, name: str, content: bytes) -> None:
    (corpora / "raw/up/train.jsonl.zst").unlink()
    (corpora / "raw/up" / name).write_bytes(content)
    ((part, _),) = documents.inputs(text.corpus("one"), "train", corpora)
    texts = [content for content, _ in part.documents()]
    assert texts == ["a", "b"] * (len(texts) // 2) and len(texts) == (6 if content == 3 * FRAME else 2)
    assert part.stem == "up-train"


def parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow
    from pyarrow import parquet as file

    path.parent.mkdir(parents=True, exist_ok=True)
    file.write_table(pyarrow.Table.from_pylist(rows), path)


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> Corpus:
    corpus = Corpus("one", "raw", train=(Files("*.parquet", "a"),), val=(Files("*.parquet", "a"),))
    monkeypatch.setattr(text, "CORPORA", {"one": corpus})
    return corpus


@pytest.mark.parametrize("folder", ["run [1]", "run *", "run ?", "{a,b}", "%20 #"])
def test_parquet_below_a_folder_with_any_name(sample: Corpus, tmp_path: Path, folder: str) -> None:
    for name in (folder, "run 1", "run a", "a"):
        parquet(tmp_path / name / "raw" / "x.parquet", [{"text": f"of {name}", "meta": {"a": "b"}, "other": 1}])
    ((part, _),) = documents.inputs(sample, "train", tmp_path / folder)
    assert list(part.documents()) == [(f"of {folder}", {"a": "b"})]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (POINTER, "git lfs pull"),
        (b"PAR1 cut short", "damaged or no Parquet"),
        ([{"body": "x", "id": 1}], r"no column 'text' \(found: body, id\)"),
    ],
)
def test_parquet_that_cannot_be_used(sample: Corpus, tmp_path: Path, content: Any, said: str) -> None:
    path = tmp_path / "raw" / "x.parquet"
    if isinstance(content, bytes):
        path.parent.mkdir()
        path.write_bytes(content)
    else:
        parquet(path, content)
    ((part, _),) = documents.inputs(sample, "train", tmp_path)
    with pytest.raises(UserError, match=said) as error:
        list(part.documents())
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_document_without_its_source(corpora: Path) -> None:
    write(corpora / "raw/up/val.jsonl", rows_of("val", 2))
    with pytest.raises(UserError, match=r"no meta\.pile_set_name, which names its source"):
        tokenize.tokenize("one", "bpe-300", corpora)


def test_absent_and_doubled_files(corpora: Path) -> None:
    write(corpora / "raw/up/train.jsonl", rows_of("up", 3))
    with pytest.raises(UserError, match="the same text twice; remove one"):
        documents.inputs(text.corpus("one"), "train", corpora)
    (corpora / "raw/down/b/val.jsonl.zst").unlink()
    with pytest.raises(UserError, match="no such file; two needs it for its val split"):
        documents.inputs(text.corpus("two"), "val", corpora)


def test_a_mixture_with_a_missing_source(corpora: Path) -> None:
    tokenize.tokenize("two", "bpe-300", corpora)
    common = {"length": 9, "vocabulary": 300, "seed": 0}
    with pytest.raises(UserError, match=r"source 'c' of the mixture is missing \(found a, b\)"):
        text.training_windows(corpora, "bpe-300", "two", weights={"a": 50, "c": 50}, **common)
    with pytest.raises(UserError, match="weights sum to 90"):
        text.training_windows(corpora, "bpe-300", "two", weights={"a": 50, "b": 40}, **common)
    for suffix in ("bin", "json", "offsets"):
        (corpora / f"tokens/bpe-300/two/train/b/down-b-train.{suffix}").unlink()
    with pytest.raises(UserError, match=r"source 'b' of the mixture is missing"):
        text.training_windows(corpora, "bpe-300", "two", **common)
    assert text.training_windows(corpora, "bpe-300", "two", weights={"a": 100}, **common).windows(0, 2).shape == (2, 9)


# What can be wrong with shards.
@pytest.fixture
def shard(tmp_path: Path) -> Path:
    writer = shards.Writer(tmp_path / "shard", vocabulary=500, tokenizer="t", origin="o")
    for length in (3, 5, 4):
        writer.add(list(range(400, 400 + length)))
    index = writer.close()
    assert (index.tokens, index.documents) == (12, 3)
    return tmp_path / "shard"


def change(path: Path, content: Callable[[bytes], bytes]) -> None:
    path.write_bytes(content(path.read_bytes()))


@pytest.mark.parametrize(
    ("suffix", "content", "said"),
    [
        (".bin", lambda old: old[:-2] + b"\1\0", "sha256 .* its index says .*; the file was changed"),
        (".bin", lambda old: old[:-2], "22 bytes, its index says 24"),
        (".bin", lambda old: b"", "0 bytes, its index says 24"),
        (".offsets", lambda old: old[:-8] + b"\0" * 8, "the file was changed"),
        (".json", lambda old: b"{}", "not the index of a shard"),
        (".json", lambda old: old.replace(b'"format": 1', b'"format": 9'), "format 9, this version reads 1"),
    ],
)
def test_shards_that_are_not_as_they_were_written(
    shard: Path, suffix: str, content: Callable[[bytes], bytes], said: str
) -> None:
    change(shard.with_suffix(suffix), content)
    with pytest.raises(UserError, match=said):
        shards.open_shard(shard)


def test_shards_without_a_file_or_a_token(shard: Path) -> None:
    with pytest.raises(UserError, match="no such shard"):
        shards.open_shard(shard.with_name("other"))
    shard.with_suffix(".bin").unlink()
    with pytest.raises(UserError, match="absent, but its index is there"):
        shards.open_shard(shard)
    writer = shards.Writer(shard.with_name("empty"), vocabulary=500, tokenizer="t", origin="the file")
    with pytest.raises(UserError, match="no document in the file; an empty shard"):
        writer.close()


def test_tokens_beyond_the_vocabulary(shard: Path) -> None:
    assert shards.open_shard(shard, vocabulary=405).tokens.max() == 404
    with pytest.raises(UserError, match="token 404 lies beyond the model's vocabulary of 404"):
        shards.open_shard(shard, vocabulary=404)
    writer = shards.Writer(shard.with_name("other"), vocabulary=300, tokenizer="t", origin="o")
    with pytest.raises(UserError, match="document 1 has token 300, beyond the vocabulary of 300"):
        writer.add([5, 300])
    writer.abandon()


# Tokenizers and the hub.
def test_tokenizers_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="known: neox, bpe-N"):
        tokenize.vocabulary("bpe-7", tmp_path)
    with pytest.raises(UserError, match="the GPT-NeoX tokenizer is absent"):
        tokenize.vocabulary("neox", tmp_path)
    path = tmp_path / "tokenizer" / "20B_tokenizer.json"
    path.parent.mkdir()
    path.write_text("{}")
    with pytest.raises(UserError, match="expected 55634e54c40440d3639fc80ef8e7bdd9"):
        tokenize.vocabulary("neox", tmp_path)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    def fail(*arguments: Any, **named: Any) -> Iterator[str]:
        raise ConnectionError("no route to host\nmore")

    monkeypatch.setattr(HfApi, "list_repo_files", fail)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", ["pile-uncopyrighted", "slimpajama-6b", "slimpajama-627b"])
def test_without_the_hub_the_local_folder_is_named(tmp_path: Path, name: str) -> None:
    corpus = text.corpus(name)
    with pytest.raises(UserError, match="cannot be read from the hub") as error:
        documents.inputs(corpus, "val", tmp_path)
    assert f"under {tmp_path / corpus.folder}" in str(error.value) and "\n" not in str(error.value)
    assert f"{corpus.hubs[0].repository}@{corpus.hubs[0].revision}" in str(error.value)


def test_the_whole_pile_is_read_from_a_copy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pile/val\.jsonl\*: no such file"):
        documents.inputs(text.corpus("pile"), "val", tmp_path)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", ["validation/chunk{}/example_0.jsonl.zst", "data/validation-{}.parquet"])
def test_local_copies_of_a_repository_or_of_its_re_upload_are_preferred(tmp_path: Path, name: str) -> None:
    for number in (1, 2):
        write(tmp_path / "slimpajama-627b" / name.format(number), rows_of("one", 2))
    parts = documents.inputs(text.corpus("slimpajama-627b"), "val", tmp_path)
    stem = name.split(".")[0].replace("/", "-")
    assert [part.stem for part, _ in parts] == [stem.format(number) for number in (1, 2)]


class Served:
    """Two repositories of the hub, of which some can be reached."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, files: dict[str, dict[str, bytes]], commits: dict[str, str]):
        from huggingface_hub import HfApi, HfFileSystem

        self.files, self.commits = files, commits
        self.opened: list[str] = []
        documents._listed.cache_clear()
        monkeypatch.setattr(HfApi, "list_repo_files", lambda api, name, **named: list(self.repository(name)))
        monkeypatch.setattr(HfApi, "repo_info", lambda api, name, **named: Info(sha=self.commits[name]))
        monkeypatch.setattr(HfFileSystem, "open", lambda system, address, mode: self.open(address))

    def repository(self, name: str) -> dict[str, bytes]:
        if name not in self.files:
            raise ConnectionError("404")
        return self.files[name]

    def open(self, address: str) -> io.BytesIO:
        self.opened.append(address)
        repository, _, path = address.removeprefix("hf://datasets/").partition("@")
        return io.BytesIO(self.files[repository][path.partition("/")[2]])


@dataclass(frozen=True)
class Info:
    sha: str


ORIGINAL, MIRROR = "cerebras/SlimPajama-627B", "gmongaras/SlimPajama-627B_Reupload"


def test_hub_files_are_read_at_the_pinned_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = ("train/chunk1/a.jsonl.zst", "validation/chunk1/b.jsonl.zst", "README.md")
    served = Served(monkeypatch, {ORIGINAL: dict.fromkeys(names, FRAME)}, {})
    ((part, _),) = documents.inputs(text.corpus("slimpajama-627b"), "train", tmp_path)
    address = f"hf://datasets/{ORIGINAL}@2d0accdd58c5d5511943ca1f5ff0e3eb5e293543/{names[0]}"
    assert [content for content, _ in part.documents()] == ["a", "b"]
    assert served.opened == [address] and part.origin() == address


def test_a_mirror_is_read_at_the_commit_that_was_found_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    corpus = text.corpus("slimpajama-627b")
    parquet(tmp_path / "served.parquet", [{"text": "a", "meta": {"redpajama_set_name": "RedPajamaC4"}}])
    content = (tmp_path / "served.parquet").read_bytes()
    served = Served(monkeypatch, {MIRROR: {"data/train-0.parquet": content}}, {MIRROR: "a" * 40})
    for commit in ("b" * 40, "c" * 40):
        ((part, _),) = documents.inputs(corpus, "train", tmp_path)
        assert part.address == f"hf://datasets/{MIRROR}@{'a' * 40}/data/train-0.parquet"
        served.commits[MIRROR] = commit
    assert list(part.documents()) == [("a", {"redpajama_set_name": "RedPajamaC4"})]
    with pytest.raises(UserError, match="no file matches validation"):
        documents.inputs(corpus, "val", tmp_path)


# Corpora that are what their names say.
@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch, corpora: Path) -> Path:
    """A corpus of which 60 and 25 tokens of two sources are used, and whose validation text must have both."""
    corpus = replace(
        text.corpus("two"),
        subset={"train": {"a": 60, "b": 25}, "val": {"a": 20}},
        distinct=("a",),
        meta="x",
        instead="one",
    )
    monkeypatch.setitem(text.CORPORA, "two", corpus)
    for source in "ab":
        write(corpora / f"raw/down/{source}/val.jsonl.zst", [{**row, "meta": {"x": source}} for row in rows_of("v", 8)])
    return corpora


def test_a_subset_ends_with_the_document_that_fills_it(whole: Path) -> None:
    tokenize.tokenize("two", "bpe-300", whole)
    opened = text.open_sources(whole, "bpe-300", "two", "train", vocabulary=300)
    for source, tokens in (("a", 60), ("b", 25)):
        (shard,) = opened[source]
        all_of_it = shards.open_shard(text.shard_paths(whole, "bpe-300", "two", "train")[source][0])
        assert shard.index.tokens == len(shard.tokens) == shard.offsets[-1] >= tokens > shard.offsets[-2]
        assert np.array_equal(shard.tokens, all_of_it.tokens[: len(shard.tokens)])
        assert shard.index.documents == len(shard.offsets) - 1 < all_of_it.index.documents
    counts = text.token_counts(whole, "bpe-300", "two")
    assert (counts["a"], counts["b"]["train"]) == ({"train": 60, "val": 20}, 25)
    windows = text.training_windows(whole, "bpe-300", "two", length=9, vocabulary=300, seed=0)
    assert windows.windows(0, 4).shape == (4, 9)


def test_a_subset_that_is_not_there_is_named(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenize.tokenize("two", "bpe-300", whole)
    monkeypatch.setitem(text.CORPORA, "two", replace(text.corpus("two"), subset={"train": {"b": 10**9}}))
    with pytest.raises(UserError, match=r"train/b: .* two has 1 B of this source; add"):
        text.token_counts(whole, "bpe-300", "two")


def test_a_reduced_copy_is_not_taken_for_the_whole(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(text.CORPORA, "two", replace(text.corpus("two"), distinct=("a", "Books3")))
    with pytest.raises(UserError, match=r"lacks Books3; .* the corpus 'one'"):
        tokenize.tokenize("two", "bpe-300", whole)
    assert not list((whole / "tokens" / "bpe-300").glob("two/*"))
