"""A verdict for every published number and every claim, from the collected tables alone."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from bench import config, exhibit, published, record, stats, words
from bench.errors import UserError
from bench.exhibit import Exhibit
from bench.report import claims as claim_tests
from bench.report import collect, freeze, html, needs, pdf, shown, verdicts
from bench.report.claims import Frames
from bench.report.verdicts import Entry
from bench.workflow import plan as planning
from bench.workflow.plan import Plan

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Subject:
    """One exhibit that is judged, with what its entries share.

    Attributes:
        plan: the plan that it belongs to.
        name: ``<paper>/<name>``.
        frame: its long frame.
        facts: what is missing, and where its runs were trained.
    """

    plan: Plan
    name: str
    frame: pd.DataFrame
    facts: collect.Facts

    @cached_property
    def exhibit(self) -> Exhibit:
        return exhibit.registry()[self.name]

    @cached_property
    def values(self) -> dict[tuple[Any, ...], dict[int, float]]:
        """Name of a number -> {seed: value}."""
        values: dict[tuple[Any, ...], dict[int, float]] = {}
        for row in self.frame.to_dict("records"):
            values.setdefault(published.name_of(row), {})[int(row["seed"])] = float(row["value"])
        return values

    @cached_property
    def seeds(self) -> list[tuple[dict[str, Any], set[int]]]:
        """Labels of members -> their seeds: a design may repeat some of its cells less often than others."""
        arms: list[tuple[dict[str, Any], set[int]]] = []
        for member in self.plan.exhibits[self.name]:
            labels = dict(member.labels)
            same = next((seeds for known, seeds in arms if known == labels), None)
            if same is None:
                arms.append((labels, {member.spec.seed}))
            else:
                same.add(member.spec.seed)
        return arms

    def expected(self, row: Mapping[str, Any]) -> set[int]:
        """Seeds that a number should have: those of the members that its labels do not contradict."""

        def fits(labels: Mapping[str, Any]) -> bool:
            return published.name_of({**row, **labels}) == published.name_of(row)

        return {seed for labels, seeds in self.seeds if fits(labels) for seed in seeds}

    @cached_property
    def cost(self) -> str:
        """What the runs of the exhibit that are missing would take."""
        runs = [run for run in self.plan.runs.values() if self.name in run.exhibits and run.state == planning.MISSING]
        return f"{len(runs)} runs, {_hours(runs)}" if runs else ""

    @cached_property
    def cost_at_protocol(self) -> str:
        """What the exhibit would take as the paper made it."""
        whole = _at_protocol(tuple(self.plan.exhibits))
        runs = [run for run in whole.runs.values() if self.name in run.exhibits]
        return f"{_hours(runs)} for the whole exhibit at scale paper"

    def entry(self, kind: str, name: str, finding: stats.Finding, **fields: Any) -> Entry:
        """An entry with the surroundings that all of the exhibit's entries have."""
        shared = {
            "statement": "",
            "published": None,
            "spread": None,
            "unit": "",
            "margin": None,
            "test": finding.test,
            "cost": "",
            "note": "",
        }
        return Entry(
            exhibit=self.name,
            kind=kind,
            name=name,
            finding=finding,
            scale=self.plan.suite.scale,
            machine="; ".join(self.facts.machines),
            older=self.facts.older > 0 and finding.n > 0,  # a number that nothing stands beside is not of older code
            **{**shared, **fields},
        )


@lru_cache(maxsize=1)
def _at_protocol(names: tuple[str, ...]) -> Plan:
    """Exhibits as their papers made them."""
    return planning.make(config.load("paper"), names)


def _hours(runs: Any) -> str:
    sums = planning.total(runs)
    cores, gpu = (words.duration(3600 * sums[f"hours_{device}"]) for device in ("cpu", "gpu"))
    return f"about {cores} on 2 cores or {gpu} on one GPU"


def _about(row: Mapping[str, Any]) -> str:
    parts = [str(row[label]) for label in ("panel", "dataset", "model", "method", "optimizer") if row[label]]
    at = f"{row['x_name']} {row['x']:g}" if row["x_name"] and row["x"] == row["x"] else ""
    return ", ".join([*parts, at, str(row["metric"])] if at else [*parts, str(row["metric"])])


def _as_published(row: Mapping[str, Any]) -> dict[str, Any]:
    def number(name: str) -> float | None:
        return None if row[name] != row[name] else float(row[name])

    return {
        "published": number("value"),
        "spread": number("spread"),
        "unit": str(row["unit"]),
        "provenance": str(row["provenance"]),
        "note": str(row["note"]),
    }


