"""What is fixed before the first judged seed is trained, for each exhibit: settings, looks, margins, and the claims' tests.

A hash of them is written into ``configs/frozen/<scale>.json`` and committed. A reference takes records only if that commit
is an ancestor of the one that each was trained from, and the hash still fits; otherwise the exhibit begins another block of
seeds. So no setting, threshold or split of a claim is chosen by the verdicts that it gives. Captions, sentences of claims
and comments do not enter the hash. The code of tests and numbers has a hash of its own: it may be rewritten where all
findings on the reference's records stay exactly what they were.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bench import checkpoint, config, exhibit, machine
from bench.errors import UserError
from bench.looks import BLOCK, JUDGED
from bench.record import Record, keys_in, read
from bench.report import reference, source
from bench.workflow.plan import Plan


def path_of(plan: Plan) -> Path:
    """The committed file, beside the scale file."""
    return config.path_of(plan.source or plan.suite.scale).parent / "frozen" / f"{plan.suite.scale}.json"


def _known(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return _entries(path.read_text(encoding="utf-8"))
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path}: not what `bench freeze` writes ({error}); restore it from the repository") from error


def _entries(text: str) -> dict[str, Any]:
    return dict(json.loads(text).items())


def entry(plan: Plan, name: str) -> dict[str, Any]:
    """What is frozen of an exhibit: where its block begins, its looks, and hashes of what decides its verdicts."""
    shown, settings = exhibit.registry()[name], plan.settings[name]
    # Which exhibit gets seeds may depend on results where looks are declared; elsewhere their number is fixed, too.
    seeds = {"seeds"} if plan.suite.looks else set()
    content = {
        "settings": settings.model_dump(mode="json", exclude=seeds),
        "looks": plan.suite.looks,
        "margins": dict(shown.margins),
        "ranges": {metric: list(ends) for metric, ends in shown.ranges.items()},
        "claims": sorted([claim.kind, sorted(claim.also)] for claim in shown.claims),
    }
    numbers = [_code(part) for part in (shown.rows, shown.derive, shown.chance) if part is not None]
    return {
        "first_seed": settings.first_seed,
        "looks": list(plan.suite.looks),
        "hash": _digest(content),
        "code": _digest([sorted(_code(claim.test) for claim in shown.claims), numbers]),
    }


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _code(function: Callable[..., Any]) -> str:
    if isinstance(function, functools.partial):
        return f"{_code(function.func)} {function.args!r} {function.keywords!r}"
    plain = inspect.unwrap(function)
    return source.digest(plain.__module__, plain.__qualname__.split(".")[0])


def freeze(plan: Plan) -> Path:
    """Writes the file for the plan's exhibits and returns its path; others' entries stay.

    Raises:
        UserError: the block is not one of judged seeds, or was frozen and committed with something else.
    """
    path = path_of(plan)
    known, committed = _known(path), _committed(path, "HEAD")
    lines = []
    for name in plan.exhibits:
        known[name] = entry(plan, name)
        first, before = known[name]["first_seed"], committed.get(name)
        if first < JUDGED:
            lines.append(f"{name}: its seeds begin at {first}; judged ones begin at {JUDGED}: set first_seed")
        elif first % BLOCK + plan.settings[name].seeds > BLOCK:
            lines.append(f"{name}: its seeds run into the next block, which begins at {first - first % BLOCK + BLOCK}")
        elif before and before["first_seed"] == first and before != known[name]:
            if not _same_block(before, known[name]):
                lines.append(f"{name}: is frozen with other settings, margins or looks; {_next_block(first)}")
            elif difference := reference.other_finding(plan, name):
                lines.append(f"{name}: is frozen with other tests, {difference}; {_next_block(first)}")
    if lines:
        raise UserError("\n".join(lines))
    checkpoint.write_text(path, json.dumps(dict(sorted(known.items())), indent=1) + "\n")
    return path


def _next_block(first: int) -> str:
    return f"begin the next block for it (first_seed: {first + BLOCK})"


def _same_block(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether two entries differ in code at most."""
    return {**before, "code": ""} == {**after, "code": ""}


FROZEN, CHANGED, OPEN, SETTLING = "frozen", "changed since it was frozen", "not frozen", "for settling, never judged"
REWRITTEN = "frozen with other code"


