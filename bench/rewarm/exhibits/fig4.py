"""Figure 4: Pile perplexity against SlimPajama perplexity of the runs of Figure 2 from the pre-trained model.

Each point is an evaluation, coloured by tokens; the start and the end of the warm-up stand out. The caption speaks of "RP
fine-tuning", a leftover of RedPajama.

Command: ``make reproduce SCALE=paper EXHIBITS=rewarm/fig4``
Expected: away from the start at first, then back towards lower SlimPajama perplexity along a curve that never returns to
the Pile perplexity of the start; higher rates end further to the left and higher up. SlimPajama perplexities of 13 to 18.
Cost: four runs of 239.3 B tokens of Figure 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bench.exhibit import ArmRun, Exhibit, Row, row
from bench.record import Record
from bench.rewarm.design import (
    LONG_RUNS,
    PILE,
    SCRATCH,
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

METHODS = {name: method for name, method in LONG_RUNS.items() if method != SCRATCH}


def members(settings: RewarmSettings) -> list[ArmRun]:
    return members_of(settings, METHODS)


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    curves = curves_of(record)
    yield from curve_rows(member, curves, {PILE: "", SLIMPAJAMA: ""})
    yield row(member, "r_squared", perplexity_fit(curves))


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: RewarmSettings) -> Figure:
    from bench.rewarm import pictures

    return pictures.trade_off(frame, settings, list(METHODS.values()))


EXHIBIT = Exhibit(
    name="rewarm/fig4",
    title="Figure 4: Pile perplexity against SlimPajama perplexity while training on SlimPajama",
    caption=(
        "Each point is an evaluation of a run of Figure 2, mean over seeds, coloured by tokens. Large points are the state "
        "before training and at the end of the warm-up."
    ),
    kind="figure",
    settings=RewarmSettings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
)