def targets(subject: Subject) -> list[Entry]:
    """One entry for each of the paper's own numbers that has a margin.

    Numbers are judged at the paper's protocol alone, by equivalence within the margin.
    """
    shown_exhibit, settings = subject.exhibit, subject.plan.settings[subject.name]
    entries = []
    for row in published.targets(shown_exhibit).to_dict("records"):
        values = subject.values.get(published.name_of(row), {})
        margin = shown_exhibit.margins[row["metric"]]
        cost = ""
        if not values:
            finding = stats.not_run("no record of this number at this scale")
            cost = subject.cost if settings.at_protocol() else subject.cost_at_protocol
        elif not settings.at_protocol():
            finding = stats.describe(
                values,
                verdict="not comparable",
                detail=f"scale {subject.plan.suite.scale} departs from the paper's protocol",
            )
        else:
            test = stats.equivalent_to(values, float(row["value"]), margin=margin, expected=subject.expected(row))
            finding = stats.judged(test, claim_tests.looks_of(subject.plan, subject.name))
        entries.append(
            subject.entry(
                "target",
                _about(row),
                finding,
                source=f"{shown_exhibit.title} ({row['provenance']})",
                margin=margin,
                test="equivalence within the margin",
                cost=cost,
                **_as_published(row),
            )
        )
    return entries


def context(subject: Subject) -> list[Entry]:
    """Published rows that are shown and not judged: replications, axis ticks, derived values, numbers without a margin."""
    shown_exhibit = subject.exhibit
    entries = []
    for row in published.context(shown_exhibit).to_dict("records"):
        values = subject.values.get(published.name_of(row), {})
        finding = stats.estimate(values) if values else stats.not_run("")
        entries.append(
            subject.entry("context", _about(row), finding, source=shown_exhibit.title, test="", **_as_published(row))
        )
    return entries


def claims(subject: Subject, read: Frames) -> list[Entry]:
    """One entry for each claim and estimate of an exhibit; claims are judged at every scale."""
    entries = []
    for claim in subject.exhibit.claims:
        finding = claim_tests.finding(subject.plan, subject.name, claim, read)
        entries.append(
            subject.entry(
                "estimate" if "estimate" in (claim.kind, finding.verdict) else "claim",
                claim.name,
                finding,
                statement=claim.statement,
                source=claim.source,
                provenance="text",
                cost=subject.cost if finding.verdict == "not run" else "",
                note=needs.note(subject.name, claim.name),
                not_expected_at=claim.not_expected_at.get(subject.plan.suite.scale, ""),
            )
        )
    return entries


def further(plan: Plan) -> list[Entry]:
    """Published rows of the plan's papers that belong to no exhibit: follow-ups, replications, set-up values."""
    entries = []
    for paper in dict.fromkeys(name.split("/")[0] for name in plan.exhibits):
        for row in published.further(paper).to_dict("records"):
            entries.append(
                Entry(
                    exhibit=f"{paper}/{row['exhibit']}",
                    kind="context",
                    name=_about(row),
                    statement="",
                    source=str(row["exhibit"]),
                    margin=None,
                    finding=stats.not_run(""),
                    test="",
                    scale=plan.suite.scale,
                    machine="",
                    older=False,
                    cost="",
                    **_as_published(row),
                )
            )
    return entries


def _frames(plan: Plan) -> Frames:
    return {name: collect.read(plan, name) for name in shown.in_order(plan.exhibits)}


def entries_of(plan: Plan) -> list[Entry]:
    """All entries of the plan's exhibits, in their order."""
    return _entries(plan, _frames(plan))


def _entries(plan: Plan, read: Frames) -> list[Entry]:
    entries: list[Entry] = []
    for name, (frame, facts) in read.items():
        subject = Subject(plan, name, frame, facts)
        for part in (claims(subject, read), targets(subject), context(subject)):
            entries += part
    return entries + further(plan)


def claims_of(plan: Plan) -> list[Entry]:
    """The claims among `entries_of`."""
    read = _frames(plan)
    return [entry for name, facts in read.items() for entry in claims(Subject(plan, name, *facts), read)]


def beside_reference(plan: Plan, entries: list[Entry]) -> list[Entry]:
    """The entries with what the committed reference says about each claim; unchanged where a scale has none."""
    from bench.report import reference

    if not reference.exists(plan.suite.scale):
        return entries
    before = {(entry.exhibit, entry.name): entry for entry in claims_of(reference.as_results(plan)) if entry.ran()}
    return [
        replace(entry, reference=known.verdict, reference_text=known.ours_text())
        if entry.kind == "claim" and (known := before.get((entry.exhibit, entry.name)))
        else entry
        for entry in entries
    ]


