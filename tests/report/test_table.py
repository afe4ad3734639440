"""Tables: headings, groups, published values, bold and marks, the same in Markdown, LaTeX and what pages read."""

from __future__ import annotations

import doctest
import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from bench.report import table

OURS = pd.DataFrame({"metric": "val_acc", "dataset": "cifar10", "seed": [0, 1, 2], "value": [51.0, 52.0, 53.0]})


def paper(value: float = 51.7, margin: float | None = None) -> pd.DataFrame:
    return pd.DataFrame({"metric": ["val_acc"], "dataset": ["cifar10"], "value": [value], "margin": [margin]})


def grouped() -> pd.DataFrame:
    """Two data sets with three methods and one, errors below two networks, as the papers have them."""
    cells = pd.DataFrame(
        {
            "data set": ["MNIST", "MNIST", "MNIST", "CIFAR-10"],
            "method": ["IBP", "CROWN_IBP & co", "ours", "ours"],
            "a": ["2.6 ± 0.1 [2.5]", "–", "2.3 ± 0.1 [2.4] ✓", "51.7 ± 0.3"],
            "b": ["12.0 ± 0.1 [12.5] ✗", "1.0", "11.3 ± 0.1", "[66.62]"],
            "c": ["15.0", "14.0", "16.0", ""],
        }
    ).set_index(["data set", "method"])
    names = [("CNN-7", "standard"), ("CNN-7", "verified"), ("seeds", "")]
    return cells.set_axis(pd.MultiIndex.from_tuples(names), axis=1)


def test_the_docstring_shows_what_happens() -> None:
    assert doctest.testmod(table).failed == 0


def test_a_cell_sets_the_published_number_beside_ours() -> None:
    assert table.compare(OURS, paper(), metric="val_acc", dataset="cifar10") == "52.0 ± 1.0 [51.7]"
    assert table.compare(OURS, paper(), metric="val_acc", dataset="svhn") == "–"
    assert (
        table.compare(OURS, paper(), metric="val_acc", digits=2, printed=1, dataset="cifar10") == "52.00 ± 1.00 [51.7]"
    )


@pytest.mark.parametrize(("value", "margin", "mark"), [(51.7, 5.0, " ✓"), (80.0, 5.0, " ✗"), (51.7, 1.0, "")])
def test_a_mark_says_whether_a_number_was_reproduced(value: float, margin: float, mark: str) -> None:
    text = table.compare(OURS, paper(value, margin), metric="val_acc", dataset="cifar10")
    assert text == f"52.0 ± 1.0 [{value}]{mark}"


def test_a_published_number_that_is_not_there_leaves_ours() -> None:
    assert table.compare(OURS, paper(float("nan"), 5.0), metric="val_acc", dataset="cifar10") == "52.0 ± 1.0"


def test_headings_over_several_columns_and_groups_of_rows_are_joined() -> None:
    described = table.table_of(grouped())
    first, second = described.head
    assert [(cell.text, cell.rows, cell.columns) for cell in first] == [
        ("data set", 2, 1), ("method", 2, 1), ("CNN-7", 1, 2), ("seeds", 2, 1)
    ]  # fmt: skip
    assert [cell.text for cell in second] == ["standard", "verified"]
    assert [(row[0].text, row[0].rows) for row in described.body] == [
        ("MNIST", 3), ("CROWN_IBP & co", 1), ("ours", 1), ("CIFAR-10", 1)
    ]  # fmt: skip
    assert described.rules == (3,)
    assert described.sides == ("left", "left", "right", "right", "right")


def test_parts_of_a_cell_are_told_apart() -> None:
    ours, marked, alone = (table.table_of(pd.DataFrame({"x": [text]})).body[0][0] for text in (
        "**51.9 ± 0.8** [51.7] ✗", "words ✓", "[1.66]"
    ))  # fmt: skip
    assert (ours.text, ours.published, ours.mark, ours.bold) == ("51.9 ± 0.8", "[51.7]", "✗", True)
    assert (marked.text, marked.mark, marked.bold) == ("words", "✓", False)
    assert (alone.text, alone.published) == ("", "[1.66]")
    interval = table.table_of(pd.DataFrame({"gap": ["7.3 [1.4, 13.3]"]})).body[0][0]
    assert (interval.text, interval.published) == ("7.3 [1.4, 13.3]", "")


