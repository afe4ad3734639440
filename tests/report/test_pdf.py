"""The report as PDF: nothing leaves the page, nothing is typed, the first page stands alone, bad sources are named."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pypdfium2
import pytest

from bench import paths, stats
from bench.errors import UserError
from bench.report import figure, pdf, table
from bench.report.shown import Shown

sys.path.insert(0, str(Path(__file__).parent))
from entries import departure, entry, number, shown

MARGIN = 2.2 / 2.54 * 72


def wide(columns: int, rows: int, words: int) -> pd.DataFrame:
    """Cells as the widest tables of the papers have them."""
    cells = {"method": [f"a method with {'many ' * words}words, eps 8/255, lr_schedule_{row}" for row in range(rows)]}
    return pd.DataFrame({**cells, **{f"column_{k} SGD": ["51.9 ± 0.8 [51.7]"] * rows for k in range(columns)}})


def grouped(networks: int, rows: int) -> pd.DataFrame:
    """Row heads that are joined, headings over two columns each, and every kind of cell."""
    heads = pd.MultiIndex.from_tuples(
        [(f"a data set {row // 3}", f"method {row % 3}") for row in range(rows)], names=["data set", "method"]
    )
    names = [(f"Wide-ResNet {k}", error) for k in range(networks) for error in ("standard error", "verified error")]
    texts = ("51.9 ± 0.8 [51.7] ✓", "**71.9 ± 0.8** [61.7] ✗", "–", "[66.62]")
    cells = [[texts[(row + k) % 4] for k in range(2 * networks)] for row in range(rows)]
    return pd.DataFrame(cells, index=heads, columns=pd.MultiIndex.from_tuples(names))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    items: list[Shown] = []
    frames = {
        "table7": wide(7, 6, 0), "table12": wide(12, 70, 1), "table20": wide(20, 4, 8),
        "table2": grouped(2, 6), "table3": grouped(5, 40),
        "table4": pd.DataFrame({"x": ["a note that goes over the whole width", "b"], "y": ["", "2"]}),
    }  # fmt: skip
    for name, cells in frames.items():
        items.append(shown(root, f"warmstart/{name}", "table", missing=["one run"]))
        table.write({"": cells, "More than the paper has": cells.head(2)}, items[-1].files, title=name)
        table.write_numbers(pd.DataFrame({"x": [1.0]}), items[-1].files.with_suffix(".csv"))
    fig, (ax,) = figure.panels(1, 1)
    ax.plot([0, 1], [0, 1])
    items.append(shown(root, "certified/fig1", "figure", departures=(departure("schedule", "a " * 80, "b_" * 80),)))
    figure.save(fig, items[-1].files)
    table.write_numbers(pd.DataFrame({"x": [1.0]}), items[-1].files.with_suffix(".csv"))
    ours = {0: 50.0, 1: 50.1, 2: 50.2}
    numbers = [
        number(
            "certified/fig1", f"panel, cifar10, cnn7, a_long_name_of_a_method, epoch {k}, verified_error", 50.0, ours
        )
        for k in range(30)
    ]
    up, down = {0: 1.0, 1: 1.1, 2: 1.2}, {0: -1.0, 1: -1.1, 2: -1.2}
    both = stats.all_of([stats.above(up, 0.0), stats.above({0: 1.0}, 0.0)])
    claims = [
        entry("warmstart/table7", "claim", "T1a", stats.above(up, 0.0)),
        entry(
            "warmstart/table7", "claim", "T1b", stats.above({0: 1.0, 1: -1.1, 2: 1.2}, 0.0), not_expected_at="too small"
        ),
        entry("warmstart/table7", "claim", "T1c", stats.above(down, 0.0), statement="A lost statement."),
        entry("warmstart/table7", "claim", "T1d", both, statement="A statement with one seed."),
        entry("warmstart/table7", "estimate", "T1e", stats.estimate(up)),
        entry("warmstart/table12", "claim", "T2", stats.not_run("no run is there")),
    ]
    cost = pdf.Cost(runs=42, seconds=7200.0, protocol_hours=1234.0, by_exhibit={"certified/fig1": 3.0})
    pdf.write(root / "paper.pdf", [*claims, *numbers], items, scale="ci", about="Small.", cost=cost)
    return root / "paper.pdf"


def text_of(path: Path, page: int | None = None) -> str:
    """Text of a page, or of all; words that a line end divides are whole."""
    document = pypdfium2.PdfDocument(path)
    pages = range(len(document)) if page is None else [page]
    text = " ".join(document[k].get_textpage().get_text_range() for k in pages)
    return " ".join(text.replace("\ufffe", "").replace("\u200b", "").split())


def test_nothing_leaves_the_page(report: Path) -> None:
    document = pypdfium2.PdfDocument(report)
    count = 0
    for page in document:
        text = page.get_textpage()
        for place in range(text.count_chars()):
            left, _, right, _ = text.get_charbox(place)
            letters = text.get_text_range(max(0, place - 20), min(place, 20) + 1)
            if right > left and letters[-1:].strip():
                count += 1
                assert right <= page.get_width() - MARGIN + 4.0, letters  # a hyphen may hang
                assert left >= MARGIN - 4.0, letters
    assert count > 5000


def test_no_text_of_a_table_is_smaller_than_seven_points(report: Path) -> None:
    document = pypdfium2.PdfDocument(report)
    for page in document:
        text = page.get_textpage()
        sizes = {
            pypdfium2.raw.FPDFText_GetFontSize(text.raw, place)
            for place in range(text.count_chars())
            if text.get_text_range(place, 1).isalnum()
        }
        if "column_3 SGD" in text.get_text_range():
            assert min(sizes) >= 6.99


def test_the_first_page_stands_alone(report: Path) -> None:
    first = text_of(report, 0)
    for expected in (
        "5 claims: 1 reproduced, 1 not reproduced, 2 undecided, 1 not run.",
        "30 published numbers: 30 reproduced.",
        "1 claim: one seed",
        "warmstart Table 7, T1a: Statement of T1a.",
        "warmstart Table 7, T1c: A lost statement.",
        "42 runs took 2.0 h",
        "1,234 hours on one GPU",
    ):
        assert expected in first, expected


def test_it_says_what_it_must(report: Path) -> None:
    text = text_of(report)
    for expected in (
        "1 of 6 runs are missing",
        "Not expected here: too small.",
        "One seed, which has no interval (1 of 2 tests).",
        "6 of 30 numbers",
        "The paper. What the paper does. Expected (printed): much.",
        "Here: less, 3 seeds. 6 runs, 2 min of training",
        "More than the paper has",
        "what width is 16 8 all",
        "0123456789ab",
        "References",
        "Costs",
    ):
        assert expected in text, expected


def test_equal_results_give_an_equal_report(report: Path, tmp_path: Path) -> None:
    items = [shown(report.parent, "certified/fig1", "figure")]
    for name in ("one", "two"):
        pdf.write(tmp_path / f"{name}.pdf", [], items, scale="ci")
    assert (tmp_path / "one.pdf").read_bytes() == (tmp_path / "two.pdf").read_bytes()


def test_an_exhibit_of_an_unknown_paper_with_odd_names_is_set(tmp_path: Path) -> None:
    label = "a very long label " * 30 + "_по-русски_ 日本 #*_`$<@"
    item = shown(tmp_path, "mine/table1", "table", title=label, caption=label, here=f"Here: {label}", expected=label)
    table.write(pd.DataFrame({label: [label, "nan"]}), item.files, title=label)
    table.write_numbers(pd.DataFrame({"x": [1.0]}), item.files.with_suffix(".csv"))
    empty = shown(tmp_path, "mine/table2", "table")
    table.write(pd.DataFrame(), empty.files, title="empty")
    table.write_numbers(pd.DataFrame({"x": [1.0]}), empty.files.with_suffix(".csv"))
    odd = number("mine/table1", label, float("nan"), {0: 1.0})
    pdf.write(tmp_path / "paper.pdf", [replace(odd, statement=label)], [item, empty], scale="toy", about=label)
    assert "mine" in text_of(tmp_path / "paper.pdf", 0)


def test_no_result_is_typed() -> None:
    prose = "\n".join((paths.PROJECT / "paper" / name).read_text() for name in ("prose.typ", "main.typ"))
    typed = re.findall(r"\d+\.\d+ ?%|±(?!\")|\[\d+\.\d+, \d", prose)
    assert not typed


def test_settings_that_differ_alike_are_one_row(tmp_path: Path) -> None:
    seeds, own = departure("seeds", "5", "3"), departure("own", "1", "2")
    both = [
        shown(tmp_path, "warmstart/table7", "table", departures=(seeds, own), settings=("seeds", "own")),
        shown(tmp_path, "warmstart/table12", "table", departures=(seeds,), settings=("seeds", "own")),
    ]
    assert pdf.settings_table(both) == [
        ["own", "what own is", "1", "2", "table7"],
        ["seeds", "what seeds is", "5", "3", "all"],
    ]
    other = shown(tmp_path, "warmstart/table8", "table", departures=(departure("seeds", "5", "1"),))
    assert pdf.settings_table([*both, other])[1:] == [
        ["seeds", "what seeds is", "5", "3", "table7, table12"],
        ["", "", "", "1", "table8"],
    ], "what does not change stands once"
    assert pdf.settings_table(both[1:])[0][-1] == "table12", "one exhibit is no rule"


def test_every_open_claim_has_its_reason() -> None:
    reasons = {
        "runs are missing": stats.undecided(stats.above({0: 1.0, 1: 1.1}, 0.0), "missing: 2 of 6 runs of x"),
        "one seed, which has no interval": stats.above({0: 1.0}, 0.0),
        "the interval includes the threshold": stats.above({0: 1.0, 1: -1.0}, 0.0),
        "a level that this scale cannot have": stats.describe({0: 1.0}, verdict="not comparable", detail="x"),
        "": stats.above({0: 1.0, 1: 1.1, 2: 1.05}, 0.0),
    }
    for reason, finding in reasons.items():
        assert pdf.open_reason(entry("warmstart/table1", "claim", "C", finding)) == reason
    run = pdf.open_reason(entry("warmstart/table1", "claim", "C", stats.not_run("x")))
    assert run.startswith("no run")


def test_what_typst_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "main.typ").write_text("#no-such-function()")
    monkeypatch.setattr(paths, "PROJECT", tmp_path)
    with pytest.raises(UserError, match=r"main\.typ: typst refuses it") as refused:
        pdf.write(tmp_path / "paper.pdf", [], [], scale="ci")
    assert "\n" not in str(refused.value) and not (tmp_path / "paper.pdf").exists()
