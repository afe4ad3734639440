"""One self-contained page with all exhibits and verdicts: filtered and sorted where scripts run, readable without."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from bench import checkpoint, stats
from bench.report import bar, shown, table, verdicts
from bench.report.shown import Shown
from bench.report.verdicts import CONTEXT, Entry

if TYPE_CHECKING:
    from jinja2 import Environment

LARGER = 1.25
"""Letters of the pictures are smaller than the page's."""
THUMBNAIL = 1100
"""Width of the embedded pictures in pixels: sharp at nearly twice the width of a card's column."""

SIGNS = {"reproduced": "✓", "mixed": "◐", "not reproduced": "✗", "open": "?", "shown": "·", "not run": "–"}
"""State of an exhibit -> sign, so that colour is not all that tells it."""


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


def inches(path: Path) -> float:
    """Width at which letters of the picture are as large as those beside it."""
    from PIL import Image

    with Image.open(path) as picture:
        return round(picture.width / picture.info.get("dpi", (200, 200))[0] * LARGER, 2)


def anchor(exhibit: str) -> str:
    """Identifier of an exhibit's card."""
    return exhibit.replace("/", "-")


def counted(entries: Sequence[Entry]) -> str:
    """``3 reproduced, 1 not run``."""
    return ", ".join(f"{count} {verdict}" for verdict, count in verdicts.counts(entries).items() if count)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(table.TEMPLATES, encoding="utf-8"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {
        "anchor": anchor,
        "bar": bar.bar,
        "parts": bar.parts,
        "counted": counted,
        "of_kind": verdicts.of_kind,
        "inches": lambda item: inches(item.files.with_suffix(".png")),
        "tables": lambda item: table.read(item.files),
        "thumbnail": lambda item: base64.b64encode(thumbnail(item.files.with_suffix(".png"))).decode(),
    }
    return environment


def write(path: Path, entries: Sequence[Entry], items: Sequence[Shown], *, scale: str, about: str = "") -> None:
    """Writes the page; pictures are inside, links go to the exhibits' files beside it.

    Args:
        path: of the page.
        entries: all entries.
        items: the exhibits.
        scale: name of the scale.
        about: what the scale is.
    """
    by_exhibit: dict[str, list[Entry]] = {item.name: [] for item in items}
    further = [entry for entry in entries if entry.exhibit not in by_exhibit]
    for entry in entries:
        by_exhibit.get(entry.exhibit, []).append(entry)
    papers: dict[str, list[Shown]] = {}
    for item in items:
        papers.setdefault(item.paper, []).append(item)
    page = _environment().get_template("page.html")
    text = page.render(
        scale=scale,
        about=about,
        headline=verdicts.headline(entries),
        where=verdicts.where(entries),
        papers=papers,
        by_exhibit=by_exhibit,
        states={item.name: shown.state(item, by_exhibit[item.name]) for item in items},
        meanings=shown.STATES,
        signs=SIGNS,
        verdicts=stats.VERDICTS,
        not_expected=[entry for entry in entries if entry.not_expected_at],
        further=[entry for entry in further if entry.kind == CONTEXT],
    )
    checkpoint.write_text(path, text)
