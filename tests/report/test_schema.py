"""configs/schema.json and configs/README.md are what the models say."""

from __future__ import annotations

import json

import pytest

from bench import config, exhibit
from bench.cli import schema
from bench.config import CONFIGS


@pytest.mark.parametrize(("name", "made"), [("schema.json", schema.as_json), ("README.md", schema.as_markdown)])
def test_generated_files_are_in_step(name: str, made) -> None:
    assert (CONFIGS / name).read_text() == made(), f"configs/{name} is out of step: run `python -m bench schema`"


def test_the_schema_knows_every_key_of_the_scale_files() -> None:
    known = json.loads((CONFIGS / "schema.json").read_text())["properties"]
    for path in CONFIGS.glob("*.yaml"):
        suite = config.load(path.stem)
        exhibit.check(suite)
        for name, settings in suite.exhibits.items():
            assert set(settings) <= set(known["exhibits"]["properties"][name]["anyOf"][0]["properties"])
        for paper, common in suite.common.items():
            assert set(common) <= set(known["common"]["properties"][paper]["properties"])
        assert path.read_text().startswith("# yaml-language-server: $schema=schema.json\n")


def test_every_key_has_a_description() -> None:
    for found in exhibit.registry().values():
        for name, field in found.settings.model_fields.items():
            assert field.description, f"{found.name}: {name}"


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
    assert schema.allowed(field) == text
