"""Figure 6: accuracy of a trained network whose weights are multiplied by lambda, without retraining or noise.

A ResNet-18 and a ReLU MLP with and without biases, trained on CIFAR-10. For the ResNet both with the running statistics of
BatchNorm as they are and with those of the evaluated batch. No numbers are available; the optimiser is unknown (Adam here).

Command: ``make reproduce SCALE=paper EXHIBITS=warmstart/fig6``
Expected: the MLP without biases does not change at all, the one with biases suffers below 0.6, the ResNet only below 0.1.
Cost: three trainings a seed, and 51 evaluations of each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit, Row, by_seed, row
from bench.record import Record
from bench.warmstart.design import WarmstartSettings, random_init, substitution
from bench.warmstart.spec import Network, Probe

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MLP_FLAT = "mlp_without_biases"
CURVES = {
    ("thin_resnet18", "val_acc_batch"): "ResNet, batch statistics",
    ("thin_resnet18", "val_acc"): "ResNet, running statistics",
    ("mlp", "val_acc"): "MLP with biases",
    (MLP_FLAT, "val_acc"): "MLP without biases",
}


class Settings(WarmstartSettings):
    selects = WarmstartSettings.selects | {"shrinks"}

    shrinks: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        tuple(round(0.02 * place, 2) for place in range(51)), description="lambda; 0 to 1 [O]"
    )
    optimizer_name: Literal["sgd", "adam"] = Field("adam", description="optimiser of the training [O]")

    def network_of(self, model: str) -> Network:
        if model == "thin_resnet18":
            return self.network(model)
        return Network(name="mlp", activation="relu", bias=model == "mlp")


def members(settings: Settings) -> list[ArmRun]:
    probe = Probe(kind="shrinking", grid=settings.shrinks)
    made = []
    for model in ("thin_resnet18", "mlp", MLP_FLAT):
        network = settings.network_of(model)
        labels = {"dataset": "cifar10", "model": model, "method": "shrink", "optimizer": settings.optimizer_name}
        for seed in settings.seed_range():
            plain = random_init(settings, "cifar10", network.name, settings.optimizer_name, seed)
            made.append(ArmRun(labels, plain.model_copy(update={"network": network, "probe": probe})))
    return made


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    columns = record.series["shrinking"]
    names = {"train_acc": "train_acc", "report_acc": "val_acc"}
    for place, factor in enumerate(columns["shrink"]):
        for source, metric in names.items():
            yield row(member, metric, columns[source][place], x_name="shrink", x=factor)
            yield row(member, f"{metric}_batch", columns[f"{source}_batch"][place], x_name="shrink", x=factor)


def loss_at(frame: Any, model: str, factor: float, metric: str = "val_acc") -> dict[int, float]:
    """Seed -> points of accuracy lost by shrinking to the factor of the grid that lies nearest."""
    own = frame[frame["model"] == model]
    if own.empty:
        raise KeyError(model)
    nearest = min(own["x"].unique(), key=lambda x: abs(x - factor))
    whole, shrunk = (by_seed(own, metric, x=x) for x in (own["x"].max(), nearest))
    return {seed: whole[seed] - shrunk[seed] for seed in whole if seed in shrunk}


def bias_free_is_invariant(frame: Any) -> stats.Finding:
    """F6a: no factor above 0 changes the accuracy of the MLP without biases by more than a tenth of a point.

    Exact in real numbers (Proposition 1); in float32 a tie may break the other way.
    """
    own = frame[(frame["model"] == MLP_FLAT) & (frame["metric"] == "val_acc") & (frame["x"] > 0)]
    if own.empty:
        raise KeyError(MLP_FLAT)
    spread = {int(seed): float(group["value"].max() - group["value"].min()) for seed, group in own.groupby("seed")}
    return stats.below(spread, 0.1, name="largest change of accuracy")


def resnet_stands_shrinking(frame: Any) -> stats.Finding:
    """F6b: with batch statistics the ResNet loses less than 2 points at lambda = .2."""
    return stats.below(
        loss_at(frame, "thin_resnet18", 0.2, "val_acc_batch"), 2.0, name="points lost by the ResNet at 0.2"
    )


def biases_suffer(frame: Any) -> stats.Finding:
    """F6c: the MLP with biases loses more than 2 points at lambda = .2 and more than it does at .8."""
    low, high = loss_at(frame, "mlp", 0.2), loss_at(frame, "mlp", 0.8)
    return stats.all_of(
        [
            stats.above(low, 2.0, name="points lost by the MLP with biases at 0.2"),
            stats.greater(low, high, name="loss at 0.2 over 0.8"),
        ]
    )


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    from bench.report import figure

    drawn, axes = figure.panels(1, 2)
    for kind, place in (("val_acc", axes[0]), ("train_acc", axes[1])):
        for (model, metric), label in CURVES.items():
            chosen = metric.replace("val_acc", kind)
            own = frame[(frame["model"] == model) & (frame["metric"] == chosen)]
            figure.band(place, own, series=label, label=label)
        place.set(xlabel="shrink factor λ", ylabel=f"{'validation' if kind == 'val_acc' else 'train'} accuracy (%)")
        place.set_ylim(0, None)
    figure.legend(axes[1], published=False)
    drawn.suptitle(substitution(settings, "cifar10"))
    return drawn


EXHIBIT = Exhibit(
    name="warmstart/fig6",
    title="Figure 6: accuracy of shrunken networks without retraining",
    caption=(
        "Accuracy of trained networks whose weights are multiplied by λ. Only with the statistics of the evaluated batch "
        "does BatchNorm undo the factor. Bands are 95 % intervals over seeds; the paper's numbers are not available."
    ),
    kind="figure",
    settings=Settings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(
        Claim(
            "F6a",
            "Shrinking does not change what a ReLU network without biases predicts.",
            "Figure 6, Proposition 1",
            bias_free_is_invariant,
        ),
        Claim("F6b", "A ResNet suffers from extreme shrinking only.", "Figure 6", resnet_stands_shrinking),
        Claim(
            "F6c",
            "A network with biases and without BatchNorm suffers sooner.",
            "Figure 6",
            biases_suffer,
        ),
    ),
)
