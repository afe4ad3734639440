"""Figure 2: SlimPajama loss when a pre-trained model is re-warmed to 0.5, 1 and 2 times its peak, or not at all.

Pythia-410M goes on with SlimPajama at a constant 3e-5 (the floor that pre-training ended at) or re-warmed over 1 % of the
schedule to 1.5e-4, 3e-4 and 6e-4; another model starts from random weights. All stop at 239.3 B tokens, where the rate
has reached its floor.

Command: ``make reproduce SCALE=paper EXHIBITS=rewarm/fig2``
Expected: the higher the rate the lower the final loss, 2.48 to 2.53; the constant rate is best for the first 100 B tokens
and worse than random weights after 200 B (printed). The authors' next version of the figure, with the textbook cosine, has
ties at the end; its digitised curves stand beside ours.
Cost: five runs of 239.3 B tokens, which Figures 3 and 4 use too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit, Row, by_seed
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
    curve_rows,
    curves_of,
    level,
    losses_by_seed,
    members_of,
    minus,
    peak,
    scalar_rows,
    stand_ins,
    start,
    warmup_end,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

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
"""Shares of the schedule between which the constant rate is first overtaken (protocol, claim C6; 0.34 in the paper)."""


def members(settings: RewarmSettings) -> list[ArmRun]:
    return members_of(settings, LONG_RUNS)


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    curves = curves_of(record)
    yield from curve_rows(member, curves, {SLIMPAJAMA: ""})
    scalars = {
        "start": start,
        "warmup_end": warmup_end,
        "peak": peak(0, LONG),
        "final": level(LONG),
    }
    yield from scalar_rows(member, curves, scalars)


def _final(frame: Any, method: str) -> dict[int, float]:
    return by_seed(frame, "final", method=method, dataset=SLIMPAJAMA)


def rises_then_falls(frame: Any) -> stats.Finding:
    """C3."""
    parts = []
    for method in (SAME_NAME, DOUBLE_NAME):
        for corpus in (SLIMPAJAMA, PILE):
            after, before = (by_seed(frame, name, method=method, dataset=corpus) for name in ("warmup_end", "start"))
            parts.append(stats.greater(after, before, name=f"{corpus} rise of {method} by the end of warm-up"))
    for method in (*REWARMED, CONST_NAME):
        before = by_seed(frame, "start", method=method, dataset=SLIMPAJAMA)
        parts.append(stats.greater(before, _final(frame, method), name=f"fall of {method} in all"))
    steps = [by_seed(frame, name, method=CONST_NAME, dataset=SLIMPAJAMA) for name in ("start", "warmup_end", "final")]
    parts += [
        stats.greater(steps[0], steps[1], name="early fall of the constant rate"),
        stats.greater(steps[1], steps[2], name="later fall of the constant rate"),
    ]
    return stats.all_of(parts)


def higher_rates_end_lower(frame: Any) -> stats.Finding:
    """C5: 2x at most 0.01 above 1x, 1x below 0.5x, 0.5x below const."""
    final = {method: _final(frame, method) for method in (CONST_NAME, *REWARMED)}
    return stats.all_of(
        [
            stats.below(minus(final[DOUBLE_NAME], final[SAME_NAME]), 0.01, name="2x - 1x"),
            stats.greater(final[HALF_NAME], final[SAME_NAME], name="0.5x - 1x"),
            stats.greater(final[CONST_NAME], final[HALF_NAME], name="const - 0.5x"),
        ]
    )


def overtaken_at(frame: Any) -> dict[int, float]:
    """Seed -> share of the schedule at which a re-warmed run first lies below the constant rate; the end if none does."""
    import numpy as np

    constant = losses_by_seed(frame, CONST_NAME, SLIMPAJAMA)
    others = [losses_by_seed(frame, method, SLIMPAJAMA) for method in REWARMED]
    found = {}
    for seed, (shares, losses) in constant.items():
        best = np.min([np.interp(shares, *other[seed]) for other in others if seed in other], axis=0)
        below = [
            share for share, own, least in zip(shares, losses, best, strict=True) if share >= SETTLED and least < own
        ]
        found[seed] = below[0] if below else shares[-1]
    return found


def constant_is_best_early(frame: Any) -> stats.Finding:
    """C6: below all re-warmed runs when warm-ups are over, and first overtaken within `OVERTAKEN`."""
    low, high = OVERTAKEN
    parts = []
    for method in REWARMED:
        constant, other = (
            by_seed(frame, "warmup_end", method=name, dataset=SLIMPAJAMA) for name in (CONST_NAME, method)
        )
        parts.append(stats.greater(other, constant, name=f"{method} over const at the end of warm-up"))
    middle, half = (low + high) / 2, (high - low) / 2
    times = stats.equivalent_to(overtaken_at(frame), middle, margin=half)
    return stats.all_of([*parts, times])


def rewarmed_beats_scratch(frame: Any) -> stats.Finding:
    """C7a."""
    scratch = _final(frame, SCRATCH)
    return stats.all_of(
        [stats.greater(scratch, _final(frame, method), name=f"scratch - {method}") for method in REWARMED]
    )


def scratch_beats_constant(frame: Any) -> stats.Finding:
    """C7b."""
    return stats.greater(_final(frame, CONST_NAME), _final(frame, SCRATCH), name="const - scratch")


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: RewarmSettings) -> Figure:
    from bench.report import figure
    from bench.rewarm import pictures

    drawn, axes = figure.panels(1, 2, height=3.4)
    pictures.losses(axes[0], frame, settings, SLIMPAJAMA, list(LONG_RUNS.values()), free=(SCRATCH,))
    pictures.later_curves(axes[1], LATER)
    axes[1].set(xlabel="tokens (B)", xlim=(0, 300), ylim=(2.48, 2.86))
    axes[1].set_title("published: next version, 405M, digitised")
    axes[0].set_title("ours")
    if settings.same_losses:
        axes[0].set_xlim(0, 300)
        axes[0].set_ylim(2.44, 2.92)
        axes[1].set_ylim(2.44, 2.92)
    figure.legend(axes[0], published=False, below=3)
    drawn.suptitle(stand_ins(settings))
    return drawn


_TOO_SMALL = (
    "a model that is trained for so few tokens is far from converged, so that its lowest rates lose least; the order of "
    "the rates and the start from random weights need the paper's length"
)

EXHIBIT = Exhibit(
    name="rewarm/fig2",
    title="Figure 2: SlimPajama loss by tokens, re-warmed to several rates, constant, and from random weights",
    caption=(
        "Left: validation loss on SlimPajama while training on it; the grey line ends the warm-up, bands are 95 % "
        "intervals over seeds. Right: what the authors' next version of the figure shows (digitised, textbook cosine, own "
        "Pile model), as context."
    ),
    kind="figure",
    settings=RewarmSettings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(
        Claim(
            "C3",
            "Re-warming first raises both losses, and the downstream loss ends below its start; at the constant rate it "
            "only falls.",
            "abstract, Figure 2",
            rises_then_falls,
        ),
        Claim(
            "C5",
            "The higher the maximal rate, the lower the final downstream loss, and the constant rate ends highest.",
            "Figure 2, Takeaway 2",
            higher_rates_end_lower,
            not_expected_at={"ci": _TOO_SMALL},
        ),
        Claim(
            "C6",
            "The constant rate has the lowest downstream loss early on and is overtaken at 0.15 to 0.6 of the schedule.",
            "Figure 2",
            constant_is_best_early,
        ),
        Claim(
            "C7a",
            "Every re-warmed model ends below one from random weights.",
            "Figure 2",
            rewarmed_beats_scratch,
        ),
        Claim(
            "C7b",
            "The model from random weights ends below the one at the constant rate.",
            "Figure 2",
            scratch_beats_constant,
            not_expected_at={"ci": _TOO_SMALL},
        ),
    ),
)
