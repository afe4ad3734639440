"""Entries of the verdict page, and the page as CSV, Markdown and text for a terminal."""

from __future__ import annotations

import csv
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

CONTEXT = "context"
"""What stands in the place of a verdict for rows that are shown and not judged."""


@dataclass(frozen=True)
class Entry:
    """One published number or claim, and what became of it.

    Attributes:
        exhibit: ``<paper>/<name>``.
        kind: "claim" or "target"; "estimate" or "context" for what is shown and not judged.
        name: of the claim (``T1a``), or labels and metric of the number.
        statement: the claim in words; empty for a number.
        source: where it was published.
        published: value of a number.
        spread: its published spread.
        unit: its unit.
        provenance: printed, digitised, or text.
        margin: how far from the published value still counts as reproduced.
        finding: estimate, interval, n, verdict.
        test: what was tested.
        scale: scale of our runs.
        machine: where they ran.
        older: whether records of older code are among them.
        cost: what it would take to run, where it was not.
        note: what a reader must know.
        not_expected_at: why this scale cannot be expected to show the claim; the verdict stands.
        reference: the verdict of the committed reference records, where there are any.
        reference_text: their estimate and interval.
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
    finding: stats.Finding
    test: str
    scale: str
    machine: str
    older: bool
    cost: str
    note: str
    not_expected_at: str = ""
    reference: str = ""
    reference_text: str = ""

    @property
    def paper(self) -> str:
        return self.exhibit.split("/")[0]

    @property
    def verdict(self) -> str:
        return CONTEXT if self.kind == CONTEXT else self.finding.verdict

    def ran(self) -> bool:
        return self.finding.verdict != "not run"

    def published_text(self) -> str:
        if self.published is None:
            return ""
        spread = "" if self.spread is None else f" ± {self.spread:g}"
        return f"{self.published:g}{spread}"

    def ours_text(self) -> str:
        finding = self.finding
        if finding.estimate is None:
            return ""
        return stats.shown(finding.estimate, finding.low, finding.high)

    def beyond_text(self) -> str:
        return f"not to be expected at scale {self.scale}: {self.not_expected_at}" if self.not_expected_at else ""

    def remark(self) -> str:
        parts = [
            self.finding.detail if self.kind in ("claim", "estimate") or self.verdict == "not run" else "",
            self.note,
        ]
        parts += [self.beyond_text(), "older code" if self.older else ""]
        parts += [f"would take {self.cost}" if self.cost else ""]
        parts += [f"reference: {self.reference} {self.reference_text}".strip() if self.reference else ""]
        return "; ".join(part for part in parts if part)


COLUMNS = (
    "exhibit", "kind", "name", "verdict", "statement", "published", "spread", "unit", "provenance", "margin",
    "estimate", "low", "high", "n", "test", "detail", "scale", "machine", "older_code", "cost", "source", "note",
    "not_expected_because", "reference",
)  # fmt: skip


def _line(entry: Entry) -> list[object]:
    finding = entry.finding
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
        finding.estimate,
        finding.low,
        finding.high,
        finding.n,
        entry.test,
        finding.detail,
        entry.scale,
        entry.machine,
        entry.older,
        entry.cost,
        entry.source,
        entry.note,
        entry.not_expected_at,
        entry.reference,
    ]


def judged(entries: Iterable[Entry]) -> list[Entry]:
    """Claims and targets; estimates and context are shown and never judged."""
    return [entry for entry in entries if entry.kind in ("claim", "target")]


def of_kind(entries: Iterable[Entry], kind: str) -> list[Entry]:
    return [entry for entry in entries if entry.kind == kind]


def counts(entries: Iterable[Entry]) -> dict[str, int]:
    """Verdict -> how often, in the order of `stats.VERDICTS`."""
    found = [entry.verdict for entry in entries]
    return {verdict: found.count(verdict) for verdict in stats.VERDICTS}


def headline(entries: Sequence[Entry]) -> list[str]:
    """A sentence for claims, one for numbers, one for what this scale cannot show, one for chance."""

    def sentence(kind: str, name: str) -> str:
        chosen = of_kind(entries, kind)
        parts = [f"{count} {verdict}" for verdict, count in counts(chosen).items() if count]
        return f"{len(chosen)} {name}: {', '.join(parts) or 'none'}."

    lines = [sentence("claim", "claims"), sentence("target", "published numbers")]
    if beyond := [entry for entry in entries if entry.not_expected_at]:
        lines.append(f"This scale cannot be expected to show {len(beyond)} of the claims; the reasons stand with them.")
    if estimates := of_kind(entries, "estimate"):
        lines.append(f"{len(estimates)} estimates of what the papers report and claim nothing about.")
    findings = [entry.finding for entry in judged(entries)]
    tested = sum(finding.tested for finding in findings)
    lines.append(
        f"Of {tested} tested claims and numbers chance alone is expected to get at most "
        f"{stats.expected_wrong(findings):.1f} wrong."
    )
    return lines


def as_csv(entries: Sequence[Entry]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([["" if value is None else value for value in _line(entry)] for entry in entries])
    return stream.getvalue()


def _markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in cells)} |"

    return [line(heads), "|---" * len(heads) + "|", *map(line, rows)]


def where(entries: Iterable[Entry]) -> str:
    """Scale and machines of the runs, in one sentence; exhibits that ran elsewhere are named in the CSV."""
    known = [entry for entry in entries if entry.machine]
    machines = sorted({machine for entry in known for machine in entry.machine.split("; ")})
    scales = sorted({entry.scale for entry in entries})
    return f"Scale {', '.join(scales)}; trained on {', '.join(machines) or 'nothing yet'}."


def as_markdown(entries: Sequence[Entry]) -> str:
    lines = ["# Verdicts", "", *headline(entries), where(entries), "", "## Claims", ""]
    lines += _markdown_table(
        ("exhibit", "claim", "verdict", "estimate [95 % interval]", "n", "test", "remarks"),
        (
            (
                entry.exhibit,
                f"**{entry.name}** {entry.statement} ({entry.source})",
                entry.verdict,
                entry.ours_text(),
                str(entry.finding.n),
                entry.test,
                entry.remark(),
            )
            for entry in of_kind(entries, "claim")
        ),
    )
    if beyond := [entry for entry in entries if entry.not_expected_at]:
        lines += ["", "## Not to be expected at this scale", ""]
        lines += [f"- **{entry.exhibit} {entry.name}** ({entry.verdict}): {entry.not_expected_at}" for entry in beyond]
    if estimates := of_kind(entries, "estimate"):
        lines += ["", "## Estimates, not judged", ""]
        lines += _markdown_table(
            ("exhibit", "what the paper reports", "estimate [95 % interval]", "n", "remarks"),
            (
                (
                    entry.exhibit,
                    f"**{entry.name}** {entry.statement} ({entry.source})",
                    entry.ours_text(),
                    str(entry.finding.n),
                    entry.remark(),
                )
                for entry in estimates
            ),
        )
    for kind, title in (("target", "Published numbers"), (CONTEXT, "Context, not judged")):
        if not (chosen := of_kind(entries, kind)):
            continue
        lines += ["", f"## {title}", ""]
        lines += _markdown_table(
            ("exhibit", "number", "verdict", "published", "unit", "ours [95 % interval]", "n", "margin", "remarks"),
            (
                (
                    entry.exhibit,
                    entry.name,
                    entry.verdict,
                    f"{entry.published_text()} ({entry.provenance})",
                    entry.unit,
                    entry.ours_text(),
                    str(entry.finding.n),
                    "" if entry.margin is None else f"{entry.margin:g}",
                    entry.remark(),
                )
                for entry in chosen
            ),
        )
    return "\n".join(lines) + "\n"


def write(entries: Sequence[Entry], stem: Path) -> None:
    """Writes ``stem.csv`` and ``stem.md``."""
    for suffix, text in (("csv", as_csv(entries)), ("md", as_markdown(entries))):
        checkpoint.write_text(stem.with_name(f"{stem.name}.{suffix}"), text)


def as_text(entries: Sequence[Entry]) -> str:
    """Claims one by one and numbers by exhibit, for a terminal."""
    lines = [
        f"{entry.verdict:15} {entry.exhibit:22} {entry.name:8} {entry.ours_text() or entry.finding.detail}"
        f"{' (not to be expected at this scale)' if entry.not_expected_at else ''}"
        for entry in entries
        if entry.kind in ("claim", "estimate")
    ]
    targets = of_kind(entries, "target")
    for name in dict.fromkeys(entry.exhibit for entry in targets):
        chosen = [entry for entry in targets if entry.exhibit == name]
        parts = ", ".join(f"{count} {verdict}" for verdict, count in counts(chosen).items() if count)
        lines.append(f"{'numbers':15} {name:22} {parts}")
    return "\n".join([*lines, *headline(entries)])
