"""Tables as the papers print them: one description of a table, from which Markdown, LaTeX, pages and the report are made.

The `draw` of a table's exhibit returns a frame of text cells. Where more is known than the paper prints, it returns several
frames by title (``-> dict[str, pd.DataFrame]``): first the paper's own table, under the exhibit's title or "", then the
others.

* **Columns.** A `MultiIndex` gives headings over several columns: ``[("method", ""), ("CNN-7", "standard"), ("CNN-7",
  "verified")]``. Equal neighbours are joined; a heading with nothing below it takes the whole height.
* **Row heads.** A named index is shown in front: ``cells.set_index(["data set", "epochs"])``. Equal neighbours are joined,
  and with two levels or more a rule separates the groups of the first. An index without names is not shown.
* **Cells.** `compare` and `number` make the text of a cell: ``51.9 ± 0.8 [51.7] ✓`` is ours (mean and standard deviation),
  the published value, and a mark: where ours can be compared with the paper, the published rows have margins, and ✓
  stands for a number that was reproduced, ✗ for one that was not. ``**51.9 ± 0.8**`` is bold: `bold` makes one cell so,
  `best` those that the paper would.
* **Notes.** A row in which the first cell alone has text goes over the whole width.

>>> import pandas as pd
>>> cells = pd.DataFrame(
...     {
...         "data set": ["MNIST", "MNIST"],
...         "method": ["IBP", "ours"],
...         ("CNN-7", "standard"): ["2.6 ± 0.1 [2.5]", "2.3 ± 0.1 [2.4]"],
...     }
... ).set_index(["data set", "method"])
>>> cells.columns = pd.MultiIndex.from_tuples(cells.columns)
>>> cells = best(cells, lowest=True, within=["data set"])
>>> cells.iloc[1, 0]
'**2.3 ± 0.1** [2.4]'
>>> print(as_markdown(table_of(cells)))
| data set   | method   | CNN-7: standard     |
|:-----------|:---------|:--------------------|
| MNIST      | IBP      | 2.6 ± 0.1 [2.5]     |
|            | ours     | **2.3 ± 0.1** [2.4] |
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import checkpoint, stats

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Template

NOTHING = "–"
REPRODUCED, NOT_REPRODUCED = "✓", "✗"

TEMPLATES = Path(__file__).with_name("templates")

BRACKETS = r"\[(?:(?!, )[^\[\]])*\d(?:(?!, )[^\[\]])*\]"
"""A published value; with a comma and a blank it would be an interval."""

PARTS = re.compile(rf"(?P<ours>.*?)(?:(?:^| )(?P<published>{BRACKETS}))?(?: (?P<mark>[{REPRODUCED}{NOT_REPRODUCED}]))?")
"""What a cell's text consists of."""

NUMBER = re.compile(r"(?:[\d\s.,±–−+\-e/%×]|\([\d.,]+\))*")


@dataclass(frozen=True)
class Cell:
    """A cell of a table, or of its head.

    Attributes:
        text: ours, or words.
        published: the paper's value with its brackets, or nothing.
        mark: ✓, ✗ or nothing.
        bold: whether ours is bold.
        head: whether it is a heading of columns or rows.
        rows: number of rows that it takes.
        columns: number of columns that it takes.
    """

    text: str
    published: str = ""
    mark: str = ""
    bold: bool = False
    head: bool = False
    rows: int = 1
    columns: int = 1


@dataclass(frozen=True)
class Table:
    """A table ready to be written; cells that another one covers are left out, as in HTML.

    Attributes:
        title: what stands over it, "" where that is said elsewhere.
        head: lines of headings.
        body: rows of cells.
        rules: numbers of rows that a rule stands above.
        sides: "left" or "right" for each column.
    """

    title: str
    head: tuple[tuple[Cell, ...], ...]
    body: tuple[tuple[Cell, ...], ...]
    rules: tuple[int, ...]
    sides: tuple[str, ...]


def bold(text: str) -> str:
    """The cell with ours in bold."""
    parts = PARTS.fullmatch(text)
    ours = parts["ours"] if parts else text
    return f"**{ours}**{text[len(ours) :]}" if ours.strip(f"* {NOTHING}") else text


