"""Figure 4: when in the first training the damage sets in.

A ResNet-18 is trained on half of CIFAR-10 for 350 epochs; from its weights after every fifth epoch another training on all
samples starts, 350 epochs long. Left: accuracy of the first training by epoch. Right: how far the final accuracy lies from
that of random initialisation, relative to it, by the epoch at which the second training started. SGD, learning rate 1e-3,
batch 128, a third of the set held out.

Expected (digitised): no damage until epoch 30, -1.8 % at 50, -6.2 % at 100, -7.9 % at 150, flat from there on.
Cost: one first training and 71 starts from it, of which that at epoch 0 is random initialisation; 834 M samples a seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from bench import stats
from bench.exhibit import Arm, ArmRun, Row, claim, row
from bench.record import Record
from bench.report import figure
from bench.stats import Values
from bench.warmstart.design import FIRST, RI, WS, Setup, WarmstartSettings, arm
from bench.warmstart.exhibits._figures import PUBLISHED, curves, legend, method_series, title
from bench.warmstart.exhibits._rows import accuracy_row, where
from bench.warmstart.runs import first_phase, random_init, second_phase
from bench.warmstart.spec import Training

CAPTION = (
    "Left: accuracy of a ResNet-18 by epoch of training on half of the data. Right: accuracy after training on all of "
    "it from the weights at an epoch, relative to random initialisation. "
) + PUBLISHED
MARGINS = {"val_acc": 3.0, "acc_relative_difference": 2.0}
CHAOTIC = True
PAPER_EPOCHS = 350
"""Epochs of the first training in the paper; the claims' epochs are shares of it."""


class Settings(WarmstartSettings):
    selects = WarmstartSettings.selects | {"step", "only_starts"}

    epochs: int = Field(PAPER_EPOCHS, ge=2, description="epochs of the first training [P]")
    step: int = Field(5, ge=1, description="epochs between two starts [P]")
    only_starts: tuple[int, ...] | None = Field(None, description="epochs that are started from; None is every `step`")
    ends: Literal["epochs", "threshold"] = Field(
        "epochs", description="the second training: as many epochs as the first, or until the threshold [C]"
    )

    @model_validator(mode="after")
    def _has_starts(self) -> Self:
        if not self.starts():
            raise ValueError(f"step {self.step} leaves no start within {self.epochs} epochs")
        if wrong := [epoch for epoch in self.starts() if not 1 <= epoch <= self.epochs]:
            raise ValueError(f"a start at epoch {wrong[0]} lies outside the first training's 1 to {self.epochs}")
        return self

    def starts(self) -> tuple[int, ...]:
        """Epochs from which a second training starts; epoch 0 is random initialisation."""
        return self.only_starts or tuple(range(self.step, self.epochs + 1, self.step))


def first_training(settings: Settings, setup: Setup, seed: int) -> Training:
    """Half of the data for all epochs; leaves the weights of each start."""
    stop, starts = settings.stop(epochs=settings.epochs), settings.starts()
    return first_phase(settings, setup, seed, stop=stop, evaluate="epochs", keep_epochs=starts, leaves=False)


def started_at(settings: Settings, setup: Setup, seed: int, *, epoch: int, **fields: Any) -> Training:
    parent = first_training(settings, setup, seed)
    return second_phase(settings, setup, seed, parent=parent, start_from=f"epoch-{epoch}", **fields)


def arms(settings: Settings) -> Iterator[Arm]:
    setup = Setup()
    stop = settings.stop(epochs=settings.epochs if settings.ends == "epochs" else None)
    yield arm(first_training, settings, setup, {"panel": "left", "method": FIRST})
    at: dict[str, Any] = {"panel": "right", "x_name": "start_epoch"}
    yield arm(random_init, settings, setup, {**at, "method": RI, "x": 0}, stop=stop)
    for epoch in settings.starts():
        yield arm(started_at, settings, setup, {**at, "method": WS, "x": epoch}, epoch=epoch, stop=stop)


def rows(run: ArmRun, record: Record) -> Iterator[Row]:
    if run.labels["method"] == FIRST:
        epochs = record.series["epochs"]
        for epoch, accuracy in zip(epochs["epoch"], epochs["report_acc"], strict=True):
            yield row(run, "val_acc", accuracy, x_name="epoch", x=epoch)
    else:
        yield accuracy_row(run, record)
        yield row(run, "samples_to_stop", record.costs["samples"])


def derive(frame: Any) -> Iterator[Row]:
    """100 * (WS - RI) / RI of each start, in percent, against the random initialisation of its seed."""
    final = where(frame, panel="right", metric="val_acc")
    fresh = where(final, method=RI)
    by_seed = dict(zip(fresh["seed"], fresh["value"], strict=True))
    for started in where(final, method=WS).to_dict("records"):
        if (base := by_seed.get(started["seed"])) and base > 0:
            difference = 100 * (started["value"] - base) / base
            yield {**started, "metric": "acc_relative_difference", "value": difference}


def draw(frame: Any, published: Any, settings: Settings) -> figure.Figure:
    fig, axes = figure.panels(1, 2)
    metrics = ("val_acc", "acc_relative_difference")
    for ax, series, metric in zip(axes, method_series(FIRST, WS), metrics, strict=True):
        curves(ax, frame, [series], settings=settings, published=published, metric=metric)
        ax.set_title(series.legend)
    if settings.at_protocol():  # elsewhere the titles say all
        legend(axes[0], settings, below=2)
    axes[1].axhline(0, color="0.5", linewidth=0.8, linestyle="--")
    axes[0].set(xlabel="epoch of the first training", ylabel="validation accuracy (%)")
    axes[1].set(xlabel="epoch at which the second training starts", ylabel="difference from random init (%)")
    fig.suptitle(title(settings))
    return fig


def mean_between(frame: Any, low: float, high: float) -> Values:
    """Seed -> mean difference over starts between two shares of the first training, ends included."""
    differences = where(frame, metric="acc_relative_difference")
    last = differences["x"].max()
    starts = differences[(differences["x"] >= low * last - 1e-9) & (differences["x"] <= high * last + 1e-9)]
    if starts.empty:
        raise KeyError(f"no start between {low:.2f} and {high:.2f} of the first training")
    return Values({int(seed): float(group["value"].mean()) for seed, group in starts.groupby("seed")})


@claim(
    "F4a",
    "Starts within the first 30 of 350 epochs lose less than 1 % of accuracy.",
    "Figure 4",
    not_expected_at={"ci": "the first training has 13 epochs, so that the earliest start is already late"},
)
def early_starts_are_harmless(frame: Any) -> stats.Finding:
    """On average over these starts."""
    return stats.above(mean_between(frame, 0, 30 / PAPER_EPOCHS), -1.0, name="relative difference")


@claim("F4b", "Starts after 100 of 350 epochs lose more than 4 %.", "Figure 4")
def late_starts_hurt(frame: Any) -> stats.Finding:
    """On average over these starts."""
    return stats.below(mean_between(frame, 100 / PAPER_EPOCHS, 1), -4.0, name="relative difference")


@claim(
    "F4c",
    "After 125 of 350 epochs the loss grows no further.",
    "Figure 4",
    not_expected_at={"ci": "800 held-out samples give differences of two points by chance, more than the margin"},
)
def damage_is_done_early(frame: Any) -> stats.Finding:
    """The first half of these starts is compared with the second, within 1 point."""
    begin = 125 / PAPER_EPOCHS
    middle = (1 + begin) / 2
    return stats.equivalent(mean_between(frame, begin, middle), mean_between(frame, middle, 1), margin=1.0)
