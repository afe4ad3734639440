"""The self-contained page in a real browser: filtered and sorted without a server, read without scripts, for everybody."""

from __future__ import annotations

import html as escaping
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from bench import stats
from bench.report import bar, draw, figure, html, judge, table
from bench.report import shown as described
from bench.workflow.plan import Plan

sys.path.insert(0, str(Path(__file__).parent))
from entries import entry, number, shown

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
in_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium here (on Debian: the package chromium)")
DARK = "--blink-settings=preferredColorScheme=0"

UP, DOWN, OPEN = {0: 1.0, 1: 1.1, 2: 1.2}, {0: -9.0, 1: -9.1, 2: -9.2}, {0: 10.0, 1: -9.0, 2: 0.3}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with a table, a figure and an exhibit without runs, claims of every verdict, numbers and context."""
    root = tmp_path_factory.mktemp("page")
    cells = pd.DataFrame({("ResNet", "SGD"): ["**51.9 ± 0.8** [51.7] ✓"], ("ResNet", "Adam"): ["9 ± 1 [12.0] ✗"]})
    cells.index = pd.Index(["CIFAR-10"], name="data set")
    items = [
        shown(root, "warmstart/table1", "table", title="Table 1 <b>", missing=["one run"]),
        shown(root, "certified/fig1", "figure"),
        shown(root, "certified/fig2", "figure", missing=["a"] * 60, runs=60),
    ]
    table.write({"": cells, "More": cells}, items[0].files, title="Table 1 <b>", missing=["one run"])
    fig, (ax,) = figure.panels(1, 1)
    ax.plot([0, 1], [0, 1])
    figure.save(fig, items[1].files)
    for item in items[:2]:
        table.write_numbers(pd.DataFrame({"x": [1.0]}), item.files.with_suffix(".csv"))
    both = stats.all_of([stats.above(UP, 0.0), stats.above(DOWN, 0.0)])
    entries = [
        entry("warmstart/table1", "claim", "C1", stats.above(UP, 0.0), statement="Warm starts <generalise> worse."),
        entry("certified/fig1", "claim", "C2", both),
        entry(
            "warmstart/table1",
            "claim",
            "C3",
            stats.above(OPEN, 0.0),
            not_expected_at="generated images have no such shift",
        ),
        entry("certified/fig2", "claim", "C4", stats.not_run("no run of certified/fig2 is there")),
        entry("certified/fig1", "estimate", "E1", stats.estimate(UP)),
        number("certified/fig1", "a number", 51.7, {0: 51.0, 1: 52.0, 2: 51.5}),
        number("certified/fig1", "another", 9.4, {}),
        number("certified/fig1", "a third", 151.0, {0: 20.0, 1: 21.0, 2: 20.5}),
        number("certified/fig1", "a tick", 3.0, {}, kind="context"),
        number("certified/followup", "a follow-up", 4.0, {}, kind="context"),
    ]
    html.write(root / "index.html", entries, items, scale="ci", about="Small & quick.")
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
    answer = re.search(r'<pre id="answer">(.*?)</pre>', dom, re.DOTALL)
    assert answer, dom[-500:]
    return json.loads(escaping.unescape(answer[1]))


SHOWN = """
const visible = query => [...document.querySelectorAll(query)].filter(one => !one.closest('[hidden]'));
const claims = () => visible('.claim').map(one => one.querySelector('p b').textContent);
const numbers = () => visible('.numbers tbody tr').filter(row => row.dataset.verdict !== 'context')
  .map(row => row.children[0].textContent);
