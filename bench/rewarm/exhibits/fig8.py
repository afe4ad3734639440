"""Figure 8: Pile loss of the runs of Figure 7, which start from earlier checkpoints and train on SlimPajama.

The paper's legend omits the warm-up, so that each name appears twice; ours says it.

Command: ``make reproduce SCALE=paper EXHIBITS=rewarm/fig8``
Expected: earlier checkpoints end worse on the Pile too.
Cost: the runs of Figure 7.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bench.exhibit import ArmRun, Exhibit, Row
from bench.record import Record
from bench.rewarm.design import PILE, SHORT, STARTS, RewarmSettings, curve_rows, curves_of, members_of, stand_ins

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def members(settings: RewarmSettings) -> list[ArmRun]:
    return members_of(settings, STARTS)


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    yield from curve_rows(member, curves_of(record).until(SHORT), {PILE: ""})


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: RewarmSettings) -> Figure:
    from bench.report import figure
    from bench.rewarm import pictures

    drawn, (place,) = figure.panels(1, 1, height=3.6)
    pictures.losses(place, frame, settings, PILE, list(STARTS.values()), looks=pictures.START_LOOKS)
    figure.legend(place, published=False, ncols=3)
    drawn.suptitle(stand_ins(settings))
    return drawn


EXHIBIT = Exhibit(
    name="rewarm/fig8",
    title="Figure 8: Pile loss by tokens from earlier checkpoints while training on SlimPajama",
    caption=(
        "Validation loss on the Pile of the runs of Figure 7; dashed without, solid with a warm-up of 1 %. Bands are 95 % "
        "intervals over seeds. Claim C11, on both corpora, stands at Figure 7."
    ),
    kind="figure",
    settings=RewarmSettings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
)