def test_the_best_of_a_group_is_bold_and_ties_share_it() -> None:
    cells = pd.DataFrame(
        {
            "set": ["a", "a", "b", "b", "c"],
            "x": ["1.0 ± 9 [7]", "2.0", "3.0 ✓", "3.0", "5.0"],
            "y": ["–", "4", "", "no", "1"],
        }
    )
    marked = table.best(cells, lowest=True, within=["set"])
    assert marked["x"].tolist() == ["**1.0 ± 9** [7]", "2.0", "**3.0** ✓", "**3.0**", "5.0"]
    assert marked["y"].tolist() == cells["y"].tolist(), "nothing to choose from"
    assert table.best(cells, lowest=False, columns=["x"])["x"].tolist()[-1] == "**5.0**"


def test_markdown_and_latex_say_the_same() -> None:
    described = table.table_of(table.best(grouped(), lowest=True, within=["data set"]))
    markdown, latex = table.as_markdown(described), table.as_latex(described)
    assert "CNN-7: standard" in markdown and "**2.3 ± 0.1** [2.4] ✓" in markdown
    assert r"\multicolumn{2}{c}{CNN-7}" in latex and r"\cmidrule(lr){3-4}" in latex
    assert r"\multirow[t]{3}{*}{MNIST}" in latex and r"\textbf{2.3 $\pm$ 0.1} {\footnotesize [2.4]} $\surd$" in latex
    assert r"CROWN\_IBP \& co" in latex and latex.count(r"\midrule") == 2
    for sign in ("±", "✓", "✗", "–"):
        assert sign in markdown and sign not in latex


def test_a_note_goes_over_the_whole_width() -> None:
    described = table.table_of(pd.DataFrame({"x": ["a long note", "b"], "y": ["", "2"]}))
    assert described.body[0][0].columns == 2 and r"\multicolumn{2}{l}{a long note}" in table.as_latex(described)


@pytest.mark.parametrize("text", ["a & b_c % d", "51.7 ± 0.9", "λ = 0.6", "50 % [of] {all} ~ ^ \\ # $"])
def test_latex_is_escaped(text: str) -> None:
    latex = table.as_latex(table.table_of(pd.DataFrame({"x_1": [text]})))
    assert "\\toprule" in latex and "\\bottomrule" in latex and "x\\_1" in latex
    assert "±" not in latex and "λ" not in latex and " & b" not in latex


def test_several_tables_are_written_under_their_titles(tmp_path: Path) -> None:
    frames = {"": grouped(), "More than the paper has": pd.DataFrame({"x": ["1"]})}
    table.write(frames, tmp_path / "table1", title="Table 1:\nerrors", missing=["run 1", "run 2"])
    markdown = (tmp_path / "table1.md").read_text(encoding="utf-8")
    assert markdown.startswith("**Table 1: errors**") and "**More than the paper has**" in markdown
    assert "2 runs missing: run 1; run 2" in markdown
    source = (tmp_path / "table1.tex").read_text(encoding="utf-8")
    assert source.count(r"\begin{tabular}") == 2 and source.startswith("% Table 1: errors\n")
    first, second = table.read(tmp_path / "table1")
    assert first["title"] == "" and second["title"] == "More than the paper has"
    assert first == json.loads(json.dumps(first)) and first["head"][0][2]["columns"] == 2


def test_without_runs_and_with_odd_labels_a_table_is_still_written(tmp_path: Path) -> None:
    table.write(pd.DataFrame(), tmp_path / "empty", title="empty")
    label = "a very long label " * 12 + "по-русски 日本\nsecond line"
    table.write(pd.DataFrame({label: ["nan", "1"]}), tmp_path / "odd", title=label)
    (odd,) = table.read(tmp_path / "odd")
    assert odd["head"][0][0]["text"] == table.plain(label)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here to compile with")
def test_latex_compiles_with_booktabs_and_multirow_alone(tmp_path: Path) -> None:
    frames = {
        "": table.best(grouped(), lowest=True, within=["data set"]),
        "notes": pd.DataFrame({"a [b]": ["[P] a note over {all} 100 % & more_or_less", "[1.5]"], "ε": ["", "−1 ≤ λ"]}),
    }
    (source,) = table.write(frames, tmp_path / "table1", title="T", suffixes=("tex",))
    packages = r"\usepackage{booktabs}\usepackage{multirow}"
    document = (
        rf"\documentclass{{article}}{packages}\textwidth=6.5in\begin{{document}}\input{{{source.name}}}\end{{document}}"
    )
    (tmp_path / "main.tex").write_text(document, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "main.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-1500:]
    assert "Overfull" not in done.stdout
