"""Committed records (``results/reference/<scale>/<paper>.jsonl``): one line a record, with when, where and why."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace as with_fields
from pathlib import Path
from typing import Any

from bench import checkpoint, config, exhibit, machine, paths, published, record, stats
from bench.errors import UserError
from bench.paths import Layout
from bench.report import collect
from bench.workflow import plan as planning
from bench.workflow.plan import Plan

FINDINGS, NUMBERS = "findings.json", "numbers"
"""What each claim says, and what is compared with published numbers: code may be rewritten where these stay equal."""


def folder(scale: str) -> Path:
    return paths.reference_root() / scale


def scales() -> list[str]:
    """Scales that have a reference."""
    root = paths.reference_root()
    return sorted({path.parent.name for path in root.glob("*/*.jsonl")}) if root.is_dir() else []


def papers(scale: str) -> list[str]:
    """Papers of which the scale has reference records."""
    return sorted(path.stem for path in folder(scale).glob("*.jsonl"))


def exists(scale: str) -> bool:
    return scale in scales()


def check(scale: str) -> None:
    """Raises `UserError` when the scale has no reference, naming those that have."""
    if not exists(scale):
        raise UserError(
            f"{folder(scale)}: no reference records of scale {scale}; there are: {', '.join(scales()) or 'none'}. "
            f"Make them with `python -m bench reference update --scale {scale} --why REASON`"
        )


def _records(scale: str) -> Iterator[tuple[Path, str, str]]:
    """File, key and line of every reference record."""
    for path in sorted(folder(scale).glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                yield path, str(json.loads(line)["key"]), line
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{path}:{number}: not a record; restore the file from the repository") from error


def restore(scale: str, into: Layout) -> int:
    """Writes the reference records of a scale as single files, as if they had been trained here; returns how many.

    Records that an earlier reference left there go.

    Raises:
        UserError: the scale has no reference, or a line of it is no record.
    """
    check(scale)
    lines = {key: line for _, key, line in _records(scale)}
    for key in record.keys_in(into.runs) - set(lines):
        into.record(key).unlink()
    for key, line in lines.items():
        path = into.record(key)
        if not path.exists() or path.read_text(encoding="utf-8") != line + "\n":
            checkpoint.write_text(path, line + "\n")
    return len(lines)


def _restore_seeds(scale: str, into: Layout) -> None:
    if known := seeds(scale):
        checkpoint.write_text(into.seeds, json.dumps(known) + "\n")
    else:
        into.seeds.unlink(missing_ok=True)


def as_results(plan: Plan) -> Plan:
    """The same exhibits with the reference records, collected, in ``results/<scale>-reference``.

    Raises:
        UserError: the scale has no reference.
    """
    layout = with_fields(plan.layout, root=plan.layout.root.with_name(f"{plan.suite.scale}-reference"))
    restore(plan.suite.scale, layout)
    _restore_seeds(plan.suite.scale, layout)
    suite = plan.suite.model_copy(update={"older_code": "accept"})
    filled = planning.make(suite, list(plan.exhibits), source=plan.source, layout=layout)
    for name in filled.exhibits:
        collect.collect(filled, name)
    return filled


def replace(plan: Plan, *, why: str) -> int:
    """Replaces a scale's reference by the records of the plan in ``results/``; returns an exit code.

    Reference records of runs that belong to other exhibits of the scale stay; those that no exhibit of the scale needs
    any more go. Writes when, from which commit, on what machine and why into ``<paper>.provenance.json`` beside them,
    the latest first; a paper whose records stay the same keeps its notes.

    Raises:
        UserError: no record of the plan is there, one is not that the reference has, no reason is given, or what the records
            are judged by was not frozen before they were trained.
    """
    if not why.strip():
        raise UserError("--why: expected a reason; it is written beside the records")
    trained: dict[str, list[record.Record]] = {}
    lines: dict[str, dict[str, str]] = {}
    for run in plan.runs.values():
        path = plan.layout.record(run.used)
        if path.exists():
            paper = run.exhibits[0].split("/")[0]
            trained.setdefault(paper, []).append(record.read(path))
            lines.setdefault(paper, {})[run.spec.identity] = path.read_text(encoding="utf-8").rstrip("\n")
    if not lines:
        raise UserError(f"{plan.layout.runs}: has no record of these exhibits; train them first")
    from bench.report import freeze

    freeze.check(plan, _by_exhibit(plan))
    _check_nothing_goes(plan, {identity for new in lines.values() for identity in new})
    others = _still_needed(plan, set(plan.key_by_identity))
    tree = machine.commit()  # before what is written here changes it
    for paper, new in lines.items():
        path = folder(plan.suite.scale) / f"{paper}.jsonl"
        whole = [*new.values(), *others.get(path.stem, [])]
        before = set(path.read_text(encoding="utf-8").splitlines()) if path.exists() else set()
        if before == set(whole):
            print(f"{path}: unchanged")
            continue
        checkpoint.write_text(path, "\n".join(sorted(whole)) + "\n")
        exhibits = sorted(name for name in plan.exhibits if name.startswith(f"{paper}/"))
        _note(path.with_suffix(".provenance.json"), trained[paper], tree, exhibits, why)
        print(f"{path}: {len(whole)} records, {len(set(whole) - before)} of them new")
    _keep_seeds(plan)
    _keep_findings(plan)
    return 0


def _by_exhibit(plan: Plan) -> dict[str, list[record.Record]]:
    """Exhibit -> the records that it rests on, parents included."""
    records: dict[str, list[record.Record]] = {name: [] for name in plan.exhibits}
    for run in plan.runs.values():
        path = plan.layout.record(run.used)
        if path.exists():
            loaded = record.read(path)
            for name in run.exhibits:
                records[name].append(loaded)
    return records


def seeds(scale: str) -> dict[str, int]:
    """Exhibit -> number of its seeds in the reference, of those that were given more than the scale file says."""
    path = folder(scale) / paths.SEEDS
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _keep_seeds(plan: Plan) -> None:
    """Writes which exhibits have further seeds beside the records, and why; those of other exhibits stay."""
    path, known = folder(plan.suite.scale) / paths.SEEDS, seeds(plan.suite.scale)
    more = planning.further_seeds(plan.suite, plan.layout)
    whole = {name: n for name, n in known.items() if name not in plan.exhibits} | {
        name: n for name, n in more.items() if name in plan.exhibits
    }
    if plan.layout.decisions.exists():
        checkpoint.write_text(
            path.with_name(plan.layout.decisions.name), plan.layout.decisions.read_text(encoding="utf-8")
        )
    if whole:
        checkpoint.write_text(path, json.dumps(dict(sorted(whole.items())), indent=1) + "\n")
    else:
        path.unlink(missing_ok=True)


def _findings(plan: Plan) -> dict[str, dict[str, list[Any]]]:
    """Exhibit -> claim -> verdict, estimate, interval, seeds and the claimed regions, from the reference's records.

    `NUMBERS` stands for the numbers of the exhibit that are compared with published ones, by their digest.
    """
    from bench.report import claims

    filled = as_results(plan)
    rows: dict[str, dict[str, list[Any]]] = {name: {NUMBERS: [_numbers(filled, name)]} for name in plan.exhibits}
    for (name, claim), finding in claims.findings(filled).items():
        tests = [leaf.hypothesis for leaf in stats.leaves(finding)]
        regions = [[str(test.low), str(test.high)] for test in tests if test is not None]
        rows[name][claim] = [finding.verdict, finding.estimate, finding.low, finding.high, finding.n, regions]
    return rows


def _numbers(plan: Plan, name: str) -> str:
    """Digest of an exhibit's numbers that have a margin, each under its name and seed."""
    frame, margins = collect.read(plan, name)[0], exhibit.registry()[name].margins
    rows = frame[frame["metric"].isin(list(margins))].to_dict("records")
    lines = sorted(repr((published.name_of(row), row["seed"], row["value"])) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _kept_findings(scale: str) -> dict[str, dict[str, list[Any]]]:
    path = folder(scale) / FINDINGS
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _keep_findings(plan: Plan) -> None:
    """Writes what the claims of the plan's exhibits say beside the records."""
    known = {**_kept_findings(plan.suite.scale), **_findings(plan)}
    checkpoint.write_text(folder(plan.suite.scale) / FINDINGS, json.dumps(dict(sorted(known.items())), indent=1) + "\n")


def other_finding(plan: Plan, name: str) -> str:
    """Says what an exhibit's tests find otherwise than when its reference was made, or ""."""
    kept = _kept_findings(plan.suite.scale).get(name)
    if kept is None:
        return "and has no reference to compare them with"
    alone = planning.make(plan.suite, [name, *_also(name)], source=plan.source, layout=plan.layout)
    now = _findings(alone)[name]
    different = sorted(claim for claim in {*kept, *now} if kept.get(claim) != now.get(claim))
    return f"which find something else for {', '.join(different)}" if different else ""


def _also(name: str) -> list[str]:
    """The exhibits whose rows an exhibit's claims need besides."""
    return list(dict.fromkeys(other for claim in exhibit.registry()[name].claims for other in claim.also))


def _check_nothing_goes(plan: Plan, fresh: set[str]) -> None:
    """Raises `UserError` when the reference has records of the plan's runs that are not there anew."""
    scale = plan.suite.scale
    present = {key.split("-")[0] for _, key, _ in _records(scale)}
    if gone := (present & set(plan.key_by_identity)) - fresh:
        label = plan.runs[plan.key_by_identity[min(gone)]].spec.label()
        raise UserError(
            f"{plan.layout.runs}: lacks {len(gone)} of the runs that {folder(scale)} has (one is {label}), whose records "
            f"would be lost; train them first, or name with --exhibits those that are there"
        )


def _still_needed(plan: Plan, replaced: set[str]) -> dict[str, list[str]]:
    """Paper -> lines of the present reference that the scale still needs and this plan does not speak of."""
    scale = plan.suite.scale
    if not exists(scale):
        return {}
    whole = planning.make(config.load(plan.source or scale))
    kept: dict[str, list[str]] = {}
    for path, key, line in _records(scale):
        identity = key.split("-")[0]
        if identity in whole.key_by_identity and identity not in replaced:
            kept.setdefault(path.stem, []).append(line)
    return kept


def _note(path: Path, records: list[record.Record], tree: dict[str, Any], exhibits: list[str], why: str) -> None:
    """Adds who, when, where and why in front of what stands in `path`."""
    machines: dict[str, int] = {}
    for loaded in records:
        machine = json.dumps(loaded.provenance.get("machine", {}), sort_keys=True)
        machines[machine] = machines.get(machine, 0) + 1
    about: dict[str, Any] = {
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **tree,
        "trained_from": sorted({str(loaded.provenance.get("commit")) for loaded in records}),
        "records": len(records),
        "machines": [{**json.loads(text), "records": count} for text, count in machines.items()],
        "exhibits": exhibits,
        "why": why,
    }
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    checkpoint.write_text(path, json.dumps([about, *before], indent=1) + "\n")


def notes(scale: str) -> dict[str, list[dict[str, Any]]]:
    """Paper -> when, where and why its reference was replaced, the latest first."""
    files = sorted(folder(scale).glob("*.provenance.json"))
    return {path.name.split(".")[0]: json.loads(path.read_text(encoding="utf-8")) for path in files}
