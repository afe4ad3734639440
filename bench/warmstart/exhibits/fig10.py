"""Figure 10: the gap by the share of the first phase.

The two-phase protocol of Table 1 (ResNet-18, CIFAR-10, SGD, learning rate 1e-3, batch 128) with 10 to 90 % of the samples
in the first phase. The paper's appendix shows the gap against that fraction; its numbers are not available.

Expected: a gap at every fraction. Which way it goes with the fraction is described both ways in secondary sources, so the
sign of the rank correlation is reported and not judged.
Cost: 9 first phases and 9 warm starts a seed, and one random initialisation that Table 1 has too: about 90 M samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field, field_validator

from bench import stats
from bench.exhibit import Arm, by_seed, claim
from bench.report import figure
from bench.stats import Values
from bench.warmstart.design import NAMES, RI, WS, Setup, WarmstartSettings, arm
from bench.warmstart.exhibits._figures import title
from bench.warmstart.exhibits._rows import chance_of, distinct, untimed_rows, where
from bench.warmstart.runs import first_phase, random_init, samples_of, second_phase
from bench.warmstart.spec import Training

CAPTION = (
    "Validation accuracy of a ResNet-18 that was fitted to a part of the data first (left) and how far it lies behind "
    "one that starts from random weights (right). Bands are 95 % intervals over seeds; the paper's numbers are not "
    "available."
)


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


def after_fraction(settings: Settings, setup: Setup, seed: int, *, fraction: float) -> Training:
    """A warm start whose first phase held a fraction of the data; half is Table 1's own, rounded as there."""
    samples = None if fraction == 0.5 else samples_of(settings.fit_samples(setup.dataset), fraction)
    return second_phase(settings, setup, seed, parent=first_phase(settings, setup, seed, samples=samples))


def arms(settings: Settings) -> Iterator[Arm]:
    yield arm(random_init, settings, Setup(), {"method": RI})
    for fraction in settings.fractions:
        labels = {"method": WS, "x_name": "fraction", "x": fraction}
        yield arm(after_fraction, settings, Setup(), labels, fraction=fraction)


rows = untimed_rows
chance = chance_of


def draw(frame: Any, published: Any, settings: Settings) -> figure.Figure:
    import pandas as pd

    fig, axes = figure.panels(1, 2)
    fresh, warm = (where(frame, metric="val_acc", method=method) for method in (RI, WS))
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
    fig.suptitle(title(settings))
    return fig


def gaps_by_fraction(frame: Any) -> dict[float, Values]:
    """Fraction -> seed -> accuracy of RI minus that of the warm start."""
    fresh = by_seed(frame, "val_acc", method=RI)
    return {x: fresh - by_seed(frame, "val_acc", method=WS, x=x) for x in sorted(distinct(frame, "x"))}


@claim("F10a", "The warm start is behind whatever part of the data came first.", "Appendix")
def always_a_gap(frame: Any) -> Iterator[stats.Finding]:
    for fraction, gap in gaps_by_fraction(frame).items():
        yield stats.above(gap, 0.0, name=f"gap at {fraction:g}")


@claim("F10a-mean", "On average over these parts the warm start is behind.", "Appendix (our summary)")
def a_gap_on_average(frame: Any) -> stats.Finding:
    return stats.on_average(list(gaps_by_fraction(frame).values()), name="gap")


@claim("F10b", "How the gap goes with the part of the data in the first phase.", "Appendix", kind="estimate")
def trend(frame: Any) -> stats.Finding:
    """Spearman's rank correlation of the gap with the fraction, by seed."""
    from scipy.stats import spearmanr

    gaps = gaps_by_fraction(frame)
    if len(gaps) < 3:
        raise KeyError("fewer than three fractions")
    seeds = set.intersection(*(set(values) for values in gaps.values()))
    signs = {seed: float(spearmanr(list(gaps), [values[seed] for values in gaps.values()]).statistic) for seed in seeds}
    scale = stats.correlation(len(gaps))
    return stats.estimate(signs, "rank correlation of the gap with the fraction in the first phase", on=scale)
