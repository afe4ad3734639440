"""Verdict pages and tables: what a reader sees, and that nothing in a name can break them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd
import pytest

from bench import stats
from bench.report import page, table, verdicts
from bench.report.document import Shown
from bench.report.verdicts import Entry


def entry(**changes: object) -> Entry:
    fields = {
        "exhibit": "warmstart/table1",
        "kind": "claim",
        "name": "T1a",
        "statement": "Warm starts <generalise> worse | always.",
        "source": "Table 1",
        "published": None,
        "spread": None,
        "unit": "",
        "provenance": "text",
        "margin": None,
        "outcome": stats.greater({0: 3.0, 1: 4.0, 2: 3.5}, {0: 1.0, 1: 1.5, 2: 1.2}),
        "test": "difference > 0",
        "scale": "ci",
        "machine": "a machine",
        "older": False,
        "cost": "",
        "note": "",
    }
    return Entry(**{**fields, **changes})  # type: ignore[arg-type]


def number(**changes: object) -> Entry:
    found = stats.equivalent_to({0: 51.0, 1: 52.0, 2: 51.5}, 51.7, margin=2.0)
    fields = {"kind": "target", "name": "cifar10, val_acc", "statement": "", "published": 51.7, "margin": 2.0}
    return entry(**{**fields, "outcome": found, **changes})


def test_csv_has_every_entry_with_its_interval() -> None:
    rows = list(csv.DictReader(io.StringIO(verdicts.as_csv([entry(), number()]))))
    assert [row["kind"] for row in rows] == ["claim", "target"]
    assert float(rows[1]["low"]) < float(rows[1]["estimate"]) < float(rows[1]["high"])
    assert rows[1]["verdict"] == "reproduced" and rows[1]["n"] == "3"


def test_pages_escape_what_they_show() -> None:
    text = verdicts.as_html([entry()])
    assert "&lt;generalise&gt;" in text and "<generalise>" not in text
    assert "worse \\| always" in verdicts.as_markdown([entry()])


def test_the_page_reads_without_scripts(tmp_path: Path) -> None:
    cells = pd.DataFrame({"data set": ["CIFAR-10"], "ResNet SGD": ["51.9 ± 0.8 [51.7]"]})
    stem = tmp_path / "exhibits" / "warmstart" / "table1"
    table.write(cells, stem, title="Table 1", missing=["one run"])
    shown = Shown(
        "warmstart/table1", "Table 1", "caption", "table", stem, {"seeds": "5 → 3"}, ["one run"], 6, 1.0, [], []
    )
    page.write(tmp_path / "index.html", [entry(), number()], [shown], scale="ci")
    text = (tmp_path / "index.html").read_text()
    body = text.split("<script>")[0]
    for expected in ("51.9 ± 0.8 [51.7]", "reproduced", "1 of 6 runs missing", "seeds: 5 → 3"):
        assert expected in body
    assert 'src="http' not in text and "https://" not in text, "nothing is loaded from elsewhere"


def test_a_cell_sets_the_published_number_beside_ours() -> None:
    ours = pd.DataFrame({"metric": "val_acc", "dataset": "cifar10", "seed": [0, 1, 2], "value": [51.0, 52.0, 53.0]})
    theirs = pd.DataFrame({"metric": ["val_acc"], "dataset": ["cifar10"], "value": [51.7]})
    assert table.compare(ours, theirs, metric="val_acc", dataset="cifar10") == "52.0 ± 1.0 [51.7]"
    assert table.compare(ours, theirs, metric="val_acc", dataset="svhn") == "–"


@pytest.mark.parametrize("text", ["a & b_c % d", "51.7 ± 0.9", "λ = 0.6"])
def test_latex_is_escaped(text: str) -> None:
    latex = table.as_latex(pd.DataFrame({"x_1": [text]}), title="T")
    assert "\\toprule" in latex and "\\bottomrule" in latex and "x\\_1" in latex
    assert "±" not in latex and "λ" not in latex
    assert " & b" not in latex


def test_false_alarms_are_stated() -> None:
    assert "0.1" in verdicts.headline([entry(), number()])[-1]
