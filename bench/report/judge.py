"""A verdict for every published number and every claim, from the collected tables alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from bench import config, exhibit, published, stats, words
from bench.errors import UserError
from bench.exhibit import Claim, Exhibit
from bench.report import collect, html_tables, page, verdicts
from bench.report import pdf as document
from bench.report.verdicts import Entry
from bench.workflow import plan as planning
from bench.workflow.plan import Plan

if TYPE_CHECKING:
    import pandas as pd

Frames = Mapping[str, "tuple[pd.DataFrame, collect.Facts]"]
"""Exhibit -> its long frame and its facts."""


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
        found: dict[tuple[Any, ...], dict[int, float]] = {}
        for row in self.frame.to_dict("records"):
            found.setdefault(published.name_of(row), {})[int(row["seed"])] = float(row["value"])
        return found

    @cached_property
    def seeds(self) -> list[tuple[dict[str, Any], set[int]]]:
        """Labels of members -> their seeds: a design may repeat some of its cells less often than others."""
        found: list[tuple[dict[str, Any], set[int]]] = []
        for member in self.plan.exhibits[self.name]:
            labels = dict(member.labels)
            same = next((seeds for known, seeds in found if known == labels), None)
            if same is None:
                found.append((labels, {member.spec.seed}))
            else:
                same.add(member.spec.seed)
        return found

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

    def entry(self, kind: str, name: str, outcome: stats.Finding, **fields: Any) -> Entry:
        """An entry with the surroundings that all of the exhibit's entries have."""
        shared = {
            "statement": "",
            "published": None,
            "spread": None,
            "unit": "",
            "margin": None,
            "test": outcome.test,
            "cost": "",
            "note": "",
        }
        return Entry(
            exhibit=self.name,
            kind=kind,
            name=name,
            finding=outcome,
            scale=self.plan.suite.scale,
            machine="; ".join(self.facts.machines),
            older=self.facts.older > 0 and outcome.n > 0,  # a number that nothing stands beside is not of older code
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
    chosen, settings = subject.exhibit, subject.plan.settings[subject.name]
    entries = []
    for row in published.targets(chosen).to_dict("records"):
        values = subject.values.get(published.name_of(row), {})
        margin = chosen.margins[row["metric"]]
        cost = ""
        if not values:
            outcome = stats.not_run("no record of this number at this scale")
            cost = subject.cost if settings.at_protocol() else subject.cost_at_protocol
        elif not settings.at_protocol():
            outcome = stats.describe(
                values,
                verdict="not comparable",
                detail=f"scale {subject.plan.suite.scale} departs from the paper's protocol",
            )
        else:
            outcome = stats.equivalent_to(values, float(row["value"]), margin=margin, expected=subject.expected(row))
        entries.append(
            subject.entry(
                "target",
                _about(row),
                outcome,
                source=f"{chosen.title} ({row['provenance']})",
                margin=margin,
                test="equivalence within the margin",
                cost=cost,
                **_as_published(row),
            )
        )
    return entries


def context(subject: Subject) -> list[Entry]:
    """Published rows that are shown and not judged: replications, axis ticks, derived values, numbers without a margin."""
    chosen = subject.exhibit
    entries = []
    for row in published.context(chosen).to_dict("records"):
        values = subject.values.get(published.name_of(row), {})
        outcome = stats.report(values) if values else stats.not_run("")
        entries.append(
            subject.entry("context", _about(row), outcome, source=chosen.title, test="", **_as_published(row))
        )
    return entries


def _tested(claim: Claim, name: str, read: Frames) -> stats.Finding:
    """The claim's own verdict, undecided where runs that it may need are missing."""
    needed = (name, *claim.also)
    if absent := [other for other in needed if other not in read or len(read[other][1].missing) >= read[other][1].runs]:
        return stats.not_run(f"no run of {', '.join(absent)} is there")
    given = {other: read[other][0] for other in needed} if claim.also else read[name][0]
    gaps = {other: read[other][1] for other in needed if read[other][1].missing}
    empty = any(read[other][0].empty for other in needed)  # of runs that are there: the test says what they lack
    try:
        outcome = claim.test(given)
    except Exception as error:
        # A test may ask for cells that this scale leaves out; with every run there, anything else is a fault of the test.
        if not (gaps or empty) and not isinstance(error, KeyError | IndexError):
            raise
        said = error.args[0] if error.args else error  # of a KeyError, without quotes
        return stats.not_run(f"rows are missing: {' '.join(str(said).split())}")
    if gaps and outcome.verdict in ("reproduced", "not reproduced"):
        lacks = ", ".join(f"{len(facts.missing)} of {facts.runs} runs of {other}" for other, facts in gaps.items())
        return stats.undecided(outcome, f"missing: {lacks}")
    return outcome


def claims(subject: Subject, read: Frames) -> list[Entry]:
    """One entry for each claim of an exhibit; claims are judged at every scale."""
    entries = []
    for claim in subject.exhibit.claims:
        outcome = _tested(claim, subject.name, read)
        reason = claim.not_expected_at.get(subject.plan.suite.scale, "")
        entries.append(
            subject.entry(
                "claim",
                claim.name,
                outcome,
                statement=claim.statement,
                source=claim.source,
                provenance="text",
                cost=subject.cost if outcome.verdict == "not run" else "",
                not_expected_at=reason,
            )
        )
    return entries


def further(plan: Plan) -> list[Entry]:
    """Published rows of the plan's papers that belong to no exhibit: follow-ups, replications, set-up values."""
    found = []
    for paper in dict.fromkeys(name.split("/")[0] for name in plan.exhibits):
        for row in published.further(paper).to_dict("records"):
            found.append(
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
    return found


def _frames(plan: Plan) -> Frames:
    return {name: collect.read(plan, name) for name in document.in_order(plan.exhibits)}


def entries_of(plan: Plan) -> list[Entry]:
    """All entries of the plan's exhibits, in their order."""
    read = _frames(plan)
    found: list[Entry] = []
    for name, (frame, facts) in read.items():
        subject = Subject(plan, name, frame, facts)
        for part in (claims(subject, read), targets(subject), context(subject)):
            found += part
    return found + further(plan)


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


def _regressions(entries: list[Entry]) -> list[str]:
    """Claims that the reference reproduced and these results do not."""
    return [
        f"{entry.exhibit} {entry.name}: reproduced in the reference ({entry.reference_text}), "
        f"now {entry.verdict} ({entry.finding.detail})"
        for entry in entries
        if entry.kind == "claim" and entry.reference == "reproduced" and entry.verdict != "reproduced"
    ]


def _strict(plan: Plan, entries: list[Entry]) -> int:
    """Says what the comparison with the reference found; 1 when a claim was lost.

    Raises:
        UserError: there is nothing to compare with.
    """
    from bench.report import reference

    reference.check(plan.suite.scale)
    claimed = [entry for entry in entries if entry.kind == "claim"]
    held = [entry for entry in claimed if entry.reference == "reproduced"]
    lost = _regressions(entries)
    unknown = [
        f"{entry.exhibit} {entry.name}" for entry in claimed if entry.verdict != "not run" and not entry.reference
    ]
    print(f"reference: {len(held)} of {len(claimed)} claims are reproduced there, {len(held) - len(lost)} of them here")
    if unknown:
        shown = ", ".join(unknown[:5]) + (" …" if len(unknown) > 5 else "")
        print(
            f"note: the reference has no records for {len(unknown)} claims ({shown}); they are not compared. "
            f"Renew it with `python -m bench reference --scale {plan.source or plan.suite.scale} --why REASON`",
            file=sys.stderr,
        )
    for line in lost:
        print(f"REGRESSION {line}", file=sys.stderr)
    return 1 if lost else 0


def judge(plan: Plan, *, strict: bool = False, tell: Callable[[str], None] = print) -> int:
    """Prints the verdicts and writes ``verdicts.{csv,md,html}`` and ``index.html``; with `strict`, 1 on a regression."""
    entries = beside_reference(plan, entries_of(plan))
    verdicts.write(entries, plan.layout.root / "verdicts")
    html_tables.write(entries, plan.layout.root / "verdicts.html")
    page.write(plan.layout.root / "index.html", entries, exhibits_of(plan), scale=plan.suite.scale)
    tell(verdicts.as_text(entries))
    return _strict(plan, entries) if strict else 0


def exhibits_of(plan: Plan) -> list[document.Shown]:
    """What the page and the report say about each exhibit."""
    shown = []
    for name in document.in_order(plan.exhibits):
        chosen = exhibit.registry()[name]
        facts = collect.read_facts(plan, name)
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
                older=facts.older,
                code=chosen.file,
                settings=tuple(type(plan.settings[name]).model_fields),
            )
        )
    return shown


def _short(value: Any) -> str:
    text = words.setting(value)
    return text if len(text) <= 200 else f"{text[:197]}…"


def report(plan: Plan) -> None:
    """Builds ``paper.pdf``.

    Raises:
        UserError: the exhibits have not been drawn.
    """
    shown = exhibits_of(plan)
    if not any(item.files.with_suffix(".csv").exists() for item in shown):
        raise UserError(f"{plan.layout.exhibits}: nothing is drawn; run `python -m bench draw` first")
    entries = beside_reference(plan, entries_of(plan))
    document.write(
        plan.layout.root / "paper.pdf",
        entries,
        shown,
        scale=plan.suite.scale,
        about=plan.suite.about,
        protocol=_protocol_hours(list(plan.exhibits)),
    )


def _protocol_hours(names: list[str]) -> dict[str, str]:
    """Exhibit -> hours on one GPU at the paper's own protocol, parents included."""
    whole = _at_protocol(tuple(names))
    return {
        name: f"{planning.total(run for run in whole.runs.values() if name in run.exhibits)['hours_gpu']:,.1f}"
        for name in names
    }
