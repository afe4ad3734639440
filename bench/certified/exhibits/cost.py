"""Training cost on other settings (Appendix B).

Seconds of an epoch by phase, as Table 3, on MNIST, CIFAR-10 and TinyImageNet with CNN-7, Wide-ResNet and ResNeXt and three
methods. To keep the large ones affordable an epoch is scaled up from a number of steps. No published number of it is known;
the ratios of Table 3 are judged.

Expected: on the ramp vanilla IBP < ours < CROWN-IBP in every setting.
Cost: 27 settings, 12 times 60 steps each and repetition.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench.certified.design import (
    CROWN_IBP,
    METHODS,
    MODELS,
    NAMES,
    OURS,
    SETUPS,
    VANILLA,
    CertifiedSettings,
    Model,
    SetupName,
    timings,
)
from bench.certified.exhibits._rows import distinct, seconds, timing_rows
from bench.certified.exhibits._tables import grid, heading, timing_cells, values_of
from bench.certified.exhibits.table3 import RAMP
from bench.exhibit import Arm, claim
from bench.stats import Finding, above

if TYPE_CHECKING:
    import pandas as pd

CAPTION = (
    "Seconds of a training epoch in each phase and of the whole schedule, scaled from a number of steps, mean and "
    "standard deviation over measurements, on the machine that made the records, where it was not busy with other work."
)


class Settings(CertifiedSettings):
    selects = CertifiedSettings.selects | {"repeats", "steps", "courses", "models"}

    seeds: int = Field(3, ge=1, le=1000, description="measurements of each setting")
    repeats: int = Field(3, ge=1, le=100, description="timed parts of each phase in one measurement")
    steps: int | None = Field(60, ge=2, description="steps of a part, scaled to an epoch; None is a whole epoch")
    courses: tuple[SetupName, ...] = Field(("mnist_70", "cifar_160", "tin_20"), description="data sets and schedules")
    models: tuple[Model, ...] = Field(("cnn7", "wide_resnet", "resnext"), description="networks")


def arms(settings: Settings) -> Iterator[Arm]:
    for setup in settings.courses:
        for model in settings.models:
            labels = {"panel": SETUPS[setup].panel, "dataset": SETUPS[setup].role, "model": model}
            yield from timings(settings, setup, model, labels, repeats=settings.repeats, steps=settings.steps)


rows = timing_rows


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    from bench.report.table import number

    lines: dict[tuple[str, ...], dict[tuple[str, str], str]] = {}
    for setup in settings.courses:
        for model in settings.models:
            labels = {"dataset": SETUPS[setup].role, "model": model}
            vanilla = values_of(frame, "seconds_per_epoch", method=VANILLA, x=RAMP, **labels)
            for method in METHODS:
                ramp = values_of(frame, "seconds_per_epoch", method=method, x=RAMP, **labels)
                lines[*heading(settings, setup), MODELS[model], NAMES[method]] = {
                    **timing_cells(frame, published, method=method, **labels),
                    ("ramp / vanilla", ""): number(ramp / vanilla, 2),
                }
    return grid(["data set", "epochs", "network", "method"], lines)


@claim(
    "CO1",
    "On the ramp ours costs more than vanilla IBP and less than CROWN-IBP, in every setting.",
    "Table 3, Appendix B",
)
def ramp_in_order(frame: Any) -> Iterator[Finding]:
    seconds(frame)
    for labels in distinct(frame, "dataset", "model", metric="seconds_per_epoch"):
        vanilla, ours, crown = (
            seconds(frame, x=RAMP, method=method, **labels) for method in (VANILLA, OURS, CROWN_IBP)
        )
        where = ", ".join(labels.values())
        yield above(ours / vanilla, 1.0, name=f"ours over vanilla IBP, {where}")
        yield above(crown / ours, 1.0, name=f"CROWN-IBP over ours, {where}")
