"""Figure 5: Pile loss by tokens when re-warming on the Pile itself.

Pythia-410M goes on with the Pile, at a constant 3e-5 or re-warmed over 1 % of the schedule to 1.5e-4, 3e-4 and 6e-4;
50 B tokens, at which the rate is still 94 % of its maximum.

Expected: re-warming raises the loss without any shift of data, the more the higher the rate, and 50 B tokens do not bring
it back. The follow-up has peaks of 0.1 (3e-4) and 0.2 (6e-4), against 0.35 and 0.45 with the shift.
Cost: four runs of 50 B tokens, which Figure 6 uses too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bench import stats
from bench.exhibit import ArmRun, Row, claim
from bench.record import Record
from bench.rewarm.design import PILE, REWARMED, SAME_DATA, SHORT, RewarmSettings, arms_of
from bench.rewarm.exhibits._figures import loss_panels
from bench.rewarm.exhibits._rows import curve_rows, curves_of, difference, level, peak, scalar_rows, start
from bench.stats import Finding, Values

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CAPTION = (
    "Validation loss on the Pile of a model that was trained on it and goes on with it, re-warmed or not; the grey "
    "line ends the warm-up. Bands are 95 % intervals over seeds."
)

RATES = tuple(SAME_DATA.values())[1:]
"""The re-warmed runs, lowest rate first."""

Settings = RewarmSettings
arms = arms_of(SAME_DATA)


def rows(run: ArmRun, record: Record) -> Iterator[Row]:
    curves = curves_of(record)
    yield from curve_rows(run, curves, {PILE: ""})
    scalars = {"start": start, "peak_until_short": peak(0, SHORT), "loss_at_short": level(SHORT)}
    yield from scalar_rows(run, curves, scalars, (PILE,))


def rise(frame: Any, method: str, metric: str = "peak_until_short") -> Values:
    return difference(frame, metric, "start", method=method, dataset=PILE)


@claim(
    "C9",
    "Re-warming raises the loss without any shift of data, the more the higher the rate, not undone by 50 B tokens; the "
    "rise is smaller than with the shift.",
    "Figure 5, Takeaway 3",
    also=("rewarm/fig3",),
)
def rewarming_alone_hurts(frames: dict[str, Any]) -> Iterator[Finding]:
    same, shifted = frames["rewarm/fig5"], frames["rewarm/fig3"]
    peaks = {method: rise(same, method) for method in RATES}
    for method in RATES:
        yield stats.above(peaks[method], 0.0, name=f"peak rise at {method}")
    for lower, higher in itertools.pairwise(RATES):
        yield stats.greater(peaks[higher], peaks[lower], name=f"peak rise, {higher} - {lower}")
    for method in RATES:
        yield stats.above(rise(same, method, "loss_at_short"), 0.0, name=f"rise left at 0.168 D, {method}")
    for method, other in zip(RATES, REWARMED, strict=True):
        yield stats.greater(
            rise(shifted, other), peaks[method], name=f"peak rise with the shift over without, {method}"
        )


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    fig, (ax,) = loss_panels(frame, settings, (PILE,), list(SAME_DATA.values()), height=2.9)
    ax.set_ylabel("Pile val. loss\n(downstream & upstream)")
    return fig
