"""Beyond the paper: three stages, Pile, SlimPajama and Pile again.

The runs of Figure 2 at 3e-4 (1 % warm-up) and at the constant 3e-5 go on with the Pile in the same way. The control stays
on the Pile throughout: it is the run of Figure 5 at 3e-4, to 239.3 B tokens instead of 50 B, and says whether what
re-warming alone costs is undone when the rate has come down.

Expected: what was forgotten comes back in the third stage; the control ends at or below its start, so that claim C9's "not
undone" is a matter of stopping at 50 B.
Cost: three more runs of 239.3 B tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from bench import stats
from bench.exhibit import Arm, ArmRun, Row, by_seed, claim, row
from bench.record import Record
from bench.rewarm.design import CONSTANT, CORPORA, LONG, MODEL, PILE, SAME, RewarmSettings
from bench.rewarm.exhibits._figures import loss_panels
from bench.rewarm.exhibits._rows import curve_rows, curves_of, difference, end, scalar_rows, start
from bench.rewarm.spec import PretrainSpec
from bench.stats import Finding

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CAPTION = (
    "Losses on both corpora through three stages, which the dashed lines divide: re-warmed at each, at a constant rate, "
    "and a control that stays on the Pile. Grey dash-dot lines end the warm-ups."
)

REWARMED, HELD, CONTROL = METHODS = ("re-warmed to 3e-04", "constant 3e-05", "Pile throughout, re-warmed to 3e-04")
PRETRAINING = "pre-training"
SECOND, THIRD = "stage 2", "stage 3"
RATES = {REWARMED: (SAME, 0.01), HELD: (CONSTANT, 0.0)}
"""Method -> multiple of the peak, and warm-up, at each stage."""

Settings = RewarmSettings


def second_stage(settings: Settings, method: str, seed: int) -> PretrainSpec:
    return settings.downstream(seed, *RATES[method], LONG)


def third_stage(settings: Settings, method: str, seed: int) -> PretrainSpec:
    """The Pile from where the second stage left it."""
    parent = second_stage(settings, method, seed)
    return settings.downstream(seed, *RATES[method], LONG, train_on="upstream", parent=parent, start="random")


def control(settings: Settings, seed: int) -> PretrainSpec:
    return settings.downstream(seed, SAME, 0.01, LONG, train_on="upstream")


def arms(settings: Settings) -> Iterator[Arm]:
    def labels(method: str, stage: str) -> dict[str, str]:
        return {"model": MODEL, "method": method, "panel": stage}

    if settings.start == "trained":
        yield Arm(labels(PRETRAINING, "stage 1"), settings.upstream)
    for method in RATES:
        yield Arm(labels(method, SECOND), partial(second_stage, settings, method))
        yield Arm(labels(method, THIRD), partial(third_stage, settings, method))
    yield Arm(labels(CONTROL, SECOND), partial(control, settings))


def rows(run: ArmRun, record: Record) -> Iterator[Row]:
    curves = curves_of(record)
    _, *ancestors = run.spec.chain()
    before = sum(spec.steps * spec.tokens_per_step for spec in ancestors if isinstance(spec, PretrainSpec))
    yield from curve_rows(run, curves, dict.fromkeys(CORPORA, str(run.labels["panel"])), shift=float(before))
    yield row(run, "stage_begins", before / 1e9)
    yield from scalar_rows(run, curves, {"start": start, "final": end})


@claim(
    "Q1",
    "What was forgotten comes back when the old corpus does, and more so with re-warming than at a constant rate.",
    "beyond the paper",
)
def what_was_forgotten_returns(frame: Any) -> Iterator[Finding]:
    final = {
        (method, stage): by_seed(frame, "final", method=method, panel=stage, dataset=PILE)
        for method in (REWARMED, HELD)
        for stage in (SECOND, THIRD)
    }
    yield stats.greater(final[REWARMED, SECOND], final[REWARMED, THIRD], name="Pile loss, stage 2 - stage 3")
    yield stats.greater(final[HELD, THIRD], final[REWARMED, THIRD], name="Pile loss, constant - re-warmed")


@claim(
    "Q2",
    "Control of C9: run to 239 B tokens on the same data, the rise after re-warming is undone.",
    "beyond the paper; the paper stops at 50 B, where the rate is still 94 % of its maximum",
)
def control_recovers(frame: Any) -> Finding:
    change = difference(frame, "final", "start", method=CONTROL, dataset=PILE)
    return stats.below(change, 0.0, name="Pile loss of the control, end - start")


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    methods = [PRETRAINING, *METHODS] if settings.start == "trained" else METHODS
    fig, axes = loss_panels(
        frame, settings, CORPORA, methods, height=4.8, upright=True, free=(PRETRAINING,), legend={"below": 4}
    )
    for begin in frame[(frame["metric"] == "stage_begins") & (frame["value"] > 0)]["value"].unique():
        for ax in axes:
            ax.axvline(begin * 1e9 / settings.unit()[0], color="0.35", linewidth=0.8, linestyle="--")
    return fig
