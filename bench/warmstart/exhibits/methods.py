"""Beyond the paper: shrink-perturb and its rivals.

Two phases as in Table 1 (ResNet-18, CIFAR-10, SGD). At the beginning of the second the weights are kept (WS), shrunk and
perturbed (SP), given a new classifier, pulled towards their first values all along (L2-init), or shrunk by direction (DASH,
Shin et al. 2024). A user's own file in ``$BENCH_EXTRA/warmstart/methods`` can be named in `methods`.

Expected: resetting the classifier leaves the gap; on CIFAR-10 in 50 chunks DASH was at 84.1, SP at 81.3, WS at 63.5 %.
Cost: one fit for each method and a first phase for L2-init; the rest is Table 1's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field, field_validator

from bench import stats
from bench.errors import UserError
from bench.exhibit import Arm, claim
from bench.report import figure
from bench.warmstart import methods as known
from bench.warmstart.design import NAMES, RI, SP, WS, OptimizerName, Perturb, Setup, Shrink, WarmstartSettings, arm
from bench.warmstart.exhibits._figures import title
from bench.warmstart.exhibits._rows import chance_of, gaps, untimed_rows, values_of
from bench.warmstart.runs import both_arms, first_phase, second_phase
from bench.warmstart.spec import FRESH, Restart, Training

CAPTION = (
    "Validation accuracy (left) and cost of the second phase (right) of a ResNet-18 by what is done to the weights "
    "between the phases. Bars are 95 % intervals over seeds."
)
TITLES = {**NAMES, "last_layer_reset": "last-layer reset", "l2_init": "L2-init", "dash": "DASH"}


class Settings(WarmstartSettings):
    selects = WarmstartSettings.selects | {"methods"}

    methods: tuple[str, ...] = Field(
        (SP, "last_layer_reset", "l2_init", "dash"), min_length=1, description="files of bench/warmstart/methods"
    )
    optimizer_name: OptimizerName = Field("sgd", description="optimiser")
    shrinks: dict[str, Shrink] = Field(
        {SP: 0.3, "dash": 0.3}, description="method -> lambda; Figure 9's and DASH's own, 0.3"
    )
    perturb: float = Field(0.01, ge=0, description="s of shrink-perturb, that of the online figures [P]")
    strengths: dict[str, Perturb] = Field(
        {"l2_init": 1e-3, "dash": 0.3}, description="method -> its own parameter: weight of L2-init [O], alpha of DASH"
    )
    both_phases: tuple[str, ...] = Field(
        ("l2_init",), description="methods that act in the first phase too: those with a penalty"
    )

    @field_validator("methods")
    @classmethod
    def _exist(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            try:
                known.module_of(name)
            except UserError as error:
                raise ValueError(str(error)) from error
        return names

    @field_validator("strengths")
    @classmethod
    def _alpha(cls, strengths: dict[str, float]) -> dict[str, float]:
        if not 0 < strengths.get("dash", 0.3) <= 1:
            raise ValueError(f"dash: {strengths['dash']:g}: expected alpha above 0 and at most 1")
        return strengths

    def restart(self, method: str) -> Restart:
        return Restart(
            method=method,
            shrink=self.shrinks.get(method, 1.0),
            perturb=self.perturb if method == SP else 0.0,
            strength=self.strengths.get(method),
        )


def second_with(settings: Settings, setup: Setup, seed: int, *, method: str) -> Training:
    """A second phase that a method begins; with a penalty, which acts in the first phase too, that phase is its own."""
    start = settings.restart(method)
    parent = first_phase(settings, setup, seed, start=start if method in settings.both_phases else FRESH)
    return second_phase(settings, setup, seed, start=start, parent=parent)


def arms(settings: Settings) -> Iterator[Arm]:
    setup = Setup(optimizer=settings.optimizer_name)
    yield from both_arms(settings, setup)
    for method in settings.methods:
        yield arm(second_with, settings, setup, {"method": method}, method=method)


rows = untimed_rows
chance = chance_of


def draw(frame: Any, published: Any, settings: Settings) -> figure.Figure:
    fig, axes = figure.panels(1, 2)
    series = [RI, WS, *settings.methods]
    names = [TITLES.get(name, name) for name in series]
    for metric, ax in (("val_acc", axes[0]), ("samples_to_stop", axes[1])):
        figure.bars(ax, names, [values_of(frame, metric, method=method) for method in series], series=series)
        ax.tick_params(axis="x", labelrotation=35)
        for label in ax.get_xticklabels():
            label.set_horizontalalignment("right")
            label.set_rotation_mode("anchor")
    axes[0].set_ylabel("validation accuracy (%)")
    axes[1].set_ylabel("samples of the last phase")
    fig.suptitle(title(settings))
    return fig


@claim("ME1", "A new classifier on warm-started features does not close the gap.", "beyond the paper; Table 2")
def last_layer_is_not_enough(frame: Any) -> stats.Finding:
    return stats.above(gaps(frame, second="last_layer_reset"), 0.0, name="gap")


@claim("ME2", "Shrink-perturb generalises better than a warm start.", "section 4")
def shrink_perturb_helps(frame: Any) -> stats.Finding:
    return stats.above(gaps(frame, first=SP), 0.0, name="shrink perturb over warm start")


@claim("ME3", "DASH generalises better than a warm start.", "Shin et al. 2024")
def dash_helps(frame: Any) -> stats.Finding:
    return stats.above(gaps(frame, first="dash"), 0.0, name="DASH over warm start")


@claim("ME4", "What L2-init gains over a warm start.", "Kumar et al. 2023", kind="estimate")
def l2_init_gains(frame: Any) -> stats.Finding:
    return stats.estimate(gaps(frame, first="l2_init"), "points of L2-init over warm start")
