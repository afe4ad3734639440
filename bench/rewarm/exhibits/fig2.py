"""Figure 2: SlimPajama loss by tokens, re-warmed to several rates, constant, and from random weights.

Pythia-410M goes on with SlimPajama at a constant 3e-5 (the floor that pre-training ended at) or re-warmed over 1 % of the
schedule to 1.5e-4, 3e-4 and 6e-4; another model starts from random weights. All stop at 239.3 B tokens, where the rate
has reached its floor.

Expected: the higher the rate the lower the final loss, 2.48 to 2.53; the constant rate is best for the first 100 B tokens
and worse than random weights after 200 B (printed). The authors' next version of the figure, with the textbook cosine, has
ties at the end; its digitised curves stand beside ours.
Cost: five runs of 239.3 B tokens, which Figures 3 and 4 use too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bench import stats
from bench.exhibit import ArmRun, Row, by_seed, claim
from bench.record import Record
from bench.rewarm.design import (
    CONST_NAME,
    DOUBLE_NAME,
    HALF_NAME,
    LONG,
    LONG_RUNS,
    PILE,
    REWARMED,
    SAME_NAME,
    SCRATCH,
    SLIMPAJAMA,
    RewarmSettings,
    arms_of,
)
from bench.rewarm.exhibits._figures import later_curves, loss_panels
from bench.rewarm.exhibits._rows import (
    curve_rows,
    curves_of,
    level,
    losses_by_seed,
    peak,
    scalar_rows,
    start,
    warmup_end,
)
from bench.stats import Finding, Values

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CAPTION = (
    "Left: validation loss on SlimPajama while training on it; the grey line ends the warm-up, bands are 95 % "
    "intervals over seeds. Right: what the authors' next version of the figure shows (digitised, textbook cosine, own "
    "Pile model), as context."
)

LATER = {
    "Constant 3e-05": CONST_NAME,
    "MaxLR 1.5e-04": HALF_NAME,
    "MaxLR 3e-04 Iter. 0 (scratch)": SCRATCH,
    "MaxLR 3e-04": SAME_NAME,
    "MaxLR 6e-04": DOUBLE_NAME,
}
"""Series of the authors' next version -> ours."""
SETTLED = 0.02
"""Share of the schedule after which warm-ups are over, so that curves can be compared."""
OVERTAKEN = (0.15, 0.6)
"""Shares of the schedule between which the constant rate is first overtaken (0.34 in the paper)."""
TOO_SMALL = (
    "a model that is trained for so few tokens is far from converged, so that its lowest rates lose least; the order of "
    "the rates and the start from random weights need the paper's length"
)

Settings = RewarmSettings
arms = arms_of(LONG_RUNS)


def rows(run: ArmRun, record: Record) -> Iterator[Row]:
    curves = curves_of(record)
    yield from curve_rows(run, curves, {SLIMPAJAMA: ""})
    scalars = {"start": start, "warmup_end": warmup_end, "peak": peak(0, LONG), "final": level(LONG)}
    yield from scalar_rows(run, curves, scalars)


def at(frame: Any, metric: str, method: str, corpus: str = SLIMPAJAMA) -> Values:
    return by_seed(frame, metric, method=method, dataset=corpus)


@claim(
    "C3",
    "Re-warming first raises both losses, and the downstream loss ends below its start; at the constant rate it only falls.",
    "abstract, Figure 2",
)
def rises_then_falls(frame: Any) -> Iterator[Finding]:
    for method in (SAME_NAME, DOUBLE_NAME):
        for corpus in (SLIMPAJAMA, PILE):
            after, before = (at(frame, metric, method, corpus) for metric in ("warmup_end", "start"))
            yield stats.greater(after, before, name=f"{corpus} rise of {method} by the end of warm-up")
    for method in (*REWARMED, CONST_NAME):
        yield stats.greater(at(frame, "start", method), at(frame, "final", method), name=f"fall of {method} in all")
    before, early, late = (at(frame, metric, CONST_NAME) for metric in ("start", "warmup_end", "final"))
    yield stats.greater(before, early, name="early fall of the constant rate")
    yield stats.greater(early, late, name="later fall of the constant rate")


