"""Figure 3: Pile loss by tokens while training on SlimPajama.

The five runs of Figure 2: constant 3e-5, re-warmed to 1.5e-4, 3e-4 and 6e-4, and 3e-4 from random weights. The Pile loss
says how much is forgotten.

Expected: the higher the rate, the more is forgotten; the constant rate forgets least; the model from random weights gets
better on the Pile throughout although it never sees it. The follow-up has peaks of 0.35 (3e-4) and 0.45 (6e-4).
Cost: the five runs of 239.3 B tokens of Figure 2.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bench import stats
from bench.exhibit import ArmRun, Row, by_seed, claim, row
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
    RewarmSettings,
    arms_of,
)
from bench.rewarm.exhibits._figures import loss_panels
from bench.rewarm.exhibits._rows import Curves, curve_rows, curves_of, level, peak, scalar_rows, start
from bench.stats import Finding

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CAPTION = (
    "Validation loss on the corpus of pre-training while training on another, for the runs of Figure 2. Bands are "
    "95 % intervals over seeds."
)

QUARTERS = 4

Settings = RewarmSettings
arms = arms_of(LONG_RUNS)


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


def rows(run: ArmRun, record: Record) -> Iterator[Row]:
    curves = curves_of(record)
    yield from curve_rows(run, curves, {PILE: ""})
    yield from scalar_rows(run, curves, {"start": start, "peak_until_short": peak(0, SHORT), "final": level(LONG)})
    if run.labels["method"] == SCRATCH:
        for number, slope in enumerate(quarter_slopes(curves, PILE), start=1):
            yield row(run, f"slope_{number}", slope, dataset=PILE)


@claim(
    "C4",
    "The higher the maximal rate, the more is forgotten; the constant rate forgets least.",
    "Figure 3",
    not_expected_at={
        "small": "the shift is weak and the model is far from converged, so that whatever teaches it most downstream "
        "teaches it most about the Pile too"
    },
)
def higher_rates_forget_more(frame: Any) -> Iterator[Finding]:
    order = (CONST_NAME, HALF_NAME, SAME_NAME, DOUBLE_NAME)
    final = {method: by_seed(frame, "final", method=method, dataset=PILE) for method in order}
    before = by_seed(frame, "start", method=CONST_NAME, dataset=PILE)
    yield stats.greater(final[CONST_NAME], before, name="const above its start")
    for lower, higher in itertools.pairwise(order):
        yield stats.greater(final[higher], final[lower], name=f"{higher} - {lower}")


@claim(
    "C8",
    "The model from random weights gets better on the Pile in every quarter of its training on SlimPajama.",
    "Figure 3",
)
def scratch_improves_throughout(frame: Any) -> Iterator[Finding]:
    for number in range(1, QUARTERS + 1):
        slope = by_seed(frame, f"slope_{number}", method=SCRATCH)
        yield stats.below(slope, 0.0, name=f"slope in quarter {number}")


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    legend = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
    methods = list(LONG_RUNS.values())
    fig, (ax,) = loss_panels(frame, settings, (PILE,), methods, height=2.9, free=(SCRATCH,), legend=legend)
    if settings.same_losses:
        ax.set(xlim=(0, 250), ylim=(2.28, 2.92))
    return fig
