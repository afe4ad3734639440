"""Figure 5: Pile loss when a model that was trained on the Pile is re-warmed on the Pile.

Pythia-410M goes on with the Pile itself, at a constant 3e-5 or re-warmed over 1 % of the schedule to 1.5e-4, 3e-4 and
6e-4; 50 B tokens, at which the rate is still 94 % of its maximum.

Command: ``make reproduce SCALE=paper EXHIBITS=rewarm/fig5``
Expected: re-warming raises the loss without any shift of data, the more the higher the rate, and 50 B tokens do not bring
it back. The follow-up has peaks of 0.1 (3e-4) and 0.2 (6e-4), against 0.35 and 0.45 with the shift.
Cost: four runs of 50 B tokens, which Figure 6 uses too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit, Row, by_seed
from bench.record import Record
from bench.rewarm.design import (
    PILE,
    REWARMED,
    SAME_DATA,
    SHORT,
    RewarmSettings,
    curve_rows,
    curves_of,
    level,
    members_of,
    minus,
    peak,
    scalar_rows,
    stand_ins,
    start,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

RATES = tuple(SAME_DATA.values())[1:]
"""The re-warmed runs, lowest rate first."""


def members(settings: RewarmSettings) -> list[ArmRun]:
    return members_of(settings, SAME_DATA)


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    curves = curves_of(record)
    yield from curve_rows(member, curves, {PILE: ""})
    scalars = {"start": start, "peak_until_short": peak(0, SHORT), "loss_at_short": level(SHORT)}
    yield from scalar_rows(member, curves, scalars, (PILE,))


def _rise(frame: Any, method: str, metric: str = "peak_until_short") -> dict[int, float]:
    after, before = (by_seed(frame, name, method=method, dataset=PILE) for name in (metric, "start"))
    return minus(after, before)


def rewarming_alone_hurts(frames: dict[str, Any]) -> stats.Finding:
    """C9: the loss rises, more at higher rates, is not back at 0.168 D, and rises less than with a shift of data."""
    same, shifted = frames["rewarm/fig5"], frames["rewarm/fig3"]
    peaks = {method: _rise(same, method) for method in RATES}
    parts = [stats.above(peaks[method], 0.0, name=f"peak rise at {method}") for method in RATES]
    parts += [
        stats.greater(peaks[higher], peaks[lower], name=f"peak rise, {higher} - {lower}")
        for lower, higher in itertools.pairwise(RATES)
    ]
    parts += [
        stats.above(_rise(same, method, "loss_at_short"), 0.0, name=f"rise left at 0.168 D, {method}")
        for method in RATES
    ]
    parts += [
        stats.greater(_rise(shifted, other), peaks[method], name=f"peak rise with the shift over without, {method}")
        for method, other in zip(RATES, REWARMED, strict=True)
    ]
    return stats.all_of(parts)


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: RewarmSettings) -> Figure:
    from bench.report import figure
    from bench.rewarm import pictures

    drawn, (place,) = figure.panels(1, 1, height=3.6)
    pictures.losses(place, frame, settings, PILE, list(SAME_DATA.values()))
    place.set_ylabel("Pile val. loss (downstream & upstream)")
    figure.legend(place, published=False)
    drawn.suptitle(stand_ins(settings))
    return drawn


EXHIBIT = Exhibit(
    name="rewarm/fig5",
    title="Figure 5: Pile loss by tokens when re-warming on the Pile itself",
    caption=(
        "Validation loss on the Pile of a model that was trained on it and goes on with it, re-warmed or not; the grey "
        "line ends the warm-up. Bands are 95 % intervals over seeds."
    ),
    kind="figure",
    settings=RewarmSettings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(
        Claim(
            "C9",
            "Re-warming raises the loss without any shift of data, the more the higher the rate, not undone by 50 B "
            "tokens; the rise is smaller than with the shift.",
            "Figure 5, Takeaway 3",
            rewarming_alone_hurts,
            also=("rewarm/fig3",),
        ),
    ),
)
