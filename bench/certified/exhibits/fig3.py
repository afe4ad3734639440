"""Figure 3: L_tightness during the warm-up.

CNN-7 on CIFAR-10 with 160 epochs: the regulariser's value (Equation 7) by epoch, on the test set, also for methods that do
not train with it: rows 1, 3, 4, 7 and 8 of Table 4 (two of the five names are inferred). It is large while bounds are loose
against the input box.

Expected: early in the warm-up ours lies below the regularisers without the IBP initialisation, and those below vanilla
IBP; without BatchNorm it stays large. No number of the figure is known.
Cost: none beside Table 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from bench.certified.design import CURVES, NAMES, CertifiedSettings, curves
from bench.certified.exhibits._figures import draw_term
from bench.certified.exhibits._rows import END, term_rows
from bench.exhibit import Arm, ArmRun, Row, by_seed, claim
from bench.record import Record
from bench.stats import Finding, greater

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CAPTION = (
    "Value of the tightness regulariser on the test set at the eps of each warm-up epoch, CNN-7 on CIFAR-10, for "
    "methods with and without it. Bands are 95 % intervals over seeds."
)

R1, R3, R4, R7, R8 = CURVES

Settings = CertifiedSettings


def arms(settings: Settings) -> Iterator[Arm]:
    return curves(settings, ("cifar_160",))


def rows(run: ArmRun, record: Record) -> Iterable[Row]:
    return term_rows(run, record, "tightness")


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    return draw_term(frame, settings, "cifar_160", "tightness", "L_tightness")


@claim(
    "F3a",
    "Early in the warm-up the regularisers tighten the bounds, and the IBP initialisation tightens them further.",
    "Figure 3",
)
def tight_early(frame: Any) -> Iterator[Finding]:
    """Mean over epochs 2 to 20 (the first quarter of the ramp)."""
    ours, regularised, vanilla = (by_seed(frame, "tightness_early", method=method) for method in (R8, R7, R3))
    yield greater(regularised, ours, name="regularisers without init - ours")
    yield greater(vanilla, regularised, name="vanilla IBP - regularisers without init")


@claim("F3b", "Without BatchNorm bounds stay looser to the end of the warm-up than with the regularisers.", "Figure 3")
def loose_without_bn(frame: Any) -> Iterator[Finding]:
    loose = by_seed(frame, f"tightness_{END}", method=R1)
    for other in (R7, R8):
        yield greater(loose, by_seed(frame, f"tightness_{END}", method=other), name=f"no BN - {NAMES[other]}")
