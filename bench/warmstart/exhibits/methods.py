"""Beyond the paper: shrink-perturb beside what others proposed, from the same first phase.

Two phases as in Table 1 (ResNet-18, CIFAR-10, SGD). At the beginning of the second the weights are kept (WS), shrunk and
perturbed (SP), given a new classifier, pulled towards their first values all along (L2-init), or shrunk by direction (DASH,
Shin et al. 2024). A user's own file in ``$BENCH_EXTRA/methods`` can be named in `methods`.

Command: ``make reproduce SCALE=paper EXHIBITS=warmstart/methods``
Expected: resetting the classifier leaves the gap; on CIFAR-10 in 50 chunks DASH was at 84.1, SP at 81.3, WS at 63.5 %.
Cost: one fit for each method and a first phase for L2-init; the rest is Table 1's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from bench import stats
from bench.errors import UserError
from bench.exhibit import ArmRun, Claim, Exhibit, by_seed
from bench.warmstart import methods as known
from bench.warmstart.appendix import Perturb, Shrink, gaps, two_phase_rows
from bench.warmstart.design import (
    NAMES,
    RI,
    SP,
    WS,
    WarmstartSettings,
    first_phase,
    random_init,
    second_phase,
    substitution,
)
from bench.warmstart.spec import KEPT, Restart, Round, Training

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MODEL = "thin_resnet18"
TITLES = {**NAMES, "last_layer_reset": "last-layer reset", "l2_init": "L2-init", "dash": "DASH"}


class Settings(WarmstartSettings):
    selects = WarmstartSettings.selects | {"methods"}

    methods: tuple[str, ...] = Field(
        (SP, "last_layer_reset", "l2_init", "dash"), min_length=1, description="files of bench/warmstart/methods"
    )
    optimizer_name: Literal["sgd", "adam"] = Field("sgd", description="optimiser")
    shrinks: dict[str, Shrink] = Field(
        {SP: 0.3, "dash": 0.3}, description="method -> lambda; Figure 9's and DASH's own, 0.3"
    )
    perturb: float = Field(0.01, ge=0, description="s of shrink-perturb, that of the online figures [P]")
    strengths: dict[str, Perturb] = Field(
        {"l2_init": 1e-3}, description="method -> its own parameter, in both phases: weight of L2-init [O]"
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

    def restart(self, method: str) -> Restart:
        return Restart(
            method=method,
            shrink=self.shrinks.get(method, 1.0),
            perturb=self.perturb if method == SP else 0.0,
            strength=self.strengths.get(method, 0.0),
        )


def run_of(settings: Settings, method: str, seed: int) -> Training:
    """The run of a method; a penalty acts in the first phase too, so that phase is its own."""
    name = settings.optimizer_name
    if method == RI:
        return random_init(settings, "cifar10", MODEL, name, seed)
    start = KEPT if method == WS else settings.restart(method)
    parent = first_phase(settings, "cifar10", MODEL, name, seed)
    if start.strength:
        parent = parent.model_copy(update={"rounds": (Round(samples=parent.rounds[0].samples, start=start),)})
    return second_phase(settings, "cifar10", MODEL, name, seed, start=start, parent=parent)


def members(settings: Settings) -> list[ArmRun]:
    return [
        ArmRun(
            {"dataset": "cifar10", "model": MODEL, "method": method, "optimizer": settings.optimizer_name},
            run_of(settings, method, seed),
        )
        for method in (RI, WS, *settings.methods)
        for seed in settings.seed_range()
    ]


def last_layer_is_not_enough(frame: Any) -> stats.Finding:
    """ME1: random initialisation stays above a warm start with a new classifier."""
    return stats.above(gaps(frame, second="last_layer_reset"), 0.0, name="gap")


def shrink_perturb_helps(frame: Any) -> stats.Finding:
    """ME2: shrink-perturb ends above the plain warm start."""
    return stats.above(gaps(frame, first=SP), 0.0, name="shrink perturb over warm start")


def dash_helps(frame: Any) -> stats.Finding:
    """ME3: DASH ends above the plain warm start."""
    return stats.above(gaps(frame, first="dash"), 0.0, name="DASH over warm start")


def l2_init_gains(frame: Any) -> stats.Finding:
    """ME4: what L2-init gains over the plain warm start: reported."""
    return stats.report(gaps(frame, first="l2_init"), "points of L2-init over warm start")


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    from bench.report import figure

    drawn, axes = figure.panels(1, 2)
    series = [RI, WS, *settings.methods]
    for metric, place in (("val_acc", axes[0]), ("samples_to_stop", axes[1])):
        values = []
        for method in series:
            try:
                values.append(by_seed(frame, metric, method=method))
            except KeyError:
                values.append({})
        figure.bars(place, [TITLES.get(name, name) for name in series], values, series=series)
        place.tick_params(axis="x", labelrotation=35)
        for label in place.get_xticklabels():
            label.set_horizontalalignment("right")
            label.set_rotation_mode("anchor")
    axes[0].set_ylabel("validation accuracy (%)")
    axes[1].set_ylabel("samples of the last phase")
    drawn.suptitle(substitution(settings, "cifar10"))
    return drawn


EXHIBIT = Exhibit(
    name="warmstart/methods",
    title="Beyond the paper: shrink-perturb and its rivals",
    caption=(
        "Validation accuracy (left) and cost of the second phase (right) of a ResNet-18 by what is done to the weights "
        "between the phases. Bars are 95 % intervals over seeds."
    ),
    kind="figure",
    settings=Settings,
    runs=members,
    module=__name__,
    rows=two_phase_rows,
    draw=draw,
    claims=(
        Claim(
            "ME1",
            "A new classifier on warm-started features does not close the gap.",
            "beyond the paper; Table 2",
            last_layer_is_not_enough,
        ),
        Claim("ME2", "Shrink-perturb generalises better than a warm start.", "section 4", shrink_perturb_helps),
        Claim("ME3", "DASH generalises better than a warm start.", "Shin et al. 2024", dash_helps),
        Claim("ME4", "What L2-init gains over a warm start.", "Kumar et al. 2023", l2_init_gains),
    ),
)