def best(cells: pd.DataFrame, *, lowest: bool, columns: Sequence[Any] = (), within: Sequence[Any] = ()) -> pd.DataFrame:
    """The cells with the best mean of each column in bold, as the papers mark it.

    Args:
        cells: text cells.
        lowest: whether less is better.
        columns: which columns, all that hold numbers when empty.
        within: columns or levels of the index; rows that share them are compared with one another, all rows when empty.
    """
    marked = cells.copy()
    flat = cells.reset_index() if within else cells
    keys = [tuple(row) for row in flat[list(within)].itertuples(index=False)] if within else [()] * len(cells)
    for position, column in enumerate(cells.columns):
        if columns and column not in columns:
            continue
        means = [_mean(text) for text in cells.iloc[:, position]]
        for key in dict.fromkeys(keys):
            group = [(mean, row) for row, mean in enumerate(means) if keys[row] == key and mean is not None]
            if len(group) < 2:
                continue
            extreme = (min if lowest else max)(mean for mean, _ in group)
            for mean, row in group:
                if mean == extreme:
                    marked.iloc[row, position] = bold(str(cells.iloc[row, position]))
    return marked


def _mean(text: Any) -> float | None:
    """The number that a cell begins with."""
    parts = re.match(r"\**(-?\d[\d,]*\.?\d*)(?: |\*|$)", str(text).replace("−", "-"))
    return float(parts[1].replace(",", "")) if parts else None


def _rows_of(frame: pd.DataFrame, metric: str, labels: Mapping[str, Any]) -> pd.DataFrame:
    mask = frame["metric"] == metric
    for name, value in labels.items():
        mask &= frame[name] == value
    return frame[mask]


def number(values: Mapping[int, float], digits: int = 1) -> str:
    """``51.7 ± 0.9``: mean and standard deviation over seeds, as the papers print them; the mean alone for one seed."""
    if not values:
        return NOTHING
    mean, spread = stats.interval(values)[0], stats.sd(values)
    return f"{mean:.{digits}f}" if spread is None else f"{mean:.{digits}f} ± {spread:.{digits}f}"


def compare(
    frame: pd.DataFrame,
    published: pd.DataFrame,
    *,
    metric: str,
    digits: int = 1,
    printed: int | None = None,
    **labels: Any,
) -> str:
    """``51.9 ± 0.8 [51.7] ✓``: ours, the published number, and whether it was reproduced; "–" for what was not run.

    Args:
        frame: long frame of the exhibit.
        published: rows of the paper's own numbers; with a column ``margin`` where ours can be compared with them.
        metric: which number.
        digits: after the point.
        printed: digits of the published number, where it has others.
        labels: label columns that pick the cell.
    """
    rows = _rows_of(frame, metric, labels)
    values = dict(zip(rows["seed"], rows["value"], strict=False))
    text = number(values, digits)
    theirs = _rows_of(published, metric, labels).dropna(subset=["value"])
    if theirs.empty:
        return text
    target = theirs.iloc[0]
    text += f" [{target['value']:.{digits if printed is None else printed}f}]"
    margin = target.get("margin")
    if not values or margin is None or margin != margin:
        return text
    verdict = stats.equivalent_to(values, float(target["value"]), margin=float(margin)).verdict
    return text + {"reproduced": f" {REPRODUCED}", "not reproduced": f" {NOT_REPRODUCED}"}.get(verdict, "")


def table_of(cells: pd.DataFrame, title: str = "") -> Table:
    """The description of a frame of text cells; the module's docstring says what its columns, index and text mean."""
    names = [str(name) for name in cells.index.names if name is not None]
    levels = cells.columns.nlevels
    columns = [(name, *[""] * (levels - 1)) for name in names]
    columns += [tuple(plain(str(part)) for part in (name if levels > 1 else (name,))) for name in cells.columns]
    keys = [key if isinstance(key, tuple) else (key,) for key in cells.index]
    heads = [[plain(str(part)) for part in key] if names else [] for key in keys]
    texts = [[plain(str(text)) for text in row] for row in cells.itertuples(index=False, name=None)]
    rows = [[*head, *row] for head, row in zip(heads, texts, strict=True)]
    return Table(
        title=title,
        head=tuple(_head(columns)),
        body=tuple(_body(rows, len(names))),
        rules=tuple(_rules(heads)),
        sides=tuple(_sides(rows, len(columns))),
    )


def _head(columns: Sequence[tuple[str, ...]]) -> Iterator[tuple[Cell, ...]]:
    """Lines of headings; neighbours that agree down to a line share it, in the last line each has its own."""
    levels = len(columns[0]) if columns else 0
    for level in range(levels):
        keys = [(name[: level + 1], column if level == levels - 1 else 0) for column, name in enumerate(columns)]
        line = []
        for _, group in groupby(zip(keys, columns, strict=True), key=lambda item: item[0]):
            names = [name for _, name in group]
            if level and not any(names[0][level:]):
                continue  # the heading above takes the whole height
            below = any(part for name in names for part in name[level + 1 :])
            rows = 1 if below else levels - level
            line.append(Cell(names[0][level], head=True, rows=rows, columns=len(names)))
        yield tuple(line)


