"""Figure 3: accuracy and cost over batch sizes and learning rates of both phases.

Table 1's two phases on CIFAR-10 with a ResNet-18 and SGD, where each phase has one of four batch sizes and three learning
rates of its own: 144 warm starts a seed, beside as many trainings from random weights (the paper shows about one for each
warm start, so the 36 settings are repeated with further seeds). The cost is that of the second phase alone.

Expected (digitised): best 79.4 % (warm start) and 79.7 %; on average 1,060 s against 2,270 s. The paper says that a warm
start is as good only when it takes as long; its dots do not show that clearly, so the comparison is reported, not judged.
Cost: 12 first phases, 144 warm starts and 144 fresh trainings a seed, 3 seeds; batch 16 dominates.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from bench import stats
from bench.exhibit import Arm, ArmRun, Row, claim, row
from bench.record import Record
from bench.report import figure
from bench.warmstart.design import NAMES, RI, WS, Setup, WarmstartSettings, arm
from bench.warmstart.exhibits._figures import title
from bench.warmstart.exhibits._rows import accuracy_row, chance_of, where, wide
from bench.warmstart.runs import random_init, sgd_grid, two_phases
from bench.warmstart.spec import Training

CAPTION = (
    "Every dot is one second phase or one training from random weights that reached 99 % train accuracy; lines are the "
    "Pareto fronts. Cost is that of the second phase, in samples, and in seconds where all runs had the machine to "
    "themselves. Hollow markers are the centres of the published clusters of random initialisation, in seconds of a "
    "P100 (context)."
)
REPEAT = 1000
"""Repeated fresh trainings of seed n have the seeds n + 1000, n + 2000, ..."""

SECONDS, SAMPLES = "time_to_99_train_s", "samples_to_99_train"
COSTS = {SECONDS: ("seconds", 1.0), SAMPLES: ("thousand samples", 1e-3)}
"""Metric -> unit of the axis, and the factor to it."""


class Settings(WarmstartSettings):
    selects = WarmstartSettings.selects | {"repeat_fresh"}

    seeds: int = Field(3, ge=1, le=1000, description="repetitions of each cell [P]")
    batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field((16, 32, 64, 128), description="of either phase [P]")
    learning_rates: tuple[Annotated[float, Field(gt=0, le=10)], ...] = Field(
        (0.001, 0.01, 0.1), description="of either phase [P]"
    )
    repeat_fresh: bool = Field(True, description="as many fresh trainings as warm starts [D]")


def repeated(settings: Settings, setup: Setup, seed: int, *, repeat: int) -> Training:
    return random_init(settings, setup, seed + REPEAT * repeat)


def arms(settings: Settings) -> Iterator[Arm]:
    phases = sgd_grid(settings, settings.batch_sizes, settings.learning_rates)
    for name, optimizer in phases.items():
        setup = Setup(optimizer=optimizer)
        for repeat in range(len(phases) if settings.repeat_fresh else 1):
            labels = {"method": RI, "panel": f"{name} repeat {repeat}"}
            yield arm(repeated, settings, setup, labels, repeat=repeat)
        for first_name, first in phases.items():
            yield arm(two_phases, settings, setup, {"method": WS, "panel": f"{first_name} then {name}"}, first=first)


def rows(run: ArmRun, record: Record) -> Iterator[Row]:
    yield accuracy_row(run, record)
    # A training that ended on a plateau or at the cap never reached the threshold, and has no such cost.
    if record.series["rounds"]["stop_rule"][-1] == "threshold":
        yield row(run, SAMPLES, record.costs["samples"])
        if record.alone:
            yield row(run, SECONDS, record.costs["seconds"])


chance = chance_of


def draw(frame: Any, published: Any, settings: Settings) -> figure.Figure:
    clusters = where(published, provenance="digitised", panel="cluster")
    # Seconds of a P100 on the whole set mean nothing beside a reduced grid.
    has_published = settings.at_protocol() and bool(len(clusters))
    costs = [cost for cost in COSTS if (frame["metric"] == cost).any() or (cost == SECONDS and has_published)]
    costs = costs or [SAMPLES]
    fig, axes = figure.panels(1, len(costs), sharey=True, width="double" if len(costs) > 1 else "single")
    for ax, cost in zip(axes, costs, strict=True):
        unit, factor = COSTS[cost]
        for method in (RI, WS):
            with contextlib.suppress(KeyError):
                points = dots(frame, method, cost)
                x, y = points[cost] * factor, points["val_acc"]
                figure.scatter(ax, x, y, series=method, label=NAMES[method], markersize=2.5, alpha=0.6)
                best_x, best = front(x.tolist(), y.tolist())
                ax.step([*best_x, x.max()], [*best, best[-1]], where="post", color=figure.look(ax, method)["color"])
        ax.set_xlabel(f"{unit} to 99 % train accuracy")
    if has_published:
        figure.published_points(axes[0], clusters, series=RI)
    axes[0].set_ylabel("validation accuracy (%)")
    figure.legend(axes[-1], published=has_published, below=3)
    fig.suptitle(title(settings))
    return fig


def dots(frame: Any, method: str, cost: str) -> Any:
    """One row for each run that reached the threshold: panel, seed (of the repetition), the cost and val_acc.

    Raises:
        KeyError: there is none.
    """
    try:
        points = wide(where(frame, method=method), cost, "val_acc")
    except KeyError as error:
        raise KeyError(f"{method}: {error.args[0]}") from error
    return points.assign(seed=points["seed"] % REPEAT)


def front(costs: list[float], accuracies: list[float]) -> tuple[list[float], list[float]]:
    """The Pareto front: costs in rising order at which the best accuracy so far rises, and that accuracy."""
    best_costs: list[float] = []
    best: list[float] = []
    for cost, accuracy in sorted(zip(costs, accuracies, strict=True), key=lambda dot: (dot[0], -dot[1])):
        if not best or accuracy > best[-1]:
            best_costs.append(cost)
            best.append(accuracy)
    return best_costs, best


def best_within(costs: list[float], accuracies: list[float], budget: float) -> float | None:
    """The best accuracy among dots that cost at most `budget`."""
    within = [accuracy for cost, accuracy in zip(costs, accuracies, strict=True) if cost <= budget]
    return max(within, default=None)


@claim(
    "F3",
    "A warm start is as good as random initialisation only when it takes as long (reported, not judged).",
    "Figure 3, section 3.1",
    kind="estimate",
)
def equal_budgets(frame: Any) -> stats.Finding:
    """Best warm start minus best fresh training within equal samples, averaged over the fresh trainings' costs.

    The average over budgets is the area between the two fronts divided by the number of budgets.
    """
    all_fresh, all_warm = dots(frame, RI, SAMPLES), dots(frame, WS, SAMPLES)
    means = {}
    for seed in sorted(set(all_fresh["seed"]) & set(all_warm["seed"])):
        of_seed = (where(points, seed=seed) for points in (all_fresh, all_warm))
        fresh, warm = ((points[SAMPLES].tolist(), points["val_acc"].tolist()) for points in of_seed)
        pairs = [(best_within(*warm, budget), best_within(*fresh, budget)) for budget in sorted(set(fresh[0]))]
        differences = [ahead - base for ahead, base in pairs if ahead is not None and base is not None]
        if differences:
            means[int(seed)] = sum(differences) / len(differences)
    return stats.estimate(means, "best warm start minus best fresh training at equal samples, mean over budgets")
