"""``python -m bench tokenize CORPUS …``: text to token shards, a line for each source."""

from __future__ import annotations

import os
from collections.abc import Sequence

from bench import checkpoint
from bench.cli.arguments import Parser, count
from bench.data import text
from bench.data.tokenize import tokenize
from bench.paths import data_root


def parser() -> Parser:
    top = Parser(prog="python -m bench tokenize", description="Text to token shards.")
    top.add_argument("corpora", nargs="+", metavar="corpus", help=f"one of {', '.join(text.CORPORA)}")
    top.add_argument("--tokenizer", default="neox", help="neox, or bpe-N trained on the upstream text")
    top.add_argument("--workers", type=count, default=os.cpu_count() or 1, help="processes, a file each")
    return top


def main(given: Sequence[str]) -> int:
    """Writes the shards of the corpora below ``<data>/tokens``; interrupted and called again it goes on.

    Raises:
        UserError: a corpus or tokenizer does not exist, or its text is missing or damaged.
    """
    chosen = parser().parse_args(given)
    for name in chosen.corpora:
        tokenize(name, chosen.tokenizer, data_root(), workers=chosen.workers)
        checkpoint.write_text(data_root() / "tokens" / chosen.tokenizer / name / "complete", "")
        for source, counts in text.token_counts(data_root(), chosen.tokenizer, name).items():
            shown = ", ".join(f"{split} {counts.get(split, 0):,}" for split in text.SPLITS)
            print(f"{name} {source}: {shown} tokens")
    return 0
