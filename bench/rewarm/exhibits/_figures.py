"""How this paper's figures are drawn: losses by tokens with the ends of warm-ups, and one perplexity against the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench import published, stats
from bench.report import figure
from bench.rewarm.design import CORPORA, PILE, PYTHIA_STEPS, SLIMPAJAMA, RewarmSettings
from bench.rewarm.spec import PAPERS_TEXT, Generated
from bench.stats import Values

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
START_LOOKS = {
    f"{warmup} Iter. {step}": (step, line)
    for step in ("10000", "27000", "143000")
    for warmup, line in (("WU 0", "--"), ("WU 0.01", "-"))
}
"""Figures 7 to 9: a colour for each checkpoint, dashed without and solid with warm-up."""
Draw = Callable[["pd.DataFrame", "pd.DataFrame", RewarmSettings], "Figure"]


def stand_ins(settings: RewarmSettings) -> str:
    """What stands for the paper's model, corpora, rates and checkpoints, for the title of a figure; "" at its own."""
    parts = []
    if isinstance(settings.corpora, Generated):
        parts.append("generated languages")
    elif settings.corpora != PAPERS_TEXT:
        parts.append(f"{settings.corpora.upstream} and {settings.corpora.downstream}")
    if settings.model != "410m":
        parts.append(settings.model_name)
    if settings.max_lr != 3e-4:
        parts.append(f"rate {settings.max_lr:.2g} for 3e-04")
    if settings.upstream_steps != PYTHIA_STEPS:
        parts.append(f"step {settings.upstream_steps:,} for 143,000")
    return "; ".join(parts)


def verticals(ax: Axes, frame: pd.DataFrame, settings: RewarmSettings) -> None:
    """Grey dash-dot lines where warm-ups end."""
    scale = 1e9 / settings.unit()[0]
    ends = frame[(frame["metric"] == "warmup_tokens") & (frame["value"] > 0)]["value"]
    for end in sorted({float(f"{value:.6g}") for value in ends}):
        ax.axvline(end * scale, linestyle="-.", color="0.55", linewidth=0.6, zorder=1)


