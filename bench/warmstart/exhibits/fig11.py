"""Figure 11: likeness of the weights and accuracy.

Over the hyper-parameter grid of Figure 3 (batch sizes and learning rates chosen freely in either phase) the correlation of
all parameters before and after the second phase, against validation accuracy; for a ResNet-18 and for logistic regression
on CIFAR-10 with SGD. No numbers are available.

Expected: the ResNet is the better the less its weights stay alike; logistic regression shows no such trend.
Cost: 144 warm starts a seed and network, 3 seeds; those of the ResNet are Figure 3's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, Literal

from pydantic import Field

from bench import stats
from bench.exhibit import Arm, ArmRun, Row, claim, row
from bench.record import Record
from bench.report import figure
from bench.stats import Values
from bench.warmstart.design import NAMES, WS, Setup, WarmstartSettings, arm
from bench.warmstart.exhibits._figures import title
from bench.warmstart.exhibits._rows import accuracy_row, chance_of, where, wide
from bench.warmstart.runs import sgd_grid, two_phases

CAPTION = (
    "Pearson correlation of all parameters before and after the second phase against validation accuracy, one point a "
    "run, over batch sizes and learning rates of both phases. The paper's numbers are not available."
)


class Settings(WarmstartSettings):
    seeds: int = Field(3, ge=1, le=1000, description="repetitions of each cell of Figure 3 [P]")
    models: tuple[Literal["thin_resnet18", "logistic"], ...] = Field(
        ("thin_resnet18", "logistic"), description="models [U]"
    )
    batch_sizes: tuple[int, ...] = Field((16, 32, 64, 128), description="batch sizes of Figure 3 [P]")
    learning_rates: tuple[float, ...] = Field((0.001, 0.01, 0.1), description="learning rates of Figure 3 [P]")


def arms(settings: Settings) -> Iterator[Arm]:
    phases = sgd_grid(settings, settings.batch_sizes, settings.learning_rates)
    for model, (first, second) in product(settings.models, product(phases, phases)):
        labels = {"method": WS, "panel": f"{first} then {second}"}
        yield arm(two_phases, settings, Setup(model=model, optimizer=phases[second]), labels, first=phases[first])


def rows(run: ArmRun, record: Record) -> Iterator[Row]:
    yield accuracy_row(run, record)
    for name in ("weight_correlation", "weight_cosine", "weight_distance"):
        yield row(run, name, record.metrics[name])


def points(frame: Any, model: str) -> Any:
    """One row for each run of a model: panel, seed, weight_correlation, val_acc."""
    return wide(where(frame, model=model), "weight_correlation", "val_acc")


chance = chance_of


def draw(frame: Any, published: Any, settings: Settings) -> figure.Figure:
    from matplotlib.ticker import MaxNLocator

    fig, axes = figure.panels(1, len(settings.models))
    for model, ax in zip(settings.models, axes, strict=True):
        if (frame["model"] == model).any():
            numbers = points(frame, model)
            x, y = numbers["weight_correlation"], numbers["val_acc"]
            # The panel's title names the model: a legend would show one more point.
            figure.scatter(ax, x, y, series=model, label=NAMES[model], markersize=3)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.set(xlabel="correlation of the weights before and after", title=NAMES[model])
    axes[0].set_ylabel("validation accuracy (%)")
    fig.suptitle(title(settings))
    return fig


NO_TREND = 0.3
"""A rank correlation that is called weak (Cohen 1988)."""


def rank_correlations(frame: Any, model: str) -> tuple[Values, stats.Scale]:
    """Spearman's rank correlation over the grid between likeness of the weights and accuracy, by seed, and its scale."""
    from scipy.stats import spearmanr

    groups = {int(seed): group for seed, group in points(frame, model).groupby("seed") if len(group) >= 3}
    if not groups:
        raise KeyError(f"fewer than three arms of {model}")
    correlations = {
        seed: float(spearmanr(group["weight_correlation"], group["val_acc"]).statistic)
        for seed, group in groups.items()
    }
    return Values(correlations), stats.correlation(min(map(len, groups.values())))


@claim("F11a", "A warm-started ResNet is the better the further its weights move.", "Appendix")
def resnet_falls(frame: Any) -> stats.Finding:
    correlations, scale = rank_correlations(frame, "thin_resnet18")
    return stats.below(correlations, 0.0, name="rank correlation", on=scale)


@claim("F11b", "Logistic regression shows no such trend.", "Appendix")
def logistic_does_not(frame: Any) -> stats.Finding:
    """It has none of its own: the correlation is weak, whichever its sign."""
    correlations, scale = rank_correlations(frame, "logistic")
    return stats.equivalent_to(correlations, 0.0, margin=NO_TREND, name="rank correlation", on=scale)
