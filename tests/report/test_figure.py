"""Figures: intervals against scipy's, equal bytes, gaps that are marked."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats as reference

from bench.report import figure


def frame() -> pd.DataFrame:
    values = {0: [1.0, 2.0, 4.0], 10: [2.0, 2.5, 3.0]}
    return pd.DataFrame(
        [(x, value, seed) for x, row in values.items() for seed, value in enumerate(row)],
        columns=["x", "value", "seed"],
    )


def test_the_band_is_the_t_interval() -> None:
    found = figure.summary(frame()).set_index("x")
    low, high = reference.t.interval(0.95, 2, loc=7 / 3, scale=reference.sem([1.0, 2.0, 4.0]))
    assert found.loc[0, ["mean", "low", "high"]].tolist() == pytest.approx([7 / 3, low, high])
    assert found["n"].tolist() == [3, 3]


def test_one_seed_has_no_band() -> None:
    found = figure.summary(frame()[lambda rows: rows["seed"] == 0])
    assert (found["low"] == found["mean"]).all() and (found["high"] == found["mean"]).all()


def drawn(path: Path, missing: tuple[str, ...] = ()) -> bytes:
    made, axes = figure.panels(1, 2)
    figure.band(axes[0], frame(), series="warm_start", label="warm start")
    points = frame().groupby("x", as_index=False)["value"].mean().assign(spread=float("nan"))
    figure.published_points(axes[0], points, series="warm_start")
    figure.legend(axes[0], published=True)
    figure.save(made, path, missing=missing)
    return path.with_suffix(".pdf").read_bytes() + path.with_suffix(".png").read_bytes()


def test_equal_numbers_give_equal_bytes(tmp_path: Path) -> None:
    assert drawn(tmp_path / "one") == drawn(tmp_path / "two")


def test_missing_runs_are_marked(tmp_path: Path) -> None:
    assert drawn(tmp_path / "one") != drawn(tmp_path / "two", missing=("a run",))


def test_a_series_looks_the_same_in_every_figure_and_no_two_look_alike() -> None:
    _, (first,) = figure.panels(1, 1)
    _, (second,) = figure.panels(1, 1)
    figure.look(second, "something else")
    assert figure.look(first, "warm_start") == figure.look(second, "warm_start")
    looks = [tuple(map(str, figure.look(second, f"series {number}").values())) for number in range(6)]
    assert len(set(looks)) == 6


def crossing(lines: int, top: float) -> tuple[Figure, Axes]:
    """A panel with `lines` level curves from 0 to `top`, of a panel that ends at 1."""
    made, (axes,) = figure.panels(1, 1, width="single")
    for number in range(lines):
        points = pd.DataFrame({"x": [0, 1], "value": [top * (number + 0.5) / lines] * 2, "seed": [0, 0]})
        figure.band(axes, points, series=f"series {number}", label=f"a name of some length {number}")
    axes.set_ylim(0, 1)
    figure.legend(axes, published=False)
    return made, axes


def test_a_legend_stays_where_there_is_room() -> None:
    made, axes = crossing(3, top=0.4)
    height = made.get_figheight()
    figure.uncover(made)
    assert axes.get_legend() is not None and not made.legends
    assert made.get_figheight() == height


def test_a_legend_on_curves_moves_below_the_panels() -> None:
    made, axes = crossing(6, top=1.0)
    made.draw_without_rendering()
    panel = axes.get_window_extent().height
    figure.uncover(made)
    assert axes.get_legend() is None
    (below,) = made.legends
    assert [text.get_text() for text in below.get_texts()] == [f"a name of some length {n}" for n in range(6)]
    made.draw_without_rendering()
    box = below.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= made.bbox.width and box.y0 >= 0
    assert box.y1 < axes.get_tightbbox().y0
    assert axes.get_window_extent().height == pytest.approx(panel, rel=0.1)


def test_a_legend_moves_from_markers_and_not_from_an_upright_rule() -> None:
    made, (axes,) = figure.panels(1, 1, width="single")
    axes.axvline(0.5)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    figure.scatter(axes, [0.1], [0.1], series="ours", label="ours")
    axes.legend(loc="upper center")
    figure.uncover(made)
    assert axes.get_legend() is not None
    figure.scatter(axes, [0.5], [0.93], series="ours", label="ours")
    figure.uncover(made)
    assert axes.get_legend() is None and len(made.legends) == 1
