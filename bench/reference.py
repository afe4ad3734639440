"""Committed records (``results/reference/<scale>/<paper>.jsonl``): one line a record, with when, where and why."""

from __future__ import annotations

import json
import time
from dataclasses import replace as with_fields
from pathlib import Path
from typing import Any

from bench import checkpoint, paths, provenance, record
from bench import plan as planning
from bench.errors import UserError
from bench.paths import Layout
from bench.plan import Plan

ROOT = paths.PROJECT / "results" / "reference"


def _lines(folder: Path) -> list[str]:
    return [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]


def restore(scale: str, into: Layout) -> int:
    """Writes the reference records of a scale as single files, as if they had been trained here; returns how many.

    Raises:
        UserError: the scale has no reference.
    """
    lines = _lines(ROOT / scale)
    if not lines:
        known = ", ".join(sorted(path.name for path in ROOT.iterdir() if path.is_dir())) if ROOT.is_dir() else "none"
        raise UserError(f"{ROOT / scale}: no reference records of scale {scale}; there are: {known}")
    for line in lines:
        path = into.record(json.loads(line)["key"])
        if not path.exists():
            checkpoint.write_text(path, line + "\n")
    return len(lines)


def as_results(made: Plan) -> Plan:
    """The same exhibits, fed by the reference records, in ``results/<scale>-reference``."""
    layout = with_fields(made.layout, root=made.layout.root.with_name(f"{made.suite.scale}-reference"))
    restore(made.suite.scale, layout)
    suite = made.suite.model_copy(update={"older_code": "accept"})
    return planning.make(suite, list(made.members), source=made.source, layout=layout)


def replace(made: Plan, *, why: str) -> int:
    """Replaces a scale's reference by the records of the plan in ``results/``; returns an exit code.

    Writes when, from which commit, on what machine and why into ``provenance.json`` beside them.

    Raises:
        UserError: no record of the plan is there, or no reason is given.
    """
    if not why.strip():
        raise UserError("--why: expected a reason; it is written beside the records")
    by_paper: dict[str, list[str]] = {}
    machines: dict[str, int] = {}
    for run in made.runs.values():
        path = made.layout.record(run.used)
        if not path.exists():
            continue
        found = record.read(path)
        by_paper.setdefault(run.exhibits[0].split("/")[0], []).append(path.read_text().rstrip("\n"))
        machine = json.dumps(found.provenance.get("machine", {}), sort_keys=True)
        machines[machine] = machines.get(machine, 0) + 1
    if not by_paper:
        raise UserError(f"{made.layout.runs}: has no record of these exhibits; train them first")
    folder = ROOT / made.suite.scale
    for paper, lines in by_paper.items():
        checkpoint.write_text(folder / f"{paper}.jsonl", "\n".join(sorted(lines)) + "\n")
        about: dict[str, Any] = {
            "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **provenance.commit(),
            "records": len(lines),
            "machines": [{**json.loads(text), "records": count} for text, count in machines.items()],
            "exhibits": sorted(name for name in made.members if name.startswith(f"{paper}/")),
            "why": why,
        }
        checkpoint.write_text(folder / f"{paper}.provenance.json", json.dumps(about, indent=1) + "\n")
        print(f"{folder / paper}.jsonl: {len(lines)} records")
    return 0
