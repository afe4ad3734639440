"""Figure 13: online learning on another data set and with another network.

1,000 new samples a round, each round to 99 % train accuracy, from random weights or from the last round's; Adam, learning
rate 1e-3. Which pairs the paper shows is not certain: ours are a ResNet-18 on SVHN and the ReLU MLP on CIFAR-10.

Expected: warm starting ends behind in each; no numbers are available.
Cost: two arms of 49 rounds on SVHN and two of 34 of an MLP, 5 seeds: about 300 M samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from bench import stats
from bench.exhibit import Arm, claim
from bench.report import figure
from bench.run import StrictModel
from bench.warmstart.design import NAMES, PaperDataset, Setup, WarmstartSettings, arm
from bench.warmstart.exhibits._figures import curves, method_series, title
from bench.warmstart.exhibits._rows import chance_of, combinations, gaps, last_round, round_rows, where
from bench.warmstart.runs import STARTS, online

CAPTION = (
    "Validation accuracy (above) and training samples of each round (below) when samples arrive in rounds. Bands are "
    "95 % intervals over seeds; the paper's numbers are not available."
)


class Pair(StrictModel):
    """A data set and a network."""

    dataset: PaperDataset = Field(description="data set")
    model: Literal["thin_resnet18", "mlp"] = Field(description="network; the MLP has ReLU in online runs")


class Settings(WarmstartSettings):
    selects = WarmstartSettings.selects | {"pairs"}

    pairs: tuple[Pair, ...] = Field(
        (Pair(dataset="svhn", model="thin_resnet18"), Pair(dataset="cifar10", model="mlp")),
        min_length=1,
        description="what is trained online [U]",
    )
    increment: int = Field(1000, ge=1, description="samples added in a round [P]")


def arms(settings: Settings) -> Iterator[Arm]:
    for pair in settings.pairs:
        setup = Setup(pair.dataset, pair.model, "adam")
        for method, start in STARTS.items():
            yield arm(online, settings, setup, {"method": method}, increment=settings.increment, start=start)


rows = round_rows
chance = chance_of


def draw(frame: Any, published: Any, settings: Settings) -> figure.Figure:
    columns = len(settings.pairs)
    fig, axes = figure.panels(2, columns)
    for upper, lower, pair in zip(axes[:columns], axes[columns:], settings.pairs, strict=True):
        numbers = where(frame, dataset=pair.dataset, model=pair.model)
        for ax, metric in ((upper, "val_acc"), (lower, "samples_round")):
            curves(ax, numbers, method_series(*STARTS), metric=metric)
        upper.set(title=f"{NAMES[pair.model]} on {title(settings, pair.dataset)}")
        lower.set(xlabel="samples")
        lower.set_ylim(bottom=0)
    axes[0].set_ylabel("validation accuracy (%)")
    axes[columns].set_ylabel("samples of a round")
    figure.legend(axes[0], published=False)
    return fig


@claim("F13", "Warm starting ends behind on other data sets and networks too.", "Appendix")
def same_sign(frame: Any) -> Iterator[stats.Finding]:
    for dataset, model in combinations(frame, "dataset", "model"):
        numbers = where(frame, dataset=dataset, model=model)
        yield stats.above(gaps(numbers, x=last_round(numbers)), 0.0, name=f"gap, {NAMES[model]} on {dataset}")
