"""Figure 1: losses after re-warming over 0, 0.5, 1 and 2 % of the schedule.

Pythia-410M, trained on the Pile, goes on with SlimPajama: fresh AdamW moments, peak 3e-4 (Pythia's own), a cosine that
is cut at a tenth of it, 297 B tokens of schedule, of which the first 50 B are run. The caption says perplexity, the axes
show loss.

Expected: without warm-up the loss spikes at once, and the Pile loss rises to about 2.5 (printed, section 4.5); after the
transient all four coincide.
Cost: three runs of 50 B tokens and one of 239.3 B that Figures 2 to 4 and 7 to 9 use too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bench import stats
from bench.exhibit import ArmRun, Row, by_seed, claim, row
from bench.record import Record
from bench.rewarm.design import PILE, SHORT, SLIMPAJAMA, RewarmSettings, arms_of
from bench.rewarm.exhibits._figures import loss_panels
from bench.rewarm.exhibits._rows import curve_rows, curves_of, level, peak, scalar_rows
from bench.stats import Finding, Values

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CAPTION = (
    "Validation loss on SlimPajama (top) and on the Pile (bottom) by tokens, with peak rate 3e-4 reached over four "
    "lengths of warm-up, whose ends are the grey lines. Bands are 95 % intervals over seeds."
)
MARGINS = {"max_val_loss": 0.1}  # printed as "about 2.5"

METHODS = {"W0": "WU 0.0", "W05": "WU 0.005", "L3": "WU 0.01", "W2": "WU 0.02"}
NONE, *WARMED = METHODS.values()
ALL = "all four warm-ups"
WINDOWS = (0.0025, 0.01)
"""Shares of the schedule in which the highest loss is sought."""
MARGIN = 0.02
"""Nats within which losses count as equal."""

Settings = RewarmSettings
arms = arms_of(METHODS)


def rows(run: ArmRun, record: Record) -> Iterator[Row]:
    curves = curves_of(record).until(SHORT)
    yield from curve_rows(run, curves, {SLIMPAJAMA: "top", PILE: "bottom"})
    scalars = {f"highest_until_{window}": peak(0, window) for window in WINDOWS}
    yield from scalar_rows(run, curves, {**scalars, "loss_at_short": level(SHORT)})
    if run.labels["method"] == NONE:
        # The highest of all four is that without warm-up, which claim C1 tests.
        yield row(run, "max_val_loss", max(curves.loss[PILE]), dataset=PILE, panel="bottom", method=ALL)


def spikes(frame: Any) -> Iterator[tuple[str, Values, Values]]:
    """What is compared, with the highest loss without and with a warm-up."""
    for window, corpus, method in itertools.product(WINDOWS, (SLIMPAJAMA, PILE), WARMED):
        metric = f"highest_until_{window}"
        none, warmed = (by_seed(frame, metric, method=name, dataset=corpus) for name in (NONE, method))
        yield f"{corpus} peak until {window:g} D, WU 0 over {method}", none, warmed


@claim("C1", "Without warm-up both losses spike at once, higher than with any warm-up.", "Figure 1, section 4.1")
def spike_without_warmup(frame: Any) -> Iterator[Finding]:
    for name, none, warmed in spikes(frame):
        yield stats.greater(none, warmed, name=name)


@claim(
    "C1-mean",
    "Without warm-up the losses spike higher than with one, on average over corpora and warm-ups.",
    "Figure 1, section 4.1 (our summary)",
)
def spike_on_average(frame: Any) -> Finding:
    return stats.on_average([none - warmed for _, none, warmed in spikes(frame)], name="peak, WU 0 over a warm-up")


@claim(
    "C2",
    "After 50 B tokens the length of the warm-up makes no difference on either corpus (0.02 nats).",
    "Figure 1, Takeaway 1",
)
def warmup_does_not_matter(frame: Any) -> Iterator[Finding]:
    for corpus in (SLIMPAJAMA, PILE):
        levels = {name: by_seed(frame, "loss_at_short", method=name, dataset=corpus) for name in METHODS.values()}
        for first, second in itertools.combinations(levels, 2):
            name = f"{corpus}, {first} - {second}"
            yield stats.equivalent(levels[first], levels[second], margin=MARGIN, name=name)


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    corpora, legend = (SLIMPAJAMA, PILE), {"ncols": 2}
    fig, (_, ax) = loss_panels(
        frame, settings, corpora, list(METHODS.values()), height=4.8, upright=True, legend=legend
    )
    highest = published[published["metric"] == "max_val_loss"]["value"]
    if settings.same_losses and len(highest):
        ax.axhline(highest.iloc[0], color="0.3", linewidth=0.7, linestyle=":", label="published maximum, about 2.5")
        ax.legend()
    return fig
