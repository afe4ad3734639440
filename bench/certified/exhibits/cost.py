"""Training cost on other settings (Appendix B): seconds of an epoch by phase, three data sets, networks and methods.

As Table 3, on MNIST, CIFAR-10 and TinyImageNet with CNN-7, Wide-ResNet and ResNeXt. To keep the large ones affordable an
epoch is scaled up from a number of steps. No published number of it is known; the ratios of Table 3 are judged.

Command: ``make reproduce SCALE=paper EXHIBITS=certified/cost``
Expected: on the ramp vanilla IBP < ours < CROWN-IBP in every setting.
Cost: 27 settings, 12 times 60 steps each and repetition.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench import stats
from bench.certified.cells import heading, values_of
from bench.certified.design import (
    BLOCKS,
    CROWN_IBP,
    METHODS,
    NAMES,
    OURS,
    VANILLA,
    CertifiedSettings,
    Course,
    Model,
    cells_of,
    in_turns,
    ratio,
    timed,
    timing_rows,
)
from bench.certified.spec import PHASES
from bench.exhibit import ArmRun, Claim, Exhibit, Row, by_seed
from bench.record import Record

if TYPE_CHECKING:
    import pandas as pd

RAMP = PHASES.index("ramp")


class Settings(CertifiedSettings):
    selects = CertifiedSettings.selects | {"repeats", "steps", "courses", "models"}

    seeds: int = Field(3, ge=1, le=1000, description="measurements of each setting")
    repeats: int = Field(3, ge=1, le=100, description="timed stretches of each phase in one measurement")
    steps: int | None = Field(60, ge=2, description="steps of a stretch, scaled to an epoch; None is a whole epoch")
    courses: tuple[Course, ...] = Field(("mnist_70", "cifar_160", "tin_20"), description="data sets and schedules")
    models: tuple[Model, ...] = Field(("cnn7", "wide_resnet", "resnext"), description="networks")


def members(settings: Settings) -> list[ArmRun]:
    made = []
    for course in settings.courses:
        block = BLOCKS[course]
        for model in settings.models:
            labels = {"panel": block.panel, "dataset": block.role, "model": model}
            for seed in settings.seed_range():
                turns = in_turns(settings, course, model, seed, repeats=settings.repeats, steps=settings.steps)
                made += [ArmRun({**labels, "method": method}, turns) for method in METHODS]
    return made


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    return timing_rows(member, record)


def ramp_in_order(frame: Any) -> stats.Finding:
    """CO1: as Table 3's third predicate, in every setting."""
    parts = []
    for cell in cells_of(timed(frame), "dataset", "model", metric="seconds_per_epoch"):
        vanilla, ours, crown = (
            by_seed(frame, "seconds_per_epoch", x=RAMP, method=method, **cell) for method in (VANILLA, OURS, CROWN_IBP)
        )
        where = ", ".join(cell.values())
        parts += [
            stats.above(ratio(ours, vanilla), 1.0, name=f"ours over vanilla IBP, {where}"),
            stats.above(ratio(crown, ours), 1.0, name=f"CROWN-IBP over ours, {where}"),
        ]
    return stats.all_of(parts)


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    import pandas as pd

    from bench.report.table import number

    rows: list[dict[str, str]] = []
    for course in settings.courses:
        for model in settings.models:
            cell = {"dataset": BLOCKS[course].role, "model": model}
            base = values_of(frame, "seconds_per_epoch", method=VANILLA, x=RAMP, **cell)
            for method in METHODS:
                cells = {**heading(settings, course, model), "method": NAMES[method]}
                for place, name in enumerate(("eps = 0 (s)", "ramp (s)", "final (s)")):
                    own = values_of(frame, "seconds_per_epoch", method=method, x=place, **cell)
                    cells[name] = number(own, 2)
                cells["total (s)"] = number(values_of(frame, "total_seconds", method=method, **cell), 1)
                times = ratio(values_of(frame, "seconds_per_epoch", method=method, x=RAMP, **cell), base)
                cells["ramp / vanilla"] = number(times, 2)
                rows.append(cells)
    return pd.DataFrame(rows)


EXHIBIT = Exhibit(
    name="certified/cost",
    title="Training cost on other settings (Appendix B)",
    caption=(
        "Seconds of a training epoch in each phase and of the whole schedule, scaled from a number of steps, mean and "
        "standard deviation over measurements, on the machine that made the records, where it was not busy with other work."
    ),
    kind="table",
    settings=Settings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(
        Claim(
            "CO1",
            "On the ramp ours costs more than vanilla IBP and less than CROWN-IBP, in every setting.",
            "Table 3, Appendix B",
            ramp_in_order,
        ),
    ),
)
