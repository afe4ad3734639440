"""One self-contained page with all verdicts and exhibits: sortable and filterable where scripts run, readable without."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

from bench import checkpoint
from bench.report import verdicts
from bench.report.document import Shown
from bench.report.verdicts import Entry

SCRIPT = Path(__file__).with_name("page.js")


def _picture(item: Shown) -> str:
    path = item.files.with_suffix(".png")
    if not path.exists():
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img loading="lazy" alt="{html.escape(item.title)}" src="data:image/png;base64,{data}">'


def _table(item: Shown) -> str:
    import pandas as pd

    path = item.files.with_suffix(".csv")
    if not path.exists():
        return ""
    return pd.read_csv(path, dtype=str, keep_default_na=False).to_html(index=False, border=0)


def _card(item: Shown) -> str:
    body = _picture(item) if item.kind == "figure" else _table(item)
    missing = f"<p><b>{len(item.missing)} of {item.runs} runs missing.</b></p>" if item.missing else ""
    changes = "; ".join(html.escape(f"{name}: {change}") for name, change in item.departures.items())
    departs = f"<details><summary>departs from the paper</summary><p>{changes}</p></details>" if changes else ""
    links = " ".join(
        f'<a href="exhibits/{html.escape(item.name)}.{suffix}">{suffix}</a>'
        for suffix in (("csv", "pdf", "png") if item.kind == "figure" else ("csv", "tex", "md"))
    )
    return (
        f'<article class="card" data-paper="{html.escape(item.paper)}" id="{html.escape(item.name.replace("/", "-"))}">'
        f"<h3>{html.escape(item.title)}</h3>{body}{missing}<p>{html.escape(item.caption)}</p>{departs}<p>{links}</p></article>"
    )


def write(path: Path, entries: Sequence[Entry], shown: Sequence[Shown], *, scale: str) -> None:
    """Writes the page; pictures are inside, links go to the exhibits' files beside it."""
    papers = "".join(f"<option>{html.escape(name)}</option>" for name in dict.fromkeys(item.paper for item in shown))
    kinds = "".join(f"<option>{verdict}</option>" for verdict in verdicts.COLOURS)
    sentences = "".join(f"<p>{html.escape(line)}</p>" for line in verdicts.headline(entries))
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Warm-up benchmarks, scale {html.escape(scale)}</title><style>{verdicts.STYLE.read_text()}</style></head>"
        "<body>"
        f"<h1>Warm-up benchmarks, scale {html.escape(scale)}</h1>{sentences}"
        '<p><a href="#claims">claims</a> · <a href="#targets">published numbers</a> · '
        '<a href="#exhibits">exhibits</a></p>'
        '<div id="controls" hidden>'
        f'<label>verdict <select id="verdict"><option value="">all</option>{kinds}</select></label>'
        f'<label>paper <select id="paper"><option value="">all</option>{papers}</select></label>'
        '<label>search <input id="words" type="search"></label><output id="shown"></output></div>'
        f"{verdicts.html_tables(entries)}"
        f'<h2 id="exhibits">Exhibits</h2><div class="cards">{"".join(_card(item) for item in shown)}</div>'
        f"<script>{SCRIPT.read_text()}</script></body></html>\n"
    )
    checkpoint.write_text(path, text)
