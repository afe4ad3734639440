"""The JSON schema of scale files and ``configs/README.md``, both generated from the models."""

from __future__ import annotations

import json
from typing import Any

from bench import checkpoint, exhibit
from bench.config import CONFIGS, Suite


def as_json() -> str:
    """Schema of a scale file: every key with its description, bounds and default, each exhibit's settings included."""
    schema: dict[str, Any] = Suite.model_json_schema()
    definitions = schema.setdefault("$defs", {})
    exhibits: dict[str, Any] = {}
    common: dict[str, dict[str, Any]] = {}
    for name, found in exhibit.registry().items():
        if found.paper not in exhibit.PAPERS:
            continue
        own = found.settings.model_json_schema(ref_template=f"#/$defs/{name.replace('/', '.')}.{{model}}")
        for model, definition in own.pop("$defs", {}).items():
            definitions[f"{name.replace('/', '.')}.{model}"] = definition
        exhibits[name] = {"anyOf": [own, {"type": "null"}]}
        common.setdefault(found.paper, {}).update(own["properties"])
    schema["properties"]["exhibits"] = {
        "type": "object",
        "description": Suite.model_fields["exhibits"].description,
        "properties": exhibits,
        "additionalProperties": False,
    }
    schema["properties"]["common"] = {
        "type": "object",
        "description": Suite.model_fields["common"].description,
        "properties": {
            paper: {"type": "object", "properties": fields, "additionalProperties": False}
            for paper, fields in common.items()
        },
        "additionalProperties": False,
    }
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _rows(fields: dict[str, Any]) -> list[str]:
    lines = ["| key | the paper's value | meaning |", "|---|---|---|"]
    for name, field in fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "required" if field.is_required() else f"`{_cell(default)}`"
        lines.append(f"| `{name}` | {shown} | {_cell(field.description or '')} |")
    return lines


def as_markdown() -> str:
    """Every key of a scale file and of each exhibit, with the paper's value."""
    lines = [
        "# Keys of the scale files",
        "",
        "Generated from the models by `python -m bench schema`; a test keeps it in step. "
        "A scale file holds only what departs from the papers.",
        "",
        *_rows(Suite.model_fields),
    ]
    for name, found in exhibit.registry().items():
        if found.paper in exhibit.PAPERS:
            lines += ["", f"## {name}", "", found.title, "", *_rows(found.settings.model_fields)]
    return "\n".join(lines) + "\n"


def write() -> None:
    """Writes ``configs/schema.json`` and ``configs/README.md``."""
    checkpoint.write_text(CONFIGS / "schema.json", as_json())
    checkpoint.write_text(CONFIGS / "README.md", as_markdown())
