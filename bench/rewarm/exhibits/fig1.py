"""Figure 1: losses downstream and upstream after re-warming a pre-trained model over 0, 0.5, 1 and 2 % of the schedule.

Pythia-410M, trained on the Pile, goes on with SlimPajama: fresh AdamW moments, peak 3e-4 (Pythia's own), a cosine that
is cut at a tenth of it, 297 B tokens of schedule, of which the first 50 B are run. The caption says perplexity, the axes
show loss.

Command: ``make reproduce SCALE=paper EXHIBITS=rewarm/fig1``
Expected: without warm-up the loss spikes at once, and the Pile loss rises to about 2.5 (printed, section 4.5); after the
transient all four coincide.
Cost: three runs of 50 B tokens and one of 239.3 B that Figures 2 to 4 and 7 to 9 use too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit, Row, by_seed, row
from bench.record import Record
from bench.rewarm.design import (
    PILE,
    SHORT,
    SLIMPAJAMA,
    RewarmSettings,
    curve_rows,
    curves_of,
    level,
    members_of,
    peak,
    scalar_rows,
    stand_ins,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

METHODS = {"W0": "WU 0.0", "W05": "WU 0.005", "L3": "WU 0.01", "W2": "WU 0.02"}
NONE, *WARMED = METHODS.values()
ALL = "all four warm-ups"
WINDOWS = (0.0025, 0.01)
"""Shares of the schedule in which the highest loss is sought."""
MARGIN, DEVIATIONS = 0.02, 2.0
"""Losses count as equal within 0.02 nats, or two standard deviations between seeds if that is more (claim C2)."""


def members(settings: RewarmSettings) -> list[ArmRun]:
    return members_of(settings, METHODS)


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    curves = curves_of(record).until(SHORT)
    yield from curve_rows(member, curves, {SLIMPAJAMA: "top", PILE: "bottom"})
    scalars = {f"highest_until_{window}": peak(0, window) for window in WINDOWS}
    yield from scalar_rows(member, curves, {**scalars, "loss_at_short": level(SHORT)})
    if member.labels["method"] == NONE:
        # The highest of all four is that without warm-up, which claim C1 tests.
        highest = max(curves.loss[PILE])
        yield row(member, "max_val_loss", highest, dataset=PILE, panel="bottom", method=ALL)


def spike_without_warmup(frame: Any) -> stats.Finding:
    """C1: the highest loss soon after the start, on both corpora, in two windows."""
    parts = []
    for window, corpus, method in itertools.product(WINDOWS, (SLIMPAJAMA, PILE), WARMED):
        metric = f"highest_until_{window}"
        none, warmed = (by_seed(frame, metric, method=name, dataset=corpus) for name in (NONE, method))
        parts.append(stats.greater(none, warmed, name=f"{corpus} peak until {window:g} D, WU 0 over {method}"))
    return stats.all_of(parts)


def warmup_does_not_matter(frame: Any) -> stats.Finding:
    """C2: equivalence of all pairs at 0.168 D, on both corpora."""
    parts = []
    for corpus in (SLIMPAJAMA, PILE):
        levels = {name: by_seed(frame, "loss_at_short", method=name, dataset=corpus) for name in METHODS.values()}
        variances = [(stats.sd(values) or 0.0) ** 2 for values in levels.values()]
        margin = max(MARGIN, DEVIATIONS * math.sqrt(math.fsum(variances) / len(variances)))
        for first, second in itertools.combinations(levels, 2):
            name = f"{corpus}, {first} - {second}"
            parts.append(stats.equivalent(levels[first], levels[second], margin=margin, name=name))
    return stats.all_of(parts)


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: RewarmSettings) -> Figure:
    from bench.report import figure
    from bench.rewarm import pictures

    drawn, axes = figure.panels(2, 1, sharex=True, height=5.2)
    for place, corpus in zip(axes, (SLIMPAJAMA, PILE), strict=True):
        pictures.losses(place, frame, settings, corpus, list(METHODS.values()))
    axes[0].set_xlabel("")
    highest = published[published["metric"] == "max_val_loss"]["value"]
    if settings.same_losses and len(highest):
        axes[1].axhline(
            highest.iloc[0], color="0.3", linewidth=0.7, linestyle=":", label="published maximum, about 2.5"
        )
    figure.legend(axes[0], published=False, ncols=2)
    if settings.same_losses:
        axes[1].legend()
    drawn.suptitle(stand_ins(settings))
    return drawn


EXHIBIT = Exhibit(
    name="rewarm/fig1",
    title="Figure 1: losses after re-warming over 0, 0.5, 1 and 2 % of the schedule",
    caption=(
        "Validation loss on SlimPajama (top) and on the Pile (bottom) by tokens, with peak rate 3e-4 reached over four "
        "lengths of warm-up, whose ends are the grey lines. Bands are 95 % intervals over seeds."
    ),
    kind="figure",
    settings=RewarmSettings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    margins={"max_val_loss": 0.1},  # printed as "about 2.5"
    claims=(
        Claim(
            "C1",
            "Without warm-up both losses spike at once, higher than with any warm-up.",
            "Figure 1, section 4.1",
            spike_without_warmup,
        ),
        Claim(
            "C2",
            "After 50 B tokens the length of the warm-up makes no difference on either corpus (0.02 nats, or two standard "
            "deviations between seeds).",
            "Figure 1, Takeaway 1",
            warmup_does_not_matter,
        ),
    ),
)
