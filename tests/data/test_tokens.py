"""Text to token shards: contents, determinism, resume, parallel files, and everything that can be wrong with a corpus."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from bench.data import shards, text, tokenize
from bench.data.text import Corpus, Files
from bench.errors import UserError

WORDS = [
    "the",
    "warm",
    "up",
    "of",
    "a",
    "network",
    "is",
    "short",
    "and",
    "the",
    "rate",
    "of",
    "learning",
    "falls",
    "again",
    "to",
    "its",
    "floor",
    "after",
    "that",
]

FRAME = zstandard.ZstdCompressor().compress(b'{"text": "a"}\n{"text": "b"}\n')
"""Two documents."""


def documents(name: str, count: int) -> list[dict[str, Any]]:
    """Documents of growing length that name their file; the first has characters of several bytes."""
    made = []
    for number in range(count):
        words = [WORDS[(number * 7 + place) % len(WORDS)] for place in range(3 + number % 11)]
        made.append({"text": f"{name} {number} " + " ".join(words) + (" — λ ε 𝛼" if number == 0 else "")})
    return made


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
    write(tmp_path / "raw/up/train.jsonl.zst", documents("up", 40))
    named = documents("val", 9)
    for number, row in enumerate(named):
        row["meta"] = {"pile_set_name": "ArXiv" if number % 3 else "Books"}
    write(tmp_path / "raw/up/val.jsonl", named)
    for source in "ab":
        write(tmp_path / f"raw/down/{source}/train.jsonl.zst", documents(source, 30))
        write(tmp_path / f"raw/down/{source}/val.jsonl.zst", documents(f"val {source}", 8))
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
    expected = [[*plain.encode(row["text"]).ids, vocabulary.end] for row in documents("up", 40)]
    found = [part.tolist() for part in np.split(shard.tokens, shard.offsets[1:-1])]
    assert found == expected
    assert shard.tokens.dtype == np.uint16
    assert plain.decode(found[0][:-1]) == documents("up", 1)[0]["text"]
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
    write(corpora / "raw/up/train.jsonl.zst", documents("changed", 40))
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
                rows = documents(source or "up", 30)
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
import sys, time
from pathlib import Path
from bench.data import shards, text, tokenize
from bench.data.text import Corpus, Files
one = Corpus("one", "raw", train=(Files("up/*.jsonl", "upstream"),), val=(Files("up/val.jsonl", "upstream"),))
text.CORPORA = {"one": one, "text-upstream": one}
add = shards.Writer.add
def slowly(self, tokens):
    time.sleep(0.002)
    add(self, tokens)
shards.Writer.add = slowly
tokenize.tokenize("one", "bpe-300", Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_sigkill_while_writing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one = Corpus("one", "raw", train=(Files("up/*.jsonl", "upstream"),), val=(Files("up/val.jsonl", "upstream"),))
    monkeypatch.setattr(text, "CORPORA", {"one": one, "text-upstream": one})
    for root in (tmp_path / "whole", tmp_path / "killed"):
        for name in ("0", "1", "2", "val"):
            write(root / f"raw/up/{name}.jsonl", documents(name, 150))
    tokenize.tokenize("one", "bpe-300", tmp_path / "whole")
    folder = tmp_path / "killed" / "tokens"
    for wanted in (1, 2):  # killed in the middle of the file after so many
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / "killed")], cwd=Path(__file__).parents[2]
        )
        until = time.monotonic() + 100
        while time.monotonic() < until and process.poll() is None:
            parts = list(folder.rglob("*.part"))
            if len(list(folder.rglob("*.done"))) >= wanted and any(part.exists() for part in parts):
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    done = {path: path.stat().st_mtime_ns for path in folder.rglob("*.bin")}
    assert len(done) >= 2
    tokenize.tokenize("one", "bpe-300", tmp_path / "killed")
    assert {path: path.stat().st_mtime_ns for path in done} == done, "a finished file was tokenised again"
    assert files(folder) == files(tmp_path / "whole" / "tokens")


# What can be wrong with text.
@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [{"text": "fine"}, {"body": "x", "id": 1}],
            r"train\.jsonl:2: no field 'text' with a string \(found: body, id\)",
        ),
        ([{"text": 7}], r"train\.jsonl:1: no field 'text'"),
        ([["a list"]], r"train\.jsonl:1: no field 'text' with a string \(found: list\)"),
        ([{"text": "x", "meta": "{"}], r"train\.jsonl:1: 'meta' is no object"),
        ([{"text": ""}], "holds no document; an empty shard cannot be trained on"),
        ([], "holds no document"),
    ],
)
def test_text_that_cannot_be_used(corpora: Path, rows: list[Any], said: str) -> None:
    tokenize.vocabulary("bpe-300", corpora)
    (corpora / "raw/up/train.jsonl.zst").unlink()
    write(corpora / "raw/up/train.jsonl", rows)
    with pytest.raises(UserError, match=said) as error:
        tokenize.tokenize("one", "bpe-300", corpora)
    assert "\n" not in str(error.value)
    assert not list((corpora / "tokens").rglob("*.part")) and not list((corpora / "tokens").rglob("*.bin"))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("train.jsonl", b'{"text": "a"}\n{"text": \n', r"train\.jsonl:2: not JSON"),
        ("train.jsonl", b'{"text": "\xff\xfe"}\n', r"train\.jsonl:1: damaged or no UTF-8 text"),
        (
            "train.jsonl",
            b'{"text": "a"}\n{"text": "ab\\ud800c"}\n',
            r"train\.jsonl:2: '\\ud800' at character 2 .* half of",
        ),
        ("train.jsonl.zst", b"no zstandard frame", r"train\.jsonl\.zst: damaged"),
        # Cut short within the second frame: what the first one holds reads like the whole file.
        ("train.jsonl.zst", FRAME + FRAME[:-1], r"train\.jsonl\.zst: .*cut short .*; fetch the file again"),
        ("train.jsonl.zst", FRAME[:5], r"train\.jsonl\.zst: .*cut short"),
    ],
)
def test_damaged_files(corpora: Path, name: str, content: bytes, said: str) -> None:
    tokenize.vocabulary("bpe-300", corpora)
    (corpora / "raw/up/train.jsonl.zst").unlink()
    (corpora / "raw/up" / name).write_bytes(content)
    with pytest.raises(UserError, match=said):
        tokenize.tokenize("one", "bpe-300", corpora)


def test_frames_one_after_another_are_one_file(corpora: Path) -> None:
    documents = []
    for frames in (1, 3):
        (corpora / "raw/up/train.jsonl.zst").write_bytes(frames * FRAME)
        made = tokenize.tokenize("one", "bpe-300", corpora)
        documents += [index.documents for name in made if "train" in name for index in made[name].values()]
    assert documents == [2, 6]


def test_a_document_without_its_source(corpora: Path) -> None:
    write(corpora / "raw/up/val.jsonl", documents("val", 2))
    with pytest.raises(UserError, match=r"no meta\.pile_set_name, which names its source"):
        tokenize.tokenize("one", "bpe-300", corpora)


def test_absent_and_doubled_files(corpora: Path) -> None:
    write(corpora / "raw/up/train.jsonl", documents("up", 3))
    with pytest.raises(UserError, match="the same text twice; remove one"):
        tokenize.inputs(text.corpus("one"), "train", corpora)
    (corpora / "raw/down/b/val.jsonl.zst").unlink()
    with pytest.raises(UserError, match="no such file; two needs it for its val split"):
        tokenize.inputs(text.corpus("two"), "val", corpora)


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
@pytest.mark.parametrize("name", ["pile", "slimpajama", "slimpajama-627b"])
def test_without_the_hub_the_local_folder_is_named(tmp_path: Path, name: str) -> None:
    corpus = text.corpus(name)
    with pytest.raises(UserError, match="cannot be read from the hub") as error:
        tokenize.inputs(corpus, "val", tmp_path)
    assert f"under {tmp_path / corpus.folder}" in str(error.value) and "\n" not in str(error.value)
    assert corpus.hub is not None and f"{corpus.hub.repository}@{corpus.hub.revision}" in str(error.value)


@pytest.mark.usefixtures("offline")
def test_local_copies_of_a_repository_are_preferred(tmp_path: Path) -> None:
    write(tmp_path / "slimpajama-627b/validation/chunk1/example_0.jsonl.zst", documents("one", 2))
    write(tmp_path / "slimpajama-627b/validation/chunk2/example_0.jsonl.zst", documents("two", 2))
    found = tokenize.inputs(text.corpus("slimpajama-627b"), "val", tmp_path)
    assert [part.stem for part, _ in found] == ["validation-chunk1-example_0", "validation-chunk2-example_0"]


def test_hub_files_are_streamed_at_the_pinned_commit(
    corpora: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What the hub would serve is read through `datasets`, here from a parquet file in its place."""
    import datasets
    from huggingface_hub import HfApi

    rows = [{**row, "meta": {"redpajama_set_name": "RedPajamaC4"}} for row in documents("hub", 5)]
    served = tmp_path / "served.parquet"
    datasets.Dataset.from_list(rows).to_parquet(served)
    load = datasets.load_dataset
    asked = []

    def from_hub(kind: str, data_files: str, **named: Any) -> Any:
        asked.append(data_files)
        return load(kind, data_files=str(served), cache_dir=str(tmp_path / "cache"), **named)

    names = ["data/train-00000-of-00002-ab.parquet", "data/validation-00000-of-00001-cd.parquet", "README.md"]
    monkeypatch.setattr(HfApi, "list_repo_files", lambda self, *arguments, **named: names)
    monkeypatch.setattr(datasets, "load_dataset", from_hub)
    slimpajama = Corpus(
        "slimpajama",
        "slimpajama",
        train=(Files("data/train-*.parquet"),),
        val=(Files("data/validation-*.parquet"),),
        meta="redpajama_set_name",
        sources=text.SLIMPAJAMA_SETS,
    )
    monkeypatch.setitem(text.CORPORA, "slimpajama", slimpajama)
    tokenize.tokenize("slimpajama", "bpe-300", corpora)
    revision = "b5f90f419b7489cdba26fdbc8c022fcb5562f968"
    assert asked[0] == f"hf://datasets/DKYoon/SlimPajama-6B@{revision}/{names[0]}"
    (path,) = text.shard_paths(corpora, "bpe-300", "slimpajama", "val")["C4"]
    assert path.name == "data-validation-00000-of-00001-cd"
    assert shards.read_index(path).origin == f"hf://datasets/DKYoon/SlimPajama-6B@{revision}/{names[1]}"
    assert shards.open_shard(path).index.documents == 5
