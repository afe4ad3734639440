"""Ramp length and balance of ReLUs (Appendix B).

A short ramp leaves fewer active and unstable neurons. Vanilla IBP and ours with a ramp of 20 epochs (70 in all) and of 80
(160), CNN-7 on CIFAR-10: shares of neurons over the ramp, on the test set at the eps of each epoch. The appendix is known
through the main text alone.

Expected: at the end of the warm-up a lower share of active and unstable neurons after the short ramp. No number is known.
Cost: none beside Table 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bench.certified.design import NAMES, OURS, SETUPS, VANILLA, CurveSettings, curves, protocol_text
from bench.certified.exhibits._rows import END, share_rows
from bench.exhibit import Arm, by_seed, claim
from bench.stats import Finding, greater

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CAPTION = (
    "Share of active or unstable neurons over a short and a long ramp, mean over the ReLU layers of CNN-7, on the test "
    "set. Bands are 95 % intervals over seeds."
)

SHOWN = (VANILLA, OURS)

Settings = CurveSettings


def arms(settings: Settings) -> Iterator[Arm]:
    return curves(settings, settings.courses, SHOWN)


rows = share_rows


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    from bench.report import figure

    fig, axes = figure.panels(1, len(SHOWN), sharey=True)
    for ax, method in zip(axes, SHOWN, strict=True):
        for setup in settings.courses:
            schedule = settings.schedule(setup)
            alive = frame[(frame["metric"] == "alive") & (frame["method"] == method)]
            alive = alive[(alive["panel"] == SETUPS[setup].panel) & (alive["x"] <= schedule.warmup)]
            ramp = alive[alive["x"] >= schedule.zero].assign(x=100 * (alive["x"] - schedule.zero) / schedule.ramp)
            figure.band(ax, ramp, series=setup, label=f"ramp of {schedule.ramp} epochs")
        ax.set(xlabel="ramp (%)", title=NAMES[method], ylim=(0, 103))
    axes[0].set_ylabel("active or unstable neurons (%)")
    figure.legend(axes[0], published=False)
    fig.suptitle(f"CNN-7, {protocol_text(settings, settings.courses[-1], schedule=False)}")
    return fig


@claim("RB1", "A shorter warm-up leaves fewer active and unstable neurons.", "Section 3.3, Appendix B")
def short_ramp_unbalances(frame: Any) -> Finding:
    """Vanilla IBP at the end of the warm-up."""
    short, long = (
        by_seed(frame, f"alive_{END}", method=VANILLA, panel=SETUPS[setup].panel) for setup in ("cifar_70", "cifar_160")
    )
    return greater(long, short, name="ramp of 80 - ramp of 20 epochs")
