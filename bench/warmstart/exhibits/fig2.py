"""Figure 2: online learning, 1,000 new CIFAR-10 samples at a time, from random weights or from the last round's.

At each of 34 rounds a ResNet-18 is fitted to all samples so far until 99 % train accuracy: anew from random weights (RI)
or from the weights of the round before (WS). Adam, learning rate 1e-3, batch 128, a third of the set held out, 5 seeds.

Command: ``make reproduce SCALE=paper EXHIBITS=warmstart/fig2``
Expected (digitised): at the end 75.9 % against 63.5 %; 7,840 s against 1,420 s of training in all.
Cost: 34 rounds for each of the two arms, 15 to 27 M samples for RI and a fifth of it for WS, a seed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit, Row, by_seed
from bench.record import Record
from bench.warmstart.design import (
    FRESH,
    KEPT,
    NAMES,
    RI,
    WS,
    WarmstartSettings,
    last_round,
    online_rounds,
    round_cost,
    round_rows,
    substitution,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


PAPER_SAMPLES = 33_333
"""Samples of the fit split in the paper."""


class Settings(WarmstartSettings):
    increment: int = Field(1000, ge=1, description="samples added in a round [P]")


def members(settings: Settings) -> list[ArmRun]:
    made = []
    fit = settings.fit_samples("cifar10")
    for method, start in ((RI, FRESH), (WS, KEPT)):
        labels = {"dataset": "cifar10", "model": "thin_resnet18", "method": method, "optimizer": "adam"}
        rounds = online_rounds(fit, settings.increment, start)
        made += [
            ArmRun(labels, settings.training("cifar10", "thin_resnet18", "adam", seed, rounds=rounds, online=True))
            for seed in settings.seed_range()
        ]
    return made


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    return round_rows(member, record, accuracy="left", cost="right")


def final_gap(frame: Any) -> stats.Finding:
    """F2a: the gap at the end exceeds 5 points (published 12.4)."""
    fresh, warm = (by_seed(frame, "val_acc", method=method, x=last_round(frame)) for method in (RI, WS))
    return stats.greater(fresh, warm, by=5.0)


def warm_start_is_cheaper(frame: Any) -> stats.Finding:
    """F2b: random initialisation costs more than three times as many samples (published 5.5 times the seconds)."""
    fresh, warm = (by_seed(frame, "samples_total", method=method) for method in (RI, WS))
    return stats.above(
        {seed: fresh[seed] / warm[seed] for seed in fresh if seed in warm}, 3.0, name="samples of RI over WS"
    )


def many_warm_starts_hurt_more(frames: dict[str, Any]) -> stats.Finding:
    """F2c: the gap after many warm starts exceeds that after one (Table 1, ResNet, Adam)."""
    online, single = frames["warmstart/fig2"], frames["warmstart/table1"]
    fresh, warm = (by_seed(online, "val_acc", method=method, x=last_round(online)) for method in (RI, WS))
    cell = {"dataset": "cifar10", "model": "thin_resnet18", "optimizer": "adam"}
    once_fresh, once_warm = (by_seed(single, "val_acc", method=method, **cell) for method in (RI, WS))
    many = {seed: fresh[seed] - warm[seed] for seed in fresh if seed in warm}
    once = {seed: once_fresh[seed] - once_warm[seed] for seed in once_fresh if seed in once_warm}
    return stats.greater(many, once)


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    from bench.report import figure

    drawn, axes = figure.panels(1, 2)
    stretch = settings.fit_samples("cifar10") / PAPER_SAMPLES
    paper = published[published["provenance"] == "digitised"]
    paper = paper.assign(x=paper["x"] * stretch)
    cost, title = round_cost(frame)
    for method in (RI, WS):
        for metric, place in (("val_acc", axes[0]), (cost, axes[1])):
            chosen = frame[(frame["metric"] == metric) & (frame["method"] == method)]
            figure.band(place, chosen, series=method, label=NAMES[method])
            own = paper[(paper["metric"] == metric) & (paper["method"] == method)]
            figure.published_points(place, own, series=method)
    axes[0].set(xlabel="samples", ylabel="validation accuracy (%)")
    axes[1].set(xlabel="samples", ylabel=title)
    axes[1].set_ylim(bottom=0)
    figure.legend(axes[0], published=bool(len(paper)), rescaled=stretch != 1)
    drawn.suptitle(substitution(settings, "cifar10"))
    return drawn


EXHIBIT = Exhibit(
    name="warmstart/fig2",
    title="Figure 2: online learning from random weights and from the last round's",
    caption=(
        "Validation accuracy (left) and cost of training (right) of a ResNet-18 when samples arrive in rounds and each "
        "round trains to 99 % train accuracy. Bands are 95 % intervals over seeds, hollow markers the published "
        "curves. Cost is in seconds, beside the published ones of a P100 as context, where all runs had the machine to "
        "themselves, and in samples elsewhere."
    ),
    kind="figure",
    settings=Settings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    margins={"val_acc": 3.0},
    claims=(
        Claim("F2a", "After all rounds warm starting is more than 5 points behind.", "Figure 2", final_gap),
        Claim(
            "F2b",
            "Training from random weights costs more than three times as much in all.",
            "Figure 2",
            warm_start_is_cheaper,
        ),
        Claim(
            "F2c",
            "The gap after many warm starts is larger than after a single one.",
            "Figure 2 and Table 1",
            many_warm_starts_hurt_more,
            also=("warmstart/table1",),
        ),
    ),
)
