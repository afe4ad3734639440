"""All measurements as one table: printed, and written with the machine they were made on."""

from __future__ import annotations

import csv
import importlib
import io
import json
import platform
import sys
from typing import Any

from bench import checkpoint, paths, provenance

PATHS = ("warmstart", "certified", "rewarm", "workflow")
COLUMNS = ("path", "variant", "unit", "ours", "peer", "ratio", "spread", "note")


def measure(path: str | None) -> list[dict[str, Any]]:
    """Rows of one path, or of all, measured now in this process; a path without a measurement is left out."""
    rows: list[dict[str, Any]] = []
    for name in PATHS if path is None else (path,):
        try:
            module = importlib.import_module(f"bench.perf.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"bench.perf.{name}":
                raise
            continue
        rows += module.rows(tell=lambda text: print(f"# {text}", file=sys.stderr, flush=True))
    return rows


def machine() -> str:
    """A short name of this machine for file names: its GPU, or its processor and cores."""
    import torch

    name = torch.cuda.get_device_name(0) if torch.cuda.is_available() else provenance.machine()["processor"]
    cores = f"{provenance.machine()['cores']}-cores"
    words = "".join(letter if letter.isalnum() else "-" for letter in f"{name}-{cores}".lower())
    return "-".join(part for part in words.split("-") if part)[:60]


def as_markdown(rows: list[dict[str, Any]]) -> str:
    lines = ["| path | variant | unit | ours | peer | ratio | remark |", "|---|---|---|---:|---:|---:|---|"]
    for row in rows:
        spread = f" ± {100 * row['spread']:.0f} %" if row.get("spread") is not None else ""
        lines.append(
            f"| {row['path']} | {row['variant']} | {row['unit']} | {row['ours']:,.0f} | {row['peer']:,.0f} "
            f"| {row['ratio']:.2f}{spread} | {row.get('note', '')} |"
        )
    return "\n".join(lines) + "\n"


def write(rows: list[dict[str, Any]]) -> None:
    """Writes ``results/perf/<machine>.{csv,md}``."""
    stem = paths.results_root() / "perf" / machine()
    facts = {
        **provenance.commit(),
        **provenance.machine(),
        "packages": provenance.versions(),
        "python": platform.python_version(),
    }
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    checkpoint.write_text(stem.with_suffix(".csv"), stream.getvalue())
    text = f"{as_markdown(rows)}\n```json\n{json.dumps(facts, indent=1, sort_keys=True)}\n```\n"
    checkpoint.write_text(stem.with_suffix(".md"), text)


def main(path: str | None, *, as_json: bool) -> int:
    """Measures, prints, and writes the table where everything was measured."""
    rows = measure(path)
    if path is None:
        write(rows)
    print(json.dumps(rows, indent=1) if as_json else as_markdown(rows), end="\n" if as_json else "")
    return 0
