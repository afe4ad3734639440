"""Tables as CSV, Markdown and LaTeX (booktabs), and the cells that set a published number beside ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import checkpoint, stats

if TYPE_CHECKING:
    import pandas as pd

NOTHING = "–"


def _chosen(frame: pd.DataFrame, metric: str, labels: dict[str, Any]) -> pd.DataFrame:
    chosen = frame[frame["metric"] == metric]
    for name, value in labels.items():
        chosen = chosen[chosen[name] == value]
    return chosen


def number(values: dict[int, float], digits: int = 1) -> str:
    """``51.7 ± 0.9``: mean and standard deviation over seeds, as the papers print them; the mean alone for one seed."""
    if not values:
        return NOTHING
    mean, spread = stats.interval(values)[0], stats.sd(values)
    return f"{mean:.{digits}f}" if spread is None else f"{mean:.{digits}f} ± {spread:.{digits}f}"


def compare(
    frame: pd.DataFrame,
    published: pd.DataFrame,
    *,
    metric: str,
    digits: int = 1,
    printed: int | None = None,
    **labels: Any,
) -> str:
    """``51.9 ± 0.8 [51.7]``: ours, and the published number in brackets; "–" for what was not run.

    Args:
        frame: long frame of the exhibit.
        published: rows of the paper's own numbers.
        metric: which number.
        digits: after the point.
        printed: digits of the published number, where it has others.
        labels: label columns that pick the cell.
    """
    ours = _chosen(frame, metric, labels)
    text = number(dict(zip(ours["seed"], ours["value"], strict=False)), digits)
    theirs = _chosen(published, metric, labels)["value"].dropna()
    return f"{text} [{theirs.iloc[0]:.{digits if printed is None else printed}f}]" if len(theirs) else text


def as_latex(cells: pd.DataFrame, *, title: str) -> str:
    """A booktabs table; text is escaped, ± and – become commands."""
    escaped = cells.copy()
    escaped.columns = [str(name) for name in escaped.columns]
    style = escaped.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1)
    first = "l" if len(escaped.columns) else ""
    text = style.to_latex(
        hrules=True, column_format=first * min(2, len(cells.columns)) + "r" * max(0, len(cells.columns) - 2)
    )
    for sign, command in {
        "±": r"$\pm$",
        "–": "--",
        "λ": r"$\lambda$",
        "ε": r"$\epsilon$",
        "−": "$-$",
        "≤": r"$\le$",
    }.items():
        text = text.replace(sign, command)
    comment = " ".join(title.split())
    return f"% {comment}\n{text}"


def write(cells: pd.DataFrame, stem: Path, *, title: str, missing: Sequence[str] = ()) -> None:
    """Writes ``stem.csv``, ``stem.md`` and ``stem.tex`` from a frame of text cells; missing runs are named below."""
    note = f"{len(missing)} runs missing: {'; '.join(missing[:3])}{' …' if len(missing) > 3 else ''}" if missing else ""
    markdown = f"**{title}**\n\n{cells.to_markdown(index=False, disable_numparse=True)}\n" + (
        f"\n{note}\n" if note else ""
    )
    latex = as_latex(cells, title=title) + (f"% {note}\n" if note else "")
    for suffix, text in (("csv", cells.to_csv(index=False)), ("md", markdown), ("tex", latex)):
        checkpoint.write_text(stem.with_name(f"{stem.name}.{suffix}"), text)


def write_numbers(frame: pd.DataFrame, path: Path) -> None:
    """The numbers behind a figure, one row each; columns that are empty throughout are left out."""
    filled = [name for name in frame.columns if frame[name].astype(str).replace({"nan": "", "None": ""}).ne("").any()]
    checkpoint.write_text(path, frame[filled].to_csv(index=False, float_format="%.8g"))


def plain(text: str) -> str:
    """Whitespace runs as one blank."""
    return re.sub(r"\s+", " ", text).strip()
