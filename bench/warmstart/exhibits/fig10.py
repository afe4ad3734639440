"""Figure 10: how much of the data the first phase holds, and the gap that the warm start leaves.

The two-phase protocol of Table 1 (ResNet-18, CIFAR-10, SGD, learning rate 1e-3, batch 128) with 10 to 90 % of the samples
in the first phase. The paper's appendix shows the gap against that fraction; its numbers are not available.

Command: ``make reproduce SCALE=paper EXHIBITS=warmstart/fig10``
Expected: a gap at every fraction. Which way it goes with the fraction is described both ways in secondary sources, so the
sign of the rank correlation is reported and not judged.
Cost: 9 first phases and 9 warm starts a seed, and one random initialisation that Table 1 has too: about 90 M samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit, by_seed
from bench.warmstart.appendix import distinct, second_from, two_phase_rows
from bench.warmstart.design import NAMES, RI, WS, WarmstartSettings, random_init, samples_of, second_phase, substitution

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Settings(WarmstartSettings):
    fractions: tuple[float, ...] = Field(
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), description="parts of the data in the first phase [O]"
    )

    @field_validator("fractions")
    @classmethod
    def _inside(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not values or any(not 0 < value < 1 for value in values):
            raise ValueError("fractions lie between 0 and 1, both excluded")
        return values


def members(settings: Settings) -> list[ArmRun]:
    cell: dict[str, Any] = {"dataset": "cifar10", "model": "thin_resnet18", "optimizer": "sgd"}
    made = [
        ArmRun({**cell, "method": RI}, random_init(settings, "cifar10", "thin_resnet18", "sgd", seed))
        for seed in settings.seed_range()
    ]
    fit = settings.fit_samples("cifar10")
    for fraction in settings.fractions:
        labels = {**cell, "method": WS, "x_name": "fraction", "x": fraction}
        for seed in settings.seed_range():
            # Half is Table 1's own cell.
            run = (
                second_phase(settings, "cifar10", "thin_resnet18", "sgd", seed)
                if fraction == 0.5
                else second_from(settings, "cifar10", "thin_resnet18", "sgd", seed, first=samples_of(fit, fraction))
            )
            made.append(ArmRun(labels, run))
    return made


def gap_at(frame: Any, fraction: float) -> dict[int, float]:
    """Seed -> accuracy of RI minus that of the warm start whose first phase held `fraction` of the data."""
    fresh = by_seed(frame, "val_acc", method=RI)
    warm = by_seed(frame, "val_acc", method=WS, x=fraction)
    return {seed: fresh[seed] - warm[seed] for seed in fresh if seed in warm}


def trend(frame: Any) -> stats.Finding:
    """Spearman's rank correlation of the gap with the fraction, by seed: reported."""
    from scipy.stats import spearmanr

    fractions = sorted(distinct(frame, "x"))
    at = {fraction: gap_at(frame, fraction) for fraction in fractions}
    seeds = set.intersection(*(set(values) for values in at.values()))
    signs = {
        seed: float(spearmanr(fractions, [at[fraction][seed] for fraction in fractions]).statistic) for seed in seeds
    }
    if len(fractions) < 3:
        raise KeyError("fewer than three fractions")
    finite = {seed: value for seed, value in signs.items() if value == value}
    return stats.report(finite, "rank correlation of the gap with the fraction in the first phase")


def always_a_gap(frame: Any) -> stats.Finding:
    """F10: the warm start is behind at every fraction."""
    return stats.all_of(
        [
            stats.above(gap_at(frame, fraction), 0.0, name=f"gap at {fraction:g}")
            for fraction in sorted(distinct(frame, "x"))
        ]
    )


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    import pandas as pd

    from bench.report import figure

    drawn, axes = figure.panels(1, 2)
    own = frame[frame["metric"] == "val_acc"]
    warm = own[own["method"] == WS]
    fresh = own[own["method"] == RI]
    flat = pd.concat([fresh.assign(x=x) for x in settings.fractions]) if len(fresh) else fresh
    figure.band(axes[0], flat, series=RI, label=NAMES[RI])
    figure.band(axes[0], warm, series=WS, label=NAMES[WS])
    axes[0].set(xlabel="fraction of the data in the first phase", ylabel="validation accuracy (%)")
    differences = warm.merge(fresh[["seed", "value"]], on="seed", suffixes=("", "_fresh"))
    differences = differences.assign(value=differences["value_fresh"] - differences["value"])
    figure.band(axes[1], differences, series="gap", label="random init − warm start")
    axes[1].axhline(0, color="0.5", linewidth=0.8)
    axes[1].set(xlabel="fraction of the data in the first phase", ylabel="gap (points)")
    figure.legend(axes[0], published=False)
    drawn.suptitle(substitution(settings, "cifar10"))
    return drawn


EXHIBIT = Exhibit(
    name="warmstart/fig10",
    title="Figure 10: the gap by the share of the first phase",
    caption=(
        "Validation accuracy of a ResNet-18 that was fitted to a part of the data first (left) and how far it lies behind "
        "one that starts from random weights (right). Bands are 95 % intervals over seeds; the paper's numbers are not "
        "available."
    ),
    kind="figure",
    settings=Settings,
    runs=members,
    module=__name__,
    rows=two_phase_rows,
    draw=draw,
    claims=(
        Claim("F10a", "The warm start is behind whatever part of the data came first.", "Appendix", always_a_gap),
        Claim("F10b", "How the gap goes with the part of the data in the first phase.", "Appendix", trend),
    ),
)
