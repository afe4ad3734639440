"""What page and report say about each exhibit, beside its numbers: the paper, what differs here, runs, cost, files."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bench import exhibit, words
from bench.report import collect, differences, verdicts
from bench.report.verdicts import Entry

if TYPE_CHECKING:
    from bench.workflow.plan import Plan

State = Literal["reproduced", "mixed", "not reproduced", "open", "shown", "not run"]
STATES: dict[State, str] = {
    "reproduced": "every claim that can be judged is reproduced",
    "mixed": "some claims are reproduced, others are not or are still open",
    "not reproduced": "no claim is reproduced, and at least one is not",
    "open": "no claim is decided",
    "shown": "nothing is claimed, or nothing can be compared at this scale; the numbers are shown",
    "not run": "nothing was run",
}
"""What became of an exhibit, in one word, and what that means."""


@dataclass(frozen=True)
class Departure:
    """A setting that is not the paper's.

    Attributes:
        name: of the setting.
        meaning: its description.
        paper: the paper's value, in words.
        here: the value here.
    """

    name: str
    meaning: str
    paper: str
    here: str


@dataclass(frozen=True)
class Shown:
    """What is said about one exhibit.

    Attributes:
        name: ``<paper>/<name>``.
        title: its title.
        caption: what it shows.
        kind: "table" or "figure".
        files: stem of its files.
        missing: runs that it lacks.
        runs: number of runs that it needs.
        seconds: training time of its runs.
        machines: where they ran.
        commits: of the records.
        about: the paper's experiment, in a few sentences.
        expected: what the paper reports.
        here: one sentence on what differs from the paper.
        departures: settings that are not the paper's.
        settings: names of all its settings.
        older: number of records of older code.
        code: file that declares it.
        paper_title: of its paper.
    """

    name: str
    title: str
    caption: str
    kind: str
    files: Path
    missing: list[str]
    runs: int
    seconds: float
    machines: list[str]
    commits: list[str]
    about: str = ""
    expected: str = ""
    here: str = ""
    departures: tuple[Departure, ...] = ()
    settings: tuple[str, ...] = ()
    older: int = 0
    code: str = ""
    paper_title: str = ""

    @property
    def paper(self) -> str:
        return self.name.split("/")[0]

    @property
    def short(self) -> str:
        return self.name.split("/")[1]

    @property
    def label(self) -> str:
        """``Table 1``, ``Figure 2``, or the name of what goes beyond the paper."""
        parts = re.fullmatch(r"(table|fig)(\d+)", self.short)
        return f"{'Table' if parts[1] == 'table' else 'Figure'} {parts[2]}" if parts else self.short

    def drawn(self) -> bool:
        return self.files.with_suffix(".csv").exists()


def position(name: str) -> tuple[int, int, int, str]:
    """Where an exhibit stands in its paper: tables and figures by number, then what goes beyond it."""
    short = name.split("/")[1]
    parts = re.fullmatch(r"(table|fig)(\d+)", short)
    number = (0, ("table", "fig").index(parts[1]), int(parts[2])) if parts else (1, 0, 0)
    return (*number, short)


def in_order(names: Iterable[str]) -> list[str]:
    """Papers as they come, and each one's exhibits by `position`."""
    whole = list(names)
    papers = list(dict.fromkeys(name.split("/")[0] for name in whole))
    return [name for paper in papers for name in sorted((n for n in whole if n.split("/")[0] == paper), key=position)]


def of_plan(plan: Plan) -> list[Shown]:
    """The exhibits of a plan, in the papers' order; those that have not been collected lack all their runs."""
    return [_of_exhibit(plan, name) for name in in_order(plan.exhibits)]


def _of_exhibit(plan: Plan, name: str) -> Shown:
    definition, settings = exhibit.registry()[name], plan.settings[name]
    if collect.table_path(plan, name).exists():
        facts = collect.read_facts(plan, name)
    else:
        labels = [run.spec.label() for run in plan.exhibits[name]]
        facts = collect.Facts(missing=labels, older=0, runs=len(labels), machines=[], seconds=0.0, commits=[])
    fields = type(settings).model_fields
    about, expected = described(sys.modules[definition.module].__doc__ or "")
    return Shown(
        name=name,
        title=definition.title,
        caption=" ".join(filter(None, (definition.caption, differences.selection(definition.paper, settings)))),
        kind=definition.kind,
        files=plan.layout.exhibits / name,
        missing=facts.missing,
        runs=facts.runs,
        seconds=facts.seconds,
        machines=facts.machines,
        commits=facts.commits,
        about=about,
        expected=expected,
        here=differences.sentence(definition.paper, settings),
        departures=tuple(
            Departure(field, _without_tags(fields[field].description or ""), words.setting(paper), words.setting(here))
            for field, (paper, here) in settings.departures().items()
        ),
        settings=tuple(fields),
        older=facts.older,
        code=definition.file,
        paper_title=title_of_paper(definition.module),
    )


def title_of_paper(module: str) -> str:
    """The first line of the docstring of an exhibit's paper, "" where there is none."""
    package = sys.modules.get(module.rsplit(".", 2)[0])
    return ((package and package.__doc__) or "").strip().partition("\n")[0].rstrip(".")


def described(docstring: str) -> tuple[str, str]:
    """What an exhibit's docstring says of the paper's experiment, and of what is expected."""
    about: list[str] = []
    expected: list[str] = []
    lines = about
    for line in docstring.strip().splitlines()[1:]:
        if line.startswith(("Command:", "Cost:")):
            lines = []
        elif line.startswith("Expected"):
            lines = expected
        lines.append(line)
    text, numbers = (_without_tags(" ".join(" ".join(part).split()).replace("`", "")) for part in (about, expected))
    return text, numbers


def _without_tags(text: str) -> str:
    """Text without the tags that tell a reader of the code where it comes from, such as [P]."""
    return re.sub(r"\s*\[[A-Z](?:, [A-Z])*\]", "", text)


def state(item: Shown, entries: Sequence[Entry]) -> State:
    """What became of an exhibit: by its claims, and by its published numbers where it has none."""
    claims = verdicts.of_kind(entries, "claim")
    of_entries = {entry.verdict for entry in claims or verdicts.of_kind(entries, "target")}
    judged = of_entries & {"reproduced", "not reproduced", "undecided"}
    if judged == {"reproduced"}:
        return "reproduced"
    if "reproduced" in judged:
        return "mixed"
    if judged:
        return "not reproduced" if "not reproduced" in judged else "open"
    return "shown" if len(item.missing) < item.runs else "not run"
