"""Figure 3: L_tightness during the warm-up, CNN-7 on CIFAR-10 with 160 epochs.

The regulariser's value (Equation 7) by epoch, on the test set, also for methods that do not train with it: rows 1, 3, 4, 7
and 8 of Table 4 (two of the five names are inferred). It is large while bounds are loose against the input box.

Command: ``make reproduce SCALE=paper EXHIBITS=certified/fig3``
Expected: early in the warm-up ours lies below the regularisers without the IBP initialisation, and those below vanilla
IBP; without BatchNorm it stays large. No number of the figure is known.
Cost: none beside Table 4.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bench import stats
from bench.certified.course_grid import END, SERIES, course_members, draw_term, term_rows
from bench.certified.design import NAMES, CertifiedSettings
from bench.exhibit import ArmRun, Claim, Exhibit, Row, by_seed
from bench.record import Record

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

R1, R3, R4, R7, R8 = SERIES


def members(settings: CertifiedSettings) -> list[ArmRun]:
    return course_members(settings, ("cifar_160",))


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    return term_rows(member, record, "tightness")


def tight_early(frame: Any) -> stats.Finding:
    """F3a: mean over epochs 2 to 20 (the first quarter of the ramp): r8 < r7 < r3."""
    ours, regularised, vanilla = (by_seed(frame, "tightness_early", method=method) for method in (R8, R7, R3))
    return stats.all_of(
        [
            stats.greater(regularised, ours, name="regularisers without init - ours"),
            stats.greater(vanilla, regularised, name="vanilla IBP - regularisers without init"),
        ]
    )


def loose_without_bn(frame: Any) -> stats.Finding:
    """F3b: at the end of the warm-up r1 lies above r7 and r8."""
    loose = by_seed(frame, f"tightness_{END}", method=R1)
    return stats.all_of(
        [
            stats.greater(loose, by_seed(frame, f"tightness_{END}", method=other), name=f"no BN - {NAMES[other]}")
            for other in (R7, R8)
        ]
    )


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: CertifiedSettings) -> Figure:
    return draw_term(frame, settings, "cifar_160", "tightness", "L_tightness")


EXHIBIT = Exhibit(
    name="certified/fig3",
    title="Figure 3: L_tightness during the warm-up",
    caption=(
        "Value of the tightness regulariser on the test set at the eps of each warm-up epoch, CNN-7 on CIFAR-10, for "
        "methods with and without it. Bands are 95 % intervals over seeds."
    ),
    kind="figure",
    settings=CertifiedSettings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(
        Claim(
            "F3a",
            "Early in the warm-up the regularisers tighten the bounds, and the IBP initialisation tightens them further.",
            "Figure 3",
            tight_early,
        ),
        Claim(
            "F3b",
            "Without BatchNorm bounds stay looser to the end of the warm-up than with the regularisers.",
            "Figure 3",
            loose_without_bn,
        ),
    ),
)
