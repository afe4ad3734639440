"""Figure 6: Pile perplexity against SlimPajama perplexity of the runs of Figure 5, which train on the Pile.

Each point is an evaluation, coloured by tokens; the end of the warm-up stands out.

Command: ``make reproduce SCALE=paper EXHIBITS=rewarm/fig6``
Expected: up and back along an almost straight line, unlike Figure 4; SlimPajama perplexities of 15.5 to 19.5, Pile
perplexities of 9 to 11.
Cost: the four runs of 50 B tokens of Figure 5.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit, Row, by_seed, row
from bench.record import Record
from bench.rewarm.design import (
    PILE,
    REWARMED,
    SAME_DATA,
    SLIMPAJAMA,
    RewarmSettings,
    curve_rows,
    curves_of,
    members_of,
    perplexity_fit,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

STRAIGHT = 0.95
"""R² from which a line counts as straight (our threshold, claim C10)."""


def members(settings: RewarmSettings) -> list[ArmRun]:
    return members_of(settings, SAME_DATA)


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    curves = curves_of(record)
    yield from curve_rows(member, curves, {PILE: "", SLIMPAJAMA: ""})
    yield row(member, "r_squared", perplexity_fit(curves))


def along_a_line(frames: dict[str, Any]) -> stats.Finding:
    """C10: straight on the same data, and straighter than with the shift; the constant rate hardly moves."""
    same, shifted = frames["rewarm/fig6"], frames["rewarm/fig4"]
    parts = []
    for method, other in zip(tuple(SAME_DATA.values())[1:], REWARMED, strict=True):
        here, there = (by_seed(frame, "r_squared", method=name) for frame, name in ((same, method), (shifted, other)))
        parts.append(stats.above(here, STRAIGHT, name=f"R² of {method} on the Pile"))
        parts.append(stats.greater(here, there, name=f"R² without the shift over with, {method}"))
    return stats.all_of(parts)


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: RewarmSettings) -> Figure:
    from bench.rewarm import pictures

    return pictures.trade_off(frame, settings, list(SAME_DATA.values()))


_UNCONVERGED = (
    "the model still learns during the run, so that its way back is not its way up; the threshold of 0.95 is ours and "
    "fits a converged model"
)

EXHIBIT = Exhibit(
    name="rewarm/fig6",
    title="Figure 6: Pile perplexity against SlimPajama perplexity when re-warming on the Pile itself",
    caption=(
        "Each point is an evaluation of a run of Figure 5, mean over seeds, coloured by tokens. Large points are the state "
        "before training and at the end of the warm-up."
    ),
    kind="figure",
    settings=RewarmSettings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(
        Claim(
            "C10",
            "On the same data the two perplexities rise and fall together, on a line (R² of at least 0.95), and more so "
            "than with a shift.",
            "Figure 6",
            along_a_line,
            also=("rewarm/fig4",),
            not_expected_at={"ci": _UNCONVERGED, "small": _UNCONVERGED},
        ),
    ),
)
