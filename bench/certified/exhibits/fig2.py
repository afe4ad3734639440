"""Figure 2: shares of active and unstable ReLUs in training, CNN-7 on CIFAR-10.

Without BatchNorm most neurons end up inactive (their upper bound is negative); BatchNorm, and more so the regularisers,
keep neurons active or unstable. Shares are means over layers, on the test set, at the eps of the epoch. The paper does not
say whether its axis is the epoch: here curves over epochs, and the last epoch beside them, for rows 1, 3, 4, 7 and 8 of
Table 4, whose runs these are.

Command: ``make reproduce SCALE=paper EXHIBITS=certified/fig2``
Expected: without BatchNorm the most inactive neurons; at the end of the warm-up ours has more active and unstable ones than
vanilla IBP, and that more than without BatchNorm. No number of the figure is known.
Cost: none beside Table 4.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bench import stats
from bench.certified.course_grid import (
    END,
    LOOKS,
    SERIES,
    CourseSettings,
    course_members,
    each_panel,
    settle_looks,
    share_rows,
)
from bench.certified.design import BLOCKS, NAMES, substitution
from bench.exhibit import ArmRun, Claim, Exhibit, Row, by_seed
from bench.record import Record

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

R1, R3, R4, R7, R8 = SERIES


def members(settings: CourseSettings) -> list[ArmRun]:
    return course_members(settings, settings.courses)


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    return share_rows(member, record)


def without_bn_most_inactive(frame: Any) -> stats.Finding:
    """F2a: at the end of the warm-up, against every other series."""
    return each_panel(
        frame,
        lambda panel: [
            stats.greater(
                by_seed(frame, f"inactive_{END}", method=R1, panel=panel),
                by_seed(frame, f"inactive_{END}", method=other, panel=panel),
                name=f"inactive, no BN - {NAMES[other]}, {panel}",
            )
            for other in (R3, R4, R7, R8)
        ],
    )


def ours_most_alive(frame: Any) -> stats.Finding:
    """F2b: active and unstable share at the end of the warm-up: ours > vanilla > without BatchNorm."""

    def tests(panel: str) -> list[stats.Finding]:
        ours, vanilla, none = (by_seed(frame, f"alive_{END}", method=method, panel=panel) for method in (R8, R3, R1))
        return [
            stats.greater(ours, vanilla, name=f"ours - vanilla IBP, {panel}"),
            stats.greater(vanilla, none, name=f"vanilla IBP - no BN, {panel}"),
        ]

    return each_panel(frame, tests)


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: CourseSettings) -> Figure:
    from matplotlib.ticker import MaxNLocator

    from bench.report import figure

    drawn, axes = figure.panels(len(settings.courses), 3, sharey="row", height=2.1 * len(settings.courses) + 0.5)
    settle_looks(axes[0])
    for index, course in enumerate(settings.courses):
        panel, schedule = BLOCKS[course].panel, settings.schedule(course)
        own = frame[frame["panel"] == panel]
        places = axes[3 * index : 3 * index + 3]
        for place, metric, name in ((places[0], "active", "active"), (places[1], "alive", "active or unstable")):
            for method in SERIES:
                chosen = own[(own["metric"] == metric) & (own["method"] == method)]
                figure.band(place, chosen, series=LOOKS[method], label=NAMES[method])
            place.axvline(schedule.warmup, linestyle="--", color="0.5", linewidth=0.8)
            place.set(xlabel="epoch", title=name, ylim=(0, 103))
            place.xaxis.set_major_locator(MaxNLocator(integer=True))
        places[0].set_ylabel(f"neurons (%), {schedule.epochs} epochs")
        final = [_last(own, method) for method in SERIES]
        figure.bars(places[2], [""] * len(SERIES), final, series=[LOOKS[m] for m in SERIES])
        places[2].set(title="active or unstable, last epoch")
    figure.legend(axes[0], published=False, below=len(SERIES))
    drawn.suptitle(f"CNN-7, {substitution(settings, settings.courses[-1], schedule=False)}")
    return drawn


def _last(frame: pd.DataFrame, method: str) -> dict[int, float]:
    chosen = frame[(frame["metric"] == "alive") & (frame["method"] == method)]
    chosen = chosen[chosen["x"] == chosen["x"].max()]
    return dict(zip(chosen["seed"].tolist(), chosen["value"].tolist(), strict=True))


EXHIBIT = Exhibit(
    name="certified/fig2",
    title="Figure 2: active and unstable ReLUs in training",
    caption=(
        "Shares of neurons whose lower bound is positive (active), or whose bounds include zero too (active or unstable), "
        "mean over the ReLU layers of CNN-7, on the test set at the eps of each epoch. The dashed line is the end of the "
        "warm-up; bands and bars are 95 % intervals over seeds."
    ),
    kind="figure",
    settings=CourseSettings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(
        Claim(
            "F2a",
            "Without BatchNorm more neurons are inactive than in any other setting.",
            "Figure 2, section 3.3",
            without_bn_most_inactive,
        ),
        Claim(
            "F2b",
            "At the end of the warm-up ours has more active and unstable neurons than vanilla IBP, and vanilla IBP more "
            "than without BatchNorm.",
            "Figure 2",
            ours_most_alive,
        ),
    ),
)
