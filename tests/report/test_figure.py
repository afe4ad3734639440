"""Figures: intervals against scipy's, equal bytes, gaps that are marked, panels for a paper of one's own."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats as reference

from bench.errors import UserError
from bench.report import figure


def frame() -> pd.DataFrame:
    values = {0: [1.0, 2.0, 4.0], 10: [2.0, 2.5, 3.0]}
    return pd.DataFrame(
        [(x, value, seed) for x, row in values.items() for seed, value in enumerate(row)],
        columns=["x", "value", "seed"],
    )


def test_the_band_is_the_t_interval() -> None:
    points = figure.summary(frame()).set_index("x")
    low, high = reference.t.interval(0.95, 2, loc=7 / 3, scale=reference.sem([1.0, 2.0, 4.0]))
    assert points.loc[0, ["mean", "low", "high"]].tolist() == pytest.approx([7 / 3, low, high])
    assert points["n"].tolist() == [3, 3]


def test_one_seed_has_no_band() -> None:
    points = figure.summary(frame()[lambda rows: rows["seed"] == 0])
    assert (points["low"] == points["mean"]).all() and (points["high"] == points["mean"]).all()


def two_panels() -> Figure:
    """A curve with published points, and bars that share its y axis."""
    fig, ax = figure.panels(1, 2, sharey=True)
    figure.band(ax[0], frame(), series="warm_start", label="warm start")
    points = frame().groupby("x", as_index=False)["value"].mean().assign(spread=float("nan"))
    figure.published_points(ax[0], points, series="warm_start")
    figure.legend(ax[0], published=True)
    ax[0].set(xlabel="epoch", ylabel="validation accuracy (%)")
    figure.bars(ax[1], ["plain", "modern"], [{0: 1.0, 1: 2.0}, {0: 3.0}], series=["warm_start", "other"])
    fig.suptitle("a title")
    return fig


def saved(
    path: Path, *, missing: tuple[str, ...] = (), formats: tuple[str, ...] = ("pdf", "png", "svg")
) -> list[bytes]:
    figure.save(two_panels(), path, missing=missing, formats=formats)
    return [path.with_suffix(f".{suffix}").read_bytes() for suffix in formats]


def test_equal_numbers_give_equal_bytes(tmp_path: Path) -> None:
    assert saved(tmp_path / "one") == saved(tmp_path / "two")


def test_missing_runs_are_marked(tmp_path: Path) -> None:
    assert saved(tmp_path / "one") != saved(tmp_path / "two", missing=("a run",))


def test_missing_runs_are_named_below_a_legend_that_stands_below(tmp_path: Path) -> None:
    fig, ax = crossing(6, top=1.0)
    ax.set_xlabel("epoch")
    figure.save(fig, tmp_path / "one", missing=("a run", "another"), formats=("png",))
    (below,), (note,) = fig.legends, fig.texts
    assert note.get_text() == "2 runs missing"
    box = below.get_window_extent()
    assert note.get_window_extent().y1 <= box.y0 + 1 and box.y1 <= ax.xaxis.label.get_window_extent().y0 + 1


def test_signs_that_no_font_has_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fig, (ax,) = figure.panels(1, 1)
    ax.set_title("accuracy \U00012000")
    figure.save(fig, tmp_path / "warmstart" / "fig1", formats=("png",))
    assert "warmstart/fig1" in capsys.readouterr().err and (tmp_path / "warmstart" / "fig1.png").exists()


def test_a_series_looks_the_same_in_every_figure_and_no_two_look_alike() -> None:
    _, (first,) = figure.panels(1, 1)
    _, (second,) = figure.panels(1, 1)
    figure.look(second, "something else")
    assert figure.look(first, "warm_start") == figure.look(second, "warm_start")
    looks = [tuple(map(str, figure.look(second, f"series {number}").values())) for number in range(6)]
    assert len(set(looks)) == 6


def crossing(lines: int, top: float) -> tuple[Figure, Axes]:
    """A panel with `lines` level curves from 0 to `top`, of a panel that ends at 1."""
    fig, (ax,) = figure.panels(1, 1, width="single")
    for number in range(lines):
        points = pd.DataFrame({"x": [0, 1], "value": [top * (number + 0.5) / lines] * 2, "seed": [0, 0]})
        figure.band(ax, points, series=f"series {number}", label=f"a name of some length {number}")
    ax.set_ylim(0, 1)
    figure.legend(ax, published=False)
    return fig, ax


def test_a_legend_stays_where_there_is_room() -> None:
    fig, ax = crossing(3, top=0.4)
    height = fig.get_figheight()
    figure.uncover(fig)
    assert ax.get_legend() is not None and not fig.legends
    assert fig.get_figheight() == height


def test_a_legend_on_curves_moves_below_the_panels() -> None:
    fig, ax = crossing(6, top=1.0)
    fig.draw_without_rendering()
    panel = ax.get_window_extent().height
    figure.uncover(fig)
    assert ax.get_legend() is None
    (below,) = fig.legends
    assert [text.get_text() for text in below.get_texts()] == [f"a name of some length {n}" for n in range(6)]
    fig.draw_without_rendering()
    box = below.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= fig.bbox.width and box.y0 >= 0
    assert box.y1 < ax.get_tightbbox().y0
    assert ax.get_window_extent().height == pytest.approx(panel, rel=0.1)


def test_a_legend_moves_from_markers_and_not_from_an_upright_rule() -> None:
    fig, (ax,) = figure.panels(1, 1, width="single")
    ax.axvline(0.5)
    ax.set(xlim=(0, 1), ylim=(0, 1))
    figure.scatter(ax, [0.1], [0.1], series="ours", label="ours")
    ax.legend(loc="upper center")
    figure.uncover(fig)
    assert ax.get_legend() is not None
    figure.scatter(ax, [0.5], [0.93], series="ours", label="ours")
    figure.uncover(fig)
    assert ax.get_legend() is None and len(fig.legends) == 1


def test_published_curves_go_to_a_free_corner_or_are_left_out() -> None:
    _, free = crossing(3, top=0.4)
    inset = figure.published_inset(free)
    assert inset is not None and inset.get_window_extent().y0 > free.get_window_extent().height * 0.4
    _, full = crossing(9, top=1.0)
    assert figure.published_inset(full) is None


def test_the_numbers_behind_each_panel_are_tidy_and_have_units() -> None:
    numbers = figure.numbers_of(two_panels())
    first = numbers[(numbers["panel"] == "a") & (numbers["source"] == "ours")]
    assert first[["series", "x_name", "x", "y_name", "y_unit", "n"]].values.tolist() == [
        ["warm start", "epoch", x, "validation accuracy", "%", 3] for x in (0, 10)
    ]
    assert (first["low"] < first["y"]).all() and (first["y"] < first["high"]).all()
    theirs = numbers[numbers["source"] == "published"]
    assert theirs["series"].tolist() == ["warm start"] * 2 and theirs["panel"].tolist() == ["a"] * 2
    second = numbers[numbers["panel"] == "b"]
    assert second["x"].tolist() == ["plain", "modern"] and second["y_unit"].tolist() == ["%", "%"]


def test_what_matplotlib_drew_itself_is_read() -> None:
    fig, ax = figure.panels(1, 2)
    ax[0].plot([1, 2], [3, 4], label="a curve")
    ax[0].plot([1, 2], [5, 6], label="theirs", markerfacecolor="none")
    ax[0].axhline(0.0)
    ax[0].scatter([7, 8], [9, 10], c=[0.1, 0.2], label="points")
    ax[1].imshow([[1.0, 2.0]])
    ax[1].set_xticks([0, 1], ["0.1", "0.2"])
    numbers = figure.numbers_of(fig)
    assert numbers.groupby("series")["y"].apply(list).to_dict() == {
        "a curve": [3, 4], "theirs": [5, 6], "points": [9, 10], "grid": [0, 0]
    }  # fmt: skip
    assert numbers[numbers["series"] == "theirs"]["source"].unique() == ["published"]
    assert numbers[numbers["series"] == "grid"][["x", "colour"]].values.tolist() == [["0.1", 1.0], ["0.2", 2.0]]


def test_one_panel_stands_alone_with_its_labels_and_legend() -> None:
    fig = two_panels()
    first, second = figure.panels_of(fig)
    figure.keep_one(fig, 1, 3.25)
    assert fig.get_figwidth() == 3.25 and not first.get_visible() and second.get_visible()
    assert second.get_ylabel() == "validation accuracy (%)"
    fig.draw_without_rendering()
    box = second.get_tightbbox()
    assert box.x0 >= 0 and box.x1 <= fig.bbox.width and box.y0 >= 0 and box.y1 <= fig.bbox.height
    assert second.get_window_extent().width > 0.7 * fig.bbox.width
    fig = two_panels()
    figure.keep_one(fig, 0, 3.25)
    names = [text.get_text() for text in figure.panels_of(fig)[0].get_legend().get_texts()]
    assert names == ["warm start", "published"]


def test_a_colour_bar_stays_with_its_panel() -> None:
    fig, ax = figure.panels(1, 2)
    for one in ax:
        fig.colorbar(one.imshow([[1.0, 2.0]]), ax=one)
    assert figure.panels_of(fig) == ax
    figure.keep_one(fig, 1, 3.0)
    assert [one.get_visible() for one in fig.axes] == [False, True, False, True]


def test_a_long_label_is_wrapped_where_a_panel_is_narrow() -> None:
    fig, (ax,) = figure.panels(1, 1)
    ax.set_ylabel("a label of the axis that is longer than the panel is high, by far")
    figure.keep_one(fig, 0, 2.0)
    assert "\n" in ax.get_ylabel()


def test_a_foreign_style_goes_over_the_suites_own(tmp_path: Path) -> None:
    style = tmp_path / "own.mplstyle"
    style.write_text("font.size: 11\naxes.prop_cycle: cycler('color', ['112233', '445566'])\n")
    with figure.styled(style):
        _, (ax,) = figure.panels(1, 1)
    assert ax.xaxis.label.get_fontsize() == 8, "what it does not set stays"
    ax.set_title("x")
    assert colors.to_hex(figure.look(ax, "random_init")["color"]) == "#112233"
    assert colors.to_hex(figure.look(ax, "phase1_half")["color"]) == "#112233", "it has two colours"
    _, (plain,) = figure.panels(1, 1)
    assert figure.look(plain, "random_init")["color"] == figure.PALETTE[0]
    with figure.styled("ggplot"):
        _, (named,) = figure.panels(1, 1)
    assert figure.look(named, "random_init")["color"] != figure.PALETTE[0]


def test_a_style_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.mplstyle"
    bad.write_text("font.size: [\n")
    for style in (tmp_path / "absent.mplstyle", bad):
        with figure.styled(style), pytest.raises(UserError, match=style.name) as refused:
            figure.panels(1, 1)
        assert "\n" not in str(refused.value)


def test_pgf_without_latex_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="pdflatex"):
        figure.save(two_panels(), tmp_path / "fig", formats=("pgf",))
