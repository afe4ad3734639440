"""Table 3: seconds of an epoch at eps = 0, on the ramp and at the target, and of the whole training, CNN-7 on CIFAR-10.

Measured on the machine at hand: the methods take turns in three epochs of each phase after one that warms up, evaluation
left out, scaled to 1 + 80 + 79 epochs. Published seconds are of one RTX 2080 Ti with a loader in one process: ratios
are judged, seconds are shown.

Command: ``make reproduce SCALE=paper EXHIBITS=certified/table3``
Expected (printed), eps = 0 / ramp / final / total: vanilla 30.0 / 54.8 / 54.8 / 8,748 s, CROWN-IBP 30.0 / 78.5 / 54.8 /
10,641 s, ours 64.0 / 64.0 / 54.8 / 9,512 s.
Cost: 12 epochs of CNN-7 a method and repetition.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench import stats
from bench.certified.cells import LITERATURE, heading, values_of
from bench.certified.design import (
    BLOCKS,
    CROWN_IBP,
    METHODS,
    NAMES,
    OURS,
    VANILLA,
    CertifiedSettings,
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

PANEL = BLOCKS["cifar_160"].panel
ZERO, RAMP, FINAL = range(len(PHASES))


class Settings(CertifiedSettings):
    selects = CertifiedSettings.selects | {"repeats", "steps"}

    seeds: int = Field(3, ge=1, le=1000, description="measurements, each of all methods in turns")
    repeats: int = Field(3, ge=1, le=100, description="epochs of each phase that are timed in one measurement")
    steps: int | None = Field(None, ge=2, description="time so many steps and scale to an epoch; None is a whole epoch")


def members(settings: Settings) -> list[ArmRun]:
    labels = {"panel": PANEL, "dataset": "cifar10", "model": "cnn7", "optimizer": "adam"}
    made = []
    for seed in settings.seed_range():
        turns = in_turns(settings, "cifar_160", "cnn7", seed, repeats=settings.repeats, steps=settings.steps)
        made += [ArmRun({**labels, "method": method}, turns) for method in METHODS]
    return made


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    return timing_rows(member, record)


def _seconds(frame: Any, method: str, phase: int) -> dict[int, float]:
    return by_seed(timed(frame), "seconds_per_epoch", method=method, x=phase)


def final_phase_alike(frame: Any) -> stats.Finding:
    """T3a: within 5 % of vanilla IBP."""
    vanilla = _seconds(frame, VANILLA, FINAL)
    return stats.all_of(
        [
            stats.equivalent_to(ratio(_seconds(frame, method, FINAL), vanilla), 1.0, margin=0.05)
            for method in (CROWN_IBP, OURS)
        ]
    )


def ours_bounds_at_zero(frame: Any) -> stats.Finding:
    """T3b: printed 64.0 against 30.0 s."""
    times = ratio(_seconds(frame, OURS, ZERO), _seconds(frame, VANILLA, ZERO))
    return stats.above(times, 1.0, name="ours over vanilla IBP, eps = 0")


def ramp_in_order(frame: Any) -> stats.Finding:
    """T3c: printed 54.8, 64.0 and 78.5 s."""
    vanilla, ours, crown = (_seconds(frame, method, RAMP) for method in (VANILLA, OURS, CROWN_IBP))
    return stats.all_of(
        [
            stats.above(ratio(ours, vanilla), 1.0, name="ours over vanilla IBP, ramp"),
            stats.above(ratio(crown, ours), 1.0, name="CROWN-IBP over ours, ramp"),
        ]
    )


def totals_in_order(frame: Any) -> stats.Finding:
    """T3d: printed ratios 1.087 (ours over vanilla IBP) and 1.119 (CROWN-IBP over ours)."""
    vanilla, ours, crown = (
        by_seed(timed(frame), "total_seconds", method=method) for method in (VANILLA, OURS, CROWN_IBP)
    )
    return stats.all_of(
        [
            stats.above(ratio(ours, vanilla), 1.0, name="ours over vanilla IBP, total"),
            stats.above(ratio(crown, ours), 1.0, name="CROWN-IBP over ours, total"),
        ]
    )


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    import pandas as pd

    from bench.report.table import compare

    rows: list[dict[str, str]] = []
    base = values_of(frame, "total_seconds", method=VANILLA)
    for method in METHODS:
        cells = {**heading(settings, "cifar_160"), "method": NAMES[method]}
        for phase, name in ((ZERO, "eps = 0 (s)"), (RAMP, "ramp (s)"), (FINAL, "final (s)")):
            cells[name] = compare(
                frame, published, metric="seconds_per_epoch", digits=2, printed=1, method=method, x=phase
            )
        cells["total (s)"] = compare(frame, published, metric="total_seconds", method=method)
        own = values_of(frame, "total_seconds", method=method)
        times = ratio(own, base)
        printed = {
            name: values_of(published.assign(seed=0), "total_seconds", method=name)[0] for name in (method, VANILLA)
        }
        mean = f"{sum(times.values()) / len(times):.2f}" if times else "–"
        cells["total / vanilla"] = f"{mean} [{printed[method] / printed[VANILLA]:.2f}]"
        rows.append(cells)
    for line in published[published["provenance"] == "literature"].to_dict("records"):
        rows.append(
            {
                "data set": "CIFAR-10",
                "schedule": line["panel"],
                "method": LITERATURE.get(line["method"], line["method"]),
                "total (s)": f"[{line['value']:,.0f}]",
            }
        )
    return pd.DataFrame(rows).fillna("")


EXHIBIT = Exhibit(
    name="certified/table3",
    title="Table 3: training cost by phase",
    caption=(
        "Seconds of a training epoch in each phase and of the whole schedule, mean and standard deviation over "
        "measurements, with the published value in brackets (one RTX 2080 Ti; other work: four GPUs, summed). Only ratios "
        "are judged: seconds belong to their machine, and those of a machine that was busy with other work are left out."
    ),
    kind="table",
    settings=Settings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(
        Claim(
            "T3a",
            "At the target eps an epoch of each method costs the same (within 5 %).",
            "Table 3",
            final_phase_alike,
        ),
        Claim(
            "T3b",
            "At eps = 0 ours costs more than vanilla IBP, as its regularisers need bounds.",
            "Table 3",
            ours_bounds_at_zero,
        ),
        Claim(
            "T3c",
            "On the ramp an epoch of ours costs more than one of vanilla IBP and less than one of CROWN-IBP.",
            "Table 3",
            ramp_in_order,
        ),
        Claim(
            "T3d",
            "In all, ours costs more than vanilla IBP and less than CROWN-IBP.",
            "Table 3",
            totals_in_order,
        ),
    ),
)
