"""Freezing: what a block of seeds is judged by is fixed, committed, and older than the first run that is judged."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench import exhibit, machine
from bench.config import load
from bench.errors import UserError
from bench.report import collect, freeze, plan_text, reference
from bench.workflow import execute
from bench.workflow import plan as planning
from bench.workflow.plan import Plan

PAPERS = Path(__file__).parent.parent / "papers"
TABLE, CURVE = "invented/distance", "invented/curve"


class Repository:
    """A repository with a scale file and the invented paper, whose sources can be edited."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch):
        self.root, self.monkeypatch, self.edits = root, monkeypatch, 0
        self.scale = root / "toy.yaml"
        content = yaml.safe_load((PAPERS / "scale.yaml").read_text())
        self.scale.write_text(yaml.safe_dump({**content, "first_seed": 2000, "looks": [5, 10]}))
        self.sources = root / "papers"
        shutil.copytree(PAPERS / "invented", self.sources / "invented", ignore=shutil.ignore_patterns("__pycache__"))
        self.git("init", "--quiet")
        self.commit("Begin")
        self._read_again()

    def git(self, *arguments: str) -> str:
        name = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        command = ["git", "-C", str(self.root), *name, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, message: str) -> None:
        self.git("add", "toy.yaml", "papers", *(["frozen"] if (self.root / "frozen").exists() else []))
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        self.monkeypatch.setattr(machine, "commit", lambda: {"commit": self.git("rev-parse", "HEAD"), "clean": True})

    def edit(self, file: str, before: str, after: str) -> None:
        """Replaces a text in a source of the paper, or adds one after the last line."""
        path = self.sources / "invented" / "exhibits" / file
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after) if before else text + after)
        self._read_again()

    def settings(self, **changes: object) -> None:
        content = yaml.safe_load(self.scale.read_text())
        self.scale.write_text(yaml.safe_dump(content | changes))

    def _read_again(self) -> None:
        # Modules are read once under a folder's name: an edited paper lies in a new one.
        self.edits += 1
        fresh = self.root / f"papers{self.edits}"
        shutil.copytree(self.sources, fresh)
        self.monkeypatch.setenv("BENCH_EXTRA", str(fresh))
        exhibit.registry.cache_clear()
        freeze.source.names_of.cache_clear()
        freeze.source._definition.cache_clear()

    def plan(self, *names: str) -> Plan:
        return planning.make(load(str(self.scale)), names, source=str(self.scale))

    def train(self) -> Plan:
        plan = self.plan()
        execute.run_all(plan, plan.to_train(), tell=lambda text: None)
        for name in plan.exhibits:
            collect.collect(plan, name)
        return self.plan()


