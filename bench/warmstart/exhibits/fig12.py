"""Figure 12: repeated shrink-perturb on static data.

A ResNet-18 is fitted to all of CIFAR-10, then shrunk, perturbed and fitted again, ten times; accuracy after each cycle.
The protocol is not published: ours is lambda 0.6, s 0.01, Adam with learning rate 1e-3, 99 % train accuracy each time.

Expected: a slight gain of accuracy.
Cost: 11 fits of the whole set a seed, about 6 M samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from bench import stats
from bench.exhibit import Arm, ArmRun, Row, by_seed, claim, row
from bench.record import Record
from bench.report import figure
from bench.warmstart.design import ONLINE, SP, Setup, WarmstartSettings, arm
from bench.warmstart.exhibits._figures import accuracy_and_cost, method_series, title
from bench.warmstart.exhibits._rows import chance_of, where
from bench.warmstart.runs import shrink_start
from bench.warmstart.spec import FRESH, Round, Training

CAPTION = (
    "Validation accuracy (left) and cost (right) when a network that fits all data is shrunk, perturbed and fitted to "
    "the same data again. Bands are 95 % intervals over seeds; the paper's numbers are not available."
)


class Settings(WarmstartSettings):
    cycles: int = Field(10, ge=1, le=200, description="times that the network is shrunk and fitted again [O]")
    shrink: float = Field(0.6, ge=0, le=1, description="lambda [O]")
    perturb: float = Field(0.01, ge=0, description="s [O]")


def repeated(settings: Settings, setup: Setup, seed: int) -> Training:
    fit = settings.fit_samples(setup.dataset)
    again = shrink_start(settings.shrink, settings.perturb)
    rounds = (Round(samples=fit, start=FRESH), Round(samples=fit, start=again, repeats=settings.cycles))
    return settings.training(setup, seed, rounds=rounds, online=True)


def arms(settings: Settings) -> Iterator[Arm]:
    yield arm(repeated, settings, ONLINE, {"method": SP})


def rows(run: ArmRun, record: Record) -> Iterator[Row]:
    rounds = record.series["rounds"]
    for cycle, (accuracy, samples) in enumerate(zip(rounds["report_acc"], rounds["samples"], strict=True)):
        yield row(run, "val_acc", accuracy, panel="left", x_name="cycle", x=cycle)
        yield row(run, "samples_round", samples, panel="right", x_name="cycle", x=cycle)


chance = chance_of


def draw(frame: Any, published: Any, settings: Settings) -> figure.Figure:
    from matplotlib.ticker import MaxNLocator

    cost = ("samples_round", "samples until 99 % train accuracy")
    fig = accuracy_and_cost(frame, settings, method_series(SP), cost=cost, x="cycle (0 is the first fit)")
    for ax in fig.axes:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    fig.suptitle(f"{title(settings)}, λ = {settings.shrink:g}, s = {settings.perturb:g}")
    return fig


@claim("F12", "Shrinking, perturbing and fitting again gains accuracy without new data.", "Appendix")
def gains(frame: Any) -> stats.Finding:
    """The last cycle ends above the first fit."""
    last = where(frame, x_name="cycle")["x"].max()
    return stats.greater(by_seed(frame, "val_acc", x=last), by_seed(frame, "val_acc", x=0))
