"""The report as PDF, typeset by typst from ``paper/``; every number in it comes from records."""

from __future__ import annotations

import csv
import json
import platform
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import checkpoint, paths
from bench.errors import UserError
from bench.report import verdicts
from bench.report.verdicts import Entry

PACKAGES = ("torch", "torchvision", "auto_LiRPA", "transformers", "numpy", "pandas", "matplotlib", "snakemake", "typst")


@dataclass(frozen=True)
class Shown:
    """What the report says about one exhibit.

    Attributes:
        name: ``<paper>/<name>``.
        title: its title.
        caption: what it shows.
        kind: "table" or "figure".
        files: stem of its files.
        departures: setting -> "the paper's value → the value here".
        missing: runs that it lacks.
        runs: number of runs that it needs.
        seconds: training time of its runs.
        machines: where they ran.
        commits: of the records.
    """

    name: str
    title: str
    caption: str
    kind: str
    files: Path
    departures: dict[str, str]
    missing: list[str]
    runs: int
    seconds: float
    machines: list[str]
    commits: list[str]

    @property
    def paper(self) -> str:
        return self.name.split("/")[0]

    @property
    def short(self) -> str:
        return self.name.split("/")[1]


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cells(path: Path) -> list[list[str]]:
    with path.open(newline="") as stream:
        return list(csv.reader(stream))


def content(entries: Sequence[Entry], shown: Sequence[Shown], *, scale: str) -> dict[str, Any]:
    """Everything that the typst source reads, as JSON values."""
    papers = list(dict.fromkeys(item.paper for item in shown))
    return {
        "scale": scale,
        "headline": verdicts.headline(entries),
        "counts": {
            paper: {
                kind: verdicts.counts(e for e in entries if e.exhibit.startswith(f"{paper}/") and e.kind == kind)
                for kind in ("claim", "target")
            }
            for paper in papers
        },
        "papers": {paper: [_exhibit(item, entries) for item in shown if item.paper == paper] for paper in papers},
        "environment": _versions(),
        "machines": sorted({machine for item in shown for machine in item.machines}),
        "commits": sorted({commit for item in shown for commit in item.commits if commit != "None"}),
    }


def _exhibit(item: Shown, entries: Sequence[Entry]) -> dict[str, Any]:
    own = [entry for entry in entries if entry.exhibit == item.name]
    targets = [entry for entry in own if entry.kind == "target"]
    return {
        "name": item.name,
        "title": item.title,
        "caption": item.caption,
        "kind": item.kind,
        "image": f"{item.paper}-{item.short}.pdf" if item.kind == "figure" else "",
        "cells": _cells(item.files.with_suffix(".csv")) if item.kind == "table" else [],
        "departures": [f"{field}: {change}" for field, change in item.departures.items()],
        "missing": len(item.missing),
        "runs": item.runs,
        "minutes": f"{item.seconds / 60:.1f}",
        "claims": [
            {
                "name": entry.name,
                "statement": entry.statement,
                "verdict": entry.verdict,
                "ours": entry.ours_text(),
                "n": entry.outcome.n,
                "test": entry.test,
                "note": entry.note,
            }
            for entry in own
            if entry.kind == "claim"
        ],
        "targets": {verdict: count for verdict, count in verdicts.counts(targets).items() if count},
    }


def write(path: Path, entries: Sequence[Entry], shown: Sequence[Shown], *, scale: str) -> None:
    """Typesets the report.

    Raises:
        UserError: typst refuses the source, with its message.
    """
    import typst

    drawn = [item for item in shown if item.files.with_suffix(".csv").exists()]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for source in (paths.PROJECT / "paper").iterdir():
            if source.is_file():
                shutil.copyfile(source, root / source.name)
        for item in drawn:
            if item.kind == "figure":
                shutil.copyfile(item.files.with_suffix(".pdf"), root / f"{item.paper}-{item.short}.pdf")
        (root / "content.json").write_text(json.dumps(content(entries, drawn, scale=scale), indent=1))
        try:
            made = typst.compile(str(root / "main.typ"), root=str(root))
        except Exception as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{paths.PROJECT / 'paper' / 'main.typ'}: typst refuses it: {reason[:300]}") from error
    assert isinstance(made, bytes)
    checkpoint.write_bytes(path, made)
