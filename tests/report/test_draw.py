"""Exhibits as files: what is written beside a run, and figures and tables for a paper of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from bench import config, exhibit
from bench.cli.main import main
from bench.errors import UserError
from bench.report import collect, draw, reference
from bench.workflow import plan as planning
from bench.workflow.plan import Plan

Made = Callable[..., Plan]


def test_numbers_have_their_units(drawn: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pd.DataFrame(
        {"exhibit": ["distance"], "metric": ["distance"], "value": 1.0, "unit": "m", "provenance": "printed"}
    )
    monkeypatch.setattr(draw.published, "of_paper", lambda paper: rows)
    stem = drawn().layout.exhibits / "invented" / "distance"
    assert {path.suffix for path in stem.parent.glob("distance.*")} == {".csv", ".md", ".tex", ".json"}
    numbers = pd.read_csv(stem.with_suffix(".csv"))
    assert len(numbers) == 6 and numbers["unit"].eq("m").all()


def test_margins_stand_with_numbers_that_can_be_compared(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = made(train=False)
    chosen = exhibit.registry()["invented/distance"]
    rows = pd.DataFrame(
        {"metric": ["distance", "distance", "speed"], "value": 1.0, "provenance": ["printed", "replication", "printed"]}
    )
    monkeypatch.setattr(draw.published, "of_exhibit", lambda exhibit: rows)
    monkeypatch.setattr(chosen.__class__, "margins", property(lambda self: {"distance": 0.5}), raising=False)
    whole = collect.Facts([], 0, 6, [], 0.0, [])
    assert draw.published_rows(plan, chosen, whole)["margin"].dropna().to_dict() == {0: 0.5}
    gap = collect.Facts(["a run"], 0, 6, [], 0.0, [])
    assert draw.published_rows(plan, chosen, gap)["margin"].isna().all(), "nothing is decided with runs missing"


@pytest.mark.parametrize("suffix", ["pdf", "png", "svg"])
def test_a_figure_is_exported_whole_or_by_panel_with_its_numbers(made: Made, tmp_path: Path, suffix: str) -> None:
    plan = made()
    whole = draw.export(plan, "invented/curve", tmp_path, format=suffix)
    assert [path.name for path in whole] == [f"invented-curve.{suffix}", "invented-curve.csv"]
    panel = draw.export(plan, "invented/curve", tmp_path, format=suffix, width=3.25)
    assert [path.name for path in panel] == [f"invented-curve-a.{suffix}", "invented-curve-a.csv"]
    assert all(path.stat().st_size for path in (*whole, *panel))
    if suffix == "png":
        with Image.open(panel[0]) as picture:
            assert picture.width / picture.info["dpi"][0] == pytest.approx(3.25, rel=0.01)


def test_a_table_is_exported_as_latex_with_its_numbers(made: Made, tmp_path: Path) -> None:
    files = draw.export(made(), "invented/distance", tmp_path)
    assert [path.name for path in files] == ["invented-distance.tex", "invented-distance.csv"]
    assert r"\toprule" in files[0].read_text()


def test_the_command_draws_panels_and_leaves_the_results_alone(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = made()
    options = ["--scale", str(tmp_path / "toy.yaml"), "--exhibits", "invented/curve", "--width", "3.25"]
    options += ["--style", "ggplot"]
    assert main(["draw", *options, "--format", "svg"]) == 0
    folder = plan.layout.exhibits.with_name("figures")
    assert {path.name for path in folder.iterdir()} == {"invented-curve-a.svg", "invented-curve-a.csv"}
    assert str(folder / "invented-curve-a.svg") in capsys.readouterr().out
    assert main(["draw", *options, "--into", str(tmp_path / "mine")]) == 0
    assert (tmp_path / "mine" / "invented-curve-a.pdf").exists() and not plan.layout.exhibits.exists()


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan"), 1000.0])
def test_an_impossible_width_is_one_line(made: Made, tmp_path: Path, width: float) -> None:
    with pytest.raises(UserError, match="expected 1 to 40 inches"):
        draw.export(made(train=False), "invented/curve", tmp_path, width=width)


def test_an_exhibit_without_runs_is_exported_with_its_gap(made: Made, tmp_path: Path) -> None:
    assert len(draw.export(made(train=False), "invented/curve", tmp_path, format="png")) == 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plan]:
    """Every exhibit of scale ci, from the committed records."""
    root = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_RESULTS", str(root))
        yield reference.as_results(planning.make(config.load("ci")))


@pytest.mark.slow
@pytest.mark.parametrize("name", list(exhibit.registry()))
def test_every_exhibit_is_drawn_with_a_foreign_style_at_column_width(whole: Plan, name: str, tmp_path: Path) -> None:
    style = tmp_path / "foreign.mplstyle"
    style.write_text(
        "font.family: serif\nfont.size: 9\naxes.grid: False\n"
        "axes.prop_cycle: cycler('color', ['4477AA', 'EE6677', '228833', 'CCBB44'])\n"
    )
    files = draw.export(whole, name, tmp_path / "out", format="png", width=3.25, style=style)
    assert len(files) >= 2 and all(path.stat().st_size > 20 for path in files)
    for path in files:
        if path.suffix == ".png":
            with Image.open(path) as picture:
                assert 500 < picture.width <= 650 and picture.height < 3 * picture.width
        else:
            assert (
                path.suffix == ".tex"
                or {"panel", "series", "y_name"} <= set(pd.read_csv(path).columns)
                or ("metric" in pd.read_csv(path).columns)
            )
