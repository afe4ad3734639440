"""Figure 3: Pile loss of the runs of Figure 2, which train on SlimPajama: how much is forgotten.

The same five runs: constant 3e-5, re-warmed to 1.5e-4, 3e-4 and 6e-4, and 3e-4 from random weights.

Command: ``make reproduce SCALE=paper EXHIBITS=rewarm/fig3``
Expected: the higher the rate, the more is forgotten; the constant rate forgets least; the model from random weights gets
better on the Pile throughout although it never sees it. The follow-up has peaks of 0.35 (3e-4) and 0.45 (6e-4).
Cost: the five runs of 239.3 B tokens of Figure 2.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit, Row, by_seed, row
from bench.record import Record
from bench.rewarm.design import (
    CONST_NAME,
    DOUBLE_NAME,
    HALF_NAME,
    LONG,
    LONG_RUNS,
    PILE,
    SAME_NAME,
    SCRATCH,
    SHORT,
    Curves,
    RewarmSettings,
    curve_rows,
    curves_of,
    level,
    members_of,
    peak,
    scalar_rows,
    stand_ins,
    start,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

QUARTERS = 4


def members(settings: RewarmSettings) -> list[ArmRun]:
    return members_of(settings, LONG_RUNS)


def quarter_slopes(curves: Curves, corpus: str) -> list[float]:
    """Least-squares slope in each quarter of a run, nats over the whole schedule."""
    import numpy as np

    share, loss = np.asarray(curves.share), np.asarray(curves.loss[corpus])
    bounds = np.linspace(0, share[-1], QUARTERS + 1)
    slopes = []
    for low, high in itertools.pairwise(bounds):
        inside = (share >= low) & (share <= high)
        x = share[inside] - share[inside].mean()
        spread = float((x**2).sum())
        slopes.append(float((x * loss[inside]).sum()) / spread if spread else 0.0)
    return slopes


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    curves = curves_of(record)
    yield from curve_rows(member, curves, {PILE: ""})
    scalars = {"start": start, "peak_until_short": peak(0, SHORT), "final": level(LONG)}
    yield from scalar_rows(member, curves, scalars)
    if member.labels["method"] == SCRATCH:
        for number, slope in enumerate(quarter_slopes(curves, PILE), start=1):
            yield row(member, f"slope_{number}", slope, dataset=PILE)


def higher_rates_forget_more(frame: Any) -> stats.Finding:
    """C4: Pile loss at the end const < 0.5x < 1x < 2x, all above the start."""
    order = (CONST_NAME, HALF_NAME, SAME_NAME, DOUBLE_NAME)
    final = {method: by_seed(frame, "final", method=method, dataset=PILE) for method in order}
    before = by_seed(frame, "start", method=CONST_NAME, dataset=PILE)
    parts = [
        stats.greater(final[higher], final[lower], name=f"{higher} - {lower}")
        for lower, higher in itertools.pairwise(order)
    ]
    return stats.all_of([stats.greater(final[CONST_NAME], before, name="const above its start"), *parts])


def scratch_improves_throughout(frame: Any) -> stats.Finding:
    """C8."""
    slopes = [by_seed(frame, f"slope_{number}", method=SCRATCH) for number in range(1, QUARTERS + 1)]
    return stats.all_of(
        [stats.below(values, 0.0, name=f"slope in quarter {number}") for number, values in enumerate(slopes, start=1)]
    )


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: RewarmSettings) -> Figure:
    from bench.report import figure
    from bench.rewarm import pictures

    drawn, (place,) = figure.panels(1, 1, height=3.6)
    pictures.losses(place, frame, settings, PILE, list(LONG_RUNS.values()), free=(SCRATCH,))
    if settings.same_losses:
        place.set(xlim=(0, 250), ylim=(2.28, 2.92))
    figure.legend(place, published=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    drawn.suptitle(stand_ins(settings))
    return drawn


_STILL_LEARNING = (
    "the shift is weak and the model is far from converged, so that whatever teaches it most downstream teaches it most "
    "about the Pile too"
)

EXHIBIT = Exhibit(
    name="rewarm/fig3",
    title="Figure 3: Pile loss by tokens while training on SlimPajama",
    caption=(
        "Validation loss on the corpus of pre-training while training on another, for the runs of Figure 2. Bands are "
        "95 % intervals over seeds."
    ),
    kind="figure",
    settings=RewarmSettings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(
        Claim(
            "C4",
            "The higher the maximal rate, the more is forgotten; the constant rate forgets least.",
            "Figure 3",
            higher_rates_forget_more,
            not_expected_at={"small": _STILL_LEARNING},
        ),
        Claim(
            "C8",
            "The model from random weights gets better on the Pile in every quarter of its training on SlimPajama.",
            "Figure 3",
            scratch_improves_throughout,
        ),
    ),
)
