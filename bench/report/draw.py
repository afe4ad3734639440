"""An exhibit's collected table to its figure or formatted table."""

from __future__ import annotations

from typing import Any

from bench import exhibit, published
from bench.exhibit import Exhibit
from bench.report import collect, figure, table
from bench.workflow.plan import Plan


def draw(plan: Plan, name: str) -> None:
    """Writes ``<name>.{csv,pdf,png}`` for a figure and ``<name>.{csv,tex,md}`` for a table.

    The CSV of a figure holds the numbers behind it; runs that are missing are marked as gaps. An exhibit that lacks so
    many runs that it cannot be drawn says so in its place.
    """
    chosen = exhibit.registry()[name]
    frame, facts = collect.read(plan, name)
    target = plan.layout.exhibits / name
    drawn = _drawn(plan, chosen, frame, facts)
    if chosen.kind == "figure":
        figure.save(drawn, target, missing=facts.missing)
        table.write_numbers(frame, target.with_suffix(".csv"))
    else:
        table.write(drawn, target, title=chosen.title, missing=facts.missing)


def _drawn(plan: Plan, chosen: Exhibit, frame: Any, facts: collect.Facts) -> Any:
    if frame.empty and facts.missing:
        return _gap(chosen, f"nothing to draw: all {len(facts.missing)} runs are missing")
    try:
        return chosen.draw(frame, published.of_exhibit(chosen), plan.settings[chosen.name])
    except Exception as error:
        if not facts.missing:
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        return _gap(chosen, f"cannot be drawn without the {len(facts.missing)} runs that are missing ({reason})")


def _gap(chosen: Exhibit, why: str) -> Any:
    """A figure or table that holds one sentence."""
    if chosen.kind == "table":
        import pandas as pd

        return pd.DataFrame({chosen.title: [why]})
    drawn, (axes,) = figure.panels(1, 1, height=1.4)
    axes.set_axis_off()
    axes.text(0.5, 0.5, why, ha="center", va="center", wrap=True, transform=axes.transAxes)
    drawn.suptitle(chosen.title)
    return drawn
