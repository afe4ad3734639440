"""Beyond the paper: the clipped cosine against warm-up, stable, decay and an infinite schedule, at equal tokens.

The run of Figure 2 at 3e-4 ends where its rate has reached the floor, 239.3 B tokens; the others are given a schedule of
just that length and the same warm-up, so that each ends at its floor.

Command: ``make reproduce SCALE=paper EXHIBITS=rewarm/schedules``
Expected: final losses within a few hundredths of a nat; the infinite schedule can go on from its constant part.
Cost: two more runs of 239.3 B tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit, Row, by_seed, row
from bench.record import Record
from bench.rewarm.design import LONG, MODEL, PILE, SAME, SLIMPAJAMA, RewarmSettings, curve_rows, curves_of, stand_ins
from bench.rewarm.spec import PretrainSpec, Schedule

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PAPERS, *OTHERS = METHODS = ("clipped cosine", "WSD", "infinite")
SHAPES = {"WSD": "wsd", "infinite": "infinite"}
MARGIN = 0.02
"""Nats within which final losses count as equal."""


def _run(settings: RewarmSettings, method: str, seed: int) -> PretrainSpec:
    papers = settings.downstream(seed, SAME, 0.01, LONG)
    if method == PAPERS:
        return papers
    warmup = papers.schedule.warmup_steps / papers.steps
    shape: Any = SHAPES[method]
    schedule = Schedule(shape=shape, max_lr=settings.max_lr, steps=papers.steps, warmup=warmup)
    return settings.downstream(seed, SAME, 0.01, 1.0, schedule=schedule)


def members(settings: RewarmSettings) -> list[ArmRun]:
    return [
        ArmRun({"model": MODEL, "method": method}, _run(settings, method, seed))
        for method in METHODS
        for seed in settings.seed_range()
    ]


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    curves = curves_of(record)
    yield from curve_rows(member, curves, {PILE: "middle", SLIMPAJAMA: "right"})
    rates = record.series["evaluations"]["lr"]
    for tokens, rate in zip(curves.tokens, rates, strict=True):
        yield row(member, "lr", rate, panel="left", x_name="tokens_1e9", x=tokens / 1e9)
    for corpus in (PILE, SLIMPAJAMA):
        yield row(member, "final", curves.level(curves.share[-1], corpus), dataset=corpus)


def schedules_end_alike(frame: Any) -> stats.Finding:
    """S1: SlimPajama loss at equal tokens, within 0.02 nats of the paper's schedule."""
    papers, *others = (by_seed(frame, "final", method=method, dataset=SLIMPAJAMA) for method in METHODS)
    return stats.all_of(
        [
            stats.equivalent(other, papers, margin=MARGIN, name=f"{method} - {PAPERS}")
            for method, other in zip(OTHERS, others, strict=True)
        ]
    )


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: RewarmSettings) -> Figure:
    from bench.report import figure
    from bench.rewarm import pictures

    drawn, axes = figure.panels(1, 3, height=3.0)
    unit, sign = settings.unit()
    for method in METHODS:
        own = frame[(frame["metric"] == "lr") & (frame["method"] == method)].drop_duplicates("x").sort_values("x")
        if not own.empty:
            look = {**figure.look(axes[0], method), "marker": ""}
            axes[0].plot(own["x"] * 1e9 / unit, own["value"], label=method, **look)
    axes[0].set(xlabel=f"tokens ({sign})", ylabel="learning rate")
    axes[0].set_xlim(left=0)
    axes[0].set_ylim(bottom=0)
    for place, corpus in zip(axes[1:], (PILE, SLIMPAJAMA), strict=True):
        pictures.losses(place, frame, settings, corpus, METHODS)
    figure.legend(axes[0], published=False)
    drawn.suptitle(stand_ins(settings))
    return drawn


EXHIBIT = Exhibit(
    name="rewarm/schedules",
    title="Beyond the paper: schedules at equal tokens",
    caption=(
        "Learning rate, Pile loss and SlimPajama loss by tokens under the paper's clipped cosine, under warm-up, stable, "
        "decay (WSD) and under an infinite schedule, all of the same length and peak."
    ),
    kind="figure",
    settings=RewarmSettings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(
        Claim(
            "S1",
            "At equal tokens WSD and the infinite schedule end within 0.02 nats of the clipped cosine on the new corpus.",
            "beyond the paper",
            schedules_end_alike,
        ),
    ),
)
