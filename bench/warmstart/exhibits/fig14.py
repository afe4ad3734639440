"""Figure 14: shrinking the last layer alone.

The online protocol of Figure 2 (ResNet-18, CIFAR-10, Adam, 1,000 samples a round); before each round only the classifier is
shrunk by lambda and perturbed. The protocol's details are not published: ours is s 0.01 and three values of lambda.

Expected: every lambda ends well behind random initialisation; no numbers are available.
Cost: three arms of 34 rounds a seed; random initialisation and warm start are Figure 2's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from bench import stats
from bench.exhibit import Arm, claim
from bench.report import figure
from bench.warmstart.design import ONLINE, Shrink, WarmstartSettings, arm
from bench.warmstart.exhibits._figures import accuracy_and_cost, method_series
from bench.warmstart.exhibits._rows import chance_of, distinct, gaps, last_round, round_rows
from bench.warmstart.runs import STARTS, online, shrink_start

CAPTION = (
    "Validation accuracy (left) and training samples (right) by round when only the classifier is shrunk and perturbed "
    "before each round. Bands are 95 % intervals over seeds; the paper's numbers are not available."
)
LAST = "last_layer"


class Settings(WarmstartSettings):
    increment: int = Field(1000, ge=1, description="samples added in a round [P]")
    shrinks: tuple[Shrink, ...] = Field((0.0, 0.3, 0.6), min_length=1, description="lambda of the last layer [O]")
    perturb: float = Field(0.01, ge=0, description="s, where lambda is above 0; a layer of lambda 0 is drawn anew [O]")


def name_of(shrink: float) -> str:
    return f"{LAST} λ={shrink:g}"


def arms(settings: Settings) -> Iterator[Arm]:
    starts = {
        name_of(shrink): shrink_start(shrink, settings.perturb if shrink else 1.0, layers="last")
        for shrink in settings.shrinks
    }
    for method, start in {**STARTS, **starts}.items():
        yield arm(online, settings, ONLINE, {"method": method}, increment=settings.increment, start=start)


rows = round_rows
chance = chance_of


def draw(frame: Any, published: Any, settings: Settings) -> figure.Figure:
    series = method_series(*STARTS, *map(name_of, settings.shrinks))
    return accuracy_and_cost(frame, settings, series, cost=("samples_round", "samples of a round"))


@claim("F14", "Shrinking the last layer alone leaves the gap.", "Appendix")
def gap_remains(frame: Any) -> Iterator[stats.Finding]:
    for method in distinct(frame, "method"):
        if method.startswith(LAST):
            yield stats.above(gaps(frame, second=method, x=last_round(frame)), 0.0, name=f"gap, {method}")
