"""One self-contained page with all verdicts and exhibits: sortable and filterable where scripts run, readable without."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from bench import checkpoint, stats
from bench.report import html_tables, verdicts
from bench.report.html_tables import badge
from bench.report.pdf import Shown
from bench.report.verdicts import Entry

SCRIPT = Path(__file__).with_name("page.js")

THUMBNAIL = 900
"""Width of the embedded pictures in pixels: sharp at twice the width of a card."""


def thumbnail(path: Path) -> bytes:
    """The picture as a small PNG with a palette; equal pictures give equal bytes."""
    from PIL import Image

    with Image.open(path) as picture:
        small = picture.convert("RGB")
    if small.width > THUMBNAIL:
        small = small.resize((THUMBNAIL, round(small.height * THUMBNAIL / small.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.quantize(128, dither=Image.Dither.NONE).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _picture(item: Shown) -> str:
    path = item.files.with_suffix(".png")
    if not path.exists():
        return "<p><b>Not drawn.</b></p>"
    data = base64.b64encode(thumbnail(path)).decode()
    name = html.escape(item.name)
    return f'<a href="exhibits/{name}.png"><img alt="{html.escape(item.title)}" src="data:image/png;base64,{data}"></a>'


def _table(item: Shown) -> str:
    import pandas as pd

    path = item.files.with_suffix(".csv")
    if not path.exists():
        return "<p><b>Not drawn.</b></p>"
    cells = pd.read_csv(path, dtype=str, keep_default_na=False).to_html(index=False, border=0)
    return f'<div class="wide">{cells}</div>'


def _missing(item: Shown) -> str:
    if not item.missing:
        return ""
    lines = "".join(f"<li>{html.escape(label)}</li>" for label in item.missing[:50])
    more = f"<li>and {len(item.missing) - 50} more</li>" if len(item.missing) > 50 else ""
    return (
        f"<details class='missing'><summary><b>{len(item.missing)} of {item.runs} runs missing</b></summary>"
        f"<ul>{lines}{more}</ul></details>"
    )


def _card(item: Shown, entries: Sequence[Entry], scale: str) -> str:
    own = [entry for entry in verdicts.judged(entries) if entry.exhibit == item.name]
    claims = " ".join(f"{html.escape(entry.name)} {badge(entry.verdict)}" for entry in verdicts.of_kind(own, "claim"))
    numbers = ", ".join(
        f"{count} {verdict}" for verdict, count in verdicts.counts(verdicts.of_kind(own, "target")).items() if count
    )
    changes = "".join(
        f"<li><code>{html.escape(name)}</code>: {html.escape(change)}</li>" for name, change in item.departures.items()
    )
    departs = f"<details><summary>departs from the paper</summary><ul>{changes}</ul></details>" if changes else ""
    links = " ".join(
        f'<a href="exhibits/{html.escape(item.name)}.{suffix}">{suffix}</a>'
        for suffix in (("csv", "pdf", "png") if item.kind == "figure" else ("csv", "tex", "md"))
    )
    lines = [
        f"<h3>{html.escape(item.title)}</h3>",
        _picture(item) if item.kind == "figure" else _table(item),
        _missing(item),
        f"<p>{html.escape(item.caption)}</p>",
        f"<p>{claims}</p>" if claims else "",
        f"<p>Published numbers: {numbers}.</p>" if numbers else "",
        departs,
        f"<p>{item.runs} runs, {item.seconds / 60:,.1f} minutes of training. "
        f"<code>make reproduce SCALE={html.escape(scale)} EXHIBITS={html.escape(item.name)}</code>"
        f"{f' runs <code>{html.escape(item.code)}</code>' if item.code else ''}</p>",
        f"<p>{links}</p>",
    ]
    return (
        f'<article class="card{" broad" if item.kind == "table" else ""}" data-paper="{html.escape(item.paper)}" '
        f'id="{html_tables.anchor(item.name)}">{"".join(lines)}</article>'
    )


def _controls(papers: Sequence[str]) -> str:
    kinds = "".join(f"<option>{verdict}</option>" for verdict in stats.VERDICTS)
    choices = "".join(f"<option>{html.escape(name)}</option>" for name in papers)
    return (
        '<div id="controls" hidden>'
        f'<label>verdict <select id="verdict"><option value="">all</option>{kinds}</select></label>'
        f'<label>paper <select id="paper"><option value="">all</option>{choices}</select></label>'
        '<label>search <input id="words" type="search"></label><output id="shown"></output></div>'
    )


def write(path: Path, entries: Sequence[Entry], shown: Sequence[Shown], *, scale: str) -> None:
    """Writes the page; pictures are inside, links go to the exhibits' files beside it."""
    sentences = "".join(
        f"<p>{html.escape(line)}</p>" for line in (*verdicts.headline(entries), verdicts.where(entries))
    )
    cards = "\n".join(_card(item, entries, scale) for item in shown)
    beyond = ' · <a href="#beyond">not to be expected</a>' if any(entry.not_expected_at for entry in entries) else ""
    body = (
        f"<h1>Warm-up benchmarks, scale {html.escape(scale)}</h1>{sentences}{html_tables.summary(entries)}"
        f'<p><a href="#claims">claims</a>{beyond} · <a href="#exhibits">exhibits</a> · '
        '<a href="#targets">published numbers</a> · <a href="#context">context</a> · '
        '<a href="paper.pdf">report</a> · <a href="verdicts.csv">as CSV</a></p>'
        f"{_controls(list(dict.fromkeys(item.paper for item in shown)))}"
        f"{html_tables.claims(entries, linked=True)}"
        f'<h2 id="exhibits">Exhibits</h2><div class="cards">{cards}</div>'
        f"{html_tables.numbers(entries, linked=True)}"
        f"<script>{SCRIPT.read_text()}</script>"
    )
    checkpoint.write_text(path, html_tables.document(f"Warm-up benchmarks, scale {scale}", body))
