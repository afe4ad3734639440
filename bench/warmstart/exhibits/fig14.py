"""Figure 14: shrinking and perturbing the last layer alone does not close the gap.

The online protocol of Figure 2 (ResNet-18, CIFAR-10, Adam, 1,000 samples a round); before each round only the classifier is
shrunk by lambda and perturbed. The protocol's details are not published: ours is s 0.01 and three values of lambda.

Command: ``make reproduce SCALE=paper EXHIBITS=warmstart/fig14``
Expected: every lambda ends well behind random initialisation; no numbers are available.
Cost: three arms of 34 rounds a seed; random initialisation and warm start are Figure 2's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit
from bench.warmstart.appendix import Shrink, distinct, gaps
from bench.warmstart.design import (
    FRESH,
    KEPT,
    NAMES,
    RI,
    WS,
    WarmstartSettings,
    last_round,
    online,
    round_rows,
    shrink_start,
    substitution,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LAST = "last_layer"


class Settings(WarmstartSettings):
    increment: int = Field(1000, ge=1, description="samples added in a round [P]")
    shrinks: tuple[Shrink, ...] = Field((0.0, 0.3, 0.6), min_length=1, description="lambda of the last layer [O]")
    perturb: float = Field(0.01, ge=0, description="s, where lambda is above 0; a layer of lambda 0 is drawn anew [O]")


def name_of(shrink: float) -> str:
    return f"{LAST} λ={shrink:g}"


def members(settings: Settings) -> list[ArmRun]:
    arms = {RI: FRESH, WS: KEPT}
    for shrink in settings.shrinks:
        arms[name_of(shrink)] = shrink_start(shrink, settings.perturb if shrink else 1.0, layers="last")
    made = []
    for method, start in arms.items():
        labels = {"dataset": "cifar10", "model": "thin_resnet18", "method": method, "optimizer": "adam"}
        made += [
            ArmRun(
                labels,
                online(settings, "cifar10", "thin_resnet18", "adam", seed, increment=settings.increment, start=start),
            )
            for seed in settings.seed_range()
        ]
    return made


def gap_remains(frame: Any) -> stats.Finding:
    """F14: random initialisation ends above each arm that shrinks the last layer alone."""
    at = last_round(frame)
    arms = [method for method in distinct(frame, "method") if method.startswith(LAST)]
    return stats.all_of([stats.above(gaps(frame, second=method, x=at), 0.0, name=f"gap, {method}") for method in arms])


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    from bench.report import figure

    drawn, axes = figure.panels(1, 2)
    for method in (RI, WS, *(name_of(shrink) for shrink in settings.shrinks)):
        for metric, place in (("val_acc", axes[0]), ("samples_round", axes[1])):
            chosen = frame[(frame["metric"] == metric) & (frame["method"] == method)]
            figure.band(place, chosen, series=method, label=NAMES.get(method, method.replace("_", " ")))
    axes[0].set(xlabel="samples", ylabel="validation accuracy (%)")
    axes[1].set(xlabel="samples", ylabel="samples of a round")
    axes[1].set_ylim(bottom=0)
    figure.legend(axes[0], published=False)
    drawn.suptitle(substitution(settings, "cifar10"))
    return drawn


EXHIBIT = Exhibit(
    name="warmstart/fig14",
    title="Figure 14: shrinking the last layer alone",
    caption=(
        "Validation accuracy (left) and training samples (right) by round when only the classifier is shrunk and perturbed "
        "before each round. Bands are 95 % intervals over seeds; the paper's numbers are not available."
    ),
    kind="figure",
    settings=Settings,
    runs=members,
    module=__name__,
    rows=round_rows,
    draw=draw,
    claims=(Claim("F14", "Shrinking the last layer alone leaves the gap.", "Appendix", gap_remains),),
)
