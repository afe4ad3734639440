"""One look for all figures: colours by series, intervals over seeds, hollow published markers, byte-stable files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench import checkpoint, stats

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

STYLE = Path(__file__).with_name("style.mplstyle")

WIDTHS = {"single": 3.4, "double": 7.0}
"""Inches: one and two columns of a paper."""

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
"""Okabe and Ito's colours, which colour-blind readers tell apart."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (5, 5)))

KNOWN = (
    "random_init",
    "warm_start",
    "shrink_perturb",
    "phase1_half",
    "ours",
    "vanilla_ibp",
    "crown_ibp",
)
"""Series that look the same in every figure; others take what is left, in order of appearance."""
ALIKE = {"phase1_half": 6, "ours": 0, "vanilla_ibp": 1, "crown_ibp": 2}

MOST_MARKERS = 25

NOTE_INCHES = 0.14
"""Height of the line that names missing runs."""


def panels(
    rows: int,
    columns: int,
    *,
    sharex: bool | Literal["all", "row", "col"] = False,
    sharey: bool | Literal["all", "row", "col"] = False,
    width: Literal["single", "double"] = "double",
    height: float | None = None,
) -> tuple[Figure, list[Axes]]:
    """A figure of `rows` times `columns` panels in the suite's style, and its axes row by row.

    Args:
        width: one or two columns of a paper.
        height: inches; by default panels are 0.75 times as high as they are wide, and at least 1.5 inches.
    """
    import matplotlib
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    matplotlib.rcdefaults()
    style.use(str(STYLE))
    wide = WIDTHS[width]
    size = (wide, height or rows * max(1.5, 0.75 * wide / columns) + 0.35)
    drawn = Figure(figsize=size)
    FigureCanvasAgg(drawn)
    grid = drawn.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False)
    return drawn, list(grid.flat)


