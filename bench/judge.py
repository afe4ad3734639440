"""A verdict for every published number and every claim, from the collected tables alone."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from bench import collect, exhibit, published, stats
from bench import plan as planning
from bench.errors import UserError
from bench.plan import Plan
from bench.report import document, page, verdicts
from bench.report.verdicts import Entry

if TYPE_CHECKING:
    import pandas as pd


def _cost(plan: Plan, name: str) -> str:
    """What it would take to run the exhibit, for entries that were not run."""
    sums = planning.total(run for run in plan.runs.values() if name in run.exhibits)
    return f"about {sums['hours_cpu']:,.1f} h on 2 cores or {sums['hours_gpu']:,.1f} h on one GPU"


def _values(frame: pd.DataFrame) -> dict[tuple[Any, ...], dict[int, float]]:
    """Name of a number -> {seed: value}."""
    found: dict[tuple[Any, ...], dict[int, float]] = {}
    for row in frame.to_dict("records"):
        found.setdefault(published.name_of(row), {})[int(row["seed"])] = float(row["value"])
    return found


def _about(row: dict[str, Any]) -> str:
    parts = [str(row[label]) for label in ("panel", "dataset", "model", "method", "optimizer") if row[label]]
    at = f"{row['x_name']} {row['x']:g}" if row["x_name"] and row["x"] == row["x"] else ""
    return ", ".join([*parts, at, str(row["metric"])] if at else [*parts, str(row["metric"])])


def targets(plan: Plan, name: str, frame: pd.DataFrame, facts: collect.Facts) -> list[Entry]:
    """One entry for each of the paper's own numbers that has a margin.

    Numbers are judged at the paper's protocol alone, by equivalence within the margin.
    """
    chosen = exhibit.registry()[name]
    settings = plan.settings[name]
    ours = _values(frame)
    entries = []
    for row in published.targets(chosen).to_dict("records"):
        values = ours.get(published.name_of(row), {})
        margin = chosen.margins[row["metric"]]
        if not values:
            outcome = stats.not_run("no record")
        elif not settings.at_protocol():
            outcome = stats.describe(
                values, verdict="not comparable", detail=f"scale {plan.suite.scale}, another protocol"
            )
        else:
            outcome = stats.equivalent_to(values, float(row["value"]), margin=margin, expected=settings.seed_range())
        entries.append(
            Entry(
                exhibit=name,
                kind="target",
                name=_about(row),
                statement="",
                source=f"{chosen.title} ({row['provenance']})",
                published=float(row["value"]),
                spread=float(row["spread"]) if row["spread"] == row["spread"] else None,
                unit=str(row["unit"]),
                provenance=str(row["provenance"]),
                margin=margin,
                outcome=outcome,
                test="equivalence within the margin",
                scale=plan.suite.scale,
                machine="; ".join(facts.machines),
                older=facts.older > 0,
                cost="" if values else _cost(plan, name),
                note=str(row["note"]),
            )
        )
    return entries


def claims(plan: Plan, name: str, frames: dict[str, pd.DataFrame], facts: collect.Facts) -> list[Entry]:
    """One entry for each claim of an exhibit; claims are judged at every scale."""
    chosen = exhibit.registry()[name]
    entries = []
    for claim in chosen.claims:
        absent = [other for other in (name, *claim.also) if other not in frames or frames[other].empty]
        if absent:
            outcome = stats.not_run(f"needs {', '.join(absent)}")
        else:
            given = {other: frames[other] for other in (name, *claim.also)} if claim.also else frames[name]
            try:
                outcome = claim.test(given)
            except (KeyError, IndexError) as error:
                outcome = stats.not_run(f"rows are missing: {error}")
        reason = claim.beyond.get(plan.suite.scale, "")
        entries.append(
            Entry(
                exhibit=name,
                kind="claim",
                name=claim.name,
                statement=claim.statement,
                source=claim.source,
                published=None,
                spread=None,
                unit="",
                provenance="text",
                margin=None,
                outcome=outcome,
                test=outcome.test,
                scale=plan.suite.scale,
                machine="; ".join(facts.machines),
                older=facts.older > 0,
                cost=_cost(plan, name) if outcome.verdict == "not run" else "",
                note=f"not to be expected at this scale: {reason}" if reason else "",
            )
        )
    return entries


def entries_of(plan: Plan) -> list[Entry]:
    """All entries of the plan's exhibits, in their order."""
    read = {name: collect.read(plan, name) for name in plan.members}
    frames = {name: frame for name, (frame, _) in read.items()}
    found: list[Entry] = []
    for name, (frame, facts) in read.items():
        found += claims(plan, name, frames, facts)
        found += targets(plan, name, frame, facts)
    return found


def _regressions(plan: Plan, entries: list[Entry]) -> list[str]:
    """Claims that the reference reproduced and these results do not."""
    from bench import reference

    made = reference.as_results(plan)
    for name in made.members:
        collect.collect(made, name)
    before = {(entry.exhibit, entry.name): entry.outcome.verdict for entry in entries_of(made) if entry.kind == "claim"}
    return [
        f"{entry.exhibit} {entry.name}: reproduced in the reference, now {entry.outcome.verdict} ({entry.outcome.detail})"
        for entry in entries
        if entry.kind == "claim"
        and before.get((entry.exhibit, entry.name)) == "reproduced"
        and entry.outcome.verdict != "reproduced"
    ]


def judge(plan: Plan, *, strict: bool = False) -> int:
    """Prints the verdicts and writes ``verdicts.{csv,md,html}`` and ``index.html``; with `strict`, 1 on a regression."""
    entries = entries_of(plan)
    verdicts.write(entries, plan.layout.root / "verdicts")
    page.write(plan.layout.root / "index.html", entries, exhibits_of(plan), scale=plan.suite.scale)
    print(verdicts.as_text(entries))
    if not strict:
        return 0
    lost = _regressions(plan, entries)
    for line in lost:
        print(f"REGRESSION {line}", file=sys.stderr)
    return 1 if lost else 0


def exhibits_of(plan: Plan) -> list[document.Shown]:
    """What the page and the report say about each exhibit."""
    shown = []
    for name in plan.members:
        chosen = exhibit.registry()[name]
        _, facts = collect.read(plan, name)
        departures = {
            field: f"{_short(paper)} → {_short(here)}"
            for field, (paper, here) in plan.settings[name].departures().items()
        }
        shown.append(
            document.Shown(
                name=name,
                title=chosen.title,
                caption=chosen.caption,
                kind=chosen.kind,
                files=plan.layout.exhibits / name,
                departures=departures,
                missing=facts.missing,
                runs=facts.runs,
                seconds=facts.seconds,
                machines=facts.machines,
                commits=facts.commits,
            )
        )
    return shown


def _short(value: Any) -> str:
    plain = value.model_dump(mode="json", exclude_defaults=True) if hasattr(value, "model_dump") else value
    text = plain if isinstance(plain, str) else json.dumps(plain, default=str)
    return text if len(text) <= 80 else f"{text[:77]}…"


def report(plan: Plan) -> None:
    """Builds ``paper.pdf``.

    Raises:
        UserError: the exhibits have not been drawn.
    """
    shown = exhibits_of(plan)
    if not any(item.files.with_suffix(".csv").exists() for item in shown):
        raise UserError(f"{plan.layout.exhibits}: nothing is drawn; run `python -m bench draw` first")
    document.write(
        plan.layout.root / "paper.pdf",
        entries_of(plan),
        shown,
        scale=plan.suite.scale,
    )
