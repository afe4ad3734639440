"""Figure 2: active and unstable ReLUs in training.

CNN-7 on CIFAR-10. Without BatchNorm most neurons end up inactive (their upper bound is negative); BatchNorm, and more so the
regularisers, keep neurons active or unstable. Shares are means over layers, on the test set, at the eps of the epoch. The
paper does not say whether its axis is the epoch: here curves over epochs, and the last epoch beside them, for rows 1, 3, 4,
7 and 8 of Table 4, whose runs these are.

Expected: without BatchNorm the most inactive neurons; at the end of the warm-up ours has more active and unstable ones than
vanilla IBP, and vanilla IBP more than without BatchNorm. No number of the figure is known.
Cost: none beside Table 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bench.certified.design import CURVES, NAMES, SETUPS, CurveSettings, curves, protocol_text
from bench.certified.exhibits._figures import STYLES, reserve_styles
from bench.certified.exhibits._rows import END, panels, share_rows
from bench.exhibit import Arm, by_seed, claim
from bench.stats import Finding, Values, greater

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CAPTION = (
    "Shares of neurons whose lower bound is positive (active), or whose bounds include zero too (active or unstable), "
    "mean over the ReLU layers of CNN-7, on the test set at the eps of each epoch. The dashed line is the end of the "
    "warm-up; bands and bars are 95 % intervals over seeds."
)

R1, R3, R4, R7, R8 = CURVES

Settings = CurveSettings


def arms(settings: Settings) -> Iterator[Arm]:
    return curves(settings, settings.courses)


rows = share_rows


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    from matplotlib.ticker import MaxNLocator

    from bench.report import figure

    fig, axes = figure.panels(len(settings.courses), 3, sharey="row", height=2.1 * len(settings.courses) + 0.5)
    reserve_styles(axes[0])
    for index, setup in enumerate(settings.courses):
        schedule = settings.schedule(setup)
        shares = frame[frame["panel"] == SETUPS[setup].panel]
        active, alive, last = axes[3 * index : 3 * index + 3]
        for ax, metric, name in ((active, "active", "active"), (alive, "alive", "active or unstable")):
            for method in CURVES:
                values = shares[(shares["metric"] == metric) & (shares["method"] == method)]
                figure.band(ax, values, series=STYLES[method], label=NAMES[method])
            ax.axvline(schedule.warmup, linestyle="--", color="0.5", linewidth=0.8)
            ax.set(xlabel="epoch", title=name, ylim=(0, 103))
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        active.set_ylabel(f"neurons (%), {schedule.epochs} epochs")
        final = [_last(shares, method) for method in CURVES]
        figure.bars(last, [""] * len(CURVES), final, series=[STYLES[method] for method in CURVES])
        last.set(title="active or unstable, last epoch")
    figure.legend(axes[0], published=False, below=len(CURVES))
    fig.suptitle(f"CNN-7, {protocol_text(settings, settings.courses[-1], schedule=False)}")
    return fig


def _last(frame: pd.DataFrame, method: str) -> Values:
    values = frame[(frame["metric"] == "alive") & (frame["method"] == method)]
    values = values[values["x"] == values["x"].max()]
    return Values(zip(values["seed"].tolist(), values["value"].tolist(), strict=True))


@claim("F2a", "Without BatchNorm more neurons are inactive than in any other setting.", "Figure 2, section 3.3")
def without_bn_most_inactive(frame: Any) -> Iterator[Finding]:
    """At the end of the warm-up."""
    for panel in panels(frame):
        none = by_seed(frame, f"inactive_{END}", method=R1, panel=panel)
        for other in (R3, R4, R7, R8):
            values = by_seed(frame, f"inactive_{END}", method=other, panel=panel)
            yield greater(none, values, name=f"inactive, no BN - {NAMES[other]}, {panel}")


@claim(
    "F2b",
    "At the end of the warm-up ours has more active and unstable neurons than vanilla IBP, and vanilla IBP more "
    "than without BatchNorm.",
    "Figure 2",
)
def ours_most_alive(frame: Any) -> Iterator[Finding]:
    for panel in panels(frame):
        ours, vanilla, none = (by_seed(frame, f"alive_{END}", method=method, panel=panel) for method in (R8, R3, R1))
        yield greater(ours, vanilla, name=f"ours - vanilla IBP, {panel}")
        yield greater(vanilla, none, name=f"vanilla IBP - no BN, {panel}")