def states(plan: Plan) -> dict[str, str]:
    """Exhibit -> whether what its block of seeds is judged by is fixed."""
    judged = any(settings.first_seed >= JUDGED for settings in plan.settings.values())
    known = _known(path_of(plan)) if judged else {}
    return {name: _state(plan, name, known.get(name)) for name in plan.exhibits}


def _state(plan: Plan, name: str, before: Mapping[str, Any] | None) -> str:
    if plan.settings[name].first_seed < JUDGED:
        return SETTLING
    if before is None:
        return OPEN
    now = entry(plan, name)
    return FROZEN if before == now else REWRITTEN if _same_block(before, now) else CHANGED


def summary(plan: Plan) -> str:
    """One line a block: where its seeds begin, and of how many exhibits it is frozen."""
    blocks: dict[int, list[str]] = {}
    for name, state in states(plan).items():
        blocks.setdefault(plan.settings[name].first_seed, []).append(state)
    return "\n".join(
        f"seeds from {first} on: "
        + ", ".join(f"{found.count(state)} exhibits {state}" for state in dict.fromkeys(found))
        for first, found in sorted(blocks.items())
    )


def other_blocks(plan: Plan) -> str:
    """Says that records of judged seeds lie there which belong to no block of the scale, or ""."""
    if not any(settings.first_seed >= JUDGED for settings in plan.settings.values()):
        return ""
    blocks = {exhibit.settings_of(plan.suite, chosen).first_seed // BLOCK for chosen in exhibit.select(plan.suite)}
    known = set(plan.key_by_identity)
    unknown = [key for key in keys_in(plan.layout.runs) if key.split("-")[0] not in known]
    seeds = [read(plan.layout.record(key)).seed for key in unknown]
    stray = [seed for seed in seeds if seed >= JUDGED and seed // BLOCK not in blocks]
    if not stray:
        return ""
    begins = ", ".join(str(BLOCK * block) for block in sorted({seed // BLOCK for seed in stray}))
    return f"{len(stray)} records in {plan.layout.runs} are of another block of seeds ({begins}) and are not judged"


def check(plan: Plan, records: Mapping[str, Iterable[Record]]) -> None:
    """Refuses records of a block that was not frozen before they were trained.

    Args:
        plan: the exhibits.
        records: exhibit -> those that would be taken.

    Raises:
        UserError: a line for each exhibit.
    """
    lines = []
    for name, state in states(plan).items():
        if state == SETTLING:
            continue
        path, first = path_of(plan), plan.settings[name].first_seed
        if state == OPEN:
            lines.append(f"{name}: is not frozen; `bench freeze`, commit {path}, and train it after that")
        elif state == REWRITTEN:
            lines.append(
                f"{name}: its tests have changed since it was frozen; `bench freeze` tells what they find otherwise"
            )
        elif state != FROZEN:
            lines.append(f"{name}: settings, margins or looks have changed since it was frozen; {_next_block(first)}")
        elif (commit := _frozen_in(path, name, entry(plan, name))) is None:
            lines.append(f"{name}: {path} is not committed; commit it, and train after that")
        elif early := [one for one in records[name] if not _descends(path, commit, one.provenance.get("commit"))]:
            lines.append(
                f"{name}: {len(early)} of its runs were trained before it was frozen ({commit[:8]}), "
                f"one is {early[0].label}; {_next_block(first)}"
            )
    if lines:
        raise UserError("\n".join(lines))


def _committed(path: Path, commit: str) -> dict[str, Any]:
    """The file's entries in a commit."""
    text = (
        machine.git("show", f"{commit}:./{path.name}", folder=path.parent, sure=True) if path.parent.is_dir() else None
    )
    try:
        return {} if text is None else _entries(text)
    except (ValueError, AttributeError):
        return {}


def _frozen_in(path: Path, name: str, present: Mapping[str, Any]) -> str | None:
    """The commit that froze an exhibit's block; ``None`` where what it is now is not committed."""
    since = None
    if _committed(path, "HEAD").get(name) != present:
        return None
    for commit in (machine.git("log", "--format=%H", "--", path.name, folder=path.parent, sure=True) or "").split():
        if not _same_block(_committed(path, commit).get(name, {}), present):
            break
        since = commit
    return since


@functools.lru_cache(maxsize=4096)
def _descends(path: Path, commit: str, later: str | None) -> bool:
    return (
        later is not None
        and machine.git("merge-base", "--is-ancestor", commit, later, folder=path.parent, sure=True) is not None
    )
