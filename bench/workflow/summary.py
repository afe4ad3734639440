"""What a call of `reproduce` says at its end: claims by verdict, those that changed since the call before, where to look."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from bench.paths import Layout

Key = tuple[str, str]
"""Exhibit and name of a claim."""

NAMED = 4
"""Claims that are named; the page has all."""


def verdicts(layout: Layout) -> dict[Key, str]:
    """The verdicts of the claims in ``verdicts.csv``; none where nothing has been judged."""
    path = layout.root / "verdicts.csv"
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as stream:
        return {
            (row["exhibit"], row["name"]): row["verdict"] for row in csv.DictReader(stream) if row["kind"] == "claim"
        }


def as_text(before: Mapping[Key, str], after: Mapping[Key, str], layout: Layout) -> str:
    """At most 15 lines for a terminal.

    Args:
        before: verdicts before the call.
        after: verdicts now.
        layout: where the outputs lie.
    """
    lines = []
    for paper in dict.fromkeys(exhibit.split("/")[0] for exhibit, _ in after):
        counts = Counter(verdict for (exhibit, _), verdict in after.items() if exhibit.startswith(f"{paper}/"))
        parts = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
        lines.append(f"{paper:20} {counts.total()} claims: {parts}")
    if before:
        lines.append(f"{'since the last call':20} {_changes(before, after)}")
    return "\n".join([*lines, *_places(layout.root)])


def _changes(before: Mapping[Key, str], after: Mapping[Key, str]) -> str:
    changed = [
        f"{exhibit} {name} {verdict} (was {before[exhibit, name]})"
        for (exhibit, name), verdict in after.items()
        if before.get((exhibit, name), verdict) != verdict
    ]
    more = f", and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
    return ", ".join(changed[:NAMED]) + more if changed else "no verdict changed"


def _places(root: Path) -> list[str]:
    outputs = {
        "report": root / "paper.pdf",
        "verdicts": root / "index.html",
        "as text": root / "verdicts.md",
        "figures and tables": root / "exhibits",
        "browsable": root / "report.zip",
        "records": root / "runs",
    }
    return [f"{name:20} {path}" for name, path in outputs.items() if path.exists()]
