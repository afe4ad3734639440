"""Figure 7: online learning with shrink perturb.

Figure 2's protocol (1,000 new CIFAR-10 samples a round, ResNet-18, Adam, 99 % train accuracy), where the weights of every
round, the first included, are lambda times those at hand plus 0.01 times a newly drawn network. The caption calls lambda = 0
random initialisation, but its first rounds are not those of Figure 2; noise of 0.1 fits them, so lambda = 0 is run with it,
and Figure 2's random initialisation beside it.

Expected (digitised): at the end 80.2, 78.0, 76.6, 73.9, 65.0 % for lambda .2, .4, .6, .8, 1; the smaller, the slower.
Cost: six arms of 34 rounds beside Figure 2's random initialisation, about 45 M samples a seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from pydantic import Field

from bench import stats
from bench.exhibit import Arm, by_seed, claim
from bench.report import figure
from bench.stats import Values
from bench.warmstart.design import ONLINE, RI, SP, Shrink, WarmstartSettings, arm
from bench.warmstart.exhibits._figures import PUBLISHED, Series, accuracy_and_cost, method_series, round_cost
from bench.warmstart.exhibits._rows import chance_of, lambda_panel, last_round, round_rows, shrinks_of
from bench.warmstart.runs import online_shrink

CAPTION = (
    "Validation accuracy (left) and cost of training (right) by round when each starts from λ times the last round's "
    "weights plus s times a new network. The cost is in seconds, beside the published ones of a P100 as context, where "
    "all runs had the machine to themselves, and in samples elsewhere. Every third published round is shown. "
) + PUBLISHED
MARGINS = {"val_acc": 3.0}
CHAOTIC = True


class Settings(WarmstartSettings):
    selects = WarmstartSettings.selects | {"shrinks"}

    increment: int = Field(1000, ge=1, description="samples added in a round [P]")
    shrinks: tuple[Shrink, ...] = Field((1.0, 0.8, 0.6, 0.4, 0.2, 0.0), description="lambda [P]")
    perturb: float = Field(0.01, ge=0, description="noise scale s where lambda > 0 [P]")
    perturb_at_zero: float = Field(0.1, gt=0, description="noise scale s where lambda = 0 [D]")
    first_round: bool = Field(True, description="whether the first network is shrunk and perturbed too [C]")

    def noise(self, shrink: float) -> float:
        return self.perturb if shrink else self.perturb_at_zero


def labels(shrink: float | None) -> dict[str, str]:
    """Labels of a shrink factor; ``None`` is random initialisation."""
    return {"method": RI} if shrink is None else {"method": SP, "panel": lambda_panel(shrink)}


def arms(settings: Settings) -> Iterator[Arm]:
    options: dict[str, Any] = {"increment": settings.increment, "first_round": settings.first_round}
    yield arm(online_shrink, settings, ONLINE, labels(None), shrink=0.0, perturb=1.0, **options)
    for shrink in settings.shrinks:
        noise = settings.noise(shrink)
        yield arm(online_shrink, settings, ONLINE, labels(shrink), shrink=shrink, perturb=noise, **options)


rows = round_rows
chance = chance_of


def draw(frame: Any, published: Any, settings: Settings) -> figure.Figure:
    # Every third published round, so that the curves stay visible.
    third = published["x"].mod(3000).eq(0) & published["x"].lt(33_000) | published["x"].eq(33_333)
    series = method_series(RI)
    for shrink in settings.shrinks:
        legend = f"λ = {shrink:g}, s = {settings.noise(shrink):g}"
        series.append(Series(lambda_panel(shrink), legend, labels(shrink)))
    cost = round_cost(frame)
    return accuracy_and_cost(frame, settings, series, cost=cost, published=published[third], below=4)


def at_end(frame: Any, shrink: float | None) -> Values:
    """Seed -> accuracy after the last round; ``None`` is random initialisation."""
    return by_seed(frame, "val_acc", x=last_round(frame), **labels(shrink))


def cost(frame: Any, shrink: float | None) -> Values:
    """Seed -> samples of all rounds."""
    return by_seed(frame, "samples_total", **labels(shrink))


def neighbours(frame: Any) -> Iterator[tuple[float, float]]:
    """Pairs of neighbouring shrink factors above 0, the smaller first."""
    shrinks = [shrink for shrink in shrinks_of(frame) if shrink > 0]
    if len(shrinks) < 2:
        raise KeyError("fewer than two shrink factors above 0")
    return pairwise(shrinks)


@claim(
    "F7a",
    "λ = 0.6 ends at most 1 point behind random initialisation and costs less than 60 % of its samples.",
    "Figure 7, section 4.1",
    not_expected_at={
        "ci": "in four rounds of 10 to 30 epochs the first, which nothing warms, costs as much as the others"
    },
)
def as_good_for_less(frame: Any) -> Iterator[stats.Finding]:
    yield stats.greater(at_end(frame, 0.6), at_end(frame, None), by=-1.0, name="accuracy over RI's")
    share = cost(frame, 0.6) / cost(frame, None)
    yield stats.below(share, 0.6, name="samples as a share of RI's", on=stats.LOG)


@claim("F7b", "λ = 0.2 ends more than 2 points above random initialisation.", "Figure 7")
def better_than_fresh(frame: Any) -> stats.Finding:
    return stats.greater(at_end(frame, 0.2), at_end(frame, None), by=2.0)


@claim("F7c", "The more the weights shrink, the more training costs.", "Figure 7")
def less_shrinking_is_cheaper(frame: Any) -> Iterator[stats.Finding]:
    for small, large in neighbours(frame):
        name = f"samples, lambda {small:g} over {large:g}"
        yield stats.greater(cost(frame, small), cost(frame, large), name=name)


@claim("F7d", "The more the weights shrink, the better the end.", "Figure 7")
def more_shrinking_is_better(frame: Any) -> Iterator[stats.Finding]:
    for small, large in neighbours(frame):
        name = f"accuracy, lambda {small:g} over {large:g}"
        yield stats.greater(at_end(frame, small), at_end(frame, large), name=name)
