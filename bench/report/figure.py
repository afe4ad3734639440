"""One look for all figures: colours by series, intervals over seeds, hollow published markers, byte-stable files."""

from __future__ import annotations

import io
import math
import re
import shutil
import sys
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench import checkpoint, stats
from bench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
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


FOREIGN: ContextVar[str] = ContextVar("FOREIGN", default="")
"""A style of the user's that goes over the suite's own."""


@contextmanager
def styled(style: str | Path | None) -> Iterator[None]:
    """Figures that are drawn inside have this style (a file, or a name that matplotlib knows) over the suite's own.

    Series take the colours of its ``axes.prop_cycle``, where it has one.
    """
    token = FOREIGN.set(str(style or ""))
    try:
        yield
    finally:
        FOREIGN.reset(token)


def _use_styles() -> tuple[str, ...]:
    """Makes the styles matplotlib's; gives the colours of series.

    Raises:
        UserError: the user's style cannot be read.
    """
    import matplotlib
    from matplotlib import style

    matplotlib.rcdefaults()
    style.use(str(STYLE))
    foreign, cycle = FOREIGN.get(), matplotlib.rcParams["axes.prop_cycle"]
    if foreign:
        try:
            if Path(foreign).is_file():
                matplotlib.rc_params_from_file(foreign, fail_on_error=True)  # `use` only logs what is wrong in it
            style.use(foreign)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"style {foreign}: {plain(error)}") from error
    users = matplotlib.rcParams["axes.prop_cycle"]
    return PALETTE if users == cycle else tuple(users.by_key().get("color", PALETTE))


def plain(error: Exception) -> str:
    """An error's text in one line."""
    return " ".join(str(error).split()) or type(error).__name__


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
        rows, columns: number of panels.
        sharex, sharey: as in matplotlib.
        width: one or two columns of a paper.
        height: inches; by default panels are 0.75 times as high as they are wide, and at least 1.5 inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    colours = _use_styles()
    wide = WIDTHS[width]
    fig = Figure(figsize=(wide, height or rows * max(1.5, 0.75 * wide / columns) + 0.35))
    FigureCanvasAgg(fig)
    fig.__dict__["_bench_colours"] = colours
    grid = fig.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False)
    return fig, list(grid.flat)


