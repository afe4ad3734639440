"""Figure 6: accuracy of shrunken networks without retraining.

A ResNet-18 and a ReLU MLP with and without biases, trained on CIFAR-10; then their weights are multiplied by lambda, without
noise. For the ResNet both with the running statistics of BatchNorm as they are and with those of the evaluated batch. No
numbers are available; the optimiser is unknown (Adam here).

Expected: the MLP without biases does not change at all, the one with biases suffers below 0.6, the ResNet only below 0.1.
Cost: three trainings a seed, and 51 evaluations of each on all 50,000 samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from bench import stats
from bench.exhibit import Arm, ArmRun, Row, by_seed, claim, row
from bench.record import Record
from bench.report import figure
from bench.stats import Values
from bench.warmstart.design import OptimizerName, Setup, Shrink, WarmstartSettings, arm
from bench.warmstart.exhibits._figures import Series, curves, title
from bench.warmstart.exhibits._rows import distinct, where
from bench.warmstart.runs import random_init
from bench.warmstart.spec import Network, Probe

CAPTION = (
    "Accuracy of trained networks whose weights are multiplied by λ, on all samples of either split. Only with the "
    "statistics of the evaluated batch does BatchNorm undo the factor. Bands are 95 % intervals over seeds; the paper's "
    "numbers are not available."
)
RESNET, MLP, FLAT = "thin_resnet18", "mlp", "mlp_without_biases"
MODELS: dict[str, str | Network] = {
    RESNET: RESNET,
    MLP: Network(name="mlp", activation="relu"),
    FLAT: Network(name="mlp", activation="relu", bias=False),
}
CURVES = {
    "ResNet, batch statistics": (RESNET, "_batch"),
    "ResNet, running statistics": (RESNET, ""),
    "MLP with biases": (MLP, ""),
    "MLP without biases": (FLAT, ""),
}
"""Name of a curve -> model, and what its metrics end with."""


class Settings(WarmstartSettings):
    selects = WarmstartSettings.selects | {"shrinks"}

    shrinks: tuple[Shrink, ...] = Field(
        tuple(round(0.02 * index, 2) for index in range(51)), description="lambda; 0 to 1 [O]"
    )
    optimizer_name: OptimizerName = Field("adam", description="optimiser of the training [O]")


def arms(settings: Settings) -> Iterator[Arm]:
    probe = Probe(kind="shrinking", grid=settings.shrinks)
    for name, model in MODELS.items():
        setup = Setup(model=model, optimizer=settings.optimizer_name)
        yield arm(random_init, settings, setup, {"model": name, "method": "shrink"}, probe=probe)


def rows(run: ArmRun, record: Record) -> Iterator[Row]:
    columns = record.series["shrinking"]
    for column, metric in (("train_acc", "train_acc"), ("report_acc", "val_acc")):
        for suffix in ("", "_batch"):
            for factor, accuracy in zip(columns["shrink"], columns[column + suffix], strict=True):
                yield row(run, metric + suffix, accuracy, x_name="shrink", x=factor)


def draw(frame: Any, published: Any, settings: Settings) -> figure.Figure:
    fig, axes = figure.panels(1, 2)
    held_out, fitted = settings.reported_samples("cifar10"), settings.fit_samples("cifar10")
    panels = (("val_acc", "validation", held_out), ("train_acc", "train", fitted))
    for ax, (metric, kind, samples) in zip(axes, panels, strict=True):
        series = (
            Series(name, name, {"model": model, "metric": metric + suffix}) for name, (model, suffix) in CURVES.items()
        )
        curves(ax, frame, series)
        ax.set(xlabel="shrink factor λ", ylabel=f"{kind} accuracy (%)", title=f"{samples:,} samples")
        ax.set_ylim(0, None)
    figure.legend(axes[1], published=False)
    fig.suptitle(title(settings))
    return fig


def loss_at(frame: Any, model: str, factor: float, metric: str = "val_acc") -> Values:
    """Seed -> points of accuracy lost by shrinking to the factor of the grid that lies nearest."""
    numbers = where(frame, model=model)
    if numbers.empty:
        raise KeyError(model)
    nearest = min(numbers["x"].unique(), key=lambda x: abs(x - factor))
    return by_seed(numbers, metric, x=numbers["x"].max()) - by_seed(numbers, metric, x=nearest)


@claim("F6a", "Shrinking does not change what a ReLU network without biases predicts.", "Figure 6, Proposition 1")
def bias_free_is_invariant(frame: Any) -> stats.Finding:
    """No factor above 0 changes its accuracy by more than a tenth of a point.

    Exact in real numbers (Proposition 1); in float32 a tie may break the other way.
    """
    numbers = where(frame, model=FLAT, metric="val_acc")
    numbers = numbers[numbers["x"] > 0]
    if numbers.empty:
        raise KeyError(FLAT)
    spread = {int(seed): float(group["value"].max() - group["value"].min()) for seed, group in numbers.groupby("seed")}
    return stats.below(spread, 0.1, name="largest change of accuracy", exact=True)


@claim("F6b", "A ResNet suffers from extreme shrinking only.", "Figure 6")
def resnet_stands_shrinking(frame: Any) -> Iterator[stats.Finding]:
    """With batch statistics it loses less than 2 points at lambda = .2, and more at the smallest lambda below .1."""
    extreme = min((x for x in distinct(frame, "x") if 0 < x < 0.1), default=None)
    if extreme is None:
        raise KeyError("no shrink factor between 0 and 0.1")
    yield stats.below(loss_at(frame, RESNET, 0.2, "val_acc_batch"), 2.0, name="points lost by the ResNet at 0.2")
    loss = loss_at(frame, RESNET, extreme, "val_acc_batch")
    yield stats.above(loss, 2.0, name=f"points lost by the ResNet at {extreme:g}")


@claim("F6c", "A network with biases and without BatchNorm suffers sooner.", "Figure 6")
def biases_suffer(frame: Any) -> Iterator[stats.Finding]:
    """The MLP loses more than 2 points at lambda = .2, and more than it does at .8."""
    low, high = loss_at(frame, MLP, 0.2), loss_at(frame, MLP, 0.8)
    yield stats.above(low, 2.0, name="points lost by the MLP with biases at 0.2")
    yield stats.greater(low, high, name="loss at 0.2 over 0.8")