const cards = () => visible('.card').map(card => card.id);
const set = (id, value) => { const e = document.getElementById(id); e.value = value; e.dispatchEvent(new Event('input')); };
"""


def test_nothing_is_loaded_from_elsewhere(written: Path) -> None:
    text = written.read_text()
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", text)
    assert 'src="data:image/png;base64,' in text


def test_everything_reads_in_the_source_and_is_escaped(written: Path) -> None:
    body = written.read_text().split("<script>")[0]
    for expected in (
        '<b class="ours">51.9 ± 0.8</b> <span class="published">[51.7]</span>',
        'colspan="2"',
        "1 of 6 runs missing",
        "and 10 more",
        "<td>16</td><td>8</td>",
        "generated images have no such shift",
        "Warm starts &lt;generalise&gt; worse.",
        "Table 1 &lt;b&gt;",
        "Small &amp; quick.",
        "EXHIBITS=warmstart/table1",
        "Declared in <code>bench/certified/exhibits/table1.py</code>",
        "What the paper does. Expected (printed): much.",
        "would take about 3.0 h on 2 cores.",
    ):
        assert expected in body, expected


def test_the_matrix_tells_every_state_and_leads_to_the_card(written: Path) -> None:
    squares = re.findall(r'class="square (s-[\w-]+)"[^>]* href="#([\w-]+)"', written.read_text())
    assert squares == [
        ("s-mixed", "warmstart-table1"), ("s-not-reproduced", "certified-fig1"), ("s-not-run", "certified-fig2")
    ]  # fmt: skip
    for _, target in squares:
        assert f'id="{target}"' in written.read_text()


@pytest.mark.parametrize(
    ("verdicts", "state"),
    [
        (["reproduced", "reproduced"], "reproduced"), (["reproduced", "not comparable"], "reproduced"),
        (["reproduced", "undecided"], "mixed"), (["reproduced", "not reproduced"], "mixed"),
        (["not reproduced", "undecided"], "not reproduced"), (["undecided", "not run"], "open"),
        (["not comparable"], "shown"), ([], "shown"),
    ],
)  # fmt: skip
def test_a_state_promises_no_more_than_its_claims(tmp_path: Path, verdicts: list[stats.Verdict], state: str) -> None:
    item = shown(tmp_path, "warmstart/table1", "table")
    entries = [entry(item.name, "claim", f"C{k}", stats.Finding(verdict)) for k, verdict in enumerate(verdicts)]
    assert described.state(item, entries) == state
    absent = shown(tmp_path, "warmstart/table1", "table", missing=["a"] * 6)
    assert described.state(absent, []) == "not run"


def test_a_bar_shows_the_interval_against_the_claimed_region() -> None:
    one = bar.bar(stats.above({0: 2.0, 1: 3.0, 2: 4.0}, 1.0))
    assert one is not None and one.low is not None and one.high is not None and one.region is not None
    assert one.low < one.thresholds[0][0] < one.point < one.high and one.thresholds[0][1] == "1"
    assert one.region == (one.thresholds[0][0], 1.0) and "claimed above 1" in one.text
    alike = bar.bar(stats.equivalent_to({0: 0.9, 1: 1.1, 2: 1.0}, 1.0, margin=0.5, name="ratio"))
    assert alike is not None and [text for _, text in alike.thresholds] == ["0.5", "1.5"]
    ratio = bar.bar(stats.below({0: 0.5, 1: 0.6, 2: 0.4}, 0.8, on=stats.LOG))
    assert ratio is not None and ratio.thresholds[0][1] == "0.8", "in the values' own unit"
    several = stats.all_of([stats.above(UP, 0.5), stats.above(DOWN, -1.0)])
    decisive = bar.bar(several)
    assert decisive is not None and decisive.thresholds[0][1] == "-1" and len(bar.parts(several)) == 2
    lone = bar.bar(stats.above({0: 2.0}, 1.0))
    assert lone is not None and lone.low is None
    assert bar.bar(stats.not_run("x")) is None and bar.parts(stats.above(UP, 0.5)) == []
    equal = bar.bar(stats.describe({0: 1.0, 1: 1.0}, verdict="not comparable", detail=""))
    assert equal is not None and equal.region is None and 0 < equal.point < 1


def test_equal_results_give_an_equal_page(written: Path) -> None:
    picture = written.parent / "exhibits" / "certified" / "fig1.png"
    assert html.thumbnail(picture) == html.thumbnail(picture)
    with Image.open(picture) as full:
        assert len(html.thumbnail(picture)) <= picture.stat().st_size or full.width <= html.THUMBNAIL


def test_the_page_can_be_looked_at_while_the_rest_trains(made: Callable[..., Plan]) -> None:
    plan = made()
    for path in plan.layout.tables.glob("invented/curve.*"):
        path.unlink()
    draw.draw(plan, "invented/distance")
    judge.page_so_far(plan)
    text = (plan.layout.root / "index.html").read_text()
    assert re.findall(r'class="square (s-[\w-]+)"', text) == ["s-not-run", "s-reproduced"]
    assert "5 of 5 runs missing" in text or "Not drawn." in text


def test_without_exhibits_there_is_still_a_page(tmp_path: Path) -> None:
    html.write(tmp_path / "index.html", [], [], scale="toy")
    assert "0 claims" in (tmp_path / "index.html").read_text()


@in_browser
def test_entries_are_filtered(written: Path) -> None:
    script = f"""{SHOWN}
    const answer = {{all: claims(), count: document.getElementById('shown').textContent}};
    set('verdict', 'reproduced'); answer.reproduced = [...claims(), ...numbers()];
    answer.opened = visible('.more[open]').length;
    set('verdict', ''); set('paper', 'certified'); answer.certified = claims(); answer.cards = cards();
    answer.dim = visible('.square.dim').map(one => one.dataset.exhibit);
    set('paper', ''); set('words', 'number A'); answer.words = numbers(); answer.with_words = cards();
    set('words', 'table1'); answer.by_name = cards();
    set('words', 'no such thing'); answer.none = [document.getElementById('shown').textContent, ...cards()];
    document.querySelector('.square.dim').click(); answer.again = cards().length;
    return answer;"""
    assert asked(written, script) == {
        "all": ["C1", "C3", "C2", "E1", "C4"],
        "count": "8 of 8 entries",
        "reproduced": ["C1", "a number"],
        "opened": 1,
        "certified": ["C2", "E1", "C4"],
        "cards": ["certified-fig1", "certified-fig2"],
        "dim": ["warmstart/table1"],
        "words": ["a number"],
        "with_words": ["certified-fig1"],
        "by_name": ["warmstart-table1"],
        "none": ["0 of 8 entries"],
        "again": 3,
    }


@in_browser
def test_columns_are_sorted_as_numbers_and_empty_cells_stay_last(written: Path) -> None:
    script = f"""{SHOWN}
    const head = name => [...document.querySelectorAll('.numbers th')].find(th => th.textContent.startsWith(name));
    const answer = {{}};
    head('published').click(); answer.published = numbers();
    head('ours').click(); answer.ours = numbers();
    head('ours').click(); answer.down = numbers();
    answer.aria = head('ours').getAttribute('aria-sort');
    head('number').dispatchEvent(new KeyboardEvent('keydown', {{key: 'Enter'}})); answer.name = numbers();
    return answer;"""
    assert asked(written, script) == {
        "published": ["another", "a number", "a third"],
        "ours": ["a third", "a number", "another"],
        "down": ["a number", "a third", "another"],
        "aria": "descending",
        "name": ["a number", "a third", "another"],
    }


@in_browser
@pytest.mark.parametrize("width", [1300, 500])
def test_nothing_is_wider_than_the_window(written: Path, width: int) -> None:
    script = """
    for (const more of document.querySelectorAll('details')) more.open = true;
    return {page: document.documentElement.scrollWidth, window: innerWidth}"""
    found = asked(written, script, f"--window-size={width},900")
    assert found["page"] <= found["window"]


CONTRAST = """
for (const more of document.querySelectorAll('details')) more.open = true;
const parse = text => text.match(/[\\d.]+/g).map(Number);
const light = colour => { const [r, g, b] = colour.slice(0, 3).map(v => v / 255)
  .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
const behind = node => { for (let one = node; one; one = one.parentElement) {
  const colour = parse(getComputedStyle(one).backgroundColor); if (colour.length < 4 || colour[3] > .99) return colour; }
  return parse(getComputedStyle(document.documentElement).backgroundColor); };
const low = []; let count = 0;
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const node = walk.currentNode.parentElement, style = getComputedStyle(node);
  if (!walk.currentNode.textContent.trim() || ['SCRIPT', 'STYLE', 'text', 'OPTION'].includes(node.tagName)) continue;
  const [a, b] = [light(parse(style.color)), light(behind(node))].sort((x, y) => y - x);
  count += 1;
  if ((a + .05) / (b + .05) < 4.5) low.push(node.className + ': ' + node.textContent.slice(0, 40) + ' ' + style.color);
}
return {low, count, dark: matchMedia('(prefers-color-scheme: dark)').matches};
"""


@in_browser
@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_what_is_behind_it(written: Path, dark: bool) -> None:
    found = asked(written, CONTRAST, *([DARK] if dark else []))
    assert found["dark"] == dark and found["count"] > 80
    assert found["low"] == []


@in_browser
def test_controls_have_names_and_everything_is_reached_by_keyboard(written: Path) -> None:
    script = """
    const named = one => one.getAttribute('aria-label') || one.textContent.trim() || (one.labels && one.labels.length)
      || one.querySelector('img[alt]');
    const ids = [...document.querySelectorAll('[id]')].map(one => one.id);
    return {
      nameless: [...document.querySelectorAll('a, input, select, summary, svg, img')]
        .filter(one => !(named(one) || one.alt)).map(one => one.outerHTML.slice(0, 80)),
      dead: [...document.querySelectorAll('a[href^="#"]')].map(one => one.getAttribute('href').slice(1))
        .filter(id => !document.getElementById(id)),
      twice: ids.filter((id, place) => ids.indexOf(id) !== place),
      headings: [...document.querySelectorAll('h1')].length,
      scrolls: [...document.querySelectorAll('.wide')].filter(one => one.tabIndex !== 0).length,
      language: document.documentElement.lang,
    };"""
    assert asked(written, script) == {
        "nameless": [], "dead": [], "twice": [], "headings": 1, "scrolls": 0, "language": "en"
    }  # fmt: skip


@in_browser
def test_cards_show_without_scripts(written: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.html"
    forbidden = """<meta http-equiv="Content-Security-Policy" content="script-src 'none'">"""
    plain.write_text(written.read_text().replace("<head>", f"<head>{forbidden}"))
    picture = tmp_path / "shot.png"
    browse(plain, "--window-size=1300,1600", f"--screenshot={picture}")
    with Image.open(picture) as shot:
        colours = {colour for _, colour in shot.convert("RGB").getcolors(maxcolors=1 << 24)}
    # Verdicts and states in their colours are there, and what only works with scripts is not.
    assert {(0x0A, 0x7D, 0x4B), (0xB3, 0x26, 0x1E), (0x8A, 0x61, 0x00), (0x6B, 0x4F, 0xA0)} <= colours
    dom = browse(plain, "--dump-dom").stdout
    assert re.search(r'id="controls" hidden', dom) and "of 8 entries" not in dom