def look(ax: Axes, series: str) -> dict[str, Any]:
    """Colour, marker and line style of a series: fixed for `KNOWN`, else the next free one of this figure."""
    colours = ax.figure.__dict__.get("_bench_colours", PALETTE)
    taken: dict[str, int] = ax.figure.__dict__.setdefault("_bench_series", {})
    if series not in taken:
        fixed = ALIKE.get(series, KNOWN.index(series)) if series in KNOWN else None
        free = [number for number in range(len(PALETTE)) if number not in taken.values()]
        taken[series] = fixed if fixed is not None else (free[0] if free else len(taken) % len(PALETTE))
    number = taken[series]
    return {"color": colours[number % len(colours)], "marker": MARKERS[number], "linestyle": LINES[number]}


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns x, mean, low, high (the 95 % t interval over seeds; equal to the mean where there is one) and n."""
    import pandas as pd

    lines = []
    for x, group in frame.groupby("x", sort=True):
        mean, low, high = stats.interval(dict(zip(group["seed"], group["value"], strict=False)))
        lines.append((x, mean, mean if low is None else low, mean if high is None else high, group["seed"].nunique()))
    return pd.DataFrame(lines, columns=["x", "mean", "low", "high", "n"])


def _remember(ax: Axes, series: str, source: str, points: pd.DataFrame, artists: Sequence[Artist]) -> None:
    """Keeps what a panel shows, for `numbers_of`; columns x, value, and where there are any low, high, n."""
    ax.__dict__.setdefault("_bench_numbers", []).append((series, source, points))
    for artist in artists:
        artist.__dict__["_bench_known"] = True


def band(ax: Axes, frame: pd.DataFrame, *, series: str, label: str) -> None:
    """Mean over seeds against `x`, with its 95 % interval as a band; nothing where there are no rows.

    Args:
        ax: panel.
        frame: columns x, value, seed.
        series: decides colour, marker and line style.
        label: name in the legend.
    """
    if frame.empty:
        return
    points = summary(frame)
    style = look(ax, series)
    if len(points) > MOST_MARKERS:
        style["markevery"] = max(1, len(points) // 8)
    lines = ax.plot(points["x"], points["mean"], label=label, **style)
    ax.fill_between(points["x"], points["low"], points["high"], color=style["color"], alpha=0.18, linewidth=0)
    _remember(ax, series, "ours", points.rename(columns={"mean": "value"}), lines)
    ax.figure.__dict__.setdefault("_bench_labels", {})[series] = label


def bars(ax: Axes, names: Sequence[str], values: Sequence[dict[int, float]], *, series: Sequence[str]) -> None:
    """One point with its 95 % interval for each name, from left to right."""
    import pandas as pd

    for position, (name, by_seed, key) in enumerate(zip(names, values, series, strict=True)):
        if not by_seed:
            continue
        mean, low, high = stats.interval(by_seed)
        style = look(ax, key)
        spread = None if low is None or high is None else [[mean - low], [high - mean]]
        bar = ax.errorbar([position], [mean], yerr=spread, color=style["color"], marker=style["marker"], capsize=2.5)
        point = {"x": name or position, "value": mean, "low": low, "high": high, "n": len(by_seed)}
        _remember(ax, key, "ours", pd.DataFrame([point]), bar.get_children())
    ax.set_xticks(range(len(names)), names)
    ax.set_xlim(-0.5, len(names) - 0.5)


def scatter(ax: Axes, x: Any, y: Any, *, series: str, label: str, **more: Any) -> None:
    """Filled points of a series."""
    style = look(ax, series)
    ax.plot(x, y, linestyle="none", color=style["color"], marker=style["marker"], label=label, **more)


def published_points(ax: Axes, frame: pd.DataFrame, *, series: str, at: float | None = None) -> None:
    """The paper's own numbers as hollow markers in the colour of `series`, with their printed spread.

    Args:
        ax: panel.
        frame: columns x, value, spread.
        series: whose colour and marker they have.
        at: where to draw numbers that have no x.
    """
    rows = frame[frame["value"].notna()]
    if at is None:
        rows = rows[rows["x"].notna()]
    if rows.empty:
        return
    style = look(ax, series)
    points = rows.assign(x=rows["x"] if at is None else at)
    bar = ax.errorbar(
        points["x"],
        points["value"],
        yerr=points["spread"].fillna(0) if points["spread"].notna().any() else None,
        linestyle="none",
        marker=style["marker"],
        markersize=4.5,
        markerfacecolor="none",
        markeredgecolor=style["color"],
        ecolor=style["color"],
        elinewidth=0.6,
        zorder=4,
    )
    _remember(ax, series, "published", points[["x", "value"]], bar.get_children())


def published_inset(ax: Axes, *, title: str = "published", share: float = 0.36) -> Axes | None:
    """A small light panel in a free corner for published curves that ours cannot be compared with.

    Call it when the panel's own curves are drawn. ``None`` where no corner is free: the curves are then left out.

    Args:
        ax: panel.
        title: what stands over it.
        share: its width and height as a share of the panel's.
    """
    from matplotlib.transforms import Bbox

    ax.get_figure(root=True).draw_without_rendering()  # type: ignore[union-attr]
    panel = ax.get_window_extent()
    low, high = 0.09, 0.97 - share
    for x, y in ((high, high - 0.06), (high, low), (low, high - 0.06), (low, low)):
        # Room for its tick labels and title as well.
        room = Bbox.from_bounds(x - 0.08, y - 0.09, share + 0.1, share + 0.18)
        pixels = Bbox([[panel.x0 + p * panel.width, panel.y0 + q * panel.height] for p, q in room.get_points()])
        if _covers(ax, pixels):
            continue
        small = ax.inset_axes((x, y, share, share))
        small.set_title(title, fontsize=6, pad=2, color="0.35")
        small.tick_params(labelsize=5, length=2, pad=1, colors="0.35")
        small.grid(False)
        return small
    return None


UNIT = re.compile(r"\s*\((%|[kMBT]|points|nats|epochs|samples|steps|m?s|min|h)\)")
"""The unit in an axis label such as ``validation accuracy (%)``."""


def numbers_of(fig: Figure) -> pd.DataFrame:
    """What the panels show as tidy rows: panel, series, source, x and y with their names and units, interval, n.

    `band`, `bars` and `published_points` keep their numbers; of other curves, points and grids what is drawn is read.
    """
    import pandas as pd

    tables = []
    labels = fig.__dict__.get("_bench_labels", {})
    for letter, ax in zip(LETTERS, panels_of(fig), strict=False):
        names: dict[str, str] = {}
        for axis, label in (
            ("x", ax.get_xlabel() or _shared_label(ax, "x")),
            ("y", ax.get_ylabel() or _shared_label(ax, "y")),
        ):
            unit = UNIT.search(label)
            names |= {f"{axis}_name": UNIT.sub("", label), f"{axis}_unit": unit[1] if unit else ""}
        for series, source, points in (*ax.__dict__.get("_bench_numbers", ()), *_read(ax)):
            renamed = points.rename(columns={"value": "y"})
            tables.append(renamed.assign(panel=letter, series=labels.get(series, series), source=source, **names))
    columns = ["panel", "series", "source", "x_name", "x_unit", "x", "y_name", "y_unit", "y", "low", "high", "n"]
    whole = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    return whole.reindex(columns=[*columns, *(name for name in whole.columns if name not in columns)])


def _read(ax: Axes) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Series, source and points of what was drawn by matplotlib's own functions."""
    import numpy as np
    import pandas as pd

    series = {look(ax, name)["color"]: name for name in list(ax.figure.__dict__.get("_bench_series", {}))}
    for line in ax.get_lines():
        name, colour = str(line.get_label()), line.get_color()
        if name.startswith("_") and isinstance(colour, str):
            name = series.get(colour, name)
        # Rules, and short segments without a name, are no series.
        if line.__dict__.get("_bench_known") or name.startswith("_") or line.get_transform() != ax.transData:
            continue
        source = "published" if line.get_markerfacecolor() == "none" else "ours"
        yield name, source, pd.DataFrame({"x": np.asarray(line.get_xdata()), "value": np.asarray(line.get_ydata())})
    for points in ax.collections:
        name = str(points.get_label())
        places = np.asarray(points.get_offsets())
        if not points.__dict__.get("_bench_known") and not name.startswith("_") and len(places):
            x, y = places.T
            colours = points.get_array()
            extra = {} if colours is None else {"colour": np.asarray(colours)}
            yield name, "ours", pd.DataFrame({"x": x, "value": y, **extra})
    for image in ax.images:
        grid = np.asarray(image.get_array(), dtype=float)
        y, x = np.indices(grid.shape)
        x, y = (_named(places.ravel(), axis) for places, axis in ((x, ax.xaxis), (y, ax.yaxis)))
        yield "grid", "ours", pd.DataFrame({"x": x, "value": y, "colour": grid.ravel()})


