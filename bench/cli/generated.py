"""Files that are generated: schema and keys of the scale files from the models, verdicts from the reference records."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, TypeAdapter

from bench import checkpoint, config, exhibit, paths
from bench.config import CONFIGS, Suite
from bench.exhibit import Exhibit

if TYPE_CHECKING:
    from bench.workflow.plan import Plan


def _of_the_suite() -> dict[str, Exhibit]:
    """The suite's own exhibits by name, without those of BENCH_EXTRA."""
    return {name: declared for name, declared in exhibit.registry().items() if declared.module.startswith("bench.")}


def schema() -> str:
    """Schema of a scale file: every key with its description, bounds and default, each exhibit's settings included."""
    schema: dict[str, Any] = Suite.model_json_schema()
    definitions = schema.setdefault("$defs", {})
    exhibits: dict[str, Any] = {}
    common: dict[str, dict[str, Any]] = {}
    for name, declared in _of_the_suite().items():
        settings = declared.settings.model_json_schema(ref_template=f"#/$defs/{name.replace('/', '.')}.{{model}}")
        for model, definition in settings.pop("$defs", {}).items():
            definitions[f"{name.replace('/', '.')}.{model}"] = definition
        exhibits[name] = {"anyOf": [settings, {"type": "null"}]}
        common.setdefault(declared.paper, {}).update(settings["properties"])
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


def keys() -> str:
    """Every key of a scale file and of each exhibit, with the paper's value."""
    lines = [
        "# Keys of the scale files",
        "",
        "Generated from the models by `python -m bench generate`; a test keeps it in step. A scale file holds only what "
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
    for paper in dict.fromkeys(declared.paper for declared in _of_the_suite().values()):
        exhibits = [declared for declared in _of_the_suite().values() if declared.paper == paper]
        shared = _shared([declared.settings for declared in exhibits])
        lines += ["", f"## {paper}", "", f"Every exhibit of `{paper}` has these keys.", ""]
        lines += _rows(exhibits[0].settings, shared)
        for declared in exhibits:
            further = [name for name in declared.settings.model_fields if name not in shared]
            lines += ["", f"### {declared.name}", "", f"{declared.title}."]
            lines += ["", *_rows(declared.settings, further)] if further else []
    return "\n".join(lines) + "\n"


def verdicts_of(scale: str) -> str:
    """The verdicts of a scale's reference on all claims, and on the published numbers that it has, as Markdown.

    Records of older code are not marked: the page would change with every edit of the code that trains.
    """
    from bench.report import judge, reference, verdicts

    plan = _reference_plan(scale)
    entries = judge.entries_of(plan)
    shown = [replace(entry, older=False) for entry in entries if entry.kind == "claim" or entry.ran()]
    notes = ", ".join(f"[{paper}]({paper}.provenance.json)" for paper in reference.notes(scale))
    about = [
        f"Published numbers of which this scale has no record, {len(entries) - len(shown)} in all, are left out.",
        f"When, from which commit, on what machine and why the records were made: {notes}.",
    ]
    return "\n".join([verdicts.as_markdown(shown), *about, ""])


def _reference_plan(scale: str) -> Plan:
    """The plan of a scale's exhibits whose papers have reference records, with these as results."""
    from bench.report import reference
    from bench.workflow import plan

    suite, papers = config.load(scale), reference.papers(scale)
    names = [declared.name for declared in exhibit.select(suite) if declared.paper in papers]
    return reference.as_results(plan.make(suite, names))


def documents() -> dict[Path, str]:
    """Path -> text of everything that is generated."""
    from bench.report import reference

    texts = {CONFIGS / "schema.json": schema(), CONFIGS / "README.md": keys()}
    return texts | {reference.folder(scale) / "verdicts.md": verdicts_of(scale) for scale in reference.scales()}


def write() -> list[Path]:
    """Writes all documents, draws the figures again that lie beside reference records, and returns their paths."""
    from bench.report import draw

    texts = documents()
    for path, text in texts.items():
        checkpoint.write_text(path, text)
    pictures = sorted(paths.reference_root().glob("*/*.png"))
    for picture in pictures:
        name = picture.stem.replace("-", "/", 1)
        plan = _reference_plan(picture.parent.name)
        draw.draw(plan, name)
        shutil.copyfile((plan.layout.exhibits / name).with_suffix(".png"), picture)
    return [*texts, *pictures]
