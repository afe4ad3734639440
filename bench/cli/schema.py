"""The JSON schema of scale files and ``configs/README.md``, both generated from the models."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, TypeAdapter

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


def allowed(schema: dict[str, Any]) -> str:
    """What a value may be, in a few words: ``1 to 256``, ``auto, cpu or cuda``, ``list of strings``."""
    if "anyOf" in schema:
        parts = [allowed(part) for part in schema["anyOf"]]
        return " or ".join(dict.fromkeys(part for part in parts if part))
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if "$ref" in schema:
        return re.split(r"[/.]", schema["$ref"])[-1]
    kind = schema.get("type")
    if kind == "array":
        return f"list of {allowed(schema.get('items', {})) or 'values'}"
    if kind == "object":
        return "keys and values"
    if kind in ("integer", "number"):
        return _range(schema, "whole number" if kind == "integer" else "number")
    return {"boolean": "true or false", "string": "text", "null": "null"}.get(str(kind), "")


def _range(schema: dict[str, Any], kind: str) -> str:
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, under = schema.get("maximum"), schema.get("exclusiveMaximum")
    parts = [
        f"at least {low:g}" if low is not None else f"above {above:g}" if above is not None else "",
        f"at most {high:g}" if high is not None else f"below {under:g}" if under is not None else "",
    ]
    limits = ", ".join(part for part in parts if part)
    return f"{kind}, {limits}" if limits else kind


def _rows(model: type[BaseModel], names: Iterable[str]) -> list[str]:
    lines = ["| key | the paper's value | allowed | meaning |", "|---|---|---|---|"]
    properties = model.model_json_schema()["properties"]
    for name in names:
        field = model.model_fields[name]
        default = field.get_default(call_default_factory=True)
        shown = "required" if field.is_required() else f"`{_cell(_plain(default))}`"
        meaning = _cell(field.description or "")
        lines.append(f"| `{name}` | {shown} | {_cell(allowed(properties[name]))} | {meaning} |")
    return lines


def _plain(value: Any) -> str:
    """A default as YAML would have it."""
    return json.dumps(TypeAdapter(Any).dump_python(value, mode="json"), ensure_ascii=False)


def _shared(models: Sequence[type[BaseModel]]) -> list[str]:
    """Keys that all the models have with the same default."""

    def default(model: type[BaseModel], name: str) -> str:
        return _plain(model.model_fields[name].get_default(call_default_factory=True))

    return [
        name
        for name in models[0].model_fields
        if all(name in model.model_fields and default(model, name) == default(models[0], name) for model in models)
    ]


def as_markdown() -> str:
    """Every key of a scale file and of each exhibit, with the paper's value."""
    lines = [
        "# Keys of the scale files",
        "",
        "Generated from the models by `python -m bench schema`; a test keeps it in step. A scale file holds only what "
        "departs from the papers: top-level keys first, then `common: {<paper>: {...}}` for keys that hold in every "
        "exhibit of a paper that knows them, then `exhibits: {<paper>/<name>: {...}}`. "
        "`python -m bench plan --scale S` says what departs and what it costs.",
        "",
        "Where a value comes from: [P] printed in the paper, [F] read off its figure, [C] the authors' code, [A] the "
        "authors' configuration, [E] the authors' e-mail, [D] derived, [U] uncertain, [O] our choice.",
        "",
        "## Top level",
        "",
        *_rows(Suite, Suite.model_fields),
    ]
    for paper in exhibit.PAPERS:
        found = [one for one in exhibit.registry().values() if one.paper == paper]
        if not found:
            continue
        shared = _shared([one.settings for one in found])
        lines += ["", f"## {paper}", "", f"Every exhibit of `{paper}` has these keys.", ""]
        lines += _rows(found[0].settings, shared)
        for one in found:
            own = [name for name in one.settings.model_fields if name not in shared]
            lines += ["", f"### {one.name}", "", f"{one.title}."]
            lines += ["", *_rows(one.settings, own)] if own else []
    return "\n".join(lines) + "\n"


def write() -> None:
    """Writes ``configs/schema.json`` and ``configs/README.md``."""
    checkpoint.write_text(CONFIGS / "schema.json", as_json())
    checkpoint.write_text(CONFIGS / "README.md", as_markdown())
