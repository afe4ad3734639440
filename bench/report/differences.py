"""What differs from the paper, in one sentence: ``<paper>/differences.yaml`` has a phrase for each setting that matters.

A phrase is text with ``{here}``, ``{paper}`` and ``{of}`` ("3 of 9" for a choice from the paper's values), or several by
what the setting contains, with ``else`` for the rest. Phrases stand in the sentence in the order of the file. Settings
without one are counted, and the report's appendix has them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import yaml

from bench import exhibit, words
from bench.exhibit import ExhibitSettings

Phrases = Mapping[str, "str | Mapping[str, str]"]


@lru_cache(maxsize=8)
def phrases(paper: str) -> Phrases:
    """Setting -> phrase; none where the paper has no such file."""
    path = exhibit.paper_file(paper, "differences.yaml")
    return {} if path is None else yaml.safe_load(path.read_text(encoding="utf-8"))


def sentence(paper: str, settings: ExhibitSettings) -> str:
    """``Here: generated images of 12 × 12 pixels, a ResNet of width 8 instead of 16, 5 seeds; 2 more settings differ.``"""
    departures = settings.departures()
    texts = phrases(paper)
    parts = [_filled(texts[name], *departures[name]) for name in texts if name in departures]
    others = [name for name in departures if name not in texts and name not in settings.selects]
    seeds = f"{settings.seeds} seed{'s' if settings.seeds > 1 else ''}"
    whole = ", ".join([*(parts or ([] if others else ["the paper's protocol"])), seeds])
    rest = f"; {len(others)} more setting{'s differ' if len(others) > 1 else ' differs'}" if others else ""
    return f"Here: {whole}{rest}."


def selection(paper: str, settings: ExhibitSettings) -> str:
    """``Drawn: 1 of 4 batch sizes, 2 of 3 learning rates.``, or "" where all that the paper shows is drawn."""
    departures = settings.departures()
    texts = {name: text for name, text in phrases(paper).items() if "{of}" in text and name in departures}
    parts = [_filled(text, *departures[name]) for name, text in texts.items()]
    return f"Drawn: {', '.join(parts)}." if parts else ""


def _filled(phrase: str | Mapping[str, str], paper: Any, here: Any) -> str:
    if isinstance(phrase, Mapping):
        text = words.setting(here)
        phrase = next((words for part, words in phrase.items() if part in text), phrase.get("else", ""))
    lengths = (len(value) if isinstance(value, list | tuple) else 0 for value in (here, paper))
    return phrase.format(here=_plain(here), paper=_plain(paper), of=" of ".join(map(str, lengths)))


def _plain(value: Any) -> str:
    """A setting in a sentence; of numbers by name their range."""
    if isinstance(value, Mapping) and value and all(isinstance(number, int | float) for number in value.values()):
        low, high = min(value.values()), max(value.values())
        return _plain(low) if low == high else f"{_plain(low)} to {_plain(high)}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return words.setting(value)
