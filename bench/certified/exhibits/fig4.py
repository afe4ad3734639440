"""Figure 4: L_relu during the warm-up, CNN-7 on CIFAR-10 with 160 epochs.

The regulariser's value (Equation 8) by epoch, on the test set, also for methods that do not train with it: rows 1, 3, 4, 7
and 8 of Table 4 (two of the five names are inferred). It is large where active and inactive neurons are out of balance.

Command: ``make reproduce SCALE=paper EXHIBITS=certified/fig4``
Expected: at the end of the warm-up both methods with regularisers lie below vanilla IBP and the initialisation alone, and
without BatchNorm the imbalance is largest. No number of the figure is known.
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
    return term_rows(member, record, "relu")


def _above(frame: Any, pairs: list[tuple[str, str]]) -> stats.Finding:
    values = {method: by_seed(frame, f"relu_{END}", method=method) for method in SERIES}
    return stats.all_of(
        [stats.greater(values[high], values[low], name=f"{NAMES[high]} - {NAMES[low]}") for high, low in pairs]
    )


def balanced_with_regularisers(frame: Any) -> stats.Finding:
    """F4a: at the end of the warm-up r7 and r8 lie below r3 and r4."""
    return _above(frame, [(high, low) for high in (R3, R4) for low in (R7, R8)])


def unbalanced_without_bn(frame: Any) -> stats.Finding:
    """F4b: r1 lies above all others."""
    return _above(frame, [(R1, other) for other in (R3, R4, R7, R8)])


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: CertifiedSettings) -> Figure:
    return draw_term(frame, settings, "cifar_160", "relu", "L_relu")


EXHIBIT = Exhibit(
    name="certified/fig4",
    title="Figure 4: L_relu during the warm-up",
    caption=(
        "Value of the ReLU regulariser on the test set at the eps of each warm-up epoch, CNN-7 on CIFAR-10, for methods "
        "with and without it. Bands are 95 % intervals over seeds."
    ),
    kind="figure",
    settings=CertifiedSettings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(
        Claim(
            "F4a",
            "At the end of the warm-up active and inactive neurons are better balanced with the regularisers.",
            "Figure 4",
            balanced_with_regularisers,
        ),
        Claim(
            "F4b",
            "Without BatchNorm the imbalance at the end of the warm-up is the largest.",
            "Figure 4",
            unbalanced_without_bn,
        ),
    ),
)
