"""Beyond the paper: optimiser moments kept or reset.

The paper starts with fresh moments, so that without warm-up the first updates have the size of the full rate; that alone
may be its spike. The runs of Figure 7 from steps 27,000 (un-annealed) and 143,000 (annealed) are repeated with the moments
of pre-training.

Expected: kept moments lessen the spike of a start without warm-up.
Cost: four more runs of 50 B tokens; public checkpoints have no moments, so that at scale paper it is pre-training (300 B)
and eight runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from bench import stats
from bench.exhibit import Arm, ArmRun, Row, by_seed, claim
from bench.record import Record
from bench.report import figure
from bench.rewarm.design import CONTINUATIONS, CORPORA, MODEL, SAME, SHORT, RewarmSettings, Start
from bench.rewarm.exhibits._figures import losses, stand_ins
from bench.rewarm.exhibits._rows import curve_rows, curves_of, peak, scalar_rows
from bench.rewarm.spec import PretrainSpec
from bench.stats import Finding

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CAPTION = (
    "Losses on the Pile (left) and on SlimPajama (right) with the moments of pre-training or with fresh ones, which is "
    "what the authors did, from the end of pre-training (top) and from 19 % of it (bottom); dashed without, solid with "
    "a warm-up of 1 %."
)

CHECKPOINTS: dict[Start, str] = {"143000": "annealed", "27000": "un-annealed"}
NAMES = {"fresh": "moments reset", "kept": "moments kept"}
WARMUPS = {"WU 0": 0.0, "WU 0.01": 0.01}
RESET_RUNS = {
    ("143000", "WU 0"): "W0",
    ("143000", "WU 0.01"): "L3",
    ("27000", "WU 0"): "E27a",
    ("27000", "WU 0.01"): "E27b",
}
"""The paper's own runs, whose moments are fresh."""
EARLY = 0.01
"""Share of the schedule in which the spike is sought."""

Settings = RewarmSettings


def method(warmup: str, moments: str) -> str:
    return f"{warmup}, {NAMES[moments]}"


def continued(settings: Settings, origin: Start, warmup: str, moments: str, seed: int) -> PretrainSpec:
    if moments == "fresh":
        return CONTINUATIONS[RESET_RUNS[origin, warmup]].spec(settings, seed)
    return settings.downstream(seed, SAME, WARMUPS[warmup], SHORT, start=origin, moments="kept")


def arms(settings: Settings) -> Iterator[Arm]:
    # Public checkpoints have no moments, so all arms start from a run that is trained here.
    trained = settings.model_copy(update={"start": "trained"})
    for origin, stage in CHECKPOINTS.items():
        for warmup in WARMUPS:
            for moments in NAMES:
                labels = {"model": MODEL, "panel": stage, "method": method(warmup, moments)}
                yield Arm(labels, partial(continued, trained, origin, warmup, moments))


def rows(run: ArmRun, record: Record) -> Iterator[Row]:
    curves = curves_of(record).until(SHORT)
    yield from curve_rows(run, curves, dict.fromkeys(CORPORA, str(run.labels["panel"])))
    yield from scalar_rows(run, curves, {"spike": peak(0, EARLY)})


@claim(
    "M1",
    "Without warm-up the losses spike less when the optimiser's moments are kept.",
    "beyond the paper; derived from fresh AdamW's sign-like first steps",
)
def kept_moments_lessen_the_spike(frame: Any) -> Iterator[Finding]:
    for stage in CHECKPOINTS.values():
        for corpus in CORPORA:
            reset, kept = (
                by_seed(frame, "spike", panel=stage, method=method("WU 0", moments), dataset=corpus)
                for moments in NAMES
            )
            yield stats.greater(reset, kept, name=f"{corpus} spike, {stage}, reset - kept")


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    fig, axes = figure.panels(2, 2, sharex=True, height=5.2)
    looks = {method(w, m): (NAMES[m], "--" if w == "WU 0" else "-") for w in WARMUPS for m in NAMES}
    for ax, (stage, corpus) in zip(axes, itertools.product(CHECKPOINTS.values(), CORPORA), strict=True):
        losses(ax, frame, settings, corpus, list(looks), looks=looks, panel=stage)
        ax.set_title(f"from {stage} weights")
    for ax in axes[:2]:
        ax.set_xlabel("")
    figure.legend(axes[0], published=False)
    fig.suptitle(stand_ins(settings))
    return fig
