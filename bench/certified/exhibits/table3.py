"""Table 3: training cost by phase.

Seconds of an epoch at eps = 0, on the ramp and at the target, and of the whole training, CNN-7 on CIFAR-10. Measured on the
machine at hand: the methods alternate in three epochs of each phase after one that warms up, evaluation left out, scaled
to 1 + 80 + 79 epochs. Published seconds are of one RTX 2080 Ti with a loader in one process: ratios are judged, seconds are
shown.

Expected (printed), eps = 0 / ramp / final / total: vanilla 30.0 / 54.8 / 54.8 / 8,748 s, CROWN-IBP 30.0 / 78.5 / 54.8 /
10,641 s, ours 64.0 / 64.0 / 54.8 / 9,512 s.
Cost: 12 epochs of CNN-7 a method and repetition.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench.certified.design import CROWN_IBP, METHODS, NAMES, OURS, SETUPS, VANILLA, CertifiedSettings, timings
from bench.certified.exhibits._rows import seconds, timing_rows
from bench.certified.exhibits._tables import DIGITS, LITERATURE, grid, heading, mean_text, timing_cells, values_of
from bench.exhibit import Arm, claim
from bench.stats import Finding, above, equivalent_to

if TYPE_CHECKING:
    import pandas as pd

CAPTION = (
    "Seconds of a training epoch in each phase and of the whole schedule, mean and standard deviation over "
    "measurements, with the published value in brackets (one RTX 2080 Ti; other work: four GPUs, summed). Only ratios "
    "are judged: seconds belong to their machine, and those of a machine that was busy with other work are left out."
)

ZERO, RAMP, FINAL = range(3)


class Settings(CertifiedSettings):
    selects = CertifiedSettings.selects | {"repeats", "steps"}

    seeds: int = Field(3, ge=1, le=1000, description="measurements, in each of which all methods alternate")
    repeats: int = Field(3, ge=1, le=100, description="epochs of each phase that are timed in one measurement")
    steps: int | None = Field(
        None, ge=2, description="number of steps that are timed and scaled to an epoch; None is a whole epoch"
    )


def arms(settings: Settings) -> Iterator[Arm]:
    labels = {"panel": SETUPS["cifar_160"].panel, "dataset": "cifar10", "model": "cnn7", "optimizer": "adam"}
    return timings(settings, "cifar_160", "cnn7", labels, repeats=settings.repeats, steps=settings.steps)


rows = timing_rows


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    vanilla = values_of(frame, "total_seconds", method=VANILLA)
    printed = published[published["metric"] == "total_seconds"].set_index("method")["value"]
    lines: dict[tuple[str, ...], dict[tuple[str, str], str]] = {}
    for line in published[published["provenance"] == "literature"].to_dict("records"):
        heads = ("CIFAR-10", line["panel"], LITERATURE.get(line["method"], line["method"]))
        lines[heads] = {("total (s)", ""): f"[{line['value']:,.0f}]"}
    for method in METHODS:
        ratio = mean_text(values_of(frame, "total_seconds", method=method) / vanilla)
        lines[*heading(settings, "cifar_160"), NAMES[method]] = {
            **timing_cells(frame, published, method=method),
            ("total / vanilla", ""): f"{ratio} [{printed[method] / printed[VANILLA]:.{DIGITS}f}]",
        }
    return grid(["data set", "epochs", "method"], lines)


@claim("T3a", "At the target eps an epoch of each method costs the same (within 5 %).", "Table 3")
def final_phase_alike(frame: Any) -> Iterator[Finding]:
    vanilla = seconds(frame, method=VANILLA, x=FINAL)
    for method in (CROWN_IBP, OURS):
        yield equivalent_to(seconds(frame, method=method, x=FINAL) / vanilla, 1.0, margin=0.05)


@claim("T3b", "At eps = 0 ours costs more than vanilla IBP, as its regularisers need bounds.", "Table 3")
def ours_bounds_at_zero(frame: Any) -> Finding:
    """Printed 64.0 against 30.0 s."""
    ratio = seconds(frame, method=OURS, x=ZERO) / seconds(frame, method=VANILLA, x=ZERO)
    return above(ratio, 1.0, name="ours over vanilla IBP, eps = 0")


@claim(
    "T3c", "On the ramp an epoch of ours costs more than one of vanilla IBP and less than one of CROWN-IBP.", "Table 3"
)
def ramp_in_order(frame: Any) -> Iterator[Finding]:
    """Printed 54.8, 64.0 and 78.5 s."""
    vanilla, ours, crown = (seconds(frame, method=method, x=RAMP) for method in (VANILLA, OURS, CROWN_IBP))
    yield above(ours / vanilla, 1.0, name="ours over vanilla IBP, ramp")
    yield above(crown / ours, 1.0, name="CROWN-IBP over ours, ramp")


@claim("T3d", "In all, ours costs more than vanilla IBP and less than CROWN-IBP.", "Table 3")
def totals_in_order(frame: Any) -> Iterator[Finding]:
    """Printed ratios are 1.087 (ours over vanilla IBP) and 1.119 (CROWN-IBP over ours)."""
    vanilla, ours, crown = (seconds(frame, "total_seconds", method=method) for method in (VANILLA, OURS, CROWN_IBP))
    yield above(ours / vanilla, 1.0, name="ours over vanilla IBP, total")
    yield above(crown / ours, 1.0, name="CROWN-IBP over ours, total")
