"""The self-contained page in a real browser: sorted and filtered without a server, read without scripts."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from bench import stats
from bench.report import figure, page, table
from bench.report.pdf import Shown
from bench.report.verdicts import Entry

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
in_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium here (on Debian: the package chromium)")


def claim(name: str, values: dict[int, float], exhibit: str = "warmstart/table1") -> Entry:
    outcome = stats.above(values, 0.0)
    return Entry(
        exhibit=exhibit, kind="claim", name=name, statement=f"Statement of {name}.", source="Table 1", published=None,
        spread=None, unit="", provenance="text", margin=None, finding=outcome, test=outcome.test, scale="ci",
        machine="a machine", older=False, cost="", note="",
        not_expected_at="generated images have no such shift" if name == "C3" else "",
    )  # fmt: skip


def number(name: str, published: float, ours: dict[int, float], kind: str = "target") -> Entry:
    outcome = stats.equivalent_to(ours, published, margin=2.0) if ours else stats.not_run("no record")
    return Entry(
        exhibit="certified/table1", kind=kind, name=name, statement="", source="Table 1", published=published,
        spread=0.5, unit="percent", provenance="printed", margin=2.0, finding=outcome, test="equivalence", scale="ci",
        machine="a machine", older=False, cost="" if ours else "about 3.0 h on 2 cores", note="",
    )  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with two exhibits, three claims, three numbers and one row of context."""
    root = tmp_path_factory.mktemp("page")
    cells = pd.DataFrame({"data set": ["CIFAR-10"], "ResNet SGD": ["51.9 ± 0.8 [51.7]"]})
    stem = root / "exhibits" / "warmstart" / "table1"
    table.write(cells, stem, title="Table 1", missing=["one run"])
    drawn, (axes,) = figure.panels(1, 1)
    axes.plot([0, 1], [0, 1])
    picture = root / "exhibits" / "certified" / "fig1"
    figure.save(drawn, picture)
    facts: dict[str, object] = {"runs": 6, "seconds": 1.0, "machines": [], "commits": []}
    shown = [
        Shown("warmstart/table1", "Table 1", "caption", "table", stem, {"seeds": "5 → 3"}, ["one run"], **facts),
        Shown("certified/fig1", "Figure 1", "caption", "figure", picture, {}, [], **facts),
    ]
    entries = [
        claim("C1", {0: 1.0, 1: 1.1, 2: 1.2}),
        claim("C2", {0: -9.0, 1: -9.1, 2: -9.2}, "certified/fig1"),
        claim("C3", {0: 10.0, 1: -9.0, 2: 0.3}),
        number("a number", 51.7, {0: 51.0, 1: 52.0, 2: 51.5}),
        number("another", 9.4, {}),
        number("a third", 151.0, {0: 20.0, 1: 21.0, 2: 20.5}),
        number("a tick", 3.0, {}, kind="context"),
    ]
    page.write(root / "index.html", entries, shown, scale="ci")
    return root / "index.html"