def _body(rows: Sequence[Sequence[str]], heads: int) -> Iterator[tuple[Cell, ...]]:
    for number, row in enumerate(rows):
        if _is_note(row):
            yield (Cell(row[0], columns=len(row)),)
            continue
        line = []
        for level in range(heads):
            key = row[: level + 1]
            if number and rows[number - 1][: level + 1] == key and not _is_note(rows[number - 1]):
                continue
            following = next((k for k in range(number, len(rows)) if rows[k][: level + 1] != key), len(rows))
            line.append(Cell(row[level], head=True, rows=following - number))
        yield (*line, *map(_cell, row[heads:]))


def _cell(text: str) -> Cell:
    parts = PARTS.fullmatch(text)
    assert parts is not None  # every part may be empty
    ours = parts["ours"]
    strong = len(ours) > 4 and ours.startswith("**") and ours.endswith("**")
    return Cell(ours[2:-2] if strong else ours, parts["published"] or "", parts["mark"] or "", strong)


def _rules(heads: Sequence[Sequence[str]]) -> Iterator[int]:
    """Rows at which the first row head changes, where it groups several rows."""
    if not heads or len(heads[0]) < 2:
        return
    changes = [k for k in range(1, len(heads)) if heads[k][0] != heads[k - 1][0]]
    if len(changes) < len(heads) - 1:
        yield from changes


def _is_note(row: Sequence[str]) -> bool:
    return len(row) > 1 and bool(row[0]) and not any(row[1:])


def _sides(rows: Sequence[Sequence[str]], columns: int) -> Iterator[str]:
    """Columns of numbers stand right, all others left."""
    plain = [
        [f"{cell.text} {cell.published}".strip(" []") for cell in map(_cell, row)] for row in rows if not _is_note(row)
    ]
    for column in range(columns):
        numbers = all(NUMBER.fullmatch(row[column].replace(" [", " ")) for row in plain)
        yield "right" if column and numbers else "left"


def as_markdown(table: Table) -> str:
    """A Markdown table; headings over several columns stand in front of each of them."""
    import pandas as pd

    head = _filled(table.head, len(table.sides), repeat=True)
    names = [": ".join(dict.fromkeys(filter(None, line))) for line in zip(*head, strict=True)]
    rows = _filled(table.body, len(table.sides), repeat=False)
    escaped = [[text.replace("|", "\\|") for text in row] for row in rows]
    return str(pd.DataFrame(escaped, columns=names).to_markdown(index=False, disable_numparse=True))


def _placed(lines: Sequence[Sequence[Cell]]) -> Iterator[tuple[int, int, Cell]]:
    """Line and first column of each cell."""
    taken: set[tuple[int, int]] = set()
    for line, cells in enumerate(lines):
        column = 0
        for cell in cells:
            while (line, column) in taken:
                column += 1
            yield line, column, cell
            taken |= {(line + down, column + right) for down in range(cell.rows) for right in range(cell.columns)}


def _filled(lines: Sequence[Sequence[Cell]], width: int, *, repeat: bool) -> list[list[str]]:
    """Texts in a full grid; where a cell reaches, it is repeated or nothing stands."""
    grid = [[""] * width for _ in lines]
    for line, column, cell in _placed(lines):
        text = " ".join(filter(None, (f"**{cell.text}**" if cell.bold else cell.text, cell.published, cell.mark)))
        for down in range(cell.rows if repeat else 1):
            for right in range(cell.columns if repeat else 1):
                grid[line + down][column + right] = text
    return grid


LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
    "—": "---",
    "−": "$-$",
    "×": r"$\times$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "→": r"$\to$",
    "∞": r"$\infty$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "ε": r"$\epsilon$",
    "λ": r"$\lambda$",
    "²": "$^2$",
    "…": r"\dots{}",
    "ℓ": r"$\ell$",
    REPRODUCED: r"$\surd$",
    NOT_REPRODUCED: r"$\times$",
}


