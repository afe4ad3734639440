"""Verdicts as CSV, Markdown, HTML and text for a terminal."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import checkpoint, stats

COLOURS = {
    "reproduced": "#0a7d4b",
    "not reproduced": "#b3261e",
    "undecided": "#8a6100",
    "not comparable": "#5b6470",
    "not run": "#5b6470",
}


@dataclass(frozen=True)
class Entry:
    """One published number or claim, and what became of it.

    Attributes:
        exhibit: ``<paper>/<name>``.
        kind: "claim" or "target".
        name: of the claim (``T1a``), or labels and metric of the number.
        statement: the claim in words; empty for a number.
        source: where it was published.
        published: value of a number.
        spread: its published spread.
        unit: its unit.
        provenance: printed, digitised, or text.
        margin: how far from the published value still counts as reproduced.
        outcome: estimate, interval, n, verdict.
        test: what was tested.
        scale: scale of our runs.
        machine: where they ran.
        older: whether records of older code are among them.
        cost: what it would take to run, where it was not.
        note: what a reader must know.
    """

    exhibit: str
    kind: str
    name: str
    statement: str
    source: str
    published: float | None
    spread: float | None
    unit: str
    provenance: str
    margin: float | None
    outcome: stats.Outcome
    test: str
    scale: str
    machine: str
    older: bool
    cost: str
    note: str

    @property
    def verdict(self) -> str:
        return self.outcome.verdict

    def published_text(self) -> str:
        if self.published is None:
            return ""
        spread = "" if self.spread is None else f" ± {self.spread:g}"
        return f"{self.published:g}{spread}"

    def ours_text(self) -> str:
        """Estimate with its 95 % interval."""
        outcome = self.outcome
        if outcome.estimate is None:
            return ""
        ends = "" if outcome.low is None or outcome.high is None else f" [{outcome.low:.4g}, {outcome.high:.4g}]"
        return f"{outcome.estimate:.4g}{ends}"

    def remark(self) -> str:
        parts = [self.outcome.detail if self.kind == "claim" or self.verdict == "not run" else "", self.note]
        parts += ["older code" if self.older else "", f"would take {self.cost}" if self.cost else ""]
        return "; ".join(part for part in parts if part)


COLUMNS = (
    "exhibit", "kind", "name", "verdict", "statement", "published", "spread", "unit", "provenance", "margin",
    "estimate", "low", "high", "n", "test", "detail", "scale", "machine", "older_code", "cost", "source", "note",
)  # fmt: skip


def _line(entry: Entry) -> list[object]:
    outcome = entry.outcome
    return [
        entry.exhibit,
        entry.kind,
        entry.name,
        entry.verdict,
        entry.statement,
        entry.published,
        entry.spread,
        entry.unit,
        entry.provenance,
        entry.margin,
        outcome.estimate,
        outcome.low,
        outcome.high,
        outcome.n,
        entry.test,
        outcome.detail,
        entry.scale,
        entry.machine,
        entry.older,
        entry.cost,
        entry.source,
        entry.note,
    ]


def counts(entries: Iterable[Entry]) -> dict[str, int]:
    """Verdict -> how often, in the order of `stats.VERDICTS`."""
    found = [entry.verdict for entry in entries]
    return {verdict: found.count(verdict) for verdict in stats.VERDICTS}


def headline(entries: Sequence[Entry]) -> list[str]:
    """A sentence for claims, one for numbers, one for chance."""

    def sentence(kind: str, name: str) -> str:
        chosen = [entry for entry in entries if entry.kind == kind]
        parts = [f"{count} {verdict}" for verdict, count in counts(chosen).items() if count]
        return f"{len(chosen)} {name}: {', '.join(parts) or 'none'}."

    decided = stats.false_alarms(entry.outcome for entry in entries)
    return [
        sentence("claim", "claims"),
        sentence("target", "published numbers"),
        f"Expected number of decisions that chance alone would get wrong: {decided:.1f}.",
    ]


def as_csv(entries: Sequence[Entry]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([["" if value is None else value for value in _line(entry)] for entry in entries])
    return stream.getvalue()


def as_markdown(entries: Sequence[Entry]) -> str:
    def cell(text: str) -> str:
        return text.replace("|", "\\|").replace("\n", " ")

    lines = ["# Verdicts", "", *headline(entries), ""]
    lines += ["## Claims", "", "| exhibit | claim | verdict | estimate [95 % interval] | n | test | remarks |"]
    lines += ["|---|---|---|---|---:|---|---|"]
    for entry in entries:
        if entry.kind == "claim":
            claim = f"**{entry.name}** {entry.statement}"
            row = (
                entry.exhibit,
                claim,
                entry.verdict,
                entry.ours_text(),
                str(entry.outcome.n),
                entry.test,
                entry.remark(),
            )
            lines.append(f"| {' | '.join(cell(text) for text in row)} |")
    lines += ["", "## Published numbers", ""]
    lines += ["| exhibit | number | verdict | published | ours [95 % interval] | n | margin | remarks |"]
    lines += ["|---|---|---|---:|---:|---:|---:|---|"]
    for entry in entries:
        if entry.kind == "target":
            margin = "" if entry.margin is None else f"{entry.margin:g}"
            number = (
                entry.exhibit,
                entry.name,
                entry.verdict,
                entry.published_text(),
                entry.ours_text(),
                str(entry.outcome.n),
                margin,
                entry.remark(),
            )
            lines.append(f"| {' | '.join(cell(text) for text in number)} |")
    return "\n".join(lines) + "\n"


def html_tables(entries: Sequence[Entry]) -> str:
    """Two tables, claims and numbers, that read without scripts; rows carry what a filter looks at."""

    def cells(*texts: str) -> str:
        return "".join(f"<td>{html.escape(text)}</td>" for text in texts)

    def badge(verdict: str) -> str:
        return f'<td><span class="badge" style="background:{COLOURS[verdict]}">{html.escape(verdict)}</span></td>'

    def row(entry: Entry, inner: str) -> str:
        paper = html.escape(entry.exhibit.split("/")[0])
        return f'<tr data-verdict="{html.escape(entry.verdict)}" data-paper="{paper}">{inner}</tr>'

    def table(kind: str, title: str, heads: Sequence[str], rows: Sequence[str]) -> str:
        head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in heads)
        return (
            f'<h2 id="{kind}s">{title}</h2><table class="verdicts" id="table-{kind}"><thead><tr>{head}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table>"
        )

    claims = [
        row(
            entry,
            cells(entry.exhibit)
            + f"<td><b>{html.escape(entry.name)}</b> {html.escape(entry.statement)}</td>"
            + badge(entry.verdict)
            + cells(entry.ours_text(), str(entry.outcome.n), entry.test, entry.remark()),
        )
        for entry in entries
        if entry.kind == "claim"
    ]
    numbers = [
        row(
            entry,
            cells(entry.exhibit, entry.name)
            + badge(entry.verdict)
            + cells(
                entry.published_text(),
                entry.ours_text(),
                str(entry.outcome.n),
                "" if entry.margin is None else f"{entry.margin:g}",
                f"{entry.unit}, {entry.provenance}",
                entry.remark(),
            ),
        )
        for entry in entries
        if entry.kind == "target"
    ]
    return table(
        "claim", "Claims", ("exhibit", "claim", "verdict", "estimate [95 % interval]", "n", "test", "remarks"), claims
    ) + table(
        "target",
        "Published numbers",
        ("exhibit", "number", "verdict", "published", "ours [95 % interval]", "n", "margin", "unit", "remarks"),
        numbers,
    )


STYLE = Path(__file__).with_name("page.css")


def as_html(entries: Sequence[Entry]) -> str:
    sentences = " ".join(html.escape(line) for line in headline(entries))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Verdicts</title>'
        f"<style>{STYLE.read_text()}</style></head><body><h1>Verdicts</h1><p>{sentences}</p>{html_tables(entries)}</body></html>\n"
    )


def write(entries: Sequence[Entry], stem: Path) -> None:
    """Writes ``stem.csv``, ``stem.md`` and ``stem.html``."""
    for suffix, text in (("csv", as_csv(entries)), ("md", as_markdown(entries)), ("html", as_html(entries))):
        checkpoint.write_text(stem.with_name(f"{stem.name}.{suffix}"), text)


def as_text(entries: Sequence[Entry]) -> str:
    """Claims one by one and numbers by exhibit, for a terminal."""
    lines = [
        f"{entry.verdict:15} {entry.exhibit:22} {entry.name:8} {entry.ours_text() or entry.outcome.detail}"
        for entry in entries
        if entry.kind == "claim"
    ]
    for name in dict.fromkeys(entry.exhibit for entry in entries if entry.kind == "target"):
        chosen = [entry for entry in entries if entry.kind == "target" and entry.exhibit == name]
        parts = ", ".join(f"{count} {verdict}" for verdict, count in counts(chosen).items() if count)
        lines.append(f"{'numbers':15} {name:22} {parts}")
    return "\n".join([*lines, *headline(entries)])
