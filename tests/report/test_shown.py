"""What page and report say of an exhibit: the paper, what differs in a sentence, order, state."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
from pydantic import Field

from bench import config, exhibit
from bench.exhibit import ExhibitSettings
from bench.report import differences, shown
from bench.workflow import plan as planning


class Settings(ExhibitSettings):
    selects = ExhibitSettings.selects | {"drifts"}

    width: int = Field(16000, description="width")
    drifts: tuple[float, ...] = Field((0.1, 0.2, 0.3), description="drifts")
    data: str = Field("real", description="data")
    sizes: dict[str, int] | None = Field(None, description="sizes")
    other: int = Field(1, description="what no phrase speaks of")


PHRASES = {
    "data": {"generated": "generated walks", "else": "other walks"},
    "drifts": "{of} drifts",
    "width": "a width of {here} instead of {paper}",
    "sizes": "{here} samples",
    "gone": "a setting that the exhibit does not have",
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "Here: the paper's protocol, 5 seeds."),
        ({"seeds": 1}, "Here: the paper's protocol, 1 seed."),
        ({"width": 8, "drifts": (0.1,)}, "Here: 1 of 3 drifts, a width of 8 instead of 16,000, 5 seeds."),
        ({"data": "generated_b", "other": 2}, "Here: generated walks, 5 seeds; 1 more setting differs."),
        ({"data": "cifar", "sizes": {"a": 1500, "b": 900}}, "Here: other walks, 900 to 1,500 samples, 5 seeds."),
        ({"other": 2}, "Here: 5 seeds; 1 more setting differs."),
    ],
)
def test_a_sentence_says_what_differs(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], expected: str) -> None:
    monkeypatch.setattr(differences, "phrases", lambda paper: PHRASES)
    assert differences.sentence("invented", Settings(**changes)) == expected


def test_a_caption_says_how_many_of_the_papers_points_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(differences, "phrases", lambda paper: PHRASES)
    assert differences.selection("invented", Settings(drifts=(0.1,), width=8)) == "Drawn: 1 of 3 drifts."
    assert differences.selection("invented", Settings(width=8)) == ""


def test_the_caption_of_a_figure_with_few_points_says_so() -> None:
    plan = planning.make(config.load("ci"), ["warmstart/fig3"])
    assert re.search(r"Drawn: .*\d of 4 batch sizes", shown.of_plan(plan)[0].caption)


def test_phrases_speak_of_settings_that_there_are() -> None:
    for paper in exhibit.papers():
        fields = {
            name
            for chosen in exhibit.registry().values()
            if chosen.paper == paper
            for name in chosen.settings.model_fields
        }
        assert set(differences.phrases(paper)) <= fields, paper


@pytest.mark.parametrize("scale", ["ci", "small", "paper", "paper-cpu"])
def test_every_exhibit_of_every_scale_has_its_sentence(scale: str) -> None:
    plan = planning.make(config.load(scale))
    for name, settings in plan.settings.items():
        sentence = differences.sentence(name.split("/")[0], settings)
        assert sentence.startswith("Here: ") and "{" not in sentence, name


def test_a_paper_without_phrases_has_its_number_of_settings() -> None:
    assert differences.sentence("no-such-paper", Settings(width=1, other=2)) == "Here: 5 seeds; 2 more settings differ."


def test_a_docstring_is_read_for_the_paper_and_what_it_reports() -> None:
    docstring = """Figure 7: a title.

    The weights become ``lambda`` times themselves [P], before
    every round [C, D].

    Expected (digitised): 80.2 % at the end,
    and slower.
    Cost: much.
    """
    lines = "\n".join(line.strip() for line in docstring.splitlines())
    about, expected = shown.described(lines.replace("every", "`every`"))
    assert about == "The weights become lambda times themselves, before every round."
    assert expected == "Expected (digitised): 80.2 % at the end, and slower."
    assert shown.described("") == ("", "")


def test_every_exhibit_says_what_its_paper_is_and_does() -> None:
    for name, chosen in exhibit.registry().items():
        about, _ = shown.described(sys.modules[chosen.module].__doc__ or "")
        assert len(about) > 40 and "`" not in about and "Cost:" not in about, name
        assert " " in shown.title_of_paper(chosen.module), name
    assert shown.title_of_paper("no.such.module") == ""


def test_exhibits_come_in_the_papers_order() -> None:
    names = ["warmstart/fig10", "warmstart/architecture", "warmstart/fig2", "warmstart/table1", "certified/fig1"]
    expected = ["warmstart/table1", "warmstart/fig2", "warmstart/fig10", "warmstart/architecture", "certified/fig1"]
    assert shown.in_order(names) == expected
