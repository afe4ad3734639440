"""Parts of figures that several exhibits draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.certified.design import CURVES, NAMES, CertifiedSettings, SetupName, protocol_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLES = {
    "r1_no_bn": "no_bn",
    "r3_bn_full": "vanilla_ibp",
    "r4_init": "init",
    "r7_reg_no_init": "regularisers",
    "r8_full": "ours",
}
"""Rows of Table 4 -> series, which look the same in every figure."""


def reserve_styles(ax: Axes) -> None:
    """Assigns the paper's methods their own style, before other series take the next free one."""
    from bench.report import figure

    for series in ("ours", "vanilla_ibp", "crown_ibp"):
        figure.look(ax, series)


def draw_term(frame: pd.DataFrame, settings: CertifiedSettings, setup: SetupName, term: str, name: str) -> Figure:
    """A regulariser's value during the warm-up, one line for each method."""
    from bench.report import figure

    fig, (ax,) = figure.panels(1, 1, width="single", height=3.1)
    reserve_styles(ax)
    for method in CURVES:
        values = frame[(frame["metric"] == term) & (frame["method"] == method)]
        figure.band(ax, values, series=STYLES[method], label=NAMES[method])
    ax.set(xlabel="epoch of the warm-up", ylabel=name)
    ax.set_xlim(0.5, settings.schedule(setup).warmup + 0.5)
    ax.set_ylim(bottom=0)
    figure.legend(ax, published=False, below=2)
    fig.suptitle(f"CNN-7, {protocol_text(settings, setup, parts=2)}")
    return fig
