"""Figure 11: how far the second phase moves the weights, and the accuracy that it ends with.

Over the hyper-parameter grid of Figure 3 (batch sizes and learning rates chosen freely in either phase) the correlation of
all parameters before and after the second phase, against validation accuracy; for a ResNet-18 and for logistic regression
on CIFAR-10 with SGD. No numbers are available.

Command: ``make reproduce SCALE=paper EXHIBITS=warmstart/fig11``
Expected: the ResNet is the better the less its weights stay alike; logistic regression shows no such trend.
Cost: 144 warm starts a seed and network, 3 seeds; those of the ResNet are Figure 3's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit, Row, row
from bench.record import Record
from bench.warmstart.design import MODELS, WS, WarmstartSettings, accuracy_row, substitution, two_phases

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Settings(WarmstartSettings):
    seeds: int = Field(3, ge=1, le=1000, description="repetitions of each cell of Figure 3 [P]")
    models: tuple[Literal["thin_resnet18", "logistic"], ...] = Field(
        ("thin_resnet18", "logistic"), description="models [U]"
    )
    batch_sizes: tuple[int, ...] = Field((16, 32, 64, 128), description="batch sizes of Figure 3 [P]")
    learning_rates: tuple[float, ...] = Field((0.001, 0.01, 0.1), description="learning rates of Figure 3 [P]")


def members(settings: Settings) -> list[ArmRun]:
    made = []
    cells = [(batch, lr) for batch in settings.batch_sizes for lr in settings.learning_rates]
    for model in settings.models:
        for batch, lr in cells:
            for then_batch, then_lr in cells:
                labels = {
                    "dataset": "cifar10",
                    "model": model,
                    "optimizer": "sgd",
                    "method": WS,
                    "panel": f"batch {batch} lr {lr:g} then batch {then_batch} lr {then_lr:g}",
                }
                first = settings.optimizer("sgd", batch_size=batch, lr=lr)
                second = settings.optimizer("sgd", batch_size=then_batch, lr=then_lr)
                made += [
                    ArmRun(labels, two_phases(settings, "cifar10", model, first, second, seed))
                    for seed in settings.seed_range()
                ]
    return made


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    yield accuracy_row(member, record)
    for name in ("weight_correlation", "weight_cosine", "weight_distance"):
        yield row(member, name, record.metrics[name])


def points(frame: Any, model: str) -> Any:
    """One row for each run of a model: panel, seed, weight_correlation, val_acc."""
    own = frame[(frame["model"] == model) & frame["metric"].isin(["weight_correlation", "val_acc"])]
    if own.empty:
        raise KeyError(model)
    wide = own.pivot_table(index=["panel", "seed"], columns="metric", values="value", aggfunc="first")
    return wide.reset_index().dropna()


def rank_correlations(frame: Any, model: str) -> dict[int, float]:
    """Seed -> Spearman's rank correlation over the grid between likeness of the weights and accuracy."""
    from scipy.stats import spearmanr

    found = {}
    for seed, group in points(frame, model).groupby("seed"):
        if len(group) >= 3:
            value = float(spearmanr(group["weight_correlation"], group["val_acc"]).statistic)
            if value == value:
                found[int(seed)] = value
    if not found:
        raise KeyError(f"fewer than three cells of {model}")
    return found


def resnet_falls(frame: Any) -> stats.Finding:
    """F11a: the less a ResNet's weights stay alike, the better it is."""
    return stats.below(rank_correlations(frame, "thin_resnet18"), 0.0, name="rank correlation")


def logistic_does_not(frame: Any) -> stats.Finding:
    """F11b: logistic regression's accuracy falls less with likeness than the ResNet's."""
    return stats.greater(rank_correlations(frame, "logistic"), rank_correlations(frame, "thin_resnet18"))


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    from matplotlib.ticker import MaxNLocator

    from bench.report import figure

    drawn, axes = figure.panels(1, len(settings.models))
    for model, place in zip(settings.models, axes, strict=True):
        if (frame["model"] == model).any():
            own = points(frame, model)
            # The panel's title names the model: a legend would show one more point.
            figure.scatter(
                place, own["weight_correlation"], own["val_acc"], series=model, label=MODELS[model], markersize=3
            )
        place.xaxis.set_major_locator(MaxNLocator(5))
        place.set(xlabel="correlation of the weights before and after", title=MODELS[model])
    axes[0].set_ylabel("validation accuracy (%)")
    drawn.suptitle(substitution(settings, "cifar10"))
    return drawn


EXHIBIT = Exhibit(
    name="warmstart/fig11",
    title="Figure 11: likeness of the weights and accuracy",
    caption=(
        "Pearson correlation of all parameters before and after the second phase against validation accuracy, one point a "
        "run, over batch sizes and learning rates of both phases. The paper's numbers are not available."
    ),
    kind="figure",
    settings=Settings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(
        Claim("F11a", "A warm-started ResNet is the better the further its weights move.", "Appendix", resnet_falls),
        Claim("F11b", "Logistic regression shows no such trend.", "Appendix", logistic_does_not),
    ),
)
