"""Cells that several tables share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from bench import stats
from bench.report.table import NOTHING, number
from bench.warmstart.design import RI, WS
from bench.warmstart.exhibits._rows import values_of, where

if TYPE_CHECKING:
    import pandas as pd


def printed(published: Any) -> Any:
    """The numbers that the paper prints."""
    return where(published, provenance="printed")


def compare_starts(frame: Any, **labels: Any) -> dict[str, str]:
    """Cells of a row: accuracy of RI and WS, the gap with its interval, and the cost of RI over that of WS."""
    fresh, warm = (values_of(frame, "val_acc", method=method, **labels) for method in (RI, WS))
    fresh_cost, warm_cost = (values_of(frame, "samples_to_stop", method=method, **labels) for method in (RI, WS))
    gap = NOTHING
    if differences := fresh - warm:
        mean, low, high = stats.interval(differences)
        gap = f"{mean:.1f}" if low is None or high is None else f"{mean:.1f} [{low:.1f}, {high:.1f}]"
    return {
        "random init": number(fresh),
        "warm start": number(warm),
        "gap [95 % interval]": gap,
        "samples RI / WS": number(fresh_cost / warm_cost),
    }


def table(rows: Iterable[Mapping[Any, str]], *heads: str) -> pd.DataFrame:
    """Rows of text cells as a frame.

    Args:
        rows: column -> text; a column may be a pair, whose first part stands over all that share it.
        heads: columns that name the rows, from the left; equal neighbours are joined.
    """
    import pandas as pd

    frame = pd.DataFrame(list(rows)).set_index(list(heads))
    if any(isinstance(column, tuple) for column in frame.columns):
        frame.columns = pd.MultiIndex.from_tuples(list(frame.columns))
    return frame