def _named(places: Any, axis: Axis) -> list[Any]:
    """Numbers of cells by the text of their ticks, where each has one."""
    if list(axis.get_ticklocs()) != list(range(max(places) + 1)):
        return list(places)
    return [axis.get_ticklabels()[place].get_text() for place in places]


LETTERS = "abcdefghijklmnopqrstuvwxyz"
"""Names of panels, row by row."""


def panels_of(fig: Figure) -> list[Axes]:
    """The panels that show something, row by row; colour bars and second axes belong to theirs."""
    first: dict[Any, Axes] = {}
    for ax in fig.axes:
        spec = ax.get_subplotspec()
        shows = ax.axison or ax.has_data()
        if spec is not None and not hasattr(ax, "_colorbar") and ax.get_visible() and shows:
            first.setdefault((spec.num1, spec.num2), ax)
    return [first[key] for key in sorted(first)]


def _shared_label(ax: Axes, axis: Literal["x", "y"]) -> str:
    """The label of a panel that shares the axis, where it has none of its own."""
    shared = ax.get_shared_x_axes() if axis == "x" else ax.get_shared_y_axes()
    labels = (getattr(other, f"get_{axis}label")() for other in shared.get_siblings(ax))
    return next(filter(None, labels), "")


def keep_one(fig: Figure, number: int, width: float) -> None:
    """Leaves one panel, as wide as `width` inches, with its own labels and legend and without the figure's title.

    Args:
        fig: a figure that was just drawn.
        number: which of `panels_of`.
        width: inches.
    """
    from matplotlib.gridspec import GridSpec

    kept = panels_of(fig)[number]
    inside = kept.get_legend()
    entries = _entries([inside] if inside else [*fig.legends, *filter(None, (ax.get_legend() for ax in fig.axes))])
    spec = kept.get_subplotspec()
    whole = GridSpec(1, 1, figure=fig)[0]
    labels = {axis: getattr(kept, f"get_{axis}label")() or _shared_label(kept, axis) for axis in ("x", "y")}
    for legend in list(fig.legends):
        legend.remove()
    for ax in list(fig.axes):
        parents = getattr(ax, "_colorbar_info", {}).get("parents", [])
        same = ax.get_subplotspec() == spec and not hasattr(ax, "_colorbar")
        if same:
            ax.set_subplotspec(whole)
        elif kept not in parents:
            ax.set_visible(False)
            ax.set_in_layout(False)
    kept.set(xlabel=labels["x"], ylabel=labels["y"])
    kept.tick_params(labelbottom=True, labelleft=True)
    fig.suptitle("")
    if entries:
        names = set(kept.get_legend_handles_labels()[1])
        shown = {name: handle for name, handle in entries.items() if name in names or name.startswith("published")}
        handles = shown if names and not inside else entries
        kept.legend(list(handles.values()), list(handles))
    fig.set_size_inches(width, 0.78 * width)
    fig.draw_without_rendering()
    for label, size in ((kept.xaxis.label, fig.bbox.width), (kept.yaxis.label, fig.bbox.height)):
        box = label.get_window_extent()
        if max(box.width, box.height) > 0.8 * size:
            text = label.get_text()
            label.set_text(textwrap.fill(text, math.ceil(0.6 * len(text))))


