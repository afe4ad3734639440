"""The parts of README.md that are generated: results from the committed reference records, never typed."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import checkpoint, config, paths, reference, stats, wording
from bench import plan as planning
from bench.errors import UserError
from bench.exhibit import PAPERS
from bench.plan import Plan
from bench.report import verdicts
from bench.report.verdicts import Entry

README = paths.PROJECT / "README.md"

PREFERRED = ("paper", "small", "ci")
"""Scales of the reference, the best first."""

PICTURE = ("warmstart/fig2", "warmstart/fig7", "warmstart/fig1")
"""Figures that may stand at the top, the first that the reference can draw."""

HEADLINES = {
    "warmstart": (
        ("warmstart/table1", ("cifar10", "thin_resnet18", "sgd", "val_acc")),
        ("warmstart/table1", ("cifar10", "thin_resnet18", "adam", "val_acc")),
        ("warmstart/fig2", ("val_acc", "33333")),
    ),
    "rewarm": (("rewarm/fig1", ("max_val_loss",)),),
    "certified": (("certified/table1", ("cifar10", "cnn7", "verified_error")),),
}
"""Paper -> (exhibit, words that the names of its headline numbers have)."""


@dataclass(frozen=True)
class Source:
    """The reference records of one paper at one scale.

    Attributes:
        paper: its short name.
        scale: where its records are from.
        fed: plan that reads them.
        entries: their verdicts.
    """

    paper: str
    scale: str
    fed: Plan
    entries: list[Entry]


def sources() -> list[Source]:
    """Every paper at every scale that has a reference, the best scale of a paper first."""
    from bench import judge

    found = []
    for paper in PAPERS:
        for scale in PREFERRED:
            if paper in reference.papers(scale):
                fed = reference.as_results(planning.make(config.load(scale), [paper]))
                found.append(Source(paper, scale, fed, judge.entries_of(fed)))
    return found


def headline_numbers(source: Source) -> list[Entry]:
    """The paper's best-known numbers that the reference has."""
    chosen: list[Entry] = []
    for exhibit, words in HEADLINES.get(source.paper, ()):
        chosen += [
            entry
            for entry in source.entries
            if entry.exhibit == exhibit
            and entry.kind != "claim"
            and entry.provenance in ("printed", "digitised")
            and entry.ran()
            and all(word in entry.name for word in words)
            and entry not in chosen
        ]
    return chosen


def _link(exhibit: str) -> str:
    paper, short = exhibit.split("/")
    path = f"bench/{paper}/exhibits/{short}.py"
    return f"[{exhibit}]({path})" if (paths.PROJECT / path).exists() else exhibit


def _overview(found: Sequence[Source]) -> list[str]:
    """How many claims of each paper came out how, at every scale."""
    shown = stats.VERDICTS
    lines = [f"| paper | scale | machine | claims | {' | '.join(shown)} |", f"|---|---|---|---:|{'---:|' * len(shown)}"]
    for source in found:
        claims = verdicts.of_kind(source.entries, "claim")
        counted = verdicts.counts(claims)
        note = reference.notes(source.scale)[source.paper][0]
        machines = ", ".join(
            machine["processor"] if not machine["gpus"] else machine["gpus"][0] for machine in note["machines"]
        )
        cells = " | ".join(str(counted[verdict] or "") for verdict in shown)
        lines.append(f"| {source.paper} | `{source.scale}` | {machines} | {len(claims)} | {cells} |")
    return lines


def _numbers(chosen: Iterable[Source]) -> list[str]:
    """The best-known numbers, published beside reproduced; nothing where there are none."""
    lines = [
        f"| {_link(entry.exhibit)} | {entry.name} | {entry.published_text()} {entry.unit} | {entry.ours_text()} "
        f"| `{source.scale}` | {entry.outcome.n} | {entry.verdict} |"
        for source in chosen
        for entry in headline_numbers(source)
    ]
    head = ["| exhibit | number | published | here | scale | n | verdict |", "|---|---|---:|---:|---|---:|---|"]
    return [*head, *lines, ""] if lines else []


def _claims(source: Source) -> list[str]:
    lines = ["| exhibit | claim | verdict | estimate, 95 % interval | n |", "|---|---|---|---:|---:|"]
    for entry in verdicts.of_kind(source.entries, "claim"):
        if entry.ran():
            expected = " (not to be expected at this scale)" if entry.beyond else ""
            lines.append(
                f"| {_link(entry.exhibit)} | **{entry.name}** {entry.statement} | {entry.verdict}{expected} "
                f"| {entry.ours_text()} | {entry.outcome.n} |".replace("\n", " ")
            )
    return lines


