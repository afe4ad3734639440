"""Figure 1: train and test accuracy of a ResNet by epoch, first on half of CIFAR-10, then on all of it.

A ResNet-18 is trained on half of the 50,000 samples for 350 epochs and from there on all of them for 350 more (warm
start); another starts from random weights on all of them. SGD, learning rate 1e-3, batch 128, no early stop, test set.

Command: ``make reproduce SCALE=paper EXHIBITS=warmstart/fig1``
Expected (digitised): the warm start ends at 56.7 %, random initialisation at 61.6 % test accuracy, both near 100 % train.
Cost: three trainings of 350 epochs a seed, 43.8 M samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit, Row, by_seed, row
from bench.record import Record
from bench.warmstart.design import (
    NAMES,
    RI,
    WS,
    WarmstartSettings,
    first_phase,
    random_init,
    second_phase,
    substitution,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FIRST = "phase1_half"
PAPER_EPOCHS = 350
"""Epochs of each phase in the paper."""


class Settings(WarmstartSettings):
    epochs: int = Field(PAPER_EPOCHS, ge=2, description="epochs of each phase; no early stop [P]")


def members(settings: Settings) -> list[ArmRun]:
    fields: dict[str, Any] = {
        "report": "official_test",  # the figure's levels exceed Table 1's [D]
        "evaluate": "epochs",
        "stop": settings.stop("thin_resnet18", epochs=settings.epochs),
    }
    made = []
    for method, run in ((FIRST, first_phase), (WS, second_phase), (RI, random_init)):
        labels = {"dataset": "cifar10", "model": "thin_resnet18", "method": method, "optimizer": "sgd"}
        made += [
            ArmRun(labels, run(settings, "cifar10", "thin_resnet18", "sgd", seed, **fields))
            for seed in settings.seed_range()
        ]
    return made


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    epochs = record.series["epochs"]
    phase = int(max(epochs["epoch"]))
    shift = 0 if member.labels["method"] == FIRST else phase
    for epoch, train, test in zip(epochs["epoch"], epochs["train_acc"], epochs["report_acc"], strict=True):
        yield row(member, "train_acc", train, panel="train", x_name="epoch", x=epoch + shift)
        yield row(member, "test_acc", test, panel="test", x_name="epoch", x=epoch + shift)
    reached = [epoch for epoch, train in zip(epochs["epoch"], epochs["train_acc"], strict=True) if train >= 99]
    if reached:
        yield row(member, "epochs_to_99_train", reached[0], panel="train")
    yield row(member, "test_acc_peak", max(epochs["report_acc"]), panel="test")
    if shift:
        tail = epochs["report_acc"][-max(1, phase // 7) :]  # the level of the last 50 epochs of 350
        yield row(member, "test_acc_final", sum(tail) / len(tail), panel="test", x_name="epoch", x=2 * phase)
        yield row(member, "train_acc_final", epochs["train_acc"][-1], panel="train")


def gap_remains(frame: Any) -> stats.Finding:
    """F1a: both fit the training set, and random initialisation ends more than 3 points higher."""
    parts = [
        stats.above(by_seed(frame, "train_acc_final", method=method), 99.5, name=f"{NAMES[method]} train accuracy")
        for method in (RI, WS)
    ]
    fresh, warm = (by_seed(frame, "test_acc_final", method=method) for method in (RI, WS))
    return stats.all_of([*parts, stats.greater(fresh, warm, by=3.0)])


def warm_start_is_faster(frame: Any) -> stats.Finding:
    """F1b: the warm start needs fewer epochs to 99 % train accuracy."""
    fresh, warm = (by_seed(frame, "epochs_to_99_train", method=method) for method in (RI, WS))
    outcome = stats.greater(fresh, warm)
    short = sorted(set(frame["seed"]) - (set(fresh) & set(warm)))
    # Seeds that never get there must not leave the favourable ones to decide.
    return stats.undecided(outcome, f"seeds that did not reach 99 %: {short}") if short else outcome


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    from bench.report import figure

    drawn, axes = figure.panels(1, 2, sharey=True)
    stretch = settings.epochs / PAPER_EPOCHS
    published = published.assign(x=published["x"] * stretch)
    for panel, metric, place in (("train", "train_acc", axes[0]), ("test", "test_acc", axes[1])):
        for method in (FIRST, WS, RI):
            chosen = frame[(frame["metric"] == metric) & (frame["method"] == method)]
            figure.band(place, chosen, series=method, label=NAMES[method])
            own = published[(published["metric"] == metric) & (published["method"] == method)]
            figure.published_points(place, own[own["provenance"] == "digitised"], series=method)
        place.axvline(settings.epochs, linestyle="--", color="0.5", linewidth=0.8)
        place.set(xlabel="epoch", title=f"{panel} accuracy")
    axes[0].set_ylabel("accuracy (%)")
    axes[0].set_ylim(0, 103)
    figure.legend(axes[0], published=bool(len(published)), rescaled=stretch != 1)
    drawn.suptitle(substitution(settings, "cifar10"))
    return drawn


EXHIBIT = Exhibit(
    name="warmstart/fig1",
    title="Figure 1: accuracy by epoch, half of the data and then all of it",
    caption=(
        "Train and test accuracy of a ResNet-18 that is fitted to half of CIFAR-10 and, from the dashed line on, to all "
        "of it, against one that starts from random weights. Bands are 95 % intervals over seeds, hollow markers the "
        "published curves."
    ),
    kind="figure",
    settings=Settings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    margins={
        "test_acc_final": 2.0,
        "test_acc_peak": 2.0,
        "epochs_to_99_train": 15.0,
        "test_acc": 3.0,
        "train_acc": 4.0,
    },
    claims=(
        Claim(
            "F1a",
            "Both models fit the training data, and the warm-started one generalises worse (by more than 3 points).",
            "Figure 1",
            gap_remains,
        ),
        Claim("F1b", "The warm-started model reaches 99 % train accuracy sooner.", "Figure 1", warm_start_is_faster),
    ),
)
