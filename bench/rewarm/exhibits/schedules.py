"""Beyond the paper: schedules at equal tokens.

The run of Figure 2 at 3e-4 ends where its rate has reached the floor, 239.3 B tokens. Warm-up, stable, decay (WSD) and an
infinite schedule have just that length and the same warm-up, so that each ends at its floor.

Expected: final losses within a few hundredths of a nat; the infinite schedule can go on from its constant part.
Cost: two more runs of 239.3 B tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from bench import stats
from bench.exhibit import Arm, ArmRun, Row, by_seed, claim, row
from bench.record import Record
from bench.report import figure
from bench.rewarm.design import CORPORA, LONG, MODEL, PILE, SAME, SLIMPAJAMA, RewarmSettings
from bench.rewarm.exhibits._figures import losses, stand_ins
from bench.rewarm.exhibits._rows import curve_rows, curves_of, end, scalar_rows
from bench.rewarm.schedule import Curve
from bench.rewarm.spec import PretrainSpec, Schedule
from bench.stats import Finding

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CAPTION = (
    "Learning rate, Pile loss and SlimPajama loss by tokens under the paper's clipped cosine, under warm-up, stable, "
    "decay (WSD) and under an infinite schedule, all of the same length and peak."
)

PAPERS = "clipped cosine"
OTHERS: dict[str, Curve] = {"WSD": "wsd", "infinite": "infinite"}
METHODS = (PAPERS, *OTHERS)
MARGIN = 0.02
"""Nats within which final losses count as equal."""

Settings = RewarmSettings


def scheduled(settings: Settings, method: str, seed: int) -> PretrainSpec:
    papers = settings.downstream(seed, SAME, 0.01, LONG)
    if method == PAPERS:
        return papers
    warmup = papers.schedule.warmup_steps / papers.steps
    schedule = Schedule(shape=OTHERS[method], max_lr=settings.max_lr, steps=papers.steps, warmup=warmup)
    return settings.downstream(seed, SAME, 0.01, 1.0, schedule=schedule)


def arms(settings: Settings) -> Iterator[Arm]:
    for method in METHODS:
        yield Arm({"model": MODEL, "method": method}, partial(scheduled, settings, method))


def rows(run: ArmRun, record: Record) -> Iterator[Row]:
    curves = curves_of(record)
    yield from curve_rows(run, curves, {PILE: "middle", SLIMPAJAMA: "right"})
    rates = record.series["evaluations"]["lr"]
    for tokens, rate in zip(curves.tokens, rates, strict=True):
        yield row(run, "lr", rate, panel="left", x_name="tokens_1e9", x=tokens / 1e9)
    yield from scalar_rows(run, curves, {"final": end})


@claim(
    "S1",
    "At equal tokens WSD and the infinite schedule end within 0.02 nats of the clipped cosine on the new corpus.",
    "beyond the paper",
    not_expected_at={"ci": "one seed has no interval"},
)
def schedules_end_alike(frame: Any) -> Iterator[Finding]:
    final = {method: by_seed(frame, "final", method=method, dataset=SLIMPAJAMA) for method in METHODS}
    for method in OTHERS:
        yield stats.equivalent(final[method], final[PAPERS], margin=MARGIN, name=f"{method} - {PAPERS}")


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    fig, axes = figure.panels(1, 3, height=2.9)
    unit, sign = settings.unit()
    for method in METHODS:
        rates = frame[(frame["metric"] == "lr") & (frame["method"] == method)].drop_duplicates("x").sort_values("x")
        if not rates.empty:
            look = {**figure.look(axes[0], method), "marker": ""}
            axes[0].plot(rates["x"] * 1e9 / unit, rates["value"], label=method, **look)
    axes[0].set(xlabel=f"tokens ({sign})", ylabel="learning rate")
    axes[0].set_xlim(left=0)
    axes[0].set_ylim(bottom=0)
    for ax, corpus in zip(axes[1:], CORPORA, strict=True):
        losses(ax, frame, settings, corpus, METHODS)
    figure.legend(axes[0], published=False)
    fig.suptitle(stand_ins(settings))
    return fig
