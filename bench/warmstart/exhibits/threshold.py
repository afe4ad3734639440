"""Beyond the paper: does the gap depend on how well the training data are fitted? 99, 99.9 and 100 % train accuracy.

The two-phase protocol of Table 1 (ResNet-18, CIFAR-10, SGD); both phases stop at the threshold, or on a plateau.
A replication found no gap on SVHN at 99 % and one at 99.9 %.

Command: ``make reproduce SCALE=paper EXHIBITS=warmstart/threshold``
Expected: a gap at each threshold; 99 % is Table 1's own cell (56.2 against 51.7 printed).
Cost: two thresholds beside Table 1's, about 12 M samples a seed each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit
from bench.warmstart.appendix import distinct, gaps, pair, two_phase_rows
from bench.warmstart.design import NAMES, RI, WS, WarmstartSettings, substitution

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Settings(WarmstartSettings):
    thresholds: tuple[float, ...] = Field((99.0, 99.9, 100.0), min_length=1, description="train accuracies, percent")
    optimizer_name: Literal["sgd", "adam"] = Field("sgd", description="optimiser")


def members(settings: Settings) -> list[ArmRun]:
    made = []
    for threshold in settings.thresholds:
        # What is 100 % cannot be exceeded.
        stop = settings.stop("thin_resnet18", threshold=threshold, strict=threshold < 100)
        for seed in settings.seed_range():
            for method, run in pair(settings, "cifar10", "thin_resnet18", settings.optimizer_name, seed, stop=stop):
                labels = {"dataset": "cifar10", "model": "thin_resnet18", "optimizer": settings.optimizer_name}
                made.append(ArmRun({**labels, "method": method, "x_name": "threshold", "x": threshold}, run))
    return made


def gap_at_each(frame: Any) -> stats.Finding:
    """TH1: a gap at each threshold."""
    return stats.all_of(
        [stats.above(gaps(frame, x=x), 0.0, name=f"gap at {x:g} %") for x in sorted(distinct(frame, "x"))]
    )


def growth(frame: Any) -> stats.Finding:
    """TH2: the gap at the highest threshold minus that at the lowest: reported."""
    thresholds = sorted(distinct(frame, "x"))
    if len(thresholds) < 2:
        raise KeyError("one threshold only")
    low, high = gaps(frame, x=thresholds[0]), gaps(frame, x=thresholds[-1])
    return stats.report(
        {seed: high[seed] - low[seed] for seed in high if seed in low},
        f"gap at {thresholds[-1]:g} % minus gap at {thresholds[0]:g} %",
    )


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    from bench.report import figure

    drawn, axes = figure.panels(1, 2)
    # Evenly spaced: the thresholds crowd below 100.
    places = {x: place for place, x in enumerate(sorted(settings.thresholds))}
    for method in (RI, WS):
        for metric, place in (("val_acc", axes[0]), ("samples_to_stop", axes[1])):
            chosen = frame[(frame["metric"] == metric) & (frame["method"] == method)]
            figure.band(place, chosen.assign(x=chosen["x"].map(places)), series=method, label=NAMES[method])
    for axis in axes:
        axis.set_xticks(list(places.values()), [f"{x:g}" for x in places])
        axis.set(xlabel="train accuracy that ends a phase (%)")
        axis.set_xlim(-0.3, len(places) - 0.7)
    axes[0].set_ylabel("validation accuracy (%)")
    axes[1].set_ylabel("samples of the last phase")
    figure.legend(axes[0], published=False)
    drawn.suptitle(substitution(settings, "cifar10"))
    return drawn


EXHIBIT = Exhibit(
    name="warmstart/threshold",
    title="Beyond the paper: the gap by stopping threshold",
    caption=(
        "Validation accuracy (left) and cost (right) of a warm-started ResNet-18 and one from random weights when both "
        "phases end at another train accuracy. Bands are 95 % intervals over seeds."
    ),
    kind="figure",
    settings=Settings,
    runs=members,
    module=__name__,
    rows=two_phase_rows,
    draw=draw,
    claims=(
        Claim(
            "TH1",
            "The gap does not come from where training stops: it is there at 99, 99.9 and 100 %.",
            "beyond the paper; section 3",
            gap_at_each,
        ),
        Claim("TH2", "How the gap changes with the threshold.", "beyond the paper", growth),
    ),
)
