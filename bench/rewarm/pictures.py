"""How this paper's figures are drawn: losses by tokens with the ends of warm-ups, and one perplexity against the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.rewarm.design import PILE, SLIMPAJAMA, RewarmSettings, stand_ins

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXES = {
    PILE: "Pile val. loss (upstream)",
    SLIMPAJAMA: "SlimPajama val. loss (downstream)",
}
"""The paper's names of its y axes."""
START, END_OF_WARMUP = "#D55E00", "#009E73"
"""Red and lime in the paper; the suite's own, which colour-blind readers tell apart."""
SCATTERED = 40
"""Points of a run in a scatter, about as many as the paper's."""


def verticals(place: Axes, frame: pd.DataFrame, settings: RewarmSettings) -> None:
    """Grey dash-dot lines where warm-ups end."""
    scale = 1e9 / settings.unit()[0]
    ends = frame[(frame["metric"] == "warmup_tokens") & (frame["value"] > 0)]["value"]
    for end in sorted({float(f"{value:.6g}") for value in ends}):
        place.axvline(end * scale, linestyle="-.", color="0.55", linewidth=0.6, zorder=1)


def losses(
    place: Axes,
    frame: pd.DataFrame,
    settings: RewarmSettings,
    corpus: str,
    methods: Sequence[str],
    *,
    looks: Mapping[str, tuple[str, str]] | None = None,
    free: Sequence[str] = (),
    panel: str | None = None,
) -> None:
    """Mean loss over seeds by tokens, with its 95 % interval as a band.

    Args:
        place: where.
        frame: long frame of the exhibit.
        settings: for the unit of the x axis.
        corpus: whose validation loss.
        methods: series in the order of the legend.
        looks: series -> (whose colour and marker it has, line style); by default each has its own.
        free: series that may leave the picture at the top, such as a run from random weights.
        panel: rows of that panel only.
    """
    from bench.report import figure

    unit, sign = settings.unit()
    chosen = frame[(frame["metric"] == "val_loss") & (frame["dataset"] == corpus)]
    if panel is not None:
        chosen = chosen[chosen["panel"] == panel]
    highest, lowest = [], []
    for method in methods:
        like, line = (looks or {}).get(method, (method, ""))
        look = figure.look(place, like)
        own = chosen[chosen["method"] == method]
        if own.empty:
            continue
        points = figure.summary(own)
        look["linestyle"] = line or look["linestyle"]
        x = points["x"] * 1e9 / unit
        place.plot(x, points["mean"], label=method, **look, markevery=max(1, len(points) // 7), markersize=3)
        place.fill_between(x, points["low"], points["high"], color=look["color"], alpha=0.18, linewidth=0)
        lowest.append(points["mean"].min())
        if method not in free:
            highest.append(points["mean"].max())
    if highest:
        margin = 0.06 * (max(highest) - min(lowest))
        place.set_ylim(min(lowest) - margin, max(highest) + margin)
    place.set(xlabel=f"tokens ({sign})", ylabel=AXES[corpus])
    place.set_xlim(left=0)
    verticals(place, frame, settings)


def later_curves(place: Axes, names: Mapping[str, str], *, label: bool = False) -> None:
    """The digitised curves of the authors' next version of Figure 2, as lines within their digitisation error.

    Args:
        place: where; x in billions of tokens.
        names: series of the follow-up -> series of ours, whose colour it takes.
        label: whether the series get a name.
    """
    from bench import published
    from bench.report import figure

    rows = published.of_paper("rewarm")
    rows = rows[(rows["exhibit"] == "fig2-later") & (rows["metric"] == "val_loss")]
    for later, ours in names.items():
        own = rows[rows["method"] == later].sort_values("x")
        look = figure.look(place, ours)
        place.plot(own["x"], own["value"], label=ours if label else None, **look, markerfacecolor="none", linewidth=0.8)
        low, high = own["value"] - own["spread"], own["value"] + own["spread"]
        place.fill_between(own["x"], low, high, color=look["color"], alpha=0.25, linewidth=0)


def trade_off(frame: pd.DataFrame, settings: RewarmSettings, methods: Sequence[str]) -> Figure:
    """Pile perplexity against SlimPajama perplexity, coloured by tokens; start and end of warm-up stand out."""
    import numpy as np

    from bench.report import figure

    drawn, (place,) = figure.panels(1, 1, height=4.4)
    unit, letter = settings.unit()
    chosen = frame[frame["metric"] == "val_loss"]
    shown = None
    latest = chosen["x"].max() * 1e9 / unit
    for method in methods:
        own = chosen[chosen["method"] == method]
        if own.empty:
            continue
        sides = {corpus: figure.summary(own[own["dataset"] == corpus]) for corpus in (PILE, SLIMPAJAMA)}
        tokens = sides[PILE]["x"].to_numpy() * 1e9 / unit
        x, y = (np.exp(sides[corpus]["mean"].to_numpy()) for corpus in (SLIMPAJAMA, PILE))
        some = np.unique(np.searchsorted(tokens, np.linspace(0, tokens[-1], SCATTERED)).clip(0, len(tokens) - 1))
        look = figure.look(place, method)
        place.plot(x[some], y[some], color="0.75", linewidth=0.5, zorder=1)
        shown = place.scatter(
            x[some], y[some], c=tokens[some], vmin=0, vmax=latest, marker=look["marker"], s=13, label=method, zorder=2
        )
        mark = {"marker": look["marker"], "s": 34, "edgecolors": "black", "linewidths": 0.5, "zorder": 3}
        place.scatter(x[:1], y[:1], color=START, **mark)
        ends = frame[(frame["metric"] == "warmup_tokens") & (frame["method"] == method)]["value"] * 1e9 / unit
        if len(ends) and ends.iloc[0] > 0:
            at = int(np.abs(tokens - ends.iloc[0]).argmin())
            place.scatter(x[at : at + 1], y[at : at + 1], color=END_OF_WARMUP, **mark)
    place.set(xlabel="SlimPajama PPL (downstream)", ylabel="Pile PPL (upstream)")
    _trade_off_legend(place, methods)
    if shown is not None:
        drawn.colorbar(shown, ax=place, label=f"tokens ({letter})")
    drawn.suptitle(stand_ins(settings))
    return drawn


def _trade_off_legend(place: Axes, methods: Sequence[str]) -> None:
    """Names of the markers, and what the two large ones mean."""
    from matplotlib.lines import Line2D

    from bench.report import figure

    def handle(marker: Any, colour: str, size: float) -> Line2D:
        return Line2D([], [], linestyle="none", marker=marker, color=colour, markersize=size, markeredgecolor="black")

    names = {
        method: Line2D([], [], linestyle="none", marker=figure.look(place, method)["marker"], color="0.45")
        for method in methods
    }
    names |= {"before training": handle("o", START, 5.5), "end of warm-up": handle("o", END_OF_WARMUP, 5.5)}
    place.legend(list(names.values()), list(names), loc="lower right")


START_LOOKS = {
    f"{warmup} Iter. {step}": (step, line)
    for step in ("10000", "27000", "143000")
    for warmup, line in (("WU 0", "--"), ("WU 0.01", "-"))
}
"""Figures 7 to 9: a colour for each checkpoint, dashed without and solid with warm-up."""


def changes(place: Axes, final: Mapping[float, Mapping[str, dict[int, float]]]) -> None:
    """Change of the final losses against no replay by percent of replay, ours and the follow-up's.

    Args:
        place: where.
        final: percent of replay -> corpus -> {seed: loss}; 0 is needed.
    """
    from bench import published, stats
    from bench.report import figure
    from bench.rewarm.design import minus

    rows = published.of_paper("rewarm")
    rows = rows[(rows["exhibit"] == "followup-table2") & (rows["x_name"] == "replay_percent")]
    rows = rows[rows["method"].str.startswith("Pile then SlimPajama")]
    shares = sorted(final)
    places = {share: number for number, share in enumerate(sorted({*shares, *rows["x"]}))}
    for corpus in (PILE, SLIMPAJAMA):
        look = figure.look(place, f"change {corpus}")
        without = final.get(0.0, {}).get(corpus, {})
        intervals = {share: stats.interval(minus(final[share][corpus], without)) for share in shares if without}
        x = [places[share] for share in intervals]
        means = [mean for mean, _, _ in intervals.values()]
        spread = [
            [mean - (mean if low is None else low) for mean, low, _ in intervals.values()],
            [(mean if high is None else high) - mean for mean, _, high in intervals.values()],
        ]
        place.errorbar(x, means, yerr=spread, capsize=2, label=corpus, **look)
        own = rows[rows["dataset"] == corpus].sort_values("x")
        base = own[own["x"] == 0]["value"].iloc[0]
        at = [places[share] for share in own["x"]]
        look = {**look, "linestyle": "none", "markerfacecolor": "none"}
        place.plot(at, own["value"] - base, label=f"{corpus}, follow-up", **look)
    place.axhline(0, color="0.5", linewidth=0.6)
    place.set_xticks(list(places.values()), [f"{share:g}" for share in places])
    place.set(xlabel="replay (%)", ylabel="change of the final loss (nats)")
    place.legend(fontsize=6)
