"""The report as PDF, typeset by typst from ``paper/``; every number in it comes from records."""

from __future__ import annotations

import itertools
import json
import platform
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import checkpoint, paths, stats, words
from bench.errors import UserError
from bench.report import bar, shown, table, verdicts
from bench.report.shown import Departure, Shown
from bench.report.verdicts import Entry

PACKAGES = ("torch", "torchvision", "auto_LiRPA", "transformers", "numpy", "pandas", "matplotlib", "snakemake", "typst")

MOST_BESIDE = 6
"""Numbers of a figure that the report sets beside the published ones; the others are in the CSV."""
MOST_NAMED = 3
"""Reproduced claims of a paper that the first page names, in the paper's order, one an exhibit."""
MOST_LOST = 9
"""Claims that are not reproduced and that the first page names."""


@dataclass(frozen=True)
class Cost:
    """What a scale took, and what the papers' own protocols would take.

    Attributes:
        runs: number of runs with a record.
        seconds: of their training, each run once.
        protocol_hours: estimate for everything at the papers' protocols, on one GPU.
        by_exhibit: the same for each exhibit with its parents.
    """

    runs: int = 0
    seconds: float = 0.0
    protocol_hours: float = 0.0
    by_exhibit: Mapping[str, float] | None = None


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    versions = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def content(
    entries: Sequence[Entry], items: Sequence[Shown], *, scale: str, about: str = "", cost: Cost | None = None
) -> dict[str, Any]:
    """Everything that the typst source reads, as JSON values.

    Args:
        entries: all entries.
        items: the exhibits that were drawn.
        scale: name of the scale.
        about: what the scale is.
        cost: of the scale.
    """
    cost = cost or Cost()
    papers = list(dict.fromkeys(item.paper for item in items))
    by_exhibit = {item.name: [entry for entry in entries if entry.exhibit == item.name] for item in items}
    machines = sorted({machine for item in items for machine in item.machines})
    return {
        "scale": scale,
        "level": f"{100 * stats.LEVEL:g} %",
        "about": about,
        "headline": verdicts.headline(entries),
        "verdicts": list(stats.VERDICTS),
        "states": {item.name: shown.state(item, by_exhibit[item.name]) for item in items},
        "papers": {
            paper: [_exhibit(item, by_exhibit[item.name]) for item in items if item.paper == paper] for paper in papers
        },
        "titles": {item.paper: item.paper_title or item.paper for item in items},
        "labels": {item.name: f"{item.paper} {item.label}" for item in items},
        "summary": {paper: _summary([item for item in items if item.paper == paper], by_exhibit) for paper in papers},
        "lost": [_claim(entry) for entry in _lost(entries)[:MOST_LOST]],
        "lost_of": len(_lost(entries)),
        "open": _open_reasons(entries),
        "settings": {paper: settings_table([item for item in items if item.paper == paper]) for paper in papers},
        "cost": {
            "runs": f"{cost.runs:,}",
            "time": words.duration(cost.seconds),
            "protocol": f"{cost.protocol_hours:,.0f}",
            "rows": [
                [
                    item.name,
                    str(item.runs),
                    str(len(item.missing) or ""),
                    f"{item.seconds / 60:,.1f}",
                    f"{(cost.by_exhibit or {}).get(item.name, 0.0):,.1f}",
                ]
                for item in items
            ],
        },
        "environment": _versions(),
        "machines": machines,
        "commits": sorted({commit[:12] for item in items for commit in item.commits if commit != "None"}),
    }


def _summary(items: Sequence[Shown], by_exhibit: Mapping[str, Sequence[Entry]]) -> dict[str, Any]:
    """Counts of a paper, and its first reproduced claims."""
    entries = [entry for item in items for entry in by_exhibit[item.name]]
    claims = verdicts.of_kind(entries, "claim")
    first: dict[str, Entry] = {}
    for entry in claims:
        if entry.verdict == "reproduced":
            first.setdefault(entry.exhibit, entry)
    return {
        "claims": verdicts.counts(claims),
        "targets": verdicts.counts(verdicts.of_kind(entries, "target")),
        "first": [_claim(entry) for entry in list(first.values())[:MOST_NAMED]],
    }


def _lost(entries: Sequence[Entry]) -> list[Entry]:
    return [entry for entry in verdicts.of_kind(entries, "claim") if entry.verdict == "not reproduced"]