def losses(
    ax: Axes,
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
        ax: where.
        frame: long frame of the exhibit.
        settings: for the unit of the x axis.
        corpus: whose validation loss.
        methods: series in the order of the legend.
        looks: series -> (whose colour and marker it has, line style); by default each has its own.
        free: series that may leave the picture at the top, such as a run from random weights.
        panel: rows of that panel only.
    """
    unit, sign = settings.unit()
    rows = frame[(frame["metric"] == "val_loss") & (frame["dataset"] == corpus)]
    if panel is not None:
        rows = rows[rows["panel"] == panel]
    highest, lowest = [], []
    for method in methods:
        like, line = (looks or {}).get(method, (method, ""))
        look = figure.look(ax, like)
        series = rows[rows["method"] == method]
        if series.empty:
            continue
        points = figure.summary(series)
        look["linestyle"] = line or look["linestyle"]
        x = points["x"] * 1e9 / unit
        ax.plot(x, points["mean"], label=method, **look, markevery=max(1, len(points) // 7), markersize=3)
        ax.fill_between(x, points["low"], points["high"], color=look["color"], alpha=0.18, linewidth=0)
        lowest.append(points["mean"].min())
        if method not in free:
            highest.append(points["mean"].max())
    if highest:
        margin = 0.06 * (max(highest) - min(lowest))
        ax.set_ylim(min(lowest) - margin, max(highest) + margin)
    ax.set(xlabel=f"tokens ({sign})", ylabel=AXES[corpus])
    ax.set_xlim(left=0)
    verticals(ax, frame, settings)


def loss_panels(
    frame: pd.DataFrame,
    settings: RewarmSettings,
    corpora: Sequence[str],
    methods: Sequence[str],
    *,
    height: float,
    upright: bool = False,
    more: int = 0,
    legend: Mapping[str, Any] | None = None,
    **options: Any,
) -> tuple[Figure, list[Axes]]:
    """A figure of the losses on each corpus, and its panels.

    Args:
        frame, settings, methods: as in `losses`.
        corpora: whose losses, a panel for each.
        height: inches.
        upright: panels one below the other, with one x axis.
        more: empty panels behind them.
        legend: options of the legend.
        options: further arguments of `losses`.
    """
    count = len(corpora) + more
    fig, axes = figure.panels(*((count, 1) if upright else (1, count)), sharex=upright, height=height)
    for ax, corpus in zip(axes, corpora, strict=False):
        losses(ax, frame, settings, corpus, methods, **options)
        if upright and corpus != corpora[-1]:
            ax.set_xlabel("")
    figure.legend(axes[0], published=False, **(legend or {}))
    fig.suptitle(stand_ins(settings))
    return fig, axes


def loss_figure(corpora: Sequence[str], methods: Sequence[str], *, height: float = 2.9, **options: Any) -> Draw:
    """The function that draws an exhibit whose panels are losses; arguments as in `loss_panels`."""

    def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: RewarmSettings) -> Figure:
        return loss_panels(frame, settings, corpora, methods, height=height, **options)[0]

    return draw


def later_curves(ax: Axes, names: Mapping[str, str]) -> None:
    """The digitised curves of the authors' next version of Figure 2, as lines within their digitisation error.

    Args:
        ax: where; x in billions of tokens.
        names: series of the follow-up -> series of ours, whose colour it takes.
    """
    rows = published.of_paper("rewarm")
    rows = rows[(rows["exhibit"] == "fig2-later") & (rows["metric"] == "val_loss")]
    for later, ours in names.items():
        series = rows[rows["method"] == later].sort_values("x")
        look = figure.look(ax, ours)
        ax.plot(series["x"], series["value"], **look, markerfacecolor="none", linewidth=0.8)
        low, high = series["value"] - series["spread"], series["value"] + series["spread"]
        ax.fill_between(series["x"], low, high, color=look["color"], alpha=0.25, linewidth=0)


def trade_off(methods: Sequence[str]) -> Draw:
    """The function that draws Pile perplexity against SlimPajama perplexity, coloured by tokens."""

    def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: RewarmSettings) -> Figure:
        return _trade_off(frame, settings, methods)

    return draw


def _trade_off(frame: pd.DataFrame, settings: RewarmSettings, methods: Sequence[str]) -> Figure:
    """Start and end of the warm-up stand out."""
    import numpy as np

    fig, (ax,) = figure.panels(1, 1, height=3.6)
    unit, letter = settings.unit()
    rows = frame[frame["metric"] == "val_loss"]
    scatter = None
    latest = rows["x"].max() * 1e9 / unit
    for method in methods:
        series = rows[rows["method"] == method]
        if series.empty:
            continue
        sides = {corpus: figure.summary(series[series["dataset"] == corpus]) for corpus in CORPORA}
        tokens = sides[PILE]["x"].to_numpy() * 1e9 / unit
        x, y = (np.exp(sides[corpus]["mean"].to_numpy()) for corpus in (SLIMPAJAMA, PILE))
        some = np.unique(np.searchsorted(tokens, np.linspace(0, tokens[-1], SCATTERED)).clip(0, len(tokens) - 1))
        look = figure.look(ax, method)
        ax.plot(x[some], y[some], color="0.75", linewidth=0.5, zorder=1)
        scatter = ax.scatter(
            x[some], y[some], c=tokens[some], vmin=0, vmax=latest, marker=look["marker"], s=13, label=method, zorder=2
        )
        mark = {"marker": look["marker"], "s": 34, "edgecolors": "black", "linewidths": 0.5, "zorder": 3}
        ax.scatter(x[:1], y[:1], color=START, **mark)
        ends = frame[(frame["metric"] == "warmup_tokens") & (frame["method"] == method)]["value"] * 1e9 / unit
        if len(ends) and ends.iloc[0] > 0:
            at = int(np.abs(tokens - ends.iloc[0]).argmin())
            ax.scatter(x[at : at + 1], y[at : at + 1], color=END_OF_WARMUP, **mark)
    ax.set(xlabel="SlimPajama PPL (downstream)", ylabel="Pile PPL (upstream)")
    _trade_off_legend(ax, methods)
    if scatter is not None:
        fig.colorbar(scatter, ax=ax, label=f"tokens ({letter})")
    fig.suptitle(stand_ins(settings))
    return fig


def _trade_off_legend(ax: Axes, methods: Sequence[str]) -> None:
    """Names of the markers, and what the two large ones mean."""
    from matplotlib.lines import Line2D

    def handle(marker: Any, colour: str, size: float) -> Line2D:
        return Line2D([], [], linestyle="none", marker=marker, color=colour, markersize=size, markeredgecolor="black")

    names = {
        method: Line2D([], [], linestyle="none", marker=figure.look(ax, method)["marker"], color="0.45")
        for method in methods
    }
    names |= {"before training": handle("o", START, 5.5), "end of warm-up": handle("o", END_OF_WARMUP, 5.5)}
    ax.legend(list(names.values()), list(names), loc="lower right")


def changes(ax: Axes, final: Mapping[float, Mapping[str, Values]]) -> None:
    """Change of the final losses against no replay by percent of replay, ours and the follow-up's.

    Args:
        ax: where.
        final: percent of replay -> corpus -> {seed: loss}; 0 is needed.
    """
    rows = published.of_paper("rewarm")
    rows = rows[(rows["exhibit"] == "followup-table2") & (rows["x_name"] == "replay_percent")]
    rows = rows[rows["method"].str.startswith("Pile then SlimPajama")]
    shares = sorted(final)
    places = {share: number for number, share in enumerate(sorted({*shares, *rows["x"]}))}
    for corpus in CORPORA:
        look = figure.look(ax, f"change {corpus}")
        without = final[0.0][corpus] if 0.0 in final else Values()
        intervals = {share: stats.interval(final[share][corpus] - without) for share in shares if without}
        x = [places[share] for share in intervals]
        means = [mean for mean, _, _ in intervals.values()]
        spread = [
            [mean - (mean if low is None else low) for mean, low, _ in intervals.values()],
            [(mean if high is None else high) - mean for mean, _, high in intervals.values()],
        ]
        ax.errorbar(x, means, yerr=spread, capsize=2, label=corpus, **look)
        series = rows[rows["dataset"] == corpus].sort_values("x")
        base = series[series["x"] == 0]["value"].iloc[0]
        at = [places[share] for share in series["x"]]
        look = {**look, "linestyle": "none", "markerfacecolor": "none"}
        ax.plot(at, series["value"] - base, label=f"{corpus}, follow-up", **look)
    ax.axhline(0, color="0.5", linewidth=0.6)
    ax.set_xticks(list(places.values()), [f"{share:g}" for share in places])
    ax.set(xlabel="replay (%)", ylabel="change of the final loss (nats)")
    ax.legend(fontsize=6)
