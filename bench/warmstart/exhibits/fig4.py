"""Figure 4: how soon in training on half of the data the damage of a warm start sets in.

A ResNet-18 is trained on half of CIFAR-10 for 350 epochs; from its weights after every fifth epoch another training on all
samples starts, 350 epochs long. Left: accuracy of the first training by epoch. Right: how far the final accuracy lies from
that of random initialisation, relative to it, by the epoch at which the second training started. SGD, learning rate 1e-3,
batch 128, a third of the set held out.

Command: ``make reproduce SCALE=paper EXHIBITS=warmstart/fig4``
Expected (digitised): no damage until epoch 30, -1.8 % at 50, -6.2 % at 100, -7.9 % at 150, flat from there on.
Cost: one first training and 71 starts from it, of which that at epoch 0 is random initialisation; 834 M samples a seed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit, Row, row
from bench.record import Record
from bench.warmstart.design import (
    NAMES,
    RI,
    WS,
    WarmstartSettings,
    accuracy_row,
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


def members(settings: Settings) -> list[ArmRun]:
    fixed = settings.stop("thin_resnet18", epochs=settings.epochs)
    stop = fixed if settings.ends == "epochs" else settings.stop("thin_resnet18")
    where = {"dataset": "cifar10", "model": "thin_resnet18", "optimizer": "sgd"}
    made = []
    for seed in settings.seed_range():
        first = first_phase(
            settings,
            "cifar10",
            "thin_resnet18",
            "sgd",
            seed,
            stop=fixed,
            evaluate="epochs",
            keep_epochs=settings.starts(),
        ).model_copy(update={"leaves": False})
        made.append(ArmRun(where | {"panel": "left", "method": FIRST}, first))
        fresh = random_init(settings, "cifar10", "thin_resnet18", "sgd", seed, stop=stop)
        made.append(ArmRun(where | {"panel": "right", "method": RI, "x_name": "start_epoch", "x": 0}, fresh))
        for epoch in settings.starts():
            labels = where | {"panel": "right", "method": WS, "x_name": "start_epoch", "x": epoch}
            run = second_phase(
                settings,
                "cifar10",
                "thin_resnet18",
                "sgd",
                seed,
                parent=first,
                start_from=f"epoch-{epoch}",
                stop=stop,
            )
            made.append(ArmRun(labels, run))
    return made


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    if member.labels["method"] == FIRST:
        epochs = record.series["epochs"]
        for epoch, accuracy in zip(epochs["epoch"], epochs["report_acc"], strict=True):
            yield row(member, "val_acc", accuracy, x_name="epoch", x=epoch)
    else:
        yield accuracy_row(member, record)
        yield row(member, "samples_to_stop", record.costs["samples"])


def differences(frame: pd.DataFrame) -> Iterable[Row]:
    """100 * (WS - RI) / RI of each start, in percent, against the random initialisation of its seed."""
    final = frame[(frame["panel"] == "right") & (frame["metric"] == "val_acc")]
    fresh = dict(zip(final[final["method"] == RI]["seed"], final[final["method"] == RI]["value"], strict=True))
    for one in final[final["method"] == WS].to_dict("records"):
        if (base := fresh.get(one["seed"])) and base > 0:
            value = 100 * (one["value"] - base) / base
            yield {**one, "metric": "acc_relative_difference", "value": value}


def _mean_over(frame: Any, low: float, high: float) -> dict[int, float]:
    """Seed -> mean difference over starts between two shares of the first training, ends included."""
    chosen = frame[frame["metric"] == "acc_relative_difference"]
    last = chosen["x"].max()
    chosen = chosen[(chosen["x"] >= low * last - 1e-9) & (chosen["x"] <= high * last + 1e-9)]
    if chosen.empty:
        raise KeyError(f"no start between {low:.2f} and {high:.2f} of the first training")
    return {int(seed): float(group["value"].mean()) for seed, group in chosen.groupby("seed")}


def early_starts_are_harmless(frame: Any) -> stats.Finding:
    """F4a: starts within 30 of 350 epochs lose less than 1 %, on average."""
    return stats.above(_mean_over(frame, 0, 30 / PAPER_EPOCHS), -1.0, name="relative difference")


def late_starts_hurt(frame: Any) -> stats.Finding:
    """F4b: starts after 100 of 350 epochs lose more than 4 %, on average."""
    return stats.below(_mean_over(frame, 100 / PAPER_EPOCHS, 1), -4.0, name="relative difference")


def damage_is_done_early(frame: Any) -> stats.Finding:
    """F4c: from 125 of 350 epochs on the loss stays within 1 point: first against second half of these starts."""
    begin = 125 / PAPER_EPOCHS
    middle = (1 + begin) / 2
    return stats.equivalent(_mean_over(frame, begin, middle), _mean_over(frame, middle, 1), margin=1.0)


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    from bench.report import figure

    drawn, axes = figure.panels(1, 2)
    stretch = settings.epochs / PAPER_EPOCHS
    paper = published[published["provenance"] == "digitised"].assign(x=lambda rows: rows["x"] * stretch)
    panels = (
        (axes[0], "val_acc", "epoch", FIRST, NAMES[FIRST]),
        (axes[1], "acc_relative_difference", "start_epoch", WS, NAMES[WS]),
    )
    for place, metric, x_name, series, label in panels:
        own = frame[(frame["metric"] == metric) & (frame["x_name"] == x_name)]
        figure.band(place, own, series=series, label=label)
        figure.published_points(place, paper[paper["x_name"] == x_name], series=series)
        figure.legend(place, published=bool(len(paper)), rescaled=stretch != 1)
    axes[1].axhline(0, color="0.5", linewidth=0.8, linestyle="--")
    axes[0].set(xlabel="epoch of the first training", ylabel="validation accuracy (%)")
    axes[1].set(xlabel="epoch at which the second training starts", ylabel="difference from random init (%)")
    drawn.suptitle(substitution(settings, "cifar10"))
    return drawn


EXHIBIT = Exhibit(
    name="warmstart/fig4",
    title="Figure 4: when in the first training the damage sets in",
    caption=(
        "Left: accuracy of a ResNet-18 by epoch of training on half of the data. Right: accuracy after training on all of "
        "it from the weights at an epoch, relative to random initialisation. Bands are 95 % intervals over seeds, hollow "
        "markers the published curves."
    ),
    kind="figure",
    settings=Settings,
    runs=members,
    module=__name__,
    rows=rows,
    derive=differences,
    draw=draw,
    margins={"val_acc": 3.0, "acc_relative_difference": 2.0},
    claims=(
        Claim(
            "F4a",
            "Starts within the first 30 of 350 epochs lose less than 1 % of accuracy.",
            "Figure 4",
            early_starts_are_harmless,
            not_expected_at={"ci": "the first training has 13 epochs, so that the earliest start is already late"},
        ),
        Claim("F4b", "Starts after 100 of 350 epochs lose more than 4 %.", "Figure 4", late_starts_hurt),
        Claim(
            "F4c",
            "After 125 of 350 epochs the loss grows no further.",
            "Figure 4",
            damage_is_done_early,
            not_expected_at={
                "ci": "800 held-out samples give differences of two points by chance, more than the margin"
            },
        ),
    ),
)
