"""Token ids of the fast encoder are those of `tokenizers`, whatever the text."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from bench.data import documents, encoder, text, tokenize
from bench.data.encoder import Encoder
from bench.errors import UserError
from bench.paths import data_root

TEXT = [
    "the network's rate of learning warms up, and it's the 12th of 1,000 steps that we'll see; they've seen 100 more",
    "def warm(step):\n    if step < 10:\n        return step / 10\n\n\n    return  1.0\t# été Ärger naïve λ ε 𝛼 日本語\r\n",
    "aaaa aaaaaaa aaaaaaaaaaaa  !!!!!!   ....   \n\n\n   \n -- -- ==== a.b.c (d)[e] x_1",
] * 20

ALPHABET = [
    *"abst 'dmlrev!.(_0129\n\t\r\v\f",
    *(" " * width for width in (1, 1, 2, 3, 4, 5, 9, 30)),
    *("\x85", "\xa0", "\u2003", "\u3000", "\u200b", "\u180e"),  # white space, and what looks so
    *("é", "e\u0301", "Å", "\u0338", "\u1100\u1161", "ﬁ", "ſ", "²", "Ⅳ", "𝛼", "日", "🙂", "\ufeff", "\x00"),
    *("'ll", "'LL", "<|endoftext|>", "<|padding|>", "<|"),
]


def train(path: Path, *, spaces: int, form: normalizers.Normalizer | None) -> Path:
    """A tokenizer made as GPT-NeoX's is: special tokens, then merges, then runs of 2 to `spaces` spaces."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    if form is not None:
        made.normalizer = form
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|padding|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(TEXT, trainer)
    made.add_tokens([AddedToken(" " * width, normalized=True) for width in range(spaces, 1, -1)])
    made.save(str(path))
    return path


@pytest.fixture(scope="module", params=[(24, normalizers.NFC()), (0, None)], ids=["as GPT-NeoX", "as bpe-N"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Encoder, Tokenizer]:
    spaces, form = request.param
    path = train(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json", spaces=spaces, form=form)
    found = Encoder(path)
    assert found._fast is not None, "the fast way is not taken"
    return found, Tokenizer.from_file(str(path))


@settings(max_examples=600, deadline=None)
@given(text=st.lists(st.sampled_from(ALPHABET) | st.characters(codec="utf-8"), max_size=30).map("".join))
def test_ids_are_those_of_the_library(both: tuple[Encoder, Tokenizer], text: str) -> None:
    fast, exact = both
    assert fast(text).tolist() == exact.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize(
    "text",
    [
        *("\n" * 100_000, "a" * 100_000, " " * 100_001 + "x", "\t\n" * 50_000, "é" * 50_000),
        # More white space than tiktoken's regular expressions have stack for.
        *(
            "\r\n" * 250_000,
            "x" + " \n\u3000" * 200_000 + "é",
            "<|endoftext|>" + "\n" * 500_000,
        ),
    ],
    ids=lambda text: f"{len(text)} of {text[:4]!r}",
)
def test_text_without_words(both: tuple[Encoder, Tokenizer], text: str) -> None:
    fast, exact = both
    assert fast(text).tolist() == exact.encode(text, add_special_tokens=False).ids


@pytest.mark.slow
def test_every_character_in_every_context(both: tuple[Encoder, Tokenizer]) -> None:
    """Both libraries have tables of Unicode of their own."""
    fast, exact = both
    for one in map(chr, (*range(0xD800), *range(0xE000, 0x110000))):
        for phrase in (f"a{one}b", f"1{one}2", f"!{one}?", f" {one}{one} ", f"\n{one}\n "):
            assert fast(phrase).tolist() == exact.encode(phrase, add_special_tokens=False).ids, hex(ord(one))


def two_ways(content: dict[str, Any]) -> None:
    vocabulary = content["model"]["vocab"]
    vocabulary |= {"xy": 500, "yz": 501, "xyz": 502}
    content["model"]["merges"] += [["x", "y"], ["y", "z"], ["xy", "z"], ["x", "yz"]]


def no_order(content: dict[str, Any]) -> None:
    content["model"]["merges"].reverse()


def odd_spaces(content: dict[str, Any]) -> None:
    content["added_tokens"] = [entry for entry in content["added_tokens"] if len(entry["content"]) != 7]


def words(content: dict[str, Any]) -> None:
    content["added_tokens"].append({**content["added_tokens"][-1], "id": 600, "content": "warm"})


def other_form(content: dict[str, Any]) -> None:
    content["normalizer"] = {"type": "NFKC"}


def whole_words(content: dict[str, Any]) -> None:
    content["pre_tokenizer"]["use_regex"] = False


@pytest.mark.parametrize("change", [two_ways, no_order, odd_spaces, words, other_form, whole_words])
def test_other_kinds_of_tokenizers_are_left_to_the_library(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    path = train(tmp_path / "tokenizer.json", spaces=24, form=normalizers.NFC())
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    found, exact = Encoder(path), Tokenizer.from_file(str(path))
    assert found._fast is None
    for phrase in (*TEXT[:3], "xyz warmstart ﬁ²       x"):
        assert found(phrase).tolist() == exact.encode(phrase, add_special_tokens=False).ids


def test_without_tiktoken_the_library_gives_the_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    path = train(tmp_path / "tokenizer.json", spaces=24, form=normalizers.NFC())
    found = Encoder(path)
    assert found._fast is None
    assert found(TEXT[1]).tolist() == Tokenizer.from_file(str(path)).encode(TEXT[1], add_special_tokens=False).ids


def test_a_file_that_is_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"}')
    for name in ("tokenizer.json", "absent.json"):
        with pytest.raises(UserError, match=rf"{name}: no tokenizer \(.*\); remove it and call again"):
            encoder.load(tmp_path / name)


@pytest.mark.realdata
@pytest.mark.skipif(not (data_root() / "tokenizer" / "20B_tokenizer.json").exists(), reason="no GPT-NeoX tokenizer")
@pytest.mark.skipif(not (data_root() / "text").exists(), reason="no real text")
def test_real_text_with_the_tokenizer_of_gpt_neox() -> None:
    root = data_root()
    chosen = tokenize.vocabulary("neox", root)
    fast, exact = Encoder(chosen.path), Tokenizer.from_file(str(chosen.path))
    assert fast._fast is not None
    compared = 0
    for name in ("text-upstream", "text-downstream"):
        for part, _ in documents.inputs(text.corpus(name), "val", root):
            for content, _ in part.documents():
                assert fast(content).tolist() == exact.encode(content, add_special_tokens=False).ids
                compared += len(content)
    assert compared > 1e6
