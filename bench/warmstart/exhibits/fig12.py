"""Figure 12: shrink and perturb again and again on data that do not change.

A ResNet-18 is fitted to all of CIFAR-10, then shrunk, perturbed and fitted again, ten times; accuracy after each cycle.
The protocol is not published: ours is lambda 0.6, s 0.01, Adam with learning rate 1e-3, 99 % train accuracy each time.

Command: ``make reproduce SCALE=paper EXHIBITS=warmstart/fig12``
Expected: a slight gain of accuracy.
Cost: 11 fits of the whole set a seed, about 6 M samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit, Row, by_seed, row
from bench.record import Record
from bench.warmstart.design import NAMES, SP, WarmstartSettings, shrink_start, substitution
from bench.warmstart.spec import FRESH, Round

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Settings(WarmstartSettings):
    cycles: int = Field(10, ge=1, le=200, description="times that the network is shrunk and fitted again [O]")
    shrink: float = Field(0.6, ge=0, le=1, description="lambda [O]")
    perturb: float = Field(0.01, ge=0, description="s [O]")


def members(settings: Settings) -> list[ArmRun]:
    fit = settings.fit_samples("cifar10")
    again = shrink_start(settings.shrink, settings.perturb)
    rounds = (Round(samples=fit, start=FRESH), Round(samples=fit, start=again, repeats=settings.cycles))
    labels = {"dataset": "cifar10", "model": "thin_resnet18", "method": SP, "optimizer": "adam"}
    return [
        ArmRun(labels, settings.training("cifar10", "thin_resnet18", "adam", seed, rounds=rounds, online=True))
        for seed in settings.seed_range()
    ]


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    rounds = record.series["rounds"]
    for cycle, (accuracy, samples) in enumerate(zip(rounds["report_acc"], rounds["samples"], strict=True)):
        yield row(member, "val_acc", accuracy, panel="left", x_name="cycle", x=cycle)
        yield row(member, "samples_round", samples, panel="right", x_name="cycle", x=cycle)


def gains(frame: Any) -> stats.Finding:
    """F12: the last cycle ends above the first fit."""
    last = frame[frame["x_name"] == "cycle"]["x"].max()
    return stats.greater(by_seed(frame, "val_acc", x=last), by_seed(frame, "val_acc", x=0))


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    from matplotlib.ticker import MaxNLocator

    from bench.report import figure

    drawn, axes = figure.panels(1, 2)
    for metric, place in (("val_acc", axes[0]), ("samples_round", axes[1])):
        figure.band(place, frame[frame["metric"] == metric], series=SP, label=NAMES[SP])
        place.set(xlabel="cycle (0 is the first fit)")
        place.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_ylabel("validation accuracy (%)")
    axes[1].set_ylabel("samples until 99 % train accuracy")
    axes[1].set_ylim(bottom=0)
    figure.legend(axes[0], published=False)
    name = substitution(settings, "cifar10")
    drawn.suptitle(f"{name}, λ = {settings.shrink:g}, s = {settings.perturb:g}")
    return drawn


EXHIBIT = Exhibit(
    name="warmstart/fig12",
    title="Figure 12: repeated shrink-perturb on static data",
    caption=(
        "Validation accuracy (left) and cost (right) when a network that fits all data is shrunk, perturbed and fitted to "
        "the same data again. Bands are 95 % intervals over seeds; the paper's numbers are not available."
    ),
    kind="figure",
    settings=Settings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(
        Claim("F12", "Shrinking, perturbing and fitting again gains accuracy without new data.", "Appendix", gains),
    ),
)
