"""An exhibit's collected table to its figure or formatted table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench import checkpoint, exhibit, published
from bench.errors import UserError
from bench.exhibit import Exhibit
from bench.report import collect, figure, table
from bench.workflow.plan import Plan

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("pdf", "png", "pgf", "svg")


def draw(plan: Plan, name: str) -> None:
    """Writes ``<name>.{csv,pdf,png}`` for a figure and ``<name>.{csv,md,tex,json}`` for a table.

    The CSV holds the numbers behind it, with their units; runs that are missing are marked as gaps. An exhibit that
    lacks so many runs that it cannot be drawn says so in its place.
    """
    definition = exhibit.registry()[name]
    frame, facts = collect.read(plan, name)
    stem = plan.layout.exhibits / name
    result = _result(plan, definition, frame, facts)
    table.write_numbers(_with_units(frame, definition), stem.with_suffix(".csv"))
    if definition.kind == "figure":
        figure.save(result, stem, missing=facts.missing)
    else:
        table.write(result, stem, title=definition.title, missing=facts.missing)


def export(
    plan: Plan,
    name: str,
    into: Path,
    *,
    format: Literal["pdf", "png", "pgf", "svg"] = "pdf",
    width: float | None = None,
    style: str | Path | None = None,
) -> list[Path]:
    """Writes an exhibit for a paper of one's own; returns the files.

    A figure becomes ``<paper>-<name>.<format>``, or with `width` a file for each of its panels, ``<paper>-<name>-a.…``,
    with that panel's legend and without the figure's title. A CSV beside each has what is drawn, with units. A table
    becomes ``<paper>-<name>.tex`` with the numbers as CSV; `format`, `width` and `style` are not for it.

    Args:
        plan: with collected results.
        name: ``<paper>/<name>``.
        into: folder.
        format: of figures.
        width: inches of a single panel.
        style: matplotlib style, a file or a name, that goes over the suite's own.

    Raises:
        UserError: a style that cannot be read, a width below an inch, or PGF without LaTeX.
    """
    if width is not None and not 1 <= width <= 40:
        raise UserError(f"width {width:g}: expected 1 to 40 inches")
    definition = exhibit.registry()[name]
    frame, facts = collect.read(plan, name)
    stem = into / name.replace("/", "-")
    if definition.kind == "table":
        result = _result(plan, definition, frame, facts)
        files = table.write(result, stem, title=definition.title, missing=facts.missing, suffixes=("tex",))
        table.write_numbers(_with_units(frame, definition), stem.with_suffix(".csv"))
        return [*files, stem.with_suffix(".csv")]
    with figure.styled(style):
        fig = _result(plan, definition, frame, facts)
        numbers = figure.numbers_of(fig)
        letters = figure.LETTERS[: len(figure.panels_of(fig))]
        if width is None or not letters:
            figure.save(fig, stem, missing=facts.missing, formats=(format,))
            return [stem.with_suffix(f".{format}"), _write(numbers, stem)]
        files = []
        for number, letter in enumerate(letters):
            # Leaving one panel takes the others away, so each is drawn anew.
            fig = _result(plan, definition, frame, facts)
            figure.keep_one(fig, number, width)
            panel = stem.with_name(f"{stem.name}-{letter}")
            figure.save(fig, panel, missing=facts.missing, formats=(format,))
            files += [panel.with_suffix(f".{format}"), _write(numbers[numbers["panel"] == letter], panel)]
    return files


def _write(numbers: pd.DataFrame, stem: Path) -> Path:
    path = stem.with_suffix(".csv")
    checkpoint.write_text(path, numbers.dropna(axis=1, how="all").to_csv(index=False, float_format="%.8g"))
    return path


def _with_units(frame: pd.DataFrame, definition: Exhibit) -> pd.DataFrame:
    """The numbers with the unit that the paper has for the same metric, "" where it has none."""
    rows = published.of_paper(definition.paper)
    units = dict(zip(rows["metric"], rows["unit"], strict=True))
    column = list(frame.columns).index("value") + 1
    whole = frame.copy()
    whole.insert(column, "unit", [units.get(metric, "") for metric in frame["metric"]])
    return whole


def published_rows(plan: Plan, definition: Exhibit, facts: collect.Facts) -> pd.DataFrame:
    """The exhibit's published rows, with the margins of those that ours can be compared with."""
    rows = published.of_exhibit(definition)
    comparable = plan.settings[definition.name].at_protocol() and not facts.missing
    targets = rows["provenance"].isin(published.OWN) if comparable else [False] * len(rows)
    return rows.assign(margin=rows["metric"].map(definition.margins).where(targets))


def _result(plan: Plan, definition: Exhibit, frame: pd.DataFrame, facts: collect.Facts) -> Any:
    if frame.empty and facts.missing:
        return _gap(definition, f"nothing to draw: all {len(facts.missing)} runs are missing")
    try:
        return definition.draw(frame, published_rows(plan, definition, facts), plan.settings[definition.name])
    except Exception as error:
        if not facts.missing:
            raise
        reason = figure.plain(error)
        return _gap(definition, f"cannot be drawn without the {len(facts.missing)} runs that are missing ({reason})")


def _gap(definition: Exhibit, why: str) -> Any:
    """A figure or table that holds one sentence."""
    if definition.kind == "table":
        import pandas as pd

        return pd.DataFrame({definition.title: [why]})
    fig, (ax,) = figure.panels(1, 1, height=1.4)
    ax.set_axis_off()
    ax.text(0.5, 0.5, why, ha="center", va="center", wrap=True, transform=ax.transAxes)
    fig.suptitle(definition.title)
    return fig
