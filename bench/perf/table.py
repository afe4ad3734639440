"""All measurements as one table: printed, and written with the machine they were made on."""

from __future__ import annotations

import csv
import importlib
import io
import json
import platform
import re
import sys
import time
import traceback
from pathlib import Path

from bench import checkpoint, paths, words
from bench import machine as this_machine
from bench.errors import UserError
from bench.perf.measure import Row
from bench.workflow import process

PATHS = ("warmstart", "certified", "rewarm", "workflow")
COLUMNS = ("path", "variant", "unit", "ours", "peer", "ratio", "spread", "note")
FALL = 0.15
"""A ratio that is lower by more than this share than in the committed table fails the check."""

Name = tuple[str, str]
"""Path and variant of a row."""


def measure(path: str | None) -> tuple[list[Row], list[str]]:
    """Rows of one path, or of all, measured now, on a GPU where there is one; and which paths failed."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    process.prepare_torch(torch.get_num_threads())
    process.compile_for(torch.get_num_threads())  # what other work has compiled may be for another number
    rows: list[Row] = []
    failed: list[str] = []
    started = time.monotonic()

    def tell(text: str) -> None:
        print(f"# {time.monotonic() - started:4.0f} s  {text}", file=sys.stderr, flush=True)

    for name in PATHS if path is None else (path,):
        try:
            module = importlib.import_module(f"bench.perf.{name}")
            for row in module.rows(device, tell):
                rows.append(row)
                ratio = "" if row["ratio"] is None else f", ratio {row['ratio']:.2f}"
                tell(f"{row['path']} {row['variant']}: {words.rate(row['ours'])} {row['unit']}{ratio}")
        except Exception as error:
            # Minutes of other measurements are not lost with it.
            if isinstance(error, UserError):
                print(f"error: {error}", file=sys.stderr)
            else:
                traceback.print_exc()
            failed.append(name)
    return rows, failed


def machine() -> str:
    """A short name of this machine for file names: its GPU, or its processor with its vector units; and its cores."""
    import torch

    cores = f"{this_machine.machine()['cores']}-cores"
    if torch.cuda.is_available():
        kind = f"{torch.cuda.get_device_name(0)}-{cores}"
    else:
        kind = f"{this_machine.machine()['processor']}-{cores}-{vector_units()}"
    return re.sub(r"[^a-z0-9]+", "-", kind.lower()).strip("-")[:60]


def vector_units() -> str:
    """What torch's kernels use of the processor, and whether it has bfloat16, and tiles of it: ratios depend on all."""
    import torch

    from bench.training.precision import has_bf16

    units = [this_machine.machine()["vector_units"]]
    if has_bf16(torch.device("cpu")):
        units.append("bf16")
    if "amx_bf16" in this_machine.cpu_flags():
        units.append("AMX")
    return " ".join(units)


def as_markdown(rows: list[Row]) -> str:
    lines = ["| path | variant | unit | ours | peer | ratio | remark |", "|---|---|---|---:|---:|---:|---|"]
    for row in rows:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        if ratio and row["spread"] is not None:
            ratio += f" ± {100 * row['spread']:.0f} %"
        rates = (words.rate(row[side]) for side in ("ours", "peer"))
        cells = (row["path"], row["variant"], row["unit"], *rates, ratio, row["note"])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write(rows: list[Row]) -> Path:
    """Writes ``results/perf/<machine>.{csv,md}`` and returns the Markdown's path."""
    stem = paths.results_root() / "perf" / machine()
    facts = {
        **this_machine.commit(),
        **this_machine.machine(),
        "vector_units": vector_units(),
        "packages": this_machine.versions(),
        "python": platform.python_version(),
        "measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    checkpoint.write_text(stem.with_suffix(".csv"), stream.getvalue())
    text = f"{as_markdown(rows)}\n```json\n{json.dumps(facts, indent=1, sort_keys=True)}\n```\n"
    checkpoint.write_text(stem.with_suffix(".md"), text)
    return stem.with_suffix(".md")


def committed(name: str) -> dict[Name, float]:
    """(path, variant) -> ratio of the table of a machine of this kind.

    Raises:
        UserError: there is none.
    """
    path = paths.PROJECT / "results" / "perf" / f"{name}.csv"
    if not path.exists():
        known = ", ".join(sorted(found.stem for found in path.parent.glob("*.csv"))) or "none"
        raise UserError(f"{path}: no committed table of this kind of machine (known: {known}); `make perf` makes it")
    with path.open(newline="", encoding="utf-8") as stream:
        return {(row["path"], row["variant"]): float(row["ratio"]) for row in csv.DictReader(stream) if row["ratio"]}


def fallen(rows: list[Row], before: dict[Name, float]) -> dict[Name, str]:
    """What to say of each ratio that fell by more than `FALL`, or that is no longer measured."""
    now = {(row["path"], row["variant"]): row["ratio"] for row in rows}
    lines = {}
    for name, ratio in before.items():
        present = now.get(name)
        if present is None:
            lines[name] = f"{' '.join(name)}: not measured any more, was {ratio:.2f}"
        elif present < (1 - FALL) * ratio:
            lines[name] = f"{' '.join(name)}: {present:.2f}, was {ratio:.2f}"
    return lines


def _part(name: Name) -> str:
    """What `measure` must be asked for to get a row."""
    return name[0].split("/")[0]


def _fallen_twice(rows: list[Row], before: dict[Name, float]) -> dict[Name, str]:
    """`fallen`, of what falls in a second measurement as well: on a shared machine a neighbour may have come between."""
    once = fallen(rows, before)
    again = [row for part in sorted({_part(name) for name in once}) for row in measure(part)[0]]
    twice = fallen(again, before)
    return {name: text for name, text in once.items() if name in twice}


def main(path: str | None, *, as_json: bool, check: bool = False) -> int:
    """Measures, prints, and writes the table where everything was measured.

    Returns:
        1 when a measurement failed, or with `check` when a ratio has fallen; else 0.
    """
    before = committed(machine()) if check else {}
    if path is not None:
        before = {name: ratio for name, ratio in before.items() if _part(name) == path}
    rows, failed = measure(path)
    if path is None and not check and not failed:
        write(rows)
    print(json.dumps(rows, indent=1) if as_json else as_markdown(rows), end="\n" if as_json else "")
    for name in failed:
        print(f"error: {name} could not be measured, so no table was written; the reason is above", file=sys.stderr)
    lost = _fallen_twice(rows, before)
    for line in lost.values():
        print(f"SLOWER {line}", file=sys.stderr)
    return 1 if lost or failed else 0
