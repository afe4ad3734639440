"""The published numbers of each paper, as data (``bench/<paper>/published.csv``)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.exhibit import LABELS, Exhibit

if TYPE_CHECKING:
    import pandas as pd

OWN = ("printed", "digitised")
"""Provenances of the paper's own numbers; replications, axis ranges and derived values are context."""


@lru_cache(maxsize=8)
def of_paper(paper: str) -> pd.DataFrame:
    """All rows of a paper; text columns hold "" where nothing is said, `x` is a float or NaN where it is numeric.

    Columns: exhibit, the labels, metric, value, spread, spread_kind, n, unit, provenance, note.
    """
    import pandas as pd

    path = Path(__file__).parent / paper / "published.csv"
    if not path.exists():
        return pd.DataFrame(
            columns=["exhibit", *LABELS, "metric", "value", "spread", "n", "unit", "provenance", "note"]
        )
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    for column in ("value", "spread", "n", "x"):
        frame[column] = pd.to_numeric(frame[column], errors="coerce")
    return frame


def of_exhibit(exhibit: Exhibit) -> pd.DataFrame:
    """The published rows of one exhibit, context included."""
    frame = of_paper(exhibit.paper)
    return frame[frame["exhibit"] == exhibit.short].reset_index(drop=True)


def targets(exhibit: Exhibit) -> pd.DataFrame:
    """The rows that ours are held against: the paper's own numbers, in metrics that have a margin."""
    frame = of_exhibit(exhibit)
    return frame[_judged(exhibit, frame)].reset_index(drop=True)


def _judged(exhibit: Exhibit, frame: pd.DataFrame) -> pd.Series:
    return frame["provenance"].isin(OWN) & frame["metric"].isin(list(exhibit.margins)) & frame["value"].notna()


def context(exhibit: Exhibit) -> pd.DataFrame:
    """The exhibit's rows that are no targets: replications, axis ticks, derived values, metrics without a margin."""
    frame = of_exhibit(exhibit)
    return frame[~_judged(exhibit, frame)].reset_index(drop=True)


def further(paper: str) -> pd.DataFrame:
    """The rows of a paper that belong to no exhibit of the suite."""
    from bench.exhibit import registry

    frame = of_paper(paper)
    shown = {found.short for found in registry().values() if found.paper == paper}
    return frame[~frame["exhibit"].isin(shown)].reset_index(drop=True)


def name_of(row: Any) -> tuple[Any, ...]:
    """What identifies a number within an exhibit: its labels and metric, the same for published rows and ours."""
    import math

    def plain(value: Any) -> Any:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return ""
        return round(float(value), 9) if isinstance(value, int | float) else str(value)

    return (*(plain(row.get(label)) for label in LABELS), str(row["metric"]))