def browse(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    return subprocess.run(
        [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *options, path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )


def asked(path: Path, script: str, *options: str) -> dict[str, object]:
    """What `script` returns when it runs in the page."""
    probe = path.with_name("probe.html")
    call = (
        "<script>document.body.insertAdjacentHTML('beforeend', '<pre id=answer></pre>');"
        f"document.getElementById('answer').textContent = JSON.stringify((() => {{{script}}})());</script>"
    )
    probe.write_text(path.read_text().replace("</body>", f"{call}</body>"))
    dom = browse(probe, "--dump-dom", *options).stdout
    found = re.search(r'<pre id="answer">(.*?)</pre>', dom, re.DOTALL)
    assert found, dom[-500:]
    return json.loads(html.unescape(found[1]))


SHOWN = """
const shown = id => [...document.querySelectorAll('#table-' + id + ' tbody tr')].filter(row => !row.hidden)
  .map(row => row.children[1].textContent.split(' ').slice(0, id === 'claim' ? 1 : 9).join(' '));
const set = (id, value) => { const e = document.getElementById(id); e.value = value; e.dispatchEvent(new Event('input')); };
"""


def test_nothing_is_loaded_from_elsewhere(written: Path) -> None:
    text = written.read_text()
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", text)
    assert 'src="data:image/png;base64,' in text


def test_everything_reads_in_the_source(written: Path) -> None:
    body = written.read_text().split("<script>")[0]
    for expected in ("51.9 ± 0.8 [51.7]", "reproduced", "1 of 6 runs missing", "5 → 3", "about 3.0 h on 2 cores"):
        assert expected in body
    assert "generated images have no such shift" in body.split('id="beyond"')[1].split("</ul>")[0]


def test_equal_results_give_an_equal_page(written: Path, tmp_path: Path) -> None:
    picture = written.parent / "exhibits" / "certified" / "fig1.png"
    assert page.thumbnail(picture) == page.thumbnail(picture)
    with Image.open(picture) as full:
        assert len(page.thumbnail(picture)) <= picture.stat().st_size or full.width <= page.THUMBNAIL


@in_browser
def test_entries_are_filtered(written: Path) -> None:
    script = f"""{SHOWN}
    const answer = {{all: shown('claim'), count: document.getElementById('shown').textContent}};
    set('verdict', 'reproduced'); answer.reproduced = [...shown('claim'), ...shown('target')];
    set('verdict', ''); set('paper', 'certified'); answer.certified = shown('claim');
    answer.cards = [...document.querySelectorAll('.card')].filter(card => !card.hidden).map(card => card.id);
    set('paper', ''); set('words', 'number A'); answer.words = shown('target');
    set('words', 'no such thing'); answer.none = document.getElementById('shown').textContent;
    return answer;"""
    assert asked(written, script) == {
        "all": ["C1", "C2", "C3"],
        "count": "6 of 6 entries",
        "reproduced": ["C1", "a number"],
        "certified": ["C2"],
        "cards": ["certified-fig1"],
        "words": ["a number"],
        "none": "0 of 6 entries",
    }


@in_browser
def test_columns_are_sorted_as_numbers_and_empty_cells_stay_last(written: Path) -> None:
    script = f"""{SHOWN}
    const head = (id, name) =>
      [...document.querySelectorAll('#table-' + id + ' th')].find(th => th.textContent.startsWith(name));
    const answer = {{}};
    head('target', 'published').click(); answer.published = shown('target');
    head('target', 'ours').click(); answer.ours = shown('target');
    head('target', 'ours').click(); answer.down = shown('target');
    answer.aria = head('target', 'ours').getAttribute('aria-sort');
    head('claim', 'verdict').dispatchEvent(new KeyboardEvent('keydown', {{key: 'Enter'}})); answer.verdict = shown('claim');
    return answer;"""
    assert asked(written, script) == {
        "published": ["another", "a number", "a third"],
        "ours": ["a third", "a number", "another"],
        "down": ["a number", "a third", "another"],
        "aria": "descending",
        "verdict": ["C1", "C2", "C3"],
    }


@in_browser
@pytest.mark.parametrize("width", [1300, 500])
def test_nothing_is_wider_than_the_window(written: Path, width: int) -> None:
    script = "return {page: document.documentElement.scrollWidth, window: innerWidth}"
    found = asked(written, script, f"--window-size={width},900")
    assert found["page"] <= found["window"]


@in_browser
def test_tables_and_pictures_show_without_scripts(written: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.html"
    forbidden = """<meta http-equiv="Content-Security-Policy" content="script-src 'none'">"""
    plain.write_text(written.read_text().replace("<head>", f"<head>{forbidden}"))
    picture = tmp_path / "shot.png"
    browse(plain, "--window-size=1300,1600", f"--screenshot={picture}")
    with Image.open(picture) as shot:
        colours = {colour for _, colour in shot.convert("RGB").getcolors(maxcolors=1 << 24)}
    # Badges of every verdict are there, and what only works with scripts is not.
    assert {(0x0A, 0x7D, 0x4B), (0xB3, 0x26, 0x1E), (0x8A, 0x61, 0x00)} <= colours
    dom = browse(plain, "--dump-dom").stdout
    assert 'id="controls" hidden' in dom and "of 6 entries" not in dom