def _strict(plan: Plan, entries: list[Entry]) -> int:
    """Says what the comparison with the reference found; 1 when a claim was lost.

    Raises:
        UserError: there is nothing to compare with.
    """
    from bench.report import reference, regress

    reference.check(plan.suite.scale)
    unknown = [
        f"{entry.exhibit} {entry.name}"
        for entry in entries
        if entry.kind == "claim" and entry.verdict != "not run" and not entry.reference
    ]
    if unknown:
        named = ", ".join(unknown[:5]) + (" …" if len(unknown) > 5 else "")
        print(
            f"note: the reference has no records for {len(unknown)} claims ({named}); they are not compared. "
            f"Renew it with `python -m bench reference update --scale {plan.source or plan.suite.scale} --why REASON`",
            file=sys.stderr,
        )
    claimed = {(entry.exhibit, entry.name): entry.finding for entry in entries if entry.kind == "claim"}
    return regress.tell(regress.compare(plan, claimed))


def _fewer_seeds(plan: Plan) -> str:
    """Says where the reference looked at more seeds, and how to train them; "" where it did not."""
    from bench.report import reference

    more = {
        name: n
        for name, n in reference.seeds(plan.suite.scale).items()
        if name in plan.settings and plan.settings[name].seeds < n
    }
    if not plan.suite.looks or not more:
        return ""
    return (
        f"The reference has further seeds of {len(more)} exhibits, and may decide claims that are open here; "
        f"`make reproduce SCALE={plan.source or plan.suite.scale} DECIDE=<core-hours>` trains them where they decide most."
    )


def judge(plan: Plan, *, strict: bool = False, tell: Callable[[str], None] = print) -> int:
    """Prints the verdicts and writes ``verdicts.{csv,md}`` and ``index.html``; with `strict`, 1 on a regression."""
    entries = beside_reference(plan, entries_of(plan))
    verdicts.write(entries, plan.layout.root / "verdicts")
    items = shown.of_plan(plan)
    html.write(plan.layout.root / "index.html", entries, items, scale=plan.suite.scale, about=plan.suite.about)
    tell(verdicts.as_text(entries))
    for note in filter(None, (_fewer_seeds(plan), freeze.other_blocks(plan))):
        tell(note)
    return _strict(plan, entries) if strict else 0


PAGE_SECONDS = 20.0
"""Time within which the page of a call at work is not written again: judging takes a second or two."""


def page_so_far(plan: Plan) -> None:
    """Writes ``index.html`` of what has been drawn, while the rest trains; other exhibits are not run there.

    Nothing is written where another process is at it, or has just been.
    """
    from filelock import FileLock, Timeout

    path, lock = plan.layout.root / "index.html", plan.layout.scratch / "page.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(Timeout), FileLock(lock, timeout=0):
        if path.exists() and time.time() - path.stat().st_mtime < PAGE_SECONDS:
            return
        there = [name for name in shown.in_order(plan.exhibits) if collect.table_path(plan, name).exists()]
        entries = _entries(plan, {name: collect.read(plan, name) for name in there})
        html.write(path, entries, shown.of_plan(plan), scale=plan.suite.scale, about=plan.suite.about)


def report(plan: Plan) -> None:
    """Builds ``paper.pdf``.

    Raises:
        UserError: the exhibits have not been drawn.
    """
    items = shown.of_plan(plan)
    if not any(item.drawn() for item in items):
        raise UserError(f"{plan.layout.exhibits}: nothing is drawn; run `python -m bench draw` first")
    entries = beside_reference(plan, entries_of(plan))
    path = plan.layout.root / "paper.pdf"
    pdf.write(path, entries, items, scale=plan.suite.scale, about=plan.suite.about, cost=cost_of(plan))


def cost_of(plan: Plan) -> pdf.Cost:
    """What the plan's records took, each run once, and what everything would take as the papers made it."""
    whole = _at_protocol(tuple(plan.exhibits))
    by_exhibit: dict[str, list[planning.Planned]] = {name: [] for name in plan.exhibits}
    for run in whole.runs.values():
        for name in run.exhibits:
            by_exhibit[name].append(run)
    there = [path for run in plan.runs.values() if (path := plan.layout.record(run.used)).exists()]
    return pdf.Cost(
        runs=len(there),
        seconds=sum(collect.seconds_of(record.read(path)) for path in there),
        protocol_hours=planning.total(whole.runs.values())["hours_gpu"],
        by_exhibit={name: planning.total(runs)["hours_gpu"] for name, runs in by_exhibit.items()},
    )
