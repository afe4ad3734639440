"""Beyond the paper: three stages in a row, Pile, SlimPajama and Pile again, re-warmed at each or at a constant rate.

The runs of Figure 2 at 3e-4 (1 % warm-up) and at the constant 3e-5 go on with the Pile in the same way. The control stays
on the Pile throughout: it is the run of Figure 5 at 3e-4, to 239.3 B tokens instead of 50 B, and says whether what
re-warming alone costs is undone when the rate has come down.

Command: ``make reproduce SCALE=paper EXHIBITS=rewarm/sequence``
Expected: what was forgotten comes back in the third stage; the control ends at or below its start, so that claim C9's "not
undone" is a matter of stopping at 50 B.
Cost: three more runs of 239.3 B tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit, Row, by_seed, row
from bench.record import Record
from bench.rewarm.design import (
    CONSTANT,
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
from bench.rewarm.spec import PretrainSpec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

REWARMED, HELD, CONTROL = METHODS = ("re-warmed to 3e-04", "constant 3e-05", "Pile throughout, re-warmed to 3e-04")
PRETRAINING = "pre-training"
SECOND, THIRD = "stage 2", "stage 3"


def _stages(settings: RewarmSettings, multiple: float, seed: int) -> tuple[PretrainSpec, PretrainSpec]:
    """SlimPajama, then the Pile from where the first stage left it."""
    warmup = 0.0 if multiple == CONSTANT else 0.01
    second = settings.downstream(seed, multiple, warmup, LONG)
    third = settings.downstream(seed, multiple, warmup, LONG, train_on="upstream", parent=second, start="random")
    return second, third


def members(settings: RewarmSettings) -> list[ArmRun]:
    made = []
    for seed in settings.seed_range():
        labels = {"model": MODEL}
        if settings.start == "trained":
            made.append(ArmRun({**labels, "method": PRETRAINING, "panel": "stage 1"}, settings.upstream(seed)))
        for method, multiple in ((REWARMED, SAME), (HELD, CONSTANT)):
            second, third = _stages(settings, multiple, seed)
            made.append(ArmRun({**labels, "method": method, "panel": SECOND}, second))
            made.append(ArmRun({**labels, "method": method, "panel": THIRD}, third))
        control = settings.downstream(seed, SAME, 0.01, LONG, train_on="upstream")
        made.append(ArmRun({**labels, "method": CONTROL, "panel": SECOND}, control))
    return made


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    curves = curves_of(record)
    spec = member.spec
    before = 0
    for ancestor in spec.chain():
        if ancestor is not spec and isinstance(ancestor, PretrainSpec):
            before += ancestor.steps * ancestor.tokens_per_step
    stage = str(member.labels["panel"])
    yield from curve_rows(member, curves, {PILE: stage, SLIMPAJAMA: stage}, shift=float(before))
    yield row(member, "stage_begins", before / 1e9)
    for corpus in (PILE, SLIMPAJAMA):
        yield row(member, "start", start(curves, corpus), dataset=corpus)
        yield row(member, "final", curves.level(curves.share[-1], corpus), dataset=corpus)


def what_was_forgotten_returns(frame: Any) -> stats.Finding:
    """Q1: after the third stage the Pile loss is below that after the second, and the re-warmed model's is the lowest."""
    final = {
        (method, stage): by_seed(frame, "final", method=method, panel=stage, dataset=PILE)
        for method in (REWARMED, HELD)
        for stage in (SECOND, THIRD)
    }
    return stats.all_of(
        [
            stats.greater(final[REWARMED, SECOND], final[REWARMED, THIRD], name="Pile loss, stage 2 - stage 3"),
            stats.greater(final[HELD, THIRD], final[REWARMED, THIRD], name="Pile loss, constant - re-warmed"),
        ]
    )


def control_recovers(frame: Any) -> stats.Finding:
    """Q2: the control of C9: on the same data the rise is undone once the rate has come down."""
    after, before = (by_seed(frame, name, method=CONTROL, dataset=PILE) for name in ("final", "start"))
    return stats.below(minus(after, before), 0.0, name="Pile loss of the control, end - start")


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: RewarmSettings) -> Figure:
    from bench.report import figure
    from bench.rewarm import pictures

    drawn, axes = figure.panels(2, 1, sharex=True, height=5.0)
    unit, _ = settings.unit()
    begins = sorted(frame[(frame["metric"] == "stage_begins") & (frame["value"] > 0)]["value"].unique())
    methods = [PRETRAINING, *METHODS] if settings.start == "trained" else METHODS
    for place, corpus in zip(axes, (PILE, SLIMPAJAMA), strict=True):
        pictures.losses(place, frame, settings, corpus, methods, free=(PRETRAINING,))
        for begin in begins:
            place.axvline(begin * 1e9 / unit, color="0.35", linewidth=0.8, linestyle="--")
    axes[0].set_xlabel("")
    figure.legend(axes[0], published=False)
    drawn.suptitle(stand_ins(settings))
    return drawn


EXHIBIT = Exhibit(
    name="rewarm/sequence",
    title="Beyond the paper: three stages, Pile, SlimPajama and Pile again",
    caption=(
        "Losses on both corpora through three stages, which the dashed lines divide: re-warmed at each, at a constant rate, "
        "and a control that stays on the Pile. Grey dash-dot lines end the warm-ups."
    ),
    kind="figure",
    settings=RewarmSettings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(
        Claim(
            "Q1",
            "What was forgotten comes back when the old corpus does, and more so with re-warming than at a constant rate.",
            "beyond the paper",
            what_was_forgotten_returns,
        ),
        Claim(
            "Q2",
            "Control of C9: run to 239 B tokens on the same data, the rise after re-warming is undone.",
            "beyond the paper; the paper stops at 50 B, where the rate is still 94 % of its maximum",
            control_recovers,
        ),
    ),
)
