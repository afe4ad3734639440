"""Figure 1: accuracy by epoch, half of the data and then all of it.

A ResNet-18 is trained on half of CIFAR-10's 50,000 samples for 350 epochs and from there on all of them for 350 more (warm
start); another starts from random weights on all of them. SGD, learning rate 1e-3, batch 128, no early stop, test set.

Expected (digitised): the warm start ends at 56.7 %, random initialisation at 61.6 % test accuracy, both near 100 % train.
Cost: three trainings of 350 epochs a seed, 43.8 M samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from pydantic import Field

from bench import stats
from bench.exhibit import Arm, ArmRun, Row, by_seed, claim, row
from bench.record import Record
from bench.report import figure
from bench.warmstart.design import FIRST, NAMES, RI, WS, Setup, WarmstartSettings, arm
from bench.warmstart.exhibits._figures import PUBLISHED, curves, legend, method_series, title
from bench.warmstart.exhibits._rows import both, chance_of
from bench.warmstart.runs import both_arms, first_phase

CAPTION = (
    "Train and test accuracy of a ResNet-18 that is fitted to half of CIFAR-10 and, from the dashed line on, to all "
    "of it, against one that starts from random weights. "
) + PUBLISHED
MARGINS = {"test_acc_final": 2.0, "test_acc_peak": 2.0, "epochs_to_99_train": 15.0, "test_acc": 3.0, "train_acc": 4.0}


class Settings(WarmstartSettings):
    epochs: int = Field(350, ge=2, description="epochs of each phase; no early stop [P]")


def arms(settings: Settings) -> Iterator[Arm]:
    fields: dict[str, Any] = {
        "report": "official_test",  # the figure's levels exceed Table 1's [D]
        "evaluate": "epochs",
        "stop": settings.stop(epochs=settings.epochs),
    }
    yield arm(first_phase, settings, Setup(), {"method": FIRST}, **fields)
    yield from both_arms(settings, Setup(), **fields)


def rows(run: ArmRun, record: Record) -> Iterator[Row]:
    epochs = record.series["epochs"]
    phase = int(max(epochs["epoch"]))
    shift = 0 if run.labels["method"] == FIRST else phase
    for epoch, train, test in zip(epochs["epoch"], epochs["train_acc"], epochs["report_acc"], strict=True):
        yield row(run, "train_acc", train, panel="train", x_name="epoch", x=epoch + shift)
        yield row(run, "test_acc", test, panel="test", x_name="epoch", x=epoch + shift)
    reached = [epoch for epoch, train in zip(epochs["epoch"], epochs["train_acc"], strict=True) if train >= 99]
    if reached:
        yield row(run, "epochs_to_99_train", reached[0], panel="train")
    yield row(run, "test_acc_peak", max(epochs["report_acc"]), panel="test")
    if shift:
        tail = epochs["report_acc"][-max(1, phase // 7) :]  # the level of the last 50 epochs of 350
        yield row(run, "test_acc_final", sum(tail) / len(tail), panel="test", x_name="epoch", x=2 * phase)
        yield row(run, "train_acc_final", epochs["train_acc"][-1], panel="train")


chance = partial(chance_of, report="official_test")


def draw(frame: Any, published: Any, settings: Settings) -> figure.Figure:
    fig, axes = figure.panels(1, 2, sharey=True)
    for panel, ax in zip(("train", "test"), axes, strict=True):
        ax.set_ylim(0, 103)
        series = method_series(FIRST, WS, RI)
        curves(ax, frame, series, settings=settings, published=published, metric=f"{panel}_acc")
        ax.axvline(settings.epochs, linestyle="--", color="0.5", linewidth=0.8)
        ax.set(xlabel="epoch", title=f"{panel} accuracy")
    axes[0].set_ylabel("accuracy (%)")
    legend(axes[0], settings, below=4)
    fig.suptitle(title(settings))
    return fig


@claim(
    "F1a",
    "Both models fit the training data, and the warm-started one generalises worse (by more than 3 points).",
    "Figure 1",
)
def gap_remains(frame: Any) -> Iterator[stats.Finding]:
    for method in (RI, WS):
        fitted = by_seed(frame, "train_acc_final", method=method)
        yield stats.above(fitted, 99.5, name=f"{NAMES[method]} train accuracy")
    yield stats.greater(*both(frame, metric="test_acc_final"), by=3.0)


@claim("F1b", "The warm-started model reaches 99 % train accuracy sooner.", "Figure 1")
def warm_start_is_faster(frame: Any) -> stats.Finding:
    fresh, warm = both(frame, metric="epochs_to_99_train")
    finding = stats.greater(fresh, warm)
    short = sorted(set(frame["seed"]) - (set(fresh) & set(warm)))
    # Seeds that never get there must not leave the favourable ones to decide.
    return stats.undecided(finding, f"seeds that did not reach 99 %: {short}") if short else finding
