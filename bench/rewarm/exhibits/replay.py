"""Beyond the paper: replay of 0, 1, 5 and 25 % of the Pile while training on SlimPajama.

The run of Figure 2 at 3e-4 (1 % warm-up) with a share of its sequences from the Pile, at equal compute: each replayed
sequence displaces a new one.

Command: ``make reproduce SCALE=paper EXHIBITS=rewarm/replay``
Expected (Ibrahim et al. 2024, 405M, 300 B tokens): Pile loss 2.44 without, 2.26 with 1 % and 2.23 with 5 %, at SlimPajama
losses of 2.50, 2.50 and 2.51.
Cost: three more runs of 239.3 B tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit, Row, by_seed, row
from bench.record import Record
from bench.rewarm.design import (
    LONG,
    MODEL,
    PILE,
    SAME,
    SLIMPAJAMA,
    RewarmSettings,
    curve_rows,
    curves_of,
    minus,
    stand_ins,
    start,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

ENOUGH = 5.0
"""Percent of replay that suffices for a weak shift, by the follow-up."""
COST = 0.02
"""Nats on the new corpus that it may cost."""


class Settings(RewarmSettings):
    shares: tuple[float, ...] = Field((0.0, 1.0, 5.0, 25.0), description="replayed sequences, percent")


def method(share: float) -> str:
    return f"replay {share:g} %"


def members(settings: Settings) -> list[ArmRun]:
    return [
        ArmRun(
            {"model": MODEL, "method": method(share)},
            settings.downstream(seed, SAME, 0.01, LONG, replay=share / 100),
        )
        for share in settings.shares
        for seed in settings.seed_range()
    ]


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    curves = curves_of(record)
    yield from curve_rows(member, curves, {PILE: "left", SLIMPAJAMA: "right"})
    for corpus in (PILE, SLIMPAJAMA):
        yield row(member, "start", start(curves, corpus), dataset=corpus)
        yield row(member, "final", curves.level(LONG, corpus), dataset=corpus)


def little_replay_suffices(frame: Any) -> stats.Finding:
    """R1: 5 % halves what is forgotten and costs less than 0.02 nats on the new corpus."""
    forgotten = {}
    for share in (0.0, ENOUGH):
        after, before = (by_seed(frame, name, method=method(share), dataset=PILE) for name in ("final", "start"))
        forgotten[share] = minus(after, before)
    half = {seed: value / 2 for seed, value in forgotten[0.0].items()}
    new = [by_seed(frame, "final", method=method(share), dataset=SLIMPAJAMA) for share in (ENOUGH, 0.0)]
    return stats.all_of(
        [
            stats.greater(half, forgotten[ENOUGH], name="half of what is forgotten without replay over that with 5 %"),
            stats.below(minus(*new), COST, name="cost on SlimPajama"),
        ]
    )


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    from bench.report import figure
    from bench.rewarm import pictures

    methods = [method(share) for share in settings.shares]
    drawn, axes = figure.panels(1, 3, height=3.0)
    for place, corpus in zip(axes, (PILE, SLIMPAJAMA), strict=False):
        pictures.losses(place, frame, settings, corpus, methods)
    figure.legend(axes[0], published=False)
    final = {
        share: {corpus: by_seed(frame, "final", method=name, dataset=corpus) for corpus in (PILE, SLIMPAJAMA)}
        for share, name in zip(settings.shares, methods, strict=True)
        if not frame[frame["method"] == name].empty
    }
    pictures.changes(axes[2], final)
    drawn.suptitle(stand_ins(settings))
    return drawn


EXHIBIT = Exhibit(
    name="rewarm/replay",
    title="Beyond the paper: replay of the old corpus",
    caption=(
        "Losses on both corpora when a share of the sequences is drawn from the Pile again, and the change of the final "
        "losses against no replay; hollow markers are the follow-up's (405M, 300 B tokens, reading notes)."
    ),
    kind="figure",
    settings=Settings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(
        Claim(
            "R1",
            "Replaying 5 % at least halves what is forgotten and costs less than 0.02 nats on the new corpus.",
            "follow-up (Ibrahim et al. 2024), Table 2",
            little_replay_suffices,
        ),
    ),
)
