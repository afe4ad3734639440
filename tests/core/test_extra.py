"""Papers and exhibits of one's own in BENCH_EXTRA: found where they lie, and no file is skipped in silence."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import config, exhibit
from bench.errors import UserError
from bench.workflow import plan as planning

EXHIBIT = '''
"""A walk: how far it gets."""
from bench.exhibit import Arm, ExhibitSettings, row
from bench_extra.mine.walk import Walk

CAPTION = "Distance."

class Settings(ExhibitSettings):
    pass

def arms(settings):
    yield Arm({}, lambda seed: Walk(seed=seed))

def rows(run, record):
    yield row(run, "distance", 1.0)

def draw(frame, published, settings) -> "pd.DataFrame":
    return frame
'''

WALK = """
from typing import ClassVar
from bench.run import Cost, RunSpec

class Walk(RunSpec):
    kind: ClassVar[str] = "mine/walk"
    trainer: ClassVar[str] = "bench_extra.mine.walk"

    def cost(self):
        return Cost(amount=1, flops=1)
"""

Extra = Callable[..., Path]


@pytest.fixture
def extra(tmp_path: Path, results: Path, monkeypatch: pytest.MonkeyPatch) -> Extra:
    """``extra(**{"mine/exhibits/far.py": text})``: a folder with these files, named in BENCH_EXTRA."""

    def make(files: dict[str, str]) -> Path:
        root = tmp_path / "extra"
        root.mkdir()
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text).strip() + "\n", encoding="utf-8")
        monkeypatch.setenv("BENCH_EXTRA", str(root))
        exhibit.registry.cache_clear()
        return root

    yield make
    monkeypatch.undo()
    exhibit.registry.cache_clear()


GOOD = {"mine/exhibits/far.py": EXHIBIT, "mine/walk.py": WALK}


def test_a_fourth_paper_is_a_folder(extra: Extra) -> None:
    extra(GOOD)
    assert "mine" in exhibit.papers()
    plan = planning.make(config.load("ci"), ["mine"])
    assert list(plan.exhibits) == ["mine/far"] and len(plan.runs) == 5
    assert exhibit.registry()["mine/far"].title == "A walk: how far it gets"


def test_a_scale_without_settings_for_a_paper_says_so(extra: Extra, tmp_path: Path) -> None:
    extra(GOOD)
    (note,) = planning.notes(planning.make(config.load("ci"), ["mine", "warmstart/fig1"]))
    assert "'mine'" in note and "defaults" in note
    own = tmp_path / "own.yaml"
    own.write_text("scale: own\ncommon: {mine: {seeds: 2}}\n")
    assert planning.notes(planning.make(config.load(str(own)), ["mine"])) == []
    assert planning.notes(planning.make(config.load("paper"), ["mine"])) == []


def test_a_folder_of_a_papers_name_adds_to_it(extra: Extra) -> None:
    extra(GOOD | {"warmstart/exhibits/far.py": EXHIBIT})
    plan = planning.make(config.load("ci"), ["warmstart/far"])
    assert len(plan.runs) == 5 and planning.notes(plan) == []  # the scale's settings for the paper hold


def without(text: str, name: str) -> str:
    """An exhibit that lacks a name."""
    return text.replace(name, f"_{name}")


@pytest.mark.parametrize(
    ("files", "name", "word"),
    [
        pytest.param({"far.py": EXHIBIT}, "far.py", "not looked at", id="outside of any paper"),
        pytest.param({"mine/far.py": EXHIBIT}, "mine/far.py", "not looked at", id="without exhibits/ between"),
        pytest.param(GOOD | {"far.py": EXHIBIT}, "far.py", "not looked at", id="beside a paper"),
        pytest.param(GOOD | {"other/far.py": EXHIBIT}, "other/far.py", "not looked at", id="beside another paper"),
        pytest.param({"mine/readme.txt": "x"}, "", "has no exhibit", id="no Python at all"),
        pytest.param(GOOD | {"mine/exhibits/Far.py": EXHIBIT}, "Far.py", "small letters", id="a capital letter"),
        pytest.param(GOOD | {"mine/exhibits/2far.py": EXHIBIT}, "2far.py", "small letters", id="a digit first"),
        pytest.param(GOOD | {"mine/exhibits/far-2.py": EXHIBIT}, "far-2.py", "small letters", id="a hyphen"),
        pytest.param({"my-own/exhibits/far.py": EXHIBIT}, "my-own", "small letters", id="a hyphen in the paper's name"),
        pytest.param(GOOD | {"warmstart/exhibits/fig1.py": EXHIBIT}, "fig1.py", "rename", id="a name of the suite's"),
        pytest.param(GOOD | {"mine/exhibits/old.py": "EXHIBIT = 3"}, "old.py", "earlier version", id="the old form"),
        pytest.param(GOOD | {"mine/exhibits/no.py": "X = 3"}, "no.py", "lacks CAPTION, Settings", id="no exhibit"),
        *(
            pytest.param(
                GOOD | {"mine/exhibits/no.py": without(EXHIBIT, name)}, "no.py", f"lacks {name}", id=f"no {name}"
            )
            for name in ("CAPTION", "arms", "rows", "draw")
        ),
        pytest.param(
            GOOD | {"mine/exhibits/no.py": EXHIBIT.replace(' -> "pd.DataFrame"', "")},
            "no.py",
            "-> pd.DataFrame",
            id="a picture or a table?",
        ),
        pytest.param(
            GOOD | {"mine/exhibits/no.py": EXHIBIT.replace('"""A walk: how far it gets."""', "")},
            "no.py",
            "docstring",
            id="no title",
        ),
        pytest.param(
            GOOD | {"mine/exhibits/no.py": EXHIBIT.replace("(ExhibitSettings)", "")},
            "no.py",
            "ExhibitSettings",
            id="settings of another kind",
        ),
        pytest.param(
            GOOD | {"mine/exhibits/no.py": EXHIBIT.replace("    pass", "    width: int")},
            "no.py",
            "width",
            id="a setting without the paper's value",
        ),
        pytest.param(
            GOOD | {"mine/exhibits/no.py": "import nothing_of_this_name"}, "no.py", "ModuleNotFoundError", id="import"
        ),
        pytest.param(GOOD | {"mine/exhibits/no.py": "def :"}, "no.py", "SyntaxError", id="not Python"),
    ],
)
def test_a_file_that_is_no_exhibit_is_named_in_one_line(
    extra: Extra, files: dict[str, str], name: str, word: str
) -> None:
    root = extra(files)
    with pytest.raises(UserError) as caught:
        exhibit.registry()
    (line,) = str(caught.value).splitlines()
    assert str(root) in line and name in line and word in line


def test_helpers_of_exhibits_are_none(extra: Extra) -> None:
    extra(GOOD | {"mine/exhibits/_rows.py": "X = 3", "mine/exhibits/__init__.py": ""})
    assert [name for name in exhibit.registry() if name.startswith("mine/")] == ["mine/far"]


def test_a_folder_that_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_EXTRA", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="nowhere: no such folder"):
        exhibit.papers()
    monkeypatch.setenv("BENCH_EXTRA", "")
    assert "warmstart" in exhibit.papers()


@pytest.mark.parametrize("trainer", ["", "bench_extra.mine.wlak"])
def test_a_run_whose_trainer_does_not_exist(extra: Extra, trainer: str) -> None:
    extra(GOOD | {"mine/walk.py": WALK.replace("bench_extra.mine.walk", trainer)})
    with pytest.raises(UserError, match=f"Walk: .*module '{trainer}'"):
        planning.make(config.load("ci"), ["mine"])


def test_names_that_are_close(extra: Extra) -> None:
    extra(GOOD)
    suite = config.load("ci")
    for name, expected in {
        "fig7": "rewarm/fig7 or warmstart/fig7",
        "far": "mine/far",
        "mine/fra": "'mine/far'",
        "mien": "'mine'",
    }.items():
        with pytest.raises(UserError) as caught:
            exhibit.select(suite, [name])
        assert expected in str(caught.value) and len(str(caught.value)) < 120
