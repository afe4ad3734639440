"""Generated files are in step with the models and the reference."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import config, exhibit
from bench.cli import generated
from bench.config import CONFIGS
from bench.report import reference


@pytest.mark.parametrize(("name", "text"), [("schema.json", generated.schema), ("README.md", generated.keys)])
def test_schema_and_keys_are_those_of_the_models(name: str, text: Callable[[], str]) -> None:
    written = (CONFIGS / name).read_text(encoding="utf-8")
    assert written == text(), f"configs/{name} is out of step: run `python -m bench generate`"


def test_exhibits_of_ones_own_do_not_enter(invented: Path) -> None:
    assert "invented" in exhibit.papers()
    assert generated.keys() == (CONFIGS / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("scale", reference.scales())
def test_verdicts_are_those_of_the_reference(scale: str, results: Path) -> None:
    path = reference.folder(scale) / "verdicts.md"
    written = path.read_text(encoding="utf-8")
    assert written == generated.verdicts_of(scale), f"{path} is out of step: run `python -m bench generate`"


def test_pictures_beside_a_reference_are_drawn_again(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing else is written than what the call names."""
    root = tmp_path / "reference"
    (root / "ci").mkdir(parents=True)
    for file in reference.folder("ci").glob("warmstart.*"):
        shutil.copy(file, root / "ci")
    picture = root / "ci" / "warmstart-fig1.png"
    picture.write_bytes(b"old")
    (tmp_path / "configs").mkdir()
    monkeypatch.setenv("BENCH_REFERENCE", str(root))
    monkeypatch.setattr(generated, "CONFIGS", tmp_path / "configs")
    monkeypatch.setattr(generated, "verdicts_of", lambda scale: "a test of its own looks at them")
    paths = generated.write()
    assert picture in paths and picture.read_bytes().startswith(b"\x89PNG")
    assert {path for folder in (root, tmp_path / "configs") for path in folder.rglob("*") if path.is_file()} == {
        *paths,
        *(file for file in (root / "ci").glob("warmstart.*")),
    }


def test_the_schema_knows_every_key_of_the_scale_files() -> None:
    known = json.loads((CONFIGS / "schema.json").read_text(encoding="utf-8"))["properties"]
    for path in CONFIGS.glob("*.yaml"):
        suite = config.load(path.stem)
        exhibit.check(suite)
        for name, settings in suite.exhibits.items():
            assert set(settings) <= set(known["exhibits"]["properties"][name]["anyOf"][0]["properties"])
        for paper, common in suite.common.items():
            assert set(common) <= set(known["common"]["properties"][paper]["properties"])
        assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=schema.json\n")


def test_every_key_has_a_description() -> None:
    for declared in exhibit.registry().values():
        for name, field in declared.settings.model_fields.items():
            assert field.description, f"{declared.name}: {name}"


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 9}, "whole number, at least 1, at most 9"),
        ({"type": "number", "exclusiveMinimum": 0}, "number, above 0"),
        ({"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}]}, "a, b or null"),
        ({"type": "array", "items": {"type": "string"}}, "list of text"),
        ({"$ref": "#/$defs/x.Round"}, "Round"),
        ({"type": "boolean"}, "true or false"),
    ],
)
def test_what_is_allowed_in_words(field: dict[str, object], text: str) -> None:
    assert generated.allowed(field) == text
