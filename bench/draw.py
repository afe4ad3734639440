"""An exhibit's collected table to its figure or formatted table."""

from __future__ import annotations

from bench import collect, exhibit, published
from bench.plan import Plan
from bench.report import figure, table


def draw(plan: Plan, name: str) -> None:
    """Writes ``<name>.{csv,pdf,png}`` for a figure and ``<name>.{csv,tex,md}`` for a table.

    The CSV of a figure holds the numbers behind it; runs that are missing are marked as gaps.
    """
    chosen = exhibit.registry()[name]
    frame, facts = collect.read(plan, name)
    target = plan.layout.exhibits / name
    drawn = chosen.draw(frame, published.of_exhibit(chosen), plan.settings[name])
    if chosen.kind == "figure":
        figure.save(drawn, target, missing=facts.missing)
        table.write_numbers(frame, target.with_suffix(".csv"))
    else:
        table.write(drawn, target, title=chosen.title, missing=facts.missing)
