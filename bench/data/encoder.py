"""Text to token ids by tiktoken: those of `tokenizers`, about four times as fast, and by `tokenizers` where it fails.

`tokenizers` first cuts out runs of spaces that are tokens of their own, then splits the rest into words, and at last
merges the bytes of a word in the order of the merges. tiktoken does all of it by one expression and one table: a piece
that is in the table is its token, others are merged in the order of their tokens' numbers.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

from bench.errors import UserError

if TYPE_CHECKING:
    import tiktoken

WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""How byte-level tokenizers since GPT-2 split a text (Radford et al., 2019, section 2.2)."""


def load(path: Path) -> Tokenizer:
    """A tokenizer.json as its library has it.

    Raises:
        UserError: the file is absent or no tokenizer.
    """
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no other class
        raise UserError(f"{path}: no tokenizer ({error}); remove it and call again") from error


class Encoder:
    """A tokenizer as a function from text to token ids.

    Args:
        path: its tokenizer.json.

    Raises:
        UserError: the file is absent or no tokenizer.
    """

    def __init__(self, path: Path):
        self._exact = load(path)
        content = json.loads(path.read_text(encoding="utf-8"))
        self._fast = _table(content)
        self._special = tuple(entry["content"] for entry in content["added_tokens"] if entry["special"])

    def __call__(self, text: str) -> np.ndarray:
        """Token ids, (tokens,); a special token that is spelled out in the text is that token."""
        # Special tokens are rare, and what they do to their neighbours is left to the library that defines it.
        if self._fast is not None and not any(name in text for name in self._special):
            normal = text
            if not text.isascii() and self._exact.normalizer is not None:
                normal = self._exact.normalizer.normalize_str(text)
            # tiktoken's regular expressions run out of stack in hundreds of thousands of white-space characters.
            with contextlib.suppress(ValueError):
                return self._fast.encode_to_numpy(normal, disallowed_special=())
        return np.array(self._exact.encode(text, add_special_tokens=False).ids, dtype=np.uint32)


def _is_known(content: dict[str, Any]) -> bool:
    """Whether a tokenizer is of the one kind that `_table` can express, that of GPT-NeoX."""
    model, words, normalizer = content["model"], content["pre_tokenizer"] or {}, content["normalizer"] or {}
    variants = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
    plain = [entry for entry in content["added_tokens"] if not entry["special"]]
    return (
        model["type"] == "BPE"
        and not any(model.get(name) for name in (*variants, "ignore_merges"))
        and words.get("type") == "ByteLevel"
        and not words["add_prefix_space"]
        and words.get("use_regex", True)
        and normalizer.get("type", "NFC") == "NFC"
        and not any(entry[name] for entry in plain for name in ("single_word", "lstrip", "rstrip"))
        and {entry["content"] for entry in plain} == {" " * width for width in range(2, len(plain) + 2)}
    )


def _table(content: dict[str, Any]) -> tiktoken.Encoding | None:
    """The same encoding for tiktoken; None where it could differ, or where that package is missing."""
    try:
        import tiktoken
    except ModuleNotFoundError:
        return None
    if not _is_known(content):
        return None
    model, characters = content["model"], _bytes_of_characters()
    spaces = {entry["content"].encode(): entry["id"] for entry in content["added_tokens"] if not entry["special"]}
    added = {entry["content"] for entry in content["added_tokens"]}
    numbers = {
        bytes(characters[one] for one in token): number
        for token, number in model["vocab"].items()
        if token not in added
    }
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    merged = [model["vocab"][left + right] for left, right in pairs]
    if merged != sorted(set(merged)):  # two ways to one token, or an order that is not that of the numbers
        return None
    expression = WORDS
    if spaces:
        # White space ends where a run of spaces begins, which is a piece of its own.
        run, white = f" {{2,{len(spaces) + 1}}}", r"(?:[^\S ]| (?! ))+"
        expression = "|".join([run, WORDS.replace(r"\s+", white)])
    return tiktoken.Encoding("byte-level", pat_str=expression, mergeable_ranks=numbers | spaces, special_tokens={})


def _bytes_of_characters() -> dict[str, int]:
    """Printable character -> the byte that it stands for in the vocabulary of a byte-level encoding.

    Printable bytes of Latin-1 stand for themselves, the others for the characters from U+0100 on.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + number): byte for number, byte in enumerate(others)}
