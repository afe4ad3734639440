"""What is generated of README.md, and the pages that it leads to: results of the reference records, never typed."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench import checkpoint, config, paths, stats, words
from bench.errors import UserError
from bench.exhibit import PAPERS
from bench.report import collect, reference, verdicts
from bench.report.verdicts import Entry
from bench.workflow import plan as planning
from bench.workflow.plan import Plan

README = paths.PROJECT / "README.md"

PREFERRED = ("paper", "small", "ci")
"""Scales of the reference, the best first."""

PICTURE = ("warmstart/fig2", "warmstart/fig7", "warmstart/fig1")
"""Figures that may stand at the top, the first that the reference can draw."""

HEADLINES = {
    "warmstart": (
        ("warmstart/table1", ("cifar10", "thin_resnet18", "sgd", "val_acc")),
        ("warmstart/table1", ("cifar10", "thin_resnet18", "adam", "val_acc")),
        ("warmstart/table1", ("cifar10", "mlp", "sgd", "val_acc")),
        ("warmstart/table1", ("cifar10", "logistic", "sgd", "val_acc")),
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
    from bench.report import judge

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


def _relative(path: Path) -> Path:
    """The path as README.md names it."""
    return path.relative_to(paths.PROJECT) if path.is_relative_to(paths.PROJECT) else path


def _page(scale: str) -> Path:
    """Where every verdict of a scale's reference stands."""
    return reference.folder(scale) / "verdicts.md"


def _overview(found: Sequence[Source]) -> list[str]:
    """How many claims of each paper came out how, at every scale, with links to all verdicts."""
    shown = stats.VERDICTS
    lines = [f"| paper | scale | machine | claims | {' | '.join(shown)} |", f"|---|---|---|---:|{'---:|' * len(shown)}"]
    for source in found:
        claims = verdicts.of_kind(source.entries, "claim")
        counted = verdicts.counts(claims)
        facts = (collect.read_facts(source.fed, name) for name in source.fed.exhibits)
        machines = ", ".join(sorted({machine for one in facts for machine in one.machines}))
        cells = " | ".join(str(counted[verdict] or "") for verdict in shown)
        scale = f"[`{source.scale}`]({_relative(_page(source.scale))})"
        lines.append(f"| {source.paper} | {scale} | {machines} | {len(claims)} | {cells} |")
    return lines


def _numbers(chosen: Iterable[Source]) -> list[str]:
    """The best-known numbers, published beside reproduced; nothing where there are none."""
    lines = [
        f"| {_link(entry.exhibit)} | {entry.name} | {entry.published_text()} {entry.unit} | {entry.ours_text()} "
        f"| `{source.scale}` | {entry.finding.n} | {entry.verdict} |"
        for source in chosen
        for entry in headline_numbers(source)
    ]
    head = ["| exhibit | number | published | here | scale | n | verdict |", "|---|---|---:|---:|---|---:|---|"]
    return ["", *head, *lines] if lines else []


def results(found: Sequence[Source]) -> str:
    """Counts of claims at every scale, and headline numbers of each paper's best; from the reference."""
    if not found:
        return "No reference records are committed yet; `make reproduce` makes results of your own.\n"
    best: dict[str, Source] = {}
    for source in found:
        best.setdefault(source.paper, source)
    return "\n".join([*_overview(found), *_numbers(best.values()), ""])


def page(scale: str, entries: Sequence[Entry]) -> str:
    """The verdicts of a scale's reference on all claims, and on the published numbers that it has, as Markdown.

    Records of older code are not marked: the page would change with every edit of the code that trains.
    """
    shown = [replace(entry, older=False) for entry in entries if entry.kind == "claim" or entry.ran()]
    made = ", ".join(f"[{paper}]({paper}.provenance.json)" for paper in reference.notes(scale))
    about = [
        f"Published numbers of which this scale has no record, {len(entries) - len(shown)} in all, are left out.",
        f"When, from which commit, on what machine and why the records were made: {made}.",
    ]
    return "\n".join([verdicts.as_markdown(shown), *about, ""])


def speed() -> str:
    """The headline rows of the committed speed tables side by side, with links to the whole of each."""
    headlines: dict[tuple[str, str], dict[str, str]] = {}
    machines = []
    for path in sorted((paths.PROJECT / "results" / "perf").glob("*.md")):
        facts = json.loads(path.read_text().partition("```json\n")[2].partition("```")[0])
        name = ", ".join(facts["gpus"]) or f"{facts['processor']} ({facts['vector_units']})"
        machines.append(f"[{name}, {facts['cores']} cores]({_relative(path)})")
        with path.with_suffix(".csv").open(newline="") as stream:
            for row in csv.DictReader(stream):
                if _is_headline(row):
                    ours, peer = (words.rate(float(row[side])) for side in ("ours", "peer"))
                    cell = f"**{float(row['ratio']):.2f}**: {ours} against {peer} {row['unit']}"
                    headlines.setdefault((row["path"], row["variant"]), {})[machines[-1]] = cell
    if not machines:
        return "No table is committed yet; `make perf` makes one of your machine.\n"
    lines = [f"| path | variant | {' | '.join(machines)} |", f"|---|---|{'---|' * len(machines)}"]
    parts = list(dict.fromkeys(part for part, _ in headlines))
    for (part, variant), cells in sorted(headlines.items(), key=lambda item: parts.index(item[0][0])):
        lines.append(f"| {part} | {variant} | {' | '.join(cells.get(machine, '') for machine in machines)} |")
    return "\n".join([*lines, ""])


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
            members = source.fed.exhibits.get(name, [])
            if members and all(
                source.fed.layout.record(source.fed.runs[key].used).exists() for key in source.fed.keys_of(name)
            ):
                target = reference.folder(source.scale) / f"{name.replace('/', '-')}.png"
                if draw:
                    _draw(source.fed, name, target)
                from bench import exhibit

                shown = exhibit.registry()[name]
                return f"![{shown.title}]({_relative(target)})\n\n*{shown.title}, scale `{source.scale}`: {shown.caption}*\n"
    return ""


def _draw(fed: Plan, name: str, target: Path) -> None:
    from bench.report import draw

    draw.draw(fed, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile((fed.layout.exhibits / name).with_suffix(".png"), target)


def documents(*, draw: bool = False) -> dict[Path, str]:
    """Path -> text of README.md and of each scale's page, made anew from the reference; draws the picture if told to."""
    found = sources()
    text = README.read_text()
    parts = {"picture": _picture(found, draw), "results": results(found), "speed": speed()}
    for name, content in parts.items():
        text = put(text, name, content)
    made = {README: text}
    for scale in dict.fromkeys(source.scale for source in found):
        entries = [entry for source in found if source.scale == scale for entry in source.entries]
        made[_page(scale)] = page(scale, entries)
    return made


def write() -> None:
    """Writes README.md, its picture, and the page of each scale."""
    for path, text in documents(draw=True).items():
        checkpoint.write_text(path, text)
