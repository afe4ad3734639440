"""Values that say nothing: of an arm that is at chance, or outside of their metric's range."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bench.exhibit import LABELS, Chance, Exhibit, range_of

if TYPE_CHECKING:
    import pandas as pd

TAIL = 0.005
"""On each side of the binomial band (99 %) within which a value is at chance."""


def doubts(frame: pd.DataFrame, exhibit: Exhibit, settings: Any) -> pd.Series[str]:
    """Why each row of a long frame says nothing, "" for those that do.

    Args:
        frame: of the exhibit.
        exhibit: with its ranges and its chance levels.
        settings: of the exhibit at this scale.
    """
    reasons = frame["metric"].astype(object).map(lambda _: "")
    for metric, rows in frame.groupby("metric", sort=False):
        low, high = exhibit.ranges.get(metric, range_of(metric))
        outside = rows.index[~rows["value"].between(low, high)]
        reasons.loc[outside] = f"{metric} outside of {low:g} to {high:g}"
    if exhibit.chance is None:
        return reasons
    names = [*LABELS, "metric"]
    for labels, rows in frame.groupby(names, sort=False, dropna=False):
        row = dict(zip(names, labels, strict=True))
        level = exhibit.chance(settings, row)
        if level is not None:
            alike = rows.index[[at_chance(value, level) for value in rows["value"]]]
            reasons.loc[alike] = f"{row['metric']} at chance ({level.percent:g} %): {_named(row)}"
    return reasons


def at_chance(percent: float, level: Chance) -> bool:
    """Whether a metric, in percent, lies within the binomial 99 % band of its chance level."""
    from scipy.special import bdtr

    count, share = round(percent * level.samples / 100), level.percent / 100
    if not 0 <= count <= level.samples:
        return False
    below = float(bdtr(count - 1, level.samples, share)) if count else 0.0
    return bool(float(bdtr(count, level.samples, share)) > TAIL and 1 - below > TAIL)


def _named(row: Mapping[str, Any]) -> str:
    return " ".join(str(row[label]) for label in ("panel", "dataset", "model", "method") if row[label])
