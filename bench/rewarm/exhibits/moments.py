"""Beyond the paper: optimiser moments kept or reset at the switch, from an annealed and from an un-annealed checkpoint.

The paper starts with fresh moments, so that without warm-up the first updates have the size of the full rate; that alone
may be its spike. The runs of Figure 7 from steps 27,000 and 143,000 are repeated with the moments of pre-training.

Command: ``make reproduce SCALE=paper EXHIBITS=rewarm/moments``
Expected: kept moments lessen the spike of a start without warm-up.
Cost: four more runs of 50 B tokens; public checkpoints have no moments, so that at scale paper it is pre-training (300 B)
and eight runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit, Row, by_seed
from bench.record import Record
from bench.rewarm.design import (
    ARMS,
    MODEL,
    PILE,
    SAME,
    SHORT,
    SLIMPAJAMA,
    RewarmSettings,
    Start,
    curve_rows,
    curves_of,
    peak,
    scalar_rows,
    stand_ins,
)
from bench.rewarm.spec import PretrainSpec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CHECKPOINTS: dict[Start, str] = {"143000": "annealed", "27000": "un-annealed"}
MOMENTS = ("fresh", "kept")
RESET, KEPT = "moments reset", "moments kept"
NAMES = {"fresh": RESET, "kept": KEPT}
WARMUPS = {"WU 0": 0.0, "WU 0.01": 0.01}
EARLY = 0.01
"""Share of the schedule in which the spike is sought."""


def method(warmup: str, moments: str) -> str:
    return f"{warmup}, {NAMES[moments]}"


RESET_RUNS = {
    ("143000", "WU 0"): "W0",
    ("143000", "WU 0.01"): "L3",
    ("27000", "WU 0"): "E27a",
    ("27000", "WU 0.01"): "E27b",
}
"""The paper's own runs, whose moments are fresh."""


def _run(settings: RewarmSettings, origin: Start, warmup: str, moments: str, seed: int) -> PretrainSpec:
    if moments == "fresh":
        return ARMS[RESET_RUNS[origin, warmup]].spec(settings, seed)
    return settings.downstream(seed, SAME, WARMUPS[warmup], SHORT, start=origin, moments="kept")


def members(settings: RewarmSettings) -> list[ArmRun]:
    # Public checkpoints have no moments, so both arms start from a run that was trained here.
    trained = settings.model_copy(update={"start": "trained"})
    return [
        ArmRun(
            {"model": MODEL, "panel": stage, "method": method(warmup, moments)},
            _run(trained, origin, warmup, moments, seed),
        )
        for origin, stage in CHECKPOINTS.items()
        for warmup in WARMUPS
        for moments in MOMENTS
        for seed in settings.seed_range()
    ]


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    curves = curves_of(record).until(SHORT)
    stage = str(member.labels["panel"])
    yield from curve_rows(member, curves, {PILE: stage, SLIMPAJAMA: stage})
    yield from scalar_rows(member, curves, {"spike": peak(0, EARLY)})


def kept_moments_lessen_the_spike(frame: Any) -> stats.Finding:
    """M1: highest losses within 1 % of the schedule, without warm-up, from both checkpoints and on both corpora."""
    parts = []
    for stage in CHECKPOINTS.values():
        for corpus in (PILE, SLIMPAJAMA):
            reset, kept = (
                by_seed(frame, "spike", panel=stage, method=method("WU 0", moments), dataset=corpus)
                for moments in MOMENTS
            )
            parts.append(stats.greater(reset, kept, name=f"{corpus} spike, {stage}, reset - kept"))
    return stats.all_of(parts)


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: RewarmSettings) -> Figure:
    from bench.report import figure
    from bench.rewarm import pictures

    drawn, axes = figure.panels(2, 2, sharex=True, height=5.0)
    looks = {method(w, m): (NAMES[m], "--" if w == "WU 0" else "-") for w in WARMUPS for m in MOMENTS}
    for row, stage in enumerate(CHECKPOINTS.values()):
        for column, corpus in enumerate((PILE, SLIMPAJAMA)):
            place = axes[2 * row + column]
            pictures.losses(place, frame, settings, corpus, list(looks), looks=looks, panel=stage)
            place.set_title(f"from {stage} weights")
            if row == 0:
                place.set_xlabel("")
    figure.legend(axes[0], published=False)
    drawn.suptitle(stand_ins(settings))
    return drawn


EXHIBIT = Exhibit(
    name="rewarm/moments",
    title="Beyond the paper: optimiser moments kept or reset",
    caption=(
        "Losses on the Pile (left) and on SlimPajama (right) with the moments of pre-training or with fresh ones, which is "
        "what the authors did, from the end of pre-training (top) and from 19 % of it (bottom); dashed without, solid with "
        "a warm-up of 1 %."
    ),
    kind="figure",
    settings=RewarmSettings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(
        Claim(
            "M1",
            "Without warm-up the losses spike less when the optimiser's moments are kept.",
            "beyond the paper; derived from fresh AdamW's sign-like first steps",
            kept_moments_lessen_the_spike,
        ),
    ),
)
