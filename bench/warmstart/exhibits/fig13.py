"""Figure 13: online learning as in Figure 2 on another data set and with another network.

1,000 new samples a round, each round to 99 % train accuracy, from random weights or from the last round's; Adam, learning
rate 1e-3. Which pairs the paper shows is not certain: ours are a ResNet-18 on SVHN and the ReLU MLP on CIFAR-10.

Command: ``make reproduce SCALE=paper EXHIBITS=warmstart/fig13``
Expected: warm starting ends behind in each; no numbers are available.
Cost: two arms of 49 rounds on SVHN and two of 34 of an MLP, 5 seeds: about 300 M samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit
from bench.run import StrictModel
from bench.warmstart.appendix import distinct, gaps
from bench.warmstart.design import (
    DATASETS,
    FRESH,
    KEPT,
    MODELS,
    NAMES,
    RI,
    WS,
    Role,
    WarmstartSettings,
    last_round,
    online,
    round_rows,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Pair(StrictModel):
    """A data set and a network."""

    dataset: Role = Field(description="data set")
    model: Literal["thin_resnet18", "mlp"] = Field(description="network; the MLP has ReLU in online runs")


class Settings(WarmstartSettings):
    selects = WarmstartSettings.selects | {"pairs"}

    pairs: tuple[Pair, ...] = Field(
        (Pair(dataset="svhn", model="thin_resnet18"), Pair(dataset="cifar10", model="mlp")),
        min_length=1,
        description="what is trained online [U]",
    )
    increment: int = Field(1000, ge=1, description="samples added in a round [P]")


def members(settings: Settings) -> list[ArmRun]:
    made = []
    for one in settings.pairs:
        for method, start in ((RI, FRESH), (WS, KEPT)):
            labels = {"dataset": one.dataset, "model": one.model, "method": method, "optimizer": "adam"}
            made += [
                ArmRun(
                    labels,
                    online(settings, one.dataset, one.model, "adam", seed, increment=settings.increment, start=start),
                )
                for seed in settings.seed_range()
            ]
    return made


def same_sign(frame: Any) -> stats.Finding:
    """F13: random initialisation ends higher in every pair."""
    parts = []
    for dataset in distinct(frame, "dataset"):
        for model in distinct(frame[frame["dataset"] == dataset], "model"):
            own = frame[(frame["dataset"] == dataset) & (frame["model"] == model)]
            parts.append(stats.above(gaps(own, x=last_round(own)), 0.0, name=f"gap, {MODELS[model]} on {dataset}"))
    return stats.all_of(parts)


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    from bench.report import figure

    drawn, axes = figure.panels(2, len(settings.pairs))
    columns = len(settings.pairs)
    for column, one in enumerate(settings.pairs):
        own = frame[(frame["dataset"] == one.dataset) & (frame["model"] == one.model)]
        above, below = axes[column], axes[columns + column]
        for method in (RI, WS):
            for metric, place in (("val_acc", above), ("samples_round", below)):
                chosen = own[(own["metric"] == metric) & (own["method"] == method)]
                figure.band(place, chosen, series=method, label=NAMES[method])
        actual = settings.dataset(one.dataset)
        generated = "" if actual == one.dataset else " (generated images)"
        above.set(title=f"{MODELS[one.model]} on {DATASETS[one.dataset]}{generated}")
        below.set(xlabel="samples")
        below.set_ylim(bottom=0)
    axes[0].set_ylabel("validation accuracy (%)")
    axes[columns].set_ylabel("samples of a round")
    figure.legend(axes[0], published=False)
    return drawn


EXHIBIT = Exhibit(
    name="warmstart/fig13",
    title="Figure 13: online learning on another data set and with another network",
    caption=(
        "Validation accuracy (above) and training samples of each round (below) when samples arrive in rounds. Bands are "
        "95 % intervals over seeds; the paper's numbers are not available."
    ),
    kind="figure",
    settings=Settings,
    runs=members,
    module=__name__,
    rows=round_rows,
    draw=draw,
    claims=(Claim("F13", "Warm starting ends behind on other data sets and networks too.", "Appendix", same_sign),),
)
