"""Figure 9: transfer to another data set.

A ResNet-18 is trained to convergence on the source and then on a fraction of the target, for the six ordered pairs of
CIFAR-10, CIFAR-100 and SVHN. Warm start, random initialisation, and shrink perturb (lambda = .3, s = 1e-4). Adam, learning
rate 1e-3, test sets. The classifier is drawn anew where the classes differ in number, and shrink perturb acts on it too.

Expected (digitised): shrink perturb is the best or near it, but for SVHN to CIFAR-100, where it lies 1 to 2 points below.
Cost: 3 sources and 180 target trainings a seed, 100 to 150 M samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from bench import stats
from bench.exhibit import Arm, ArmRun, Row, by_seed, claim, row
from bench.record import Record
from bench.report import figure
from bench.run import StrictModel
from bench.stats import Values
from bench.warmstart.design import NAMES, RI, SP, WS, PaperDataset, Setup, WarmstartSettings, arm
from bench.warmstart.exhibits._figures import PUBLISHED, curves, legend, method_series
from bench.warmstart.exhibits._rows import chance_of, combinations, where
from bench.warmstart.runs import STARTS, shrink_start, transfer

WITHIN = 1.0
"""Points by which shrink perturb may fall behind: the paper says one SD, and those of its ResNets with Adam are 0.2 to 1.2
(Table 1)."""
CAPTION = (
    "Test accuracy on the target by the fraction of it that is trained on, from random weights, from those of the "
    "source, and after shrink perturb (λ = 0.3, s = 1e-4). "
) + PUBLISHED
MARGINS = {"target_acc": 2.0}


class Transfer(StrictModel):
    """Where weights come from and where they are used."""

    source: PaperDataset = Field(description="data set that is trained on first")
    target: PaperDataset = Field(description="data set that is then trained on")

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.source == self.target:
            raise ValueError(f"source and target are both {self.source}; expected two data sets")
        return self

    @property
    def panel(self) -> str:
        return f"{self.source}_to_{self.target}"


PAIRS = tuple(
    Transfer(source=source, target=target)
    for source, target in (
        ("cifar10", "svhn"),
        ("svhn", "cifar10"),
        ("cifar10", "cifar100"),
        ("cifar100", "svhn"),
        ("cifar100", "cifar10"),
        ("svhn", "cifar100"),
    )
)


class Settings(WarmstartSettings):
    selects = WarmstartSettings.selects | {"pairs", "fractions"}

    pairs: tuple[Transfer, ...] = Field(PAIRS, description="source and target [P]")
    fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.04, 0.06, 0.08, 0.10, 0.12, 0.14, 0.18, 0.30, 0.50, 0.70, 0.90, 1.0),
        description="of the target's training samples [P]",
    )
    shrink: float = Field(0.3, ge=0, le=1, description="lambda [P]")
    perturb: float = Field(1e-4, ge=0, description="noise scale s [P]")

    @model_validator(mode="after")
    def _has_arms(self) -> Self:
        if not self.pairs or not self.fractions:
            raise ValueError("pairs and fractions: expected at least one of each")
        return self


def arms(settings: Settings) -> Iterator[Arm]:
    starts = {**STARTS, SP: shrink_start(settings.shrink, settings.perturb)}
    for pair, fraction in product(settings.pairs, settings.fractions):
        setup = Setup(pair.target, optimizer="adam")
        # The figure's numbers name no optimiser.
        at = {"optimizer": None, "panel": pair.panel, "x_name": "target_fraction", "x": fraction}
        options = {"source": pair.source, "fraction": fraction}
        for method, start in starts.items():
            yield arm(transfer, settings, setup, {**at, "method": method}, start=start, **options)


def rows(run: ArmRun, record: Record) -> Iterator[Row]:
    yield row(run, "target_acc", record.metrics["report_acc"])
    yield row(run, "samples_to_stop", record.costs["samples"])


chance = partial(chance_of, report="official_test")


def draw(frame: Any, published: Any, settings: Settings) -> figure.Figure:
    columns = min(3, len(settings.pairs))
    lines = -(-len(settings.pairs) // columns)
    fig, axes = figure.panels(lines, columns, sharex=True, width="double" if columns > 1 else "single")
    accuracies = where(frame, metric="target_acc")
    for ax, pair in zip(axes, settings.pairs, strict=False):
        series = method_series(WS, RI, SP)
        curves(ax, accuracies, series, settings=settings, published=published, panel=pair.panel)
        ax.set_title(f"{NAMES[pair.source]} to {NAMES[pair.target]}")
    for ax in axes[len(settings.pairs) :]:
        ax.set_axis_off()
    for ax in axes[::columns]:
        ax.set_ylabel("target test accuracy (%)")
    for ax in axes[-columns:]:
        ax.set_xlabel("fraction of the target's training set")
    legend(axes[0], settings, below=4)
    stand_ins = " (generated images)" if settings.stand_in else ""
    fig.suptitle(f"Transfer{stand_ins}")
    return fig


def compared(frame: Any) -> Iterator[tuple[str, Values, Values, Values]]:
    """Panel and fraction, with the accuracies of warm start, random initialisation and shrink perturb."""
    for panel, fraction in combinations(where(frame, metric="target_acc"), "panel", "x"):
        warm, fresh, shrunk = (
            by_seed(frame, "target_acc", panel=panel, x=fraction, method=method) for method in (WS, RI, SP)
        )
        yield f"{panel} {fraction:g}", warm, fresh, shrunk


@claim(
    "F9a",
    "Shrink perturb is never worse than the better of warm start and random initialisation (within one SD).",
    "Figure 9, section 4.2",
)
def never_worse(frame: Any) -> Iterator[stats.Finding]:
    """Not worse than the better of both is not worse than either."""
    for name, warm, fresh, shrunk in compared(frame):
        rivals = {WS: warm, RI: fresh}
        yield stats.all_of(
            [
                stats.not_worse(shrunk, rival, margin=WITHIN, name=f"{name}: SP over {NAMES[method]}")
                for method, rival in rivals.items()
            ]
        )


@claim(
    "F9b",
    "Averaged over pairs and fractions shrink perturb is better than the better of both.",
    "Figure 9, section 4.2 (our summary)",
)
def better_on_average(frame: Any) -> stats.Finding:
    """In each cell the better of both is the one with the higher mean; the largest of each seed would be too high."""
    parts = []
    for _, warm, fresh, shrunk in compared(frame):
        better = max((warm, fresh), key=lambda values: sum(values.values()) / len(values))
        parts.append(shrunk - better)
    seeds = sorted(set.intersection(*map(set, parts)))
    means = {seed: sum(part[seed] for part in parts) / len(parts) for seed in seeds}
    return stats.above(means, 0.0, name="SP over the better")
