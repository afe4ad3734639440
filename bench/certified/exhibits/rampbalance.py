"""Ramp length against ReLU balance (Appendix B): a short ramp leaves fewer active and unstable neurons.

Vanilla IBP and ours with a ramp of 20 epochs (70 in all) and of 80 (160), CNN-7 on CIFAR-10: shares of neurons over the
ramp, on the test set at the eps of each epoch. The appendix is known through the main text alone.

Command: ``make reproduce SCALE=paper EXHIBITS=certified/rampbalance``
Expected: at the end of the warm-up a lower share of active and unstable neurons after the short ramp. No number is known.
Cost: none beside Table 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bench import stats
from bench.certified.course_grid import END, CourseSettings, course_members, share_rows
from bench.certified.design import BLOCKS, NAMES, OURS, VANILLA, substitution
from bench.exhibit import ArmRun, Claim, Exhibit, Row, by_seed
from bench.record import Record

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SHOWN = (VANILLA, OURS)
SHORT, LONG = (BLOCKS[course].panel for course in ("cifar_70", "cifar_160"))


def members(settings: CourseSettings) -> list[ArmRun]:
    return course_members(settings, settings.courses, SHOWN)


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    return share_rows(member, record)


def short_ramp_unbalances(frame: Any) -> stats.Finding:
    """RB1: vanilla IBP, active and unstable share at the end of the warm-up, long minus short ramp."""
    short, long = (by_seed(frame, f"alive_{END}", method=VANILLA, panel=panel) for panel in (SHORT, LONG))
    return stats.greater(long, short, name="ramp of 80 - ramp of 20 epochs")


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: CourseSettings) -> Figure:
    from bench.report import figure

    drawn, axes = figure.panels(1, len(SHOWN), sharey=True)
    for place, method in zip(axes, SHOWN, strict=True):
        for course in settings.courses:
            schedule = settings.schedule(course)
            own = frame[(frame["metric"] == "alive") & (frame["method"] == method)]
            own = own[(own["panel"] == BLOCKS[course].panel) & (own["x"] <= schedule.warmup)]
            ramp = own[own["x"] >= schedule.zero].assign(x=100 * (own["x"] - schedule.zero) / schedule.ramp)
            figure.band(place, ramp, series=course, label=f"ramp of {schedule.ramp} epochs")
        place.set(xlabel="ramp (%)", title=NAMES[method], ylim=(0, 103))
    axes[0].set_ylabel("active or unstable neurons (%)")
    figure.legend(axes[0], published=False)
    drawn.suptitle(f"CNN-7, {substitution(settings, settings.courses[-1], schedule=False)}")
    return drawn


EXHIBIT = Exhibit(
    name="certified/rampbalance",
    title="Ramp length and balance of ReLUs (Appendix B)",
    caption=(
        "Share of active or unstable neurons over a short and a long ramp, mean over the ReLU layers of CNN-7, on the test "
        "set. Bands are 95 % intervals over seeds."
    ),
    kind="figure",
    settings=CourseSettings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(
        Claim(
            "RB1",
            "A shorter warm-up leaves fewer active and unstable neurons.",
            "Section 3.3, Appendix B",
            short_ramp_unbalances,
        ),
    ),
)
