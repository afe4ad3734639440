"""The report as PDF, typeset by typst from ``paper/``; every number in it comes from records."""

from __future__ import annotations

import csv
import json
import platform
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import checkpoint, paths, stats
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
        older: number of records of older code.
        code: file that declares it.
        settings: names of all its settings.
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
    older: int = 0
    code: str = ""
    settings: tuple[str, ...] = ()

    @property
    def paper(self) -> str:
        return self.name.split("/")[0]

    @property
    def short(self) -> str:
        return self.name.split("/")[1]


def place(name: str) -> tuple[int, int, int, str]:
    """Where an exhibit stands in its paper: tables and figures by number, then what goes beyond it."""
    short = name.split("/")[1]
    own = re.fullmatch(r"(table|fig)(\d+)", short)
    number = (0, ("table", "fig").index(own[1]), int(own[2])) if own else (1, 0, 0)
    return (*number, short)


def in_order(names: Iterable[str]) -> list[str]:
    """Papers as they come, and each one's exhibits by `place`."""
    known = list(names)
    papers = list(dict.fromkeys(name.split("/")[0] for name in known))
    return [name for paper in papers for name in sorted((n for n in known if n.split("/")[0] == paper), key=place)]


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


MOST_BESIDE = 12
"""Numbers of an exhibit that the report sets beside the published ones; the others are in the CSV."""


def content(
    entries: Sequence[Entry], shown: Sequence[Shown], *, scale: str, about: str = "", protocol: Mapping[str, str]
) -> dict[str, Any]:
    """Everything that the typst source reads, as JSON values.

    Args:
        entries: all entries.
        shown: the exhibits that were drawn.
        scale: name of the scale.
        about: what the scale is.
        protocol: exhibit -> its estimated cost at the paper's own protocol.
    """
    papers = list(dict.fromkeys(item.paper for item in shown))
    shared = {paper: shared_departures([item for item in shown if item.paper == paper]) for paper in papers}
    return {
        "scale": scale,
        "level": f"{100 * stats.LEVEL:g} %",
        "tail": f"{50 * (1 - stats.LEVEL):g} %",
        "shared": {paper: _changes(changes) for paper, changes in shared.items()},
        "about": about,
        "headline": verdicts.headline(entries),
        "verdicts": list(stats.VERDICTS),
        "counts": {
            paper: {
                kind: verdicts.counts(entry for entry in verdicts.of_kind(entries, kind) if entry.paper == paper)
                for kind in ("claim", "target")
            }
            for paper in papers
        },
        "papers": {
            paper: [_exhibit(item, entries, shared[paper]) for item in shown if item.paper == paper] for paper in papers
        },
        "costs": [
            {
                "exhibit": item.name,
                "runs": str(item.runs),
                "missing": str(len(item.missing)),
                "minutes": f"{item.seconds / 60:,.1f}",
                "machines": ", ".join(item.machines),
                "protocol": protocol.get(item.name, ""),
            }
            for item in shown
        ],
        "environment": _versions(),
        "machines": sorted({machine for item in shown for machine in item.machines}),
        "commits": sorted({commit for item in shown for commit in item.commits if commit != "None"}),
    }


def shared_departures(shown: Sequence[Shown]) -> dict[str, str]:
    """Departures that all exhibits of a paper with such a setting have alike, where those are two and at least half."""
    found: dict[str, str] = {}
    for name in dict.fromkeys(name for item in shown for name in item.departures):
        having = [item for item in shown if name in item.settings]
        changes = {item.departures.get(name) for item in having}
        if len(changes) == 1 and len(having) >= max(2, len(shown) / 2):
            found[name] = str(changes.pop())
    return found


def _changes(departures: Mapping[str, str]) -> list[str]:
    return [f"{name}: {change}" for name, change in departures.items()]


def _spread_over(entries: Sequence[Entry], most: int) -> list[Entry]:
    """At most so many entries, evenly from first to last."""
    if len(entries) <= most:
        return list(entries)
    return [entries[round(place * (len(entries) - 1) / (most - 1))] for place in range(most)]


def _exhibit(item: Shown, entries: Sequence[Entry], shared: Mapping[str, str]) -> dict[str, Any]:
    own = [entry for entry in entries if entry.exhibit == item.name]
    targets, claims = verdicts.of_kind(own, "target"), verdicts.of_kind(own, "claim")
    # A table shows both values in its cells already.
    both = [entry for entry in own if entry.kind != "claim" and entry.ran()] if item.kind == "figure" else []
    return {
        "name": item.name,
        "title": item.title,
        "caption": item.caption,
        "kind": item.kind,
        "image": f"{item.paper}-{item.short}.pdf" if item.kind == "figure" else "",
        "cells": _cells(item.files.with_suffix(".csv")) if item.kind == "table" else [],
        "paper": item.paper,
        "departures": _changes({name: change for name, change in item.departures.items() if name not in shared}),
        "missing": len(item.missing),
        "older": item.older,
        "runs": item.runs,
        "minutes": f"{item.seconds / 60:,.1f}",
        "code": item.code,
        "claims": [
            {
                "name": entry.name,
                "statement": entry.statement,
                "source": entry.source,
                "verdict": entry.verdict,
                "ours": entry.ours_text(),
                "n": entry.finding.n,
                "test": entry.test or "not tested",
            }
            for entry in claims
        ],
        "reasons": [
            {"name": entry.name, "verdict": entry.verdict, "why": _reason(entry)}
            for entry in claims
            if entry.verdict != "reproduced" or entry.not_expected_at
        ],
        "beside": [
            {
                "name": entry.name,
                "published": entry.published_text(),
                "ours": entry.ours_text(),
                "n": entry.finding.n,
                "unit": entry.unit,
                "verdict": entry.verdict,
            }
            for entry in _spread_over(both, MOST_BESIDE)
        ],
        "beside_of": len(both),
        "targets": {verdict: count for verdict, count in verdicts.counts(targets).items() if count},
    }


def _reason(entry: Entry) -> str:
    """Why a claim stands as it does: what was found, and what the scale cannot show."""
    found = f"{entry.finding.detail}."
    return f"{found} {entry.beyond_text()[0].upper()}{entry.beyond_text()[1:]}." if entry.not_expected_at else found


def write(
    path: Path,
    entries: Sequence[Entry],
    shown: Sequence[Shown],
    *,
    scale: str,
    about: str = "",
    protocol: Mapping[str, str] | None = None,
) -> None:
    """Typesets the report; arguments as for `content`.

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
        said = content(entries, drawn, scale=scale, about=about, protocol=protocol or {})
        (root / "content.json").write_text(json.dumps(said, indent=1))
        try:
            made = typst.compile(str(root / "main.typ"), root=str(root))
        except Exception as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{paths.PROJECT / 'paper' / 'main.typ'}: typst refuses it: {reason[:300]}") from error
    assert isinstance(made, bytes)
    checkpoint.write_bytes(path, made)
