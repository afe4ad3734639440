"""Figure 4: L_relu during the warm-up.

CNN-7 on CIFAR-10 with 160 epochs: the regulariser's value (Equation 8) by epoch, on the test set, also for methods that do
not train with it: rows 1, 3, 4, 7 and 8 of Table 4 (two of the five names are inferred). It is large where active and
inactive neurons are out of balance.

Expected: at the end of the warm-up both methods with regularisers lie below vanilla IBP and the initialisation alone, and
without BatchNorm the imbalance is largest. No number of the figure is known.
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
    "Value of the ReLU regulariser on the test set at the eps of each warm-up epoch, CNN-7 on CIFAR-10, for methods "
    "with and without it. A layer without active neurons counts 2, as in the authors' log. Bands are 95 % intervals over "
    "seeds."
)

R1, R3, R4, R7, R8 = CURVES

Settings = CertifiedSettings


def arms(settings: Settings) -> Iterator[Arm]:
    return curves(settings, ("cifar_160",))


def rows(run: ArmRun, record: Record) -> Iterable[Row]:
    return term_rows(run, record, "relu")


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    return draw_term(frame, settings, "cifar_160", "relu", "L_relu")


def _above(frame: Any, higher: tuple[str, ...], lower: tuple[str, ...]) -> Iterator[Finding]:
    """Whether each of the first rows lies above each of the second."""
    values = {method: by_seed(frame, f"relu_{END}", method=method) for method in CURVES}
    for high in higher:
        for low in lower:
            yield greater(values[high], values[low], name=f"{NAMES[high]} - {NAMES[low]}")


@claim(
    "F4a",
    "At the end of the warm-up active and inactive neurons are better balanced with the regularisers.",
    "Figure 4",
)
def balanced_with_regularisers(frame: Any) -> Iterator[Finding]:
    return _above(frame, (R3, R4), (R7, R8))


@claim("F4b", "Without BatchNorm the imbalance at the end of the warm-up is the largest.", "Figure 4")
def unbalanced_without_bn(frame: Any) -> Iterator[Finding]:
    return _above(frame, (R1,), (R3, R4, R7, R8))
