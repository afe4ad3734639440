"""Verdict tables as HTML: they read without scripts, and carry what a script filters and sorts by."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench import checkpoint, stats
from bench.report import verdicts
from bench.report.verdicts import CONTEXT, Entry

STYLE = Path(__file__).with_name("page.css")

ORDER = {verdict: place for place, verdict in enumerate((*stats.VERDICTS, CONTEXT))}


def badge(verdict: str) -> str:
    """A verdict as a coloured word."""
    colour = verdicts.COLOURS.get(verdict)
    text = html.escape(verdict)
    return f'<span class="badge" style="background:{colour}">{text}</span>' if colour else text


def anchor(exhibit: str) -> str:
    """Identifier of an exhibit's card."""
    return html.escape(exhibit.replace("/", "-"))


def _cell(head: str, inner: str, key: object = None, kind: str = "") -> str:
    sort = "" if key is None else f' data-key="{html.escape(str(key))}"'
    look = f' class="{kind}"' if kind else ""
    return f'<td data-head="{html.escape(head)}"{look}{sort}>{inner}</td>'


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.10g}"


def _more(entry: Entry) -> str:
    """What is behind an entry, folded."""
    facts = {
        "found": entry.finding.detail,
        "tested": entry.test if entry.kind == "target" else "",
        "published in": entry.source,
        "reference": f"{entry.reference} {entry.reference_text}".strip(),
        "scale": f"{entry.scale}{f', {entry.machine}' if entry.machine else ''}" if entry.ran() else "",
        "code": "some records are of older code" if entry.older else "",
        "note": entry.note,
        "would take": entry.cost,
    }
    lines = [f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in facts.items() if text]
    note = f'<span class="note">{html.escape(entry.beyond_text())}</span>' if entry.not_expected_at else ""
    return f"{note}<details><summary>more</summary><dl>{''.join(lines)}</dl></details>" if lines else note


def _where(entry: Entry, *, linked: bool) -> str:
    name = html.escape(entry.exhibit)
    return f'<a href="#{anchor(entry.exhibit)}">{name}</a>' if linked else name


def _claim(entry: Entry, linked: bool) -> str:
    return "".join(
        (
            _cell("exhibit", _where(entry, linked=linked), entry.exhibit),
            _cell("claim", f"<b>{html.escape(entry.name)}</b> {html.escape(entry.statement)}", entry.name),
            _cell("verdict", badge(entry.verdict), ORDER[entry.verdict]),
            _cell("estimate", html.escape(entry.ours_text()), _number(entry.finding.estimate), "number"),
            _cell("n", str(entry.finding.n or ""), kind="number"),
            _cell("test", html.escape(entry.test)),
            _cell("remarks", _more(entry)),
        )
    )


def _value(entry: Entry, linked: bool) -> str:
    margin = "" if entry.margin is None else f"{entry.margin:g}"
    return "".join(
        (
            _cell("exhibit", _where(entry, linked=linked), entry.exhibit),
            _cell("number", html.escape(entry.name)),
            _cell("verdict", badge(entry.verdict), ORDER[entry.verdict]),
            _cell(
                "published",
                f'{entry.published_text()} <span class="note">{html.escape(entry.provenance)}</span>',
                _number(entry.published),
                "number",
            ),
            _cell("ours", html.escape(entry.ours_text()), _number(entry.finding.estimate), "number"),
            _cell("n", str(entry.finding.n or ""), kind="number"),
            _cell("margin", margin, kind="number"),
            _cell("unit", html.escape(entry.unit)),
            _cell("remarks", _more(entry)),
        )
    )


CLAIM_HEADS = ("exhibit", "claim", "verdict", "estimate [95 % interval]", "n", "test", "remarks")
NUMBER_HEADS = ("exhibit", "number", "verdict", "published", "ours [95 % interval]", "n", "margin", "unit", "remarks")


def table(entries: Iterable[Entry], kind: str, *, linked: bool = False) -> str:
    """The entries of one kind as a table; ``linked`` where the exhibits' cards are on the same page."""
    heads = CLAIM_HEADS if kind == "claim" else NUMBER_HEADS
    row = _claim if kind == "claim" else _value
    lines = [
        f'<tr data-verdict="{html.escape(entry.verdict)}" data-paper="{html.escape(entry.paper)}">'
        f"{row(entry, linked)}</tr>"
        for entry in verdicts.of_kind(entries, kind)
    ]
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in heads)
    return (
        f'<div class="wide"><table class="verdicts" id="table-{kind}"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{chr(10).join(lines)}</tbody></table></div>"
    )


def beyond(entries: Sequence[Entry], *, linked: bool = False) -> str:
    """The claims that this scale cannot be expected to show, with the reasons; empty where there are none."""
    chosen = [entry for entry in entries if entry.not_expected_at]
    if not chosen:
        return ""
    lines = "".join(
        f"<li>{_where(entry, linked=linked)} <b>{html.escape(entry.name)}</b> {html.escape(entry.statement)} "
        f'{badge(entry.verdict)}<br><span class="note">{html.escape(entry.not_expected_at)}</span></li>'
        for entry in chosen
    )
    return (
        '<h2 id="beyond">Not to be expected at this scale</h2>'
        f"<p>These claims were tested like all others; the verdict stands, with the reason beside it.</p><ul>{lines}</ul>"
    )


def claims(entries: Sequence[Entry], *, linked: bool = False) -> str:
    """The claims, and those that this scale cannot show."""
    return f'<h2 id="claims">Claims</h2>{table(entries, "claim", linked=linked)}\n{beyond(entries, linked=linked)}'


def numbers(entries: Sequence[Entry], *, linked: bool = False) -> str:
    """Published numbers, and context in a folded section."""
    parts = ['<h2 id="targets">Published numbers</h2>', table(entries, "target", linked=linked)]
    if context := verdicts.of_kind(entries, CONTEXT):
        parts.append(
            f'<h2 id="context">Context</h2><details><summary>{len(context)} published values that are shown and not '
            "judged: replications, follow-ups, axis ticks, set-up values, quantities of other hardware</summary>"
            f"{table(entries, CONTEXT)}</details>"
        )
    return "\n".join(parts)


def summary(entries: Sequence[Entry]) -> str:
    """Verdicts counted by paper, claims and numbers apart."""
    rows = []
    for paper in dict.fromkeys(entry.paper for entry in verdicts.judged(entries)):
        for kind, name in (("claim", "claims"), ("target", "published numbers")):
            chosen = [entry for entry in verdicts.of_kind(entries, kind) if entry.paper == paper]
            cells = "".join(f'<td class="number">{count or ""}</td>' for count in verdicts.counts(chosen).values())
            rows.append(f'<tr><th scope="row">{html.escape(paper)}, {name}</th>{cells}</tr>')
    heads = "".join(f'<th scope="col">{badge(verdict)}</th>' for verdict in stats.VERDICTS)
    return (
        f'<div class="wide"><table class="summary"><thead><tr><td></td>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def document(title: str, body: str) -> str:
    """A whole page with the style inside."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE.read_text()}</style></head>\n<body>{body}</body></html>\n"
    )


def write(entries: Sequence[Entry], path: Path) -> None:
    """The verdict page alone, without pictures and scripts."""
    sentences = "".join(
        f"<p>{html.escape(line)}</p>" for line in (*verdicts.headline(entries), verdicts.where(entries))
    )
    body = f"<h1>Verdicts</h1>{sentences}{summary(entries)}{claims(entries)}{numbers(entries)}"
    checkpoint.write_text(path, document("Verdicts", body))