@claim(
    "C5",
    "The higher the maximal rate, the lower the final downstream loss, and the constant rate ends highest.",
    "Figure 2, Takeaway 2",
    not_expected_at={"ci": TOO_SMALL},
)
def higher_rates_end_lower(frame: Any) -> Iterator[Finding]:
    const, half, same, double = (at(frame, "final", method) for method in (CONST_NAME, *REWARMED))
    yield stats.below(double - same, 0.01, name="2x - 1x")
    yield stats.greater(half, same, name="0.5x - 1x")
    yield stats.greater(const, half, name="const - 0.5x")


def overtaken_at(frame: Any) -> dict[int, float]:
    """Seed -> share of the schedule at which a re-warmed run first lies below the constant rate; the end if none does."""
    import numpy as np

    constant = losses_by_seed(frame, CONST_NAME, SLIMPAJAMA)
    others = [losses_by_seed(frame, method, SLIMPAJAMA) for method in REWARMED]
    times = {}
    for seed, (shares, losses) in constant.items():
        best = np.min([np.interp(shares, *other[seed]) for other in others if seed in other], axis=0)
        below = [
            share for share, loss, least in zip(shares, losses, best, strict=True) if share >= SETTLED and least < loss
        ]
        times[seed] = below[0] if below else shares[-1]
    return times


@claim(
    "C6",
    "The constant rate has the lowest downstream loss early on and is overtaken at 0.15 to 0.6 of the schedule.",
    "Figure 2",
    not_expected_at={"ci": TOO_SMALL},
)
def constant_is_best_early(frame: Any) -> Iterator[Finding]:
    constant = at(frame, "warmup_end", CONST_NAME)
    for method in REWARMED:
        other = at(frame, "warmup_end", method)
        yield stats.greater(other, constant, name=f"{method} over const at the end of warm-up")
    low, high = OVERTAKEN
    name = "share of the schedule"
    yield stats.equivalent_to(overtaken_at(frame), (low + high) / 2, margin=(high - low) / 2, name=name)


@claim("C7a", "Every re-warmed model ends below one from random weights.", "Figure 2")
def rewarmed_beats_scratch(frame: Any) -> Iterator[Finding]:
    scratch = at(frame, "final", SCRATCH)
    for method in REWARMED:
        yield stats.greater(scratch, at(frame, "final", method), name=f"scratch - {method}")


@claim("C7a-mean", "Re-warmed models end below one from random weights on average.", "Figure 2 (our summary)")
def rewarmed_beats_scratch_on_average(frame: Any) -> Finding:
    scratch = at(frame, "final", SCRATCH)
    return stats.on_average([scratch - at(frame, "final", method) for method in REWARMED], name="scratch - re-warmed")


@claim(
    "C7b",
    "The model from random weights ends below the one at the constant rate.",
    "Figure 2",
    not_expected_at={"ci": TOO_SMALL, "small": TOO_SMALL},
)
def scratch_beats_constant(frame: Any) -> Finding:
    return stats.greater(at(frame, "final", CONST_NAME), at(frame, "final", SCRATCH), name="const - scratch")


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    methods, legend = list(LONG_RUNS.values()), {"below": 3}
    fig, (ours, later) = loss_panels(
        frame, settings, (SLIMPAJAMA,), methods, height=3.2, more=1, legend=legend, free=(SCRATCH,)
    )
    later_curves(later, LATER)
    ours.set_title("ours")
    later.set_title("published: next version, 405M, digitised")
    later.set(xlabel="tokens (B)", xlim=(0, 300), ylim=(2.48, 2.86))
    if settings.same_losses:
        ours.set(xlim=(0, 300), ylim=(2.44, 2.92))
        later.set_ylim(2.44, 2.92)
    return fig
