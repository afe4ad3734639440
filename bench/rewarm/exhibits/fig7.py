"""Figure 7: SlimPajama loss when starting from earlier checkpoints, without and with warm-up.

Pythia-410M at steps 10,000, 27,000 and 143,000 of its training, re-warmed to 3e-4 over 0 and 1 % of the schedule, 50 B
tokens of SlimPajama. Step 10,000 was chosen as its Pile loss is near Figure 1's maximum of 2.5. The caption says Pile
loss, the axis shows SlimPajama.

Command: ``make reproduce SCALE=paper EXHIBITS=rewarm/fig7``
Expected: earlier checkpoints never do better; use the last.
Cost: five runs of 50 B tokens and one of 239.3 B, which Figures 8 and 9 use too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit, Row, by_seed
from bench.record import Record
from bench.rewarm.design import (
    PILE,
    SHORT,
    SLIMPAJAMA,
    STARTS,
    RewarmSettings,
    curve_rows,
    curves_of,
    level,
    members_of,
    scalar_rows,
    stand_ins,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def members(settings: RewarmSettings) -> list[ArmRun]:
    return members_of(settings, STARTS)


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    curves = curves_of(record).until(SHORT)
    yield from curve_rows(member, curves, {SLIMPAJAMA: ""})
    yield from scalar_rows(member, curves, {"loss_at_short": level(SHORT)})


def later_checkpoints_are_better(frame: Any) -> stats.Finding:
    """C11: at 0.168 D, 143,000 below 27,000 below 10,000 on both corpora, for both warm-ups."""
    parts = []
    for warmup in ("WU 0", "WU 0.01"):
        for corpus in (SLIMPAJAMA, PILE):
            earliest, middle, last = (
                by_seed(frame, "loss_at_short", method=f"{warmup} Iter. {step}", dataset=corpus)
                for step in ("10000", "27000", "143000")
            )
            parts += [
                stats.greater(earliest, middle, name=f"{corpus}, {warmup}, 10000 - 27000"),
                stats.greater(middle, last, name=f"{corpus}, {warmup}, 27000 - 143000"),
            ]
    return stats.all_of(parts)


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: RewarmSettings) -> Figure:
    from bench.report import figure
    from bench.rewarm import pictures

    drawn, (place,) = figure.panels(1, 1, height=3.6)
    pictures.losses(place, frame, settings, SLIMPAJAMA, list(STARTS.values()), looks=pictures.START_LOOKS)
    figure.legend(place, published=False, ncols=3)
    drawn.suptitle(stand_ins(settings))
    return drawn


EXHIBIT = Exhibit(
    name="rewarm/fig7",
    title="Figure 7: SlimPajama loss by tokens from earlier checkpoints",
    caption=(
        "Validation loss on SlimPajama while training on it, from three checkpoints of pre-training; dashed without, solid "
        "with a warm-up of 1 %. Bands are 95 % intervals over seeds."
    ),
    kind="figure",
    settings=RewarmSettings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(
        Claim(
            "C11",
            "Earlier checkpoints end higher on both corpora, with and without warm-up: use the last.",
            "Figures 7 and 8, Takeaway 4",
            later_checkpoints_are_better,
        ),
    ),
)