def look(axes: Axes, series: str) -> dict[str, Any]:
    """Colour, marker and line style of a series: fixed for `KNOWN`, else the next free one of this figure."""
    taken: dict[str, int] = axes.figure.__dict__.setdefault("_bench_series", {})
    if series not in taken:
        fixed = ALIKE.get(series, KNOWN.index(series)) if series in KNOWN else None
        free = [place for place in range(len(PALETTE)) if place not in taken.values()]
        taken[series] = fixed if fixed is not None else (free[0] if free else len(taken) % len(PALETTE))
    place = taken[series]
    return {"color": PALETTE[place], "marker": MARKERS[place], "linestyle": LINES[place]}


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns x, mean, low, high (the 95 % t interval over seeds; equal to the mean where there is one) and n."""
    import pandas as pd

    lines = []
    for x, group in frame.groupby("x", sort=True):
        mean, low, high = stats.interval(dict(zip(group["seed"], group["value"], strict=False)))
        lines.append((x, mean, mean if low is None else low, mean if high is None else high, group["seed"].nunique()))
    return pd.DataFrame(lines, columns=["x", "mean", "low", "high", "n"])


def band(axes: Axes, frame: pd.DataFrame, *, series: str, label: str) -> None:
    """Mean over seeds against `x`, with its 95 % interval as a band; nothing where there are no rows.

    Args:
        frame: columns x, value, seed.
        series: decides colour, marker and line style.
        label: name in the legend.
    """
    if frame.empty:
        return
    points = summary(frame)
    chosen = look(axes, series)
    if len(points) > MOST_MARKERS:
        chosen["markevery"] = max(1, len(points) // 8)
    axes.plot(points["x"], points["mean"], label=label, **chosen)
    axes.fill_between(points["x"], points["low"], points["high"], color=chosen["color"], alpha=0.18, linewidth=0)


def bars(axes: Axes, names: Sequence[str], values: Sequence[dict[int, float]], *, series: Sequence[str]) -> None:
    """One point with its 95 % interval for each name, from left to right."""
    for place, (by_seed, one) in enumerate(zip(values, series, strict=True)):
        if not by_seed:
            continue
        mean, low, high = stats.interval(by_seed)
        chosen = look(axes, one)
        spread = None if low is None or high is None else [[mean - low], [high - mean]]
        axes.errorbar([place], [mean], yerr=spread, color=chosen["color"], marker=chosen["marker"], capsize=2.5)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.5, len(names) - 0.5)


def scatter(axes: Axes, x: Any, y: Any, *, series: str, label: str, **more: Any) -> None:
    """Filled points of a series."""
    chosen = look(axes, series)
    axes.plot(x, y, linestyle="none", color=chosen["color"], marker=chosen["marker"], label=label, **more)


def published_points(axes: Axes, frame: pd.DataFrame, *, series: str, at: float | None = None) -> None:
    """The paper's own numbers as hollow markers in the colour of `series`, with their printed spread.

    Args:
        frame: columns x, value, spread.
        at: where to draw numbers that have no x.
    """
    own = frame[frame["value"].notna()]
    if at is None:
        own = own[own["x"].notna()]
    if own.empty:
        return
    chosen = look(axes, series)
    axes.errorbar(
        own["x"] if at is None else [at] * len(own),
        own["value"],
        yerr=own["spread"].fillna(0) if own["spread"].notna().any() else None,
        linestyle="none",
        marker=chosen["marker"],
        markersize=4.5,
        markerfacecolor="none",
        markeredgecolor=chosen["color"],
        ecolor=chosen["color"],
        elinewidth=0.6,
        zorder=4,
    )


def legend(axes: Axes, *, published: bool, rescaled: bool = False, below: int | None = None, **options: Any) -> None:
    """The legend of the figure, with one entry that says what hollow markers are.

    Args:
        published: whether there are any.
        rescaled: whether their x was stretched to a reduced scale.
        below: columns of a legend under all panels, where one inside would cover the curves.
    """
    from matplotlib.lines import Line2D

    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    if published:
        name = "published, x rescaled" if rescaled else "published"
        once[name] = Line2D([], [], linestyle="none", marker="o", markerfacecolor="none", color="0.3")
    if once and below is not None:
        axes.figure.legend(list(once.values()), list(once), loc="outside lower center", ncols=below, **options)
    elif once:
        axes.legend(list(once.values()), list(once), **options)


def _covers(axes: Axes, box: Bbox) -> bool:
    """Whether a box in pixels lies on curves or markers of the panel; upright lines are rules, not curves."""
    for line in axes.get_lines():
        path = line.get_path().transformed(line.get_transform())
        upright = path.get_extents().width == 0
        if line.get_linestyle() != "None" and not upright and path.intersects_bbox(box, filled=False):
            return True
        if line.get_marker() != "None" and box.count_contains(path.vertices):
            return True
    return False


def uncover(drawn: Figure) -> None:
    """Moves the legends of all panels to one below them, if one has no free corner and lies on curves.

    The figure becomes higher by the legend, so that panels keep their size.
    """
    drawn.draw_without_rendering()
    own = {axes: inside for axes in drawn.axes if (inside := axes.get_legend()) is not None}
    if not any(_covers(axes, inside.get_window_extent()) for axes, inside in own.items()):
        return
    once: dict[str, Artist] = {}
    for inside in own.values():
        names = [text.get_text() for text in inside.get_texts()]
        once |= dict(zip(names, filter(None, inside.legend_handles), strict=True))
        inside.remove()
    for columns in range(len(once), 0, -1):
        below = drawn.legend(list(once.values()), list(once), loc="outside lower center", ncols=columns)
        drawn.draw_without_rendering()
        box = below.get_window_extent()
        if box.width <= drawn.bbox.width or columns == 1:
            drawn.set_figheight(drawn.get_figheight() + box.height / drawn.dpi)
            return
        below.remove()


def save(drawn: Figure, stem: Path, *, missing: Sequence[str] = ()) -> None:
    """Writes ``stem.pdf`` and ``stem.png``; equal input gives equal bytes. Missing runs are named on the figure."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    uncover(drawn)
    if missing:
        count = f"{len(missing)} runs missing" if len(missing) > 1 else f"run missing: {missing[0]}"
        # A line of its own below the axes' labels.
        line = NOTE_INCHES / drawn.get_figheight()
        engine = drawn.get_layout_engine()
        if isinstance(engine, ConstrainedLayoutEngine):
            engine.set(rect=(0, line, 1, 1 - line))
        drawn.text(0.995, 0.2 * line, count, ha="right", va="bottom", fontsize=6, color="#D55E00")
    for suffix, metadata in (
        ("pdf", {"CreationDate": None, "Producer": None, "Creator": "warmbench"}),
        ("png", {"Software": None}),
    ):
        buffer = io.BytesIO()
        drawn.savefig(buffer, format=suffix, metadata=metadata)
        checkpoint.write_bytes(stem.with_name(f"{stem.name}.{suffix}"), buffer.getvalue())