def _entries(legends: Sequence[Legend]) -> dict[str, Artist]:
    """Names and handles of legends."""
    entries: dict[str, Artist] = {}
    for legend in legends:
        names = [text.get_text() for text in legend.get_texts()]
        entries |= dict(zip(names, filter(None, legend.legend_handles), strict=True))
    return entries


def legend(ax: Axes, *, published: bool, rescaled: bool = False, below: int | None = None, **options: Any) -> None:
    """The legend of the figure, with one entry that says what hollow markers are.

    Args:
        ax: panel whose series it names.
        published: whether there are any.
        rescaled: whether their x was stretched to a reduced scale.
        below: columns of a legend under all panels, where one inside would cover the curves.
        options: of matplotlib's legend.
    """
    from matplotlib.lines import Line2D

    handles, labels = ax.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    if published:
        name = "published, x rescaled" if rescaled else "published"
        once[name] = Line2D([], [], linestyle="none", marker="o", markerfacecolor="none", color="0.3")
    if once and below is not None:
        ax.figure.legend(list(once.values()), list(once), loc="outside lower center", ncols=below, **options)
    elif once:
        ax.legend(list(once.values()), list(once), **options)


def _covers(ax: Axes, box: Bbox) -> bool:
    """Whether a box in pixels lies on curves or markers of the panel; upright lines are rules, not curves."""
    for line in ax.get_lines():
        path = line.get_path().transformed(line.get_transform())
        upright = path.get_extents().width == 0
        if line.get_linestyle() != "None" and not upright and path.intersects_bbox(box, filled=False):
            return True
        if line.get_marker() != "None" and box.count_contains(path.vertices):
            return True
    return False