def results(found: Sequence[Source]) -> str:
    """Counts of claims, headline numbers of each paper's best scale, and all claims, folded; from the reference."""
    if not found:
        return "No reference records are committed yet; `make reproduce` makes results of your own.\n"
    best: dict[str, Source] = {}
    for source in found:
        best.setdefault(source.paper, source)
    parts = [*_overview(found), "", *_numbers(best.values())]
    for source in found:
        numbers = [] if best[source.paper] is source else _numbers([source])
        summary = f"<details><summary>{source.paper} at scale {source.scale}: all claims</summary>"
        parts += [summary, "", *_claims(source), "", *numbers, "</details>", ""]
    return "\n".join(parts)


def speed() -> str:
    """The committed speed tables: their headline rows side by side, then each kind of machine's whole table, folded."""
    headlines: dict[tuple[str, str], dict[str, str]] = {}
    machines, whole = [], []
    for path in sorted((paths.PROJECT / "results" / "perf").glob("*.md")):
        table, _, rest = path.read_text().partition("```json\n")
        facts = json.loads(rest.partition("```")[0])
        name = ", ".join(facts["gpus"]) or f"{facts['processor']} ({facts['vector_units']})"
        machines.append(f"{name}, {facts['cores']} cores")
        with path.with_suffix(".csv").open(newline="") as stream:
            for row in csv.DictReader(stream):
                if _is_headline(row):
                    ours, peer = (wording.rate(float(row[side])) for side in ("ours", "peer"))
                    cell = f"**{float(row['ratio']):.2f}**: {ours} against {peer} {row['unit']}"
                    headlines.setdefault((row["path"], row["variant"]), {})[machines[-1]] = cell
        made = f"torch {facts['packages']['torch']}, {facts['measured'][:10]}, commit {facts['commit'][:12]}"
        summary = f"<details><summary>{machines[-1]}: all rows ({made})</summary>"
        whole += [summary, "", table.strip(), "", "</details>", ""]
    if not machines:
        return "No table is committed yet; `make perf` makes one of your machine.\n"
    lines = [f"| path | variant | {' | '.join(machines)} |", f"|---|---|{'---|' * len(machines)}"]
    parts = list(dict.fromkeys(part for part, _ in headlines))
    for (part, variant), cells in sorted(headlines.items(), key=lambda item: parts.index(item[0][0])):
        lines.append(f"| {part} | {variant} | {' | '.join(cells.get(machine, '') for machine in machines)} |")
    return "\n".join([*lines, "", *whole])


def _is_headline(row: Mapping[str, str]) -> bool:
    """Whether a row compares a whole step, in one arithmetic, or all of another path with what one would run instead."""
    path, variant = row["path"], row["variant"]
    return bool(row["ratio"]) and (variant in ("float32", "bf16") or not path.endswith(("/step", "/company")))


def put(text: str, name: str, content: str) -> str:
    """The text with what stands between ``<!-- name -->`` and ``<!-- /name -->`` replaced.

    Raises:
        UserError: a marker is missing.
    """
    pattern = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- /{re.escape(name)} -->)", re.DOTALL)
    if not pattern.search(text):
        raise UserError(f"{README}: has no '<!-- {name} -->' followed by '<!-- /{name} -->'; put the markers back")
    return pattern.sub(lambda found: f"{found[1]}{content}{found[2]}", text)


def _picture(found: Sequence[Source], draw: bool) -> str:
    """Markdown of the figure at the top; draws it beside the records it comes from."""
    for name in PICTURE:
        for source in found:
            members = source.fed.members.get(name, [])
            if members and all(
                source.fed.layout.record(source.fed.runs[key].used).exists() for key in source.fed.keys_of(name)
            ):
                target = reference.folder(source.scale) / f"{name.replace('/', '-')}.png"
                if draw:
                    _draw(source.fed, name, target)
                from bench import exhibit

                shown = exhibit.registry()[name]
                relative = target.relative_to(paths.PROJECT) if target.is_relative_to(paths.PROJECT) else target
                return f"![{shown.title}]({relative})\n\n*{shown.title}, scale `{source.scale}`: {shown.caption}*\n"
    return ""


def _draw(fed: Plan, name: str, target: Path) -> None:
    from bench import draw

    draw.draw(fed, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile((fed.layout.exhibits / name).with_suffix(".png"), target)


def rendered(text: str, *, draw: bool = False) -> str:
    """README with its generated parts made anew from the reference."""
    found = sources()
    parts = {"picture": _picture(found, draw), "results": results(found), "speed": speed()}
    for name, content in parts.items():
        text = put(text, name, content)
    return text


def write() -> None:
    """Writes README.md and its picture."""
    checkpoint.write_text(README, rendered(README.read_text(), draw=True))
