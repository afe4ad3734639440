"""Figure 8: Pile loss by tokens from earlier checkpoints while training on SlimPajama.

The runs of Figure 7. The paper's legend omits the warm-up, so that each name appears twice; ours says it.

Expected: earlier checkpoints end worse on the Pile too.
Cost: the runs of Figure 7.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.exhibit import ArmRun, Row
from bench.record import Record
from bench.rewarm.design import PILE, SHORT, STARTS, RewarmSettings, arms_of
from bench.rewarm.exhibits._figures import START_LOOKS, loss_figure
from bench.rewarm.exhibits._rows import curve_rows, curves_of

CAPTION = (
    "Validation loss on the Pile of the runs of Figure 7; dashed without, solid with a warm-up of 1 %. Bands are 95 % "
    "intervals over seeds. Claim C11, on both corpora, stands at Figure 7."
)

Settings = RewarmSettings
arms = arms_of(STARTS)
draw = loss_figure((PILE,), list(STARTS.values()), looks=START_LOOKS, legend={"ncols": 3})


def rows(run: ArmRun, record: Record) -> Iterator[Row]:
    return curve_rows(run, curves_of(record).until(SHORT), {PILE: ""})
