"""The report as PDF: nothing leaves the page, nothing is typed, and bad sources are named."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from bench import paths, stats
from bench.errors import UserError
from bench.report import figure, table
from bench.report import pdf as document
from bench.report.pdf import Shown
from bench.report.verdicts import Entry

needs_poppler = pytest.mark.skipif(shutil.which("pdftotext") is None, reason="no pdftotext (Debian: poppler-utils)")


def shown(root: Path, name: str, kind: str, **changes: object) -> Shown:
    facts: dict[str, object] = {
        "title": f"Title of {name}", "caption": "What it shows.", "kind": kind, "files": root / name,
        "departures": {"seeds": "5 → 3"}, "missing": [], "runs": 6, "seconds": 90.0, "machines": ["a machine"],
        "commits": ["0123456789abcdef"], "older": 0, "code": "bench/warmstart/exhibits/table1.py",
        "settings": ("seeds", "own"),
    }  # fmt: skip
    return Shown(name, **{**facts, **changes})  # type: ignore[arg-type]


def entry(exhibit: str, kind: str, name: str, outcome: stats.Finding, **changes: object) -> Entry:
    facts: dict[str, object] = {
        "statement": "A statement.", "source": "Table 1", "published": None, "spread": None, "unit": "percent",
        "provenance": "printed", "margin": None, "test": outcome.test, "scale": "ci", "machine": "a machine",
        "older": False, "cost": "", "note": "",
    }  # fmt: skip
    return Entry(exhibit=exhibit, kind=kind, name=name, finding=outcome, **{**facts, **changes})  # type: ignore[arg-type]


def wide(columns: int, rows: int, words: int) -> pd.DataFrame:
    """Cells as the widest tables of the papers have them."""
    cells = {"method": [f"a method with {'many ' * words}words, eps 8/255, lr_schedule_{row}" for row in range(rows)]}
    return pd.DataFrame({**cells, **{f"column_{k} SGD": ["51.9 ± 0.8 [51.7]"] * rows for k in range(columns)}})


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    found = []
    for columns, rows, words in ((7, 6, 0), (12, 70, 1), (20, 4, 8)):
        found.append(shown(root, f"warmstart/table{columns}", "table", missing=["one run"]))
        table.write(wide(columns, rows, words), found[-1].files, title="wide")
    drawn, (axes,) = figure.panels(1, 1)
    axes.plot([0, 1], [0, 1])
    found.append(shown(root, "certified/fig1", "figure"))
    figure.save(drawn, found[-1].files)
    table.write_numbers(pd.DataFrame({"x": [1.0]}), found[-1].files.with_suffix(".csv"))
    numbers = [
        entry(
            "certified/fig1", "target", f"panel, cifar10, cnn7, a_long_name_of_a_method, epoch {k}, verified_error",
            stats.equivalent_to({0: 50.0, 1: 50.1, 2: 50.2}, 50.0, margin=2.0), published=50.0, spread=0.5,
        )
        for k in range(30)
    ]  # fmt: skip
    claims = [
        entry("warmstart/table7", "claim", "T1a", stats.above([1.0, 1.1, 1.2], 0.0)),
        entry(
            "warmstart/table7", "claim", "T1b", stats.above([1.0, -1.1, 1.2], 0.0), not_expected_at="too small a shift"
        ),
    ]
    document.write(
        root / "paper.pdf", [*claims, *numbers], found, scale="ci", about="Small.", protocol={"certified/fig1": "3.0"}
    )
    return root / "paper.pdf"


def text_of(path: Path, *options: str) -> str:
    return subprocess.run(["pdftotext", *options, str(path), "-"], capture_output=True, text=True, check=True).stdout


@needs_poppler
def test_nothing_leaves_the_page(report: Path) -> None:
    boxes = text_of(report, "-bbox")
    width = float(re.search(r'<page width="([\d.]+)"', boxes)[1])  # type: ignore[index]
    margin = 2.2 / 2.54 * 72
    ends = [(float(right), word) for right, word in re.findall(r'xMax="([\d.]+)"[^>]*>([^<]*)<', boxes)]
    assert len(ends) > 500
    assert max(ends) <= (width - margin + 4.0, "")  # a hyphen may hang


@needs_poppler
def test_it_says_what_it_must(report: Path) -> None:
    text = " ".join(text_of(report).split())
    for expected in (
        "2 claims: 1 reproduced, 1 undecided.",
        "30 published numbers: 30 reproduced.",
        "chance alone is expected to get at most",
        "1 of 6 runs are missing",
        "too small a shift",
        "12 of the 30 numbers that both have",
        "1.5 minutes of training",
        "0123456789ab",
        "References",
        "Costs",
    ):
        assert expected in text, expected


def test_equal_results_give_an_equal_report(report: Path, tmp_path: Path) -> None:
    found = [shown(report.parent, "certified/fig1", "figure")]
    for name in ("one", "two"):
        document.write(tmp_path / f"{name}.pdf", [], found, scale="ci")
    assert (tmp_path / "one.pdf").read_bytes() == (tmp_path / "two.pdf").read_bytes()


def test_no_result_is_typed() -> None:
    prose = "\n".join((paths.PROJECT / "paper" / name).read_text() for name in ("prose.typ", "main.typ"))
    typed = re.findall(r"\d+\.\d+ ?%|±|\[\d+\.\d+, \d", prose)
    assert not typed


def test_shared_departures_are_said_once(report: Path) -> None:
    root = report.parent
    both = [shown(root, f"warmstart/table{k}", "table", departures={"seeds": "5 → 3", "own": str(k)}) for k in (7, 12)]
    assert document.shared_departures(both) == {"seeds": "5 → 3"}
    assert document.shared_departures(both[:1]) == {}
    said = document.content([], both, scale="ci", protocol={})
    assert said["shared"]["warmstart"] == ["seeds: 5 → 3"]
    assert [item["departures"] for item in said["papers"]["warmstart"]] == [["own: 7"], ["own: 12"]]
    without = shown(root, "warmstart/fig1", "figure", departures={}, settings=("own",))
    assert document.shared_departures([*both, without]) == {"seeds": "5 → 3"}, "it has no such setting"
    unchanged = shown(root, "warmstart/fig1", "figure", departures={})
    assert document.shared_departures([*both, unchanged]) == {}, "its setting is the paper's"
    few = [shown(root, f"warmstart/fig{k}", "figure", departures={}, settings=()) for k in range(3)]
    assert document.shared_departures([*both, *few]) == {}, "two of five are no rule"


def test_exhibits_come_in_the_papers_order() -> None:
    names = ["warmstart/fig10", "warmstart/architecture", "warmstart/fig2", "warmstart/table1", "certified/fig1"]
    expected = ["warmstart/table1", "warmstart/fig2", "warmstart/fig10", "warmstart/architecture", "certified/fig1"]
    assert document.in_order(names) == expected


def test_what_typst_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "main.typ").write_text("#no-such-function()")
    monkeypatch.setattr(paths, "PROJECT", tmp_path)
    with pytest.raises(UserError, match=r"main\.typ: typst refuses it") as refused:
        document.write(tmp_path / "paper.pdf", [], [], scale="ci")
    assert "\n" not in str(refused.value) and not (tmp_path / "paper.pdf").exists()