def latex(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    return "".join(LATEX.get(sign, sign) for sign in text)


def _tex_cell(cell: Cell) -> str:
    ours = f"\\textbf{{{latex(cell.text)}}}" if cell.bold else latex(cell.text)
    theirs = f"{{\\footnotesize {latex(cell.published)}}}" if cell.published else ""
    text = " ".join(filter(None, (ours, theirs, latex(cell.mark))))
    text = f"{{{text[0]}}}{text[1:]}" if text.startswith("[") else text  # behind \\ it would be an argument
    if cell.columns > 1:
        return f"\\multicolumn{{{cell.columns}}}{{{'c' if cell.head else 'l'}}}{{{text}}}"
    return f"\\multirow[t]{{{cell.rows}}}{{*}}{{{text}}}" if cell.rows > 1 else text


def _tex_rules(line: Sequence[Cell]) -> Iterator[str]:
    """A rule below each heading that goes over several columns."""
    first = 1
    for cell in line:
        if cell.columns > 1 and cell.text:
            yield f"\\cmidrule(lr){{{first}-{first + cell.columns - 1}}}"
        first += cell.columns


@lru_cache(maxsize=1)
def _latex_template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        # LaTeX is full of braces and percent signs.
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        loader=FileSystemLoader(TEMPLATES),
    )
    environment.filters |= {"tex_cell": _tex_cell, "tex_rules": _tex_rules}
    return environment.get_template("table.tex")


def _tex_line(cells: Mapping[tuple[int, int], Cell], line: int, width: int) -> list[Cell]:
    """Cells of a line, an empty one wherever one of a line above reaches down."""
    whole, column = [], 0
    while column < width:
        whole.append(cells.get((line, column), Cell("")))
        column += whole[-1].columns
    return whole


def as_latex(table: Table) -> str:
    """A tabular that needs the packages booktabs and multirow alone."""
    width = len(table.sides)
    head = {(line + cell.rows - 1, column): replace(cell, rows=1) for line, column, cell in _placed(table.head)}
    body = {(line, column): cell for line, column, cell in _placed(table.body)}
    return _latex_template().render(
        table=table,
        # A heading without others below it stands on the last line, as in the papers.
        head=[_tex_line(head, line, width) for line in range(len(table.head))],
        body=[_tex_line(body, line, width) for line in range(len(table.body))],
    )


def write(
    tables: pd.DataFrame | Mapping[str, pd.DataFrame],
    stem: Path,
    *,
    title: str,
    missing: Sequence[str] = (),
    suffixes: Sequence[str] = ("md", "tex", "json"),
) -> list[Path]:
    """Writes ``stem.md``, ``stem.tex`` and, for page and report, ``stem.json``; missing runs are named below.

    Args:
        tables: text cells, or several frames of them by title.
        stem: path without suffix.
        title: of the exhibit.
        missing: labels of runs without a record.
        suffixes: which files.
    """
    named = tables if isinstance(tables, Mapping) else {"": tables}
    described = [table_of(cells, "" if name == title else name) for name, cells in named.items()]
    note = f"{len(missing)} runs missing: {'; '.join(missing[:3])}{' …' if len(missing) > 3 else ''}" if missing else ""
    heads = [plain(table.title or title) for table in described]
    markdown = "\n\n".join(f"**{head}**\n\n{as_markdown(table)}" for head, table in zip(heads, described, strict=True))
    source = "\n\n".join(f"% {head}\n{as_latex(table)}" for head, table in zip(heads, described, strict=True))
    content = {
        "md": f"{markdown}\n" + (f"\n{note}\n" if note else ""),
        "tex": source + (f"% {plain(note)}\n" if note else ""),
        "json": json.dumps([_as_json(table) for table in described], ensure_ascii=False) + "\n",
    }
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in suffixes]
    for path, suffix in zip(paths, suffixes, strict=True):
        checkpoint.write_text(path, content[suffix])
    return paths


def _as_json(table: Table) -> dict[str, Any]:
    """The table as plain data, its cells with their columns."""

    def lines(of: Sequence[Sequence[Cell]]) -> list[list[dict[str, Any]]]:
        whole: list[list[dict[str, Any]]] = [[] for _ in of]
        for line, column, cell in _placed(of):
            whole[line].append({**asdict(cell), "column": column})
        return whole

    return {**vars(table), "head": lines(table.head), "body": lines(table.body)}


def read(stem: Path) -> list[dict[str, Any]]:
    """What `write` left for page and report; empty where there is nothing."""
    path = stem.with_name(f"{stem.name}.json")
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else []


def write_numbers(frame: pd.DataFrame, path: Path) -> None:
    """The numbers behind an exhibit, one row each; columns that are empty throughout are left out."""
    filled = [name for name in frame.columns if frame[name].astype(str).replace({"nan": "", "None": ""}).ne("").any()]
    checkpoint.write_text(path, frame[filled].to_csv(index=False, float_format="%.8g"))


def plain(text: str) -> str:
    """Whitespace runs as one blank."""
    return re.sub(r"\s+", " ", text).strip()