def uncover(fig: Figure) -> None:
    """Moves the legends of all panels to one below them, if one has no free corner and lies on curves.

    The figure becomes higher by the legend, so that panels keep their size.
    """
    fig.draw_without_rendering()
    legends = {ax: inside for ax in fig.axes if ax.get_visible() and (inside := ax.get_legend()) is not None}
    if not any(_covers(ax, inside.get_window_extent()) for ax, inside in legends.items()):
        return
    once = _entries(list(legends.values()))
    for inside in legends.values():
        inside.remove()
    for columns in range(len(once), 0, -1):
        below = fig.legend(list(once.values()), list(once), loc="outside lower center", ncols=columns)
        fig.draw_without_rendering()
        box = below.get_window_extent()
        if box.width <= fig.bbox.width or columns == 1:
            fig.set_figheight(fig.get_figheight() + box.height / fig.dpi)
            return
        below.remove()


METADATA: dict[str, dict[str, str | None]] = {
    "pdf": {"CreationDate": None, "Producer": None, "Creator": "warmbench"},
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": "warmbench"},
    "pgf": {},
}
"""File format -> what it says of its making: nothing that changes from one call to the next."""


def save(fig: Figure, stem: Path, *, missing: Sequence[str] = (), formats: Sequence[str] = ("pdf", "png")) -> None:
    """Writes ``stem.pdf`` and ``stem.png``, or other formats; equal input gives equal bytes.

    Missing runs are named on the figure; signs that no font of the machine has are named on the terminal.

    Raises:
        UserError: PGF is asked for and there is no LaTeX, which measures its text.
    """
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with warnings.catch_warnings(record=True) as seen:
        warnings.filterwarnings("always", message="Glyph .* missing from")
        uncover(fig)
        if missing:
            count = f"{len(missing)} runs missing" if len(missing) > 1 else f"run missing: {missing[0]}"
            # A line of its own below the axes' labels.
            line = NOTE_INCHES / fig.get_figheight()
            engine = fig.get_layout_engine()
            if isinstance(engine, ConstrainedLayoutEngine):
                engine.set(rect=(0, line, 1, 1 - line))
            for below in fig.legends:
                below.borderaxespad += 72 * NOTE_INCHES / below.prop.get_size_in_points()
            fig.text(0.995, 0.2 * line, count, ha="right", va="bottom", fontsize=6, color="#D55E00")
        for suffix in formats:
            checkpoint.write_bytes(stem.with_name(f"{stem.name}.{suffix}"), _bytes(fig, suffix))
    for text in sorted({str(warning.message) for warning in seen if "missing from" in str(warning.message)}):
        print(f"note: {stem.parent.name}/{stem.name}: {text.rstrip('.')}", file=sys.stderr)


def _bytes(fig: Figure, suffix: str) -> bytes:
    import matplotlib

    buffer = io.BytesIO()
    if suffix != "pgf":
        fig.savefig(buffer, format=suffix, metadata=METADATA[suffix])
        return buffer.getvalue()
    systems = [system for system in ("xelatex", "lualatex", "pdflatex") if shutil.which(system)]
    if not systems:
        raise UserError("format pgf: needs xelatex, lualatex or pdflatex, which measure its text; none is here")
    with matplotlib.rc_context({"pgf.texsystem": systems[0], "pgf.rcfonts": False}):
        fig.savefig(buffer, format=suffix)
    return buffer.getvalue()
