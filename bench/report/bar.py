"""A finding as a picture: its interval as a bar against the region in which the claim says that it lies."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bench import stats
from bench.stats import Finding

PAD = 0.14
"""Room at either end, as a share of what is shown."""


@dataclass(frozen=True)
class Bar:
    """Positions from 0 to 1 along the picture.

    Attributes:
        verdict: of the finding.
        point: the estimate.
        low, high: ends of the interval, ``None`` where there is none.
        region: ends of the claimed region, ``None`` where nothing is claimed.
        thresholds: position and text of the region's ends.
        text: the same for those who do not see the picture.
    """

    verdict: str
    point: float
    low: float | None
    high: float | None
    region: tuple[float, float] | None
    thresholds: tuple[tuple[float, str], ...]
    text: str


def bar(finding: Finding) -> Bar | None:
    """The picture of a finding; of several tests together, that of the one which decides. ``None`` without an estimate."""
    if finding.estimate is None or not math.isfinite(finding.estimate):
        return None
    low, high = _finite(finding.low), _finite(finding.high)
    ends = _region(finding)
    values = [finding.estimate, *(end for end in (low, high, *ends) if end is not None)]
    span = max(values) - min(values) or abs(finding.estimate) or 1.0
    left, width = min(values) - PAD * span, (1 + 2 * PAD) * span

    def position(value: float) -> float:
        return round((value - left) / width, 4)

    claimed = any(end is not None for end in ends)
    starts, stops = (position(end) if end is not None else edge for end, edge in zip(ends, (0.0, 1.0), strict=True))
    return Bar(
        verdict=finding.verdict,
        point=position(finding.estimate),
        low=None if low is None else position(low),
        high=None if high is None else position(high),
        region=(starts, stops) if claimed else None,
        thresholds=tuple((position(end), f"{end:.3g}") for end in ends if end is not None),
        text=_text(finding, ends),
    )


def parts(finding: Finding) -> list[Finding]:
    """The single tests of a finding that has several, the weakest first."""
    leaves = stats.leaves(finding) if finding.parts else []
    return sorted(leaves, key=lambda leaf: math.inf if leaf.distance is None else leaf.distance)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _region(finding: Finding) -> tuple[float | None, float | None]:
    """Ends of the claimed region in the values' own unit; ``None`` where it is open."""
    same = [leaf for leaf in stats.leaves(finding) if (leaf.estimate, leaf.low) == (finding.estimate, finding.low)]
    hypothesis = next((leaf.hypothesis for leaf in same if leaf.hypothesis is not None), None)
    if hypothesis is None:
        return None, None
    ends = (hypothesis.scale.backward(end) if math.isfinite(end) else None for end in (hypothesis.low, hypothesis.high))
    low, high = ends
    return low, high


def _text(finding: Finding, ends: tuple[float | None, float | None]) -> str:
    assert finding.estimate is not None
    low, high = ends
    claimed = {
        (False, False): "",
        (True, False): f", claimed above {low or 0:.3g}",
        (False, True): f", claimed below {high or 0:.3g}",
        (True, True): f", claimed between {low or 0:.3g} and {high or 0:.3g}",
    }[low is not None, high is not None]
    return f"{stats.shown(finding.estimate, finding.low, finding.high)}{claimed}"
