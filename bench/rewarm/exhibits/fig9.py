"""Figure 9: pre-trained starts against random weights, on the Pile (left) and on SlimPajama (right).

The six runs of Figure 7 and the one from random weights of Figure 2, for the first 50 B tokens.

Command: ``make reproduce SCALE=paper EXHIBITS=rewarm/fig9``
Expected: pre-trained starts are lower on both corpora and get there faster.
Cost: the runs of Figure 7 and one of Figure 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit, Row
from bench.record import Record
from bench.rewarm.design import (
    PILE,
    SHORT,
    SLIMPAJAMA,
    STARTS,
    RewarmSettings,
    curve_rows,
    curves_of,
    losses_by_seed,
    members_of,
    stand_ins,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

RANDOM = "WU 0.01 Iter. 0"
METHODS = {**STARTS, "L5": RANDOM}


def members(settings: RewarmSettings) -> list[ArmRun]:
    return members_of(settings, METHODS)


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    yield from curve_rows(member, curves_of(record).until(SHORT), {PILE: "left", SLIMPAJAMA: "right"})


def pretrained_is_below(frame: Any) -> stats.Finding:
    """C7c: at every evaluation of the run from random weights, each pre-trained one is lower; the least distance counts."""
    import numpy as np

    parts = []
    for corpus in (PILE, SLIMPAJAMA):
        scratch = losses_by_seed(frame, RANDOM, corpus)
        for method in STARTS.values():
            curves = losses_by_seed(frame, method, corpus)
            least = {
                seed: float(np.min(np.asarray(losses) - np.interp(shares, *curves[seed])))
                for seed, (shares, losses) in scratch.items()
                if seed in curves
            }
            parts.append(stats.above(least, 0.0, name=f"{corpus}, least distance of {method}"))
    return stats.all_of(parts)


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: RewarmSettings) -> Figure:
    from bench.report import figure
    from bench.rewarm import pictures

    drawn, axes = figure.panels(1, 2, height=3.7)
    looks = {**pictures.START_LOOKS, RANDOM: (RANDOM, "-.")}
    for place, corpus in zip(axes, (PILE, SLIMPAJAMA), strict=True):
        pictures.losses(place, frame, settings, corpus, list(METHODS.values()), looks=looks, free=(RANDOM,))
    figure.legend(axes[0], published=False, below=4)
    drawn.suptitle(stand_ins(settings))
    return drawn


EXHIBIT = Exhibit(
    name="rewarm/fig9",
    title="Figure 9: pre-trained starts against random weights on both corpora",
    caption=(
        "Validation loss on the Pile (left) and on SlimPajama (right) while training on SlimPajama; dashed without, solid "
        "with a warm-up of 1 %, dash-dot from random weights. Bands are 95 % intervals over seeds."
    ),
    kind="figure",
    settings=RewarmSettings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(
        Claim(
            "C7c",
            "Models that start from pre-trained weights are below one from random weights on both corpora throughout the "
            "first 50 B tokens.",
            "Figure 9",
            pretrained_is_below,
        ),
    ),
)