@pytest.fixture
def repository(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    monkeypatch.setenv("BENCH_REFERENCE", str(tmp_path / "reference"))
    yield Repository(tmp_path, monkeypatch)
    exhibit.registry.cache_clear()


def test_records_trained_after_freezing_are_taken(repository: Repository) -> None:
    path = freeze.freeze(repository.plan())
    assert path == repository.root / "frozen" / "toy.json"
    assert json.loads(path.read_text())[TABLE]["first_seed"] == 2000
    repository.commit("Freeze")
    repository.commit("Something else")
    plan = repository.train()
    assert set(freeze.states(plan).values()) == {freeze.FROZEN}
    assert "seeds from 2000 on: 2 exhibits frozen" in plan_text.as_text(plan)
    assert reference.replace(plan, why="first") == 0


def test_records_trained_before_freezing_are_refused(repository: Repository) -> None:
    plan = repository.train()
    with pytest.raises(UserError, match=f"{TABLE}: is not frozen"):
        reference.replace(plan, why="first")
    freeze.freeze(plan)
    with pytest.raises(UserError, match="not committed"):
        reference.replace(repository.plan(), why="first")
    repository.commit("Freeze too late")
    with pytest.raises(UserError, match=r"trained before it was frozen .*first_seed: 2100") as refused:
        reference.replace(repository.plan(), why="first")
    assert len(str(refused.value).splitlines()) == 2
    assert not reference.exists("toy")


def test_what_decides_no_verdict_may_change(repository: Repository) -> None:
    path = freeze.freeze(repository.plan())
    repository.commit("Freeze")
    before = path.read_text()
    for old, new in (
        ("Mean distance from the start.", "How far they get."),  # caption
        ("Distance by drift", "Distances"),  # title
        ("More drift, more distance.", "Drift goes far."),  # sentence
        ('"D1"', '"D1a"'),  # name of the claim
        ('.rename("distance")', '.rename("how far")'),  # picture
        ("def further(frame):", 'def further(frame):  # far\n    """Far."""'),
    ):
        repository.edit("distance.py", old, new)
    repository.settings(common={"invented": {"seeds": 5}}, threads=2)
    plan = repository.plan()
    assert freeze.states(plan)[TABLE] == freeze.FROZEN
    freeze.freeze(plan)
    assert path.read_text() == before


SECOND_CLAIM = '\n\n@claim("D2", "Further still.", "Section 1")\ndef further_still(frame):\n    return further(frame)\n'
CHANGES: dict[str, tuple[str, dict[str, Any] | tuple[str, str]]] = {
    "setting": (freeze.CHANGED, {"exhibits": {TABLE: {"drifts": [0.1, 0.2, 0.4]}}}),
    "default of a setting": (freeze.CHANGED, ("(0.1, 0.2), desc", "(0.1, 0.2, 0.3), desc")),
    "looks": (freeze.CHANGED, {"looks": [5, 12]}),
    "threshold": (freeze.REWRITTEN, ("by=LEAST)", "by=-1.0)")),
    "threshold by name": (freeze.REWRITTEN, ("LEAST = 0.0", "LEAST = -1.0")),
    "margin": (freeze.CHANGED, ("CAPTION =", 'MARGINS = {"distance": 3.0}\nCAPTION =')),
    "numbers": (freeze.REWRITTEN, ('record.metrics["distance"]', '2 * record.metrics["distance"]')),
    "split": (freeze.CHANGED, ("", SECOND_CLAIM)),
    "estimate": (freeze.CHANGED, ('"Section 1")', '"Section 1", kind="estimate")')),
}
"""What changes: the state that follows, and settings or a text of the source with what replaces it."""


@pytest.mark.parametrize("change", CHANGES)
def test_what_decides_verdicts_may_not_change(repository: Repository, change: str) -> None:
    repository.edit("distance.py", "x=0.1))", "x=0.1), by=LEAST)")
    repository.edit("distance.py", "CAPTION =", "LEAST = 0.0\nCAPTION =")
    freeze.freeze(repository.plan())
    repository.commit("Freeze")
    state, what = CHANGES[change]
    if isinstance(what, dict):
        repository.settings(**what)
    else:
        repository.edit("distance.py", *what)
    plan = repository.plan()
    assert freeze.states(plan)[TABLE] == state
    with pytest.raises(UserError, match=r"frozen with other .*first_seed: 2100"):
        freeze.freeze(plan)
    plan = repository.train()
    with pytest.raises(UserError, match=rf"{TABLE}: .* changed since it was frozen"):
        reference.replace(plan, why="with another one")


def test_tests_may_be_rewritten_where_their_findings_stay(repository: Repository) -> None:
    path = freeze.freeze(repository.plan())
    repository.commit("Freeze")
    assert reference.replace(repository.train(), why="first") == 0
    before = json.loads(path.read_text())[TABLE]

    repository.edit("distance.py", "x=0.1))", "x=0.1), by=0.0)")  # says what was the default
    assert freeze.states(repository.plan())[TABLE] == freeze.REWRITTEN
    freeze.freeze(repository.plan())
    after = json.loads(path.read_text())[TABLE]
    assert after["code"] != before["code"] and {**after, "code": ""} == {**before, "code": ""}
    with pytest.raises(UserError, match="not committed"):
        reference.replace(repository.plan(), why="again")
    repository.commit("Freeze what was rewritten")
    assert reference.replace(repository.plan(), why="again") == 0

    repository.edit("distance.py", "by=0.0)", "by=-1e-9)")  # the verdict stays, the threshold does not
    with pytest.raises(UserError, match="other tests, which find something else for D1; begin the next block"):
        freeze.freeze(repository.plan())


def test_numbers_that_are_compared_with_published_ones_may_not_change(repository: Repository) -> None:
    repository.edit("distance.py", "CAPTION =", 'MARGINS = {"distance": 3.0}\nCAPTION =')
    freeze.freeze(repository.plan())
    repository.commit("Freeze")
    assert reference.replace(repository.train(), why="first") == 0
    kept = json.loads((reference.folder("toy") / reference.FINDINGS).read_text())[TABLE]
    assert set(kept) == {reference.NUMBERS, "D1"}
    repository.edit("distance.py", 'record.metrics["distance"]', 'record.metrics["distance"] + 1e-9')
    with pytest.raises(UserError, match=rf"find something else for .*{reference.NUMBERS}.*; begin the next block"):
        freeze.freeze(repository.plan())


def test_an_exhibit_may_begin_the_next_block_and_others_stay(repository: Repository) -> None:
    path = freeze.freeze(repository.plan())
    repository.commit("Freeze")
    first = json.loads(path.read_text())
    repository.settings(exhibits={TABLE: {"drifts": [0.1, 0.2, 0.4], "first_seed": 2100}})
    freeze.freeze(repository.plan(TABLE))
    second = json.loads(path.read_text())
    assert second[TABLE]["first_seed"] == 2100 and second[CURVE] == first[CURVE]
    repository.commit("Freeze the next block")
    assert reference.replace(repository.train(), why="after a change") == 0
    assert freeze.summary(repository.plan()).count("1 exhibits frozen") == 2


def test_the_number_of_seeds_is_frozen_where_it_is_fixed_beforehand(repository: Repository) -> None:
    repository.settings(looks=[])
    freeze.freeze(repository.plan())
    repository.commit("Freeze")
    repository.settings(common={"invented": {"seeds": 5}})
    assert freeze.states(repository.plan())[TABLE] == freeze.CHANGED


def test_records_of_another_block_are_named_and_not_judged(repository: Repository) -> None:
    assert freeze.other_blocks(repository.train()) == ""
    repository.settings(first_seed=2100)
    plan = repository.train()
    assert "15 records" in freeze.other_blocks(plan) and "(2000)" in freeze.other_blocks(plan)


def test_a_number_of_seeds_that_is_no_look_is_named(repository: Repository) -> None:
    repository.settings(common={"invented": {"seeds": 7}})
    assert f"{TABLE}: 7 seeds are no declared look; its claims are judged on 5" in plan_text.as_text(repository.plan())


def test_a_block_has_room_for_its_seeds(repository: Repository) -> None:
    repository.settings(first_seed=2098)
    with pytest.raises(UserError, match="run into the next block, which begins at 2100"):
        freeze.freeze(repository.plan())


def test_seeds_for_settling_are_not_frozen(repository: Repository) -> None:
    repository.settings(first_seed=7)
    plan = repository.train()
    with pytest.raises(UserError, match="its seeds begin at 7; judged ones begin at 2000"):
        freeze.freeze(plan)
    assert "for settling" in freeze.summary(plan)
    assert reference.replace(plan, why="a reference of one's own") == 0


def test_a_git_that_does_not_answer_is_not_taken_for_one_that_knows_nothing(repository: Repository) -> None:
    def waits(*arguments: object, **options: object) -> None:
        raise subprocess.TimeoutExpired("git", 60)

    plan = repository.plan()
    freeze.freeze(plan)
    repository.monkeypatch.setattr(machine.subprocess, "run", waits)
    with pytest.raises(UserError, match="git does not answer"):
        freeze.freeze(plan)
    assert machine.git("rev-parse", "HEAD") is None


def test_a_file_that_is_none_is_named(repository: Repository) -> None:
    path = freeze.freeze(repository.plan())
    path.write_text("[1, 2]")
    with pytest.raises(UserError, match=r"frozen/toy\.json: not what `bench freeze` writes"):
        freeze.states(repository.plan())
