"""Megabytes of text per second to token shards, against `datasets.map` with the same tokenizer.

The text is what every environment has: the sources of its Python packages, one file a document, in the layout of the
real corpora. Both use all cores and start from the files; ours writes memory-mapped shards with an index and a checksum,
the peer an Arrow file.
"""

from __future__ import annotations

import json
import os
import shutil
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.data import text, tokenize
from bench.perf.measure import alternate, rate

BYTES = 10_000_000
"""Of text, spread over the sources of the downstream corpus."""
TOKENIZER = "bpe-4096"
CORPUS = "text-downstream"


def _documents() -> Iterator[str]:
    """Source files of the environment's packages, in the order of their names."""
    for path in sorted(Path(sysconfig.get_paths()["purelib"]).rglob("*.py")):
        content = path.read_text(errors="replace")
        if 500 < len(content) < 200_000:
            yield content


def lay_out(root: Path) -> tuple[list[Path], int]:
    """Writes the corpus below `root`; returns its files and the bytes of their text."""
    upstream = root / "text" / "upstream"
    sources = [root / "text" / "downstream" / name for name in text.REAL_TEXT_WEIGHTS]
    files = [folder / f"{split}.jsonl" for folder in sources for split in text.SPLITS]
    for folder in (upstream, *sources):
        folder.mkdir(parents=True)
    written = 0
    streams = [path.open("w") for path in files]
    for number, content in enumerate(_documents()):
        if written >= BYTES:
            break
        streams[number % len(streams)].write(json.dumps({"text": content, "meta": {}}) + "\n")
        written += len(content.encode())
    for stream in streams:
        stream.close()
    # The tokenizer is trained on what stands upstream.
    for split in text.SPLITS:
        shutil.copy(files[0], upstream / f"{split}.jsonl")
    return files, written


def row(*, turns: int = 3, workers: int | None = None) -> dict[str, Any]:
    """The row of this measurement."""
    workers = workers or os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        files, size = lay_out(root)
        vocabulary = tokenize.vocabulary(TOKENIZER, root)

        def ours() -> float:
            shutil.rmtree(root / "tokens" / TOKENIZER / CORPUS, ignore_errors=True)
            return rate(lambda: size / 1e6 if tokenize.tokenize(CORPUS, TOKENIZER, root, workers=workers) else 0.0)

        def peer() -> float:
            return rate(lambda: _map(files, vocabulary.path, root / "arrow", workers) and size / 1e6)

        timing = alternate(ours, peer, turns=turns)
    return {
        "path": "rewarm/tokenize",
        "variant": f"{TOKENIZER}, {workers} processes",
        "unit": "MB/s",
        **timing.row(),
        "note": f"{size / 1e6:.0f} MB of text",
    }


def _map(files: list[Path], tokenizer: Path, cache: Path, workers: int) -> bool:
    """The peer: load, tokenise in batches, write."""
    import datasets
    from transformers import PreTrainedTokenizerFast

    shutil.rmtree(cache, ignore_errors=True)
    datasets.disable_progress_bars()
    # The library's keyword arguments are not in its types.
    build: Any = PreTrainedTokenizerFast
    encode = build(tokenizer_file=str(tokenizer))
    loaded = datasets.load_dataset(
        "json", data_files=[str(path) for path in files], split="train", cache_dir=str(cache)
    )
    mapped = loaded.map(
        lambda batch: {"input_ids": encode(batch["text"])["input_ids"]},
        batched=True,
        num_proc=workers,
        remove_columns=loaded.column_names,
        cache_file_name=str(cache / "tokens.arrow"),
    )
    return len(mapped) > 0