def _open_reasons(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Why claims are open: reason, how many, and some of their names."""
    reasons: dict[str, list[str]] = {}
    for entry in verdicts.of_kind(entries, "claim"):
        if reason := open_reason(entry):
            reasons.setdefault(reason, []).append(f"{entry.exhibit} {entry.name}")
    ranked = sorted(reasons.items(), key=lambda item: -len(item[1]))
    return [{"why": reason, "count": len(names), "names": names} for reason, names in ranked]


def open_reason(entry: Entry) -> str:
    """Why a claim is open, in a phrase; "" where it is decided."""
    finding = entry.finding
    if entry.verdict == "not run":
        return "no run, or none of the rows that the claim needs"
    if entry.verdict == "not comparable":
        return "a level that this scale cannot have"
    if entry.verdict != "undecided":
        return ""
    if "missing" in finding.open_because or "missing" in finding.detail:
        return "runs are missing"
    if finding.low is None:
        return "one seed, which has no interval"
    if not finding.tested:
        return "fewer seeds than the first look needs, or nothing that can be judged"
    return "the interval includes the threshold"


def settings_table(items: Sequence[Shown]) -> list[list[str]]:
    """Rows of setting, meaning, the paper's value, the value here, and the exhibits in which that is so."""
    alike: dict[Departure, list[Shown]] = {}
    for item in items:
        for departure in item.departures:
            alike.setdefault(departure, []).append(item)
    having = Counter(name for item in items for name in item.settings)
    rows = []
    for departure, those in sorted(alike.items(), key=lambda pair: (pair[0].name, -len(pair[1]))):
        where = "all" if len(those) == having[departure.name] > 1 else ", ".join(item.short for item in those)
        rows.append([departure.name, departure.meaning, departure.paper, departure.here, where])
    for above, row in reversed(list(itertools.pairwise(rows))):
        if row[0] == above[0]:  # the name stands once, and so do a meaning and a paper's value that do not change
            row[:3] = ["" if text == before else text for text, before in zip(row[:3], above[:3], strict=True)]
    return rows


def _spread_over(entries: Sequence[Entry], most: int) -> list[Entry]:
    """At most `most` entries, evenly from first to last."""
    if len(entries) <= most:
        return list(entries)
    return [entries[round(k * (len(entries) - 1) / (most - 1))] for k in range(most)]


def _claim(entry: Entry) -> dict[str, Any]:
    picture = bar.bar(entry.finding)
    return {
        "exhibit": entry.exhibit,
        "name": entry.name,
        "statement": entry.statement,
        "source": entry.source,
        "verdict": entry.verdict,
        "ours": entry.ours_text(),
        "n": entry.finding.n,
        "bar": None if picture is None else asdict(picture),
        "why": _why(entry),
    }


def _why(entry: Entry) -> str:
    """Why a claim stands as it does, in a line: what the scale cannot show, or what keeps it open; "" if reproduced."""
    if entry.not_expected_at:
        return f"Not expected here: {entry.not_expected_at}."
    reason = open_reason(entry) or ("a part lies on the other side" if entry.verdict == "not reproduced" else "")
    if not reason:
        return ""
    parts = stats.leaves(entry.finding)
    count = sum(part.verdict == entry.verdict for part in parts)
    share = f" ({count} of {len(parts)} tests)" if len(parts) > 1 else ""
    if entry.verdict == "not reproduced" and not share:
        return ""
    return f"{reason[0].upper()}{reason[1:]}{share}."


def _exhibit(item: Shown, entries: Sequence[Entry]) -> dict[str, Any]:
    targets = verdicts.of_kind(entries, "target")
    # A table shows both values in its cells already.
    both = [entry for entry in entries if entry.kind in ("target", "context") and entry.ran()]
    both = both if item.kind == "figure" else []
    return {
        "name": item.name,
        "title": item.title,
        "label": item.label,
        "caption": item.caption,
        "kind": item.kind,
        "about": item.about,
        "expected": item.expected,
        "here": item.here,
        "image": f"{item.paper}-{item.short}.pdf" if item.kind == "figure" else "",
        "tables": table.read(item.files) if item.kind == "table" else [],
        "missing": len(item.missing),
        "older": item.older,
        "runs": item.runs,
        "time": words.duration(item.seconds),
        "code": item.code,
        "claims": [_claim(entry) for entry in entries if entry.kind in ("claim", "estimate")],
        "beside": [
            [
                entry.name.replace("_", " "),
                entry.published_text(),
                entry.ours_text(),
                str(entry.finding.n),
                entry.unit,
                entry.verdict,
            ]
            for entry in _spread_over(both, MOST_BESIDE)
        ],
        "beside_of": len(both),
        "targets": {verdict: count for verdict, count in verdicts.counts(targets).items() if count},
    }


def write(
    path: Path,
    entries: Sequence[Entry],
    items: Sequence[Shown],
    *,
    scale: str,
    about: str = "",
    cost: Cost | None = None,
) -> None:
    """Typesets the report; arguments as for `content`.

    Raises:
        UserError: typst refuses the source, with its message.
    """
    import typst

    there = [item for item in items if item.drawn()]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for source in (paths.PROJECT / "paper").iterdir():
            if source.is_file():
                shutil.copyfile(source, root / source.name)
        for item in there:
            if item.kind == "figure":
                shutil.copyfile(item.files.with_suffix(".pdf"), root / f"{item.paper}-{item.short}.pdf")
        values = content(entries, there, scale=scale, about=about, cost=cost)
        (root / "content.json").write_text(json.dumps(values, indent=1), encoding="utf-8")
        try:
            document = typst.compile(str(root / "main.typ"), root=str(root))
        except Exception as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{paths.PROJECT / 'paper' / 'main.typ'}: typst refuses it: {reason[:300]}") from error
    assert isinstance(document, bytes)
    checkpoint.write_bytes(path, document)
