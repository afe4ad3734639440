"""Figure 8: Pile loss by tokens from earlier checkpoints while training on SlimPajama.

The runs of Figure 7. The paper's legend omits the warm-up, so that each name appears twice; ours says it.

Expected: earlier checkpoints end worse on the Pile too.
Cost: the runs of Figure 7.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.exhibit import Arm, ArmRun, Row
from bench.record import Record
from bench.rewarm.design import PILE, SHORT, STARTS, RewarmSettings, arms_of
from bench.rewarm.exhibits._rows import curve_rows, curves_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CAPTION = (
    "Validation loss on the Pile of the runs of Figure 7; dashed without, solid with a warm-up of 1 %. Bands are 95 % "
    "intervals over seeds. Claim C11, on both corpora, stands at Figure 7."
)

Settings = RewarmSettings


def arms(settings: Settings) -> Iterator[Arm]:
    return arms_of(settings, STARTS)


def rows(run: ArmRun, record: Record) -> Iterator[Row]:
    return curve_rows(run, curves_of(record).until(SHORT), {PILE: ""})


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    from bench.rewarm.exhibits import _figures

    methods, looks = list(STARTS.values()), _figures.START_LOOKS
    fig, _ = _figures.one_panel(frame, settings, PILE, methods, looks=looks, legend={"ncols": 3})
    return fig
