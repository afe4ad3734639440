"""Trains the cheapest reference runs of each paper again: they must give what the reference says."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench import record, stats
from bench.errors import UserError
from bench.paths import Layout
from bench.record import Record
from bench.report import reference
from bench.workflow import execute
from bench.workflow import plan as planning
from bench.workflow.keys import key_of
from bench.workflow.plan import Plan, Planned

SIGMAS = 4.0
"""Standard deviations over seeds that a metric may move by on another machine, where rounding sends a training elsewhere."""
LEAST = 1e-4
"""Smallest relative tolerance, for metrics that hardly depend on the seed."""


@dataclass(frozen=True)
class Comparison:
    """A run that was trained again.

    Attributes:
        label: its name.
        holds: whether it gave what the reference says.
        how: "bit for bit", or the tolerance and why it was used.
        detail: what differed most.
    """

    label: str
    holds: bool
    how: str
    detail: str

    def line(self) -> str:
        detail = f"; {self.detail}" if self.detail else ""
        return f"{'match' if self.holds else 'DIFFERS':8} {self.label}: {self.how}{detail}"


def hours(run: Planned) -> float:
    """Estimate on the CPU, parents included."""
    return sum(planning.hours(spec.cost(), "cpu") for spec in run.spec.chain())


def cheapest(reference_plan: Plan, count: int) -> list[Planned]:
    """The `count` cheapest reference runs of each paper, of different configurations where there are enough.

    Args:
        fed: plan whose records are the reference's.
        count: runs of each paper.
    """
    cheap: list[Planned] = []
    for paper in dict.fromkeys(name.split("/")[0] for name in reference_plan.exhibits):
        runs = [
            run
            for run in reference_plan.runs.values()
            if run.exhibits[0].startswith(f"{paper}/") and _whole(reference_plan, run)
        ]
        runs.sort(key=lambda run: (hours(run), run.spec.seed, run.key))
        distinct = list({run.spec.group: run for run in reversed(runs)}.values())[::-1]
        wanted = distinct[:count]
        cheap += [*wanted, *[run for run in runs if run not in wanted][: count - len(wanted)]]
    return cheap


def _whole(reference_plan: Plan, run: Planned) -> bool:
    """Whether the reference has the run and its ancestors."""
    return all(
        reference_plan.layout.record(reference_plan.runs[reference_plan.key(spec)].used).exists()
        for spec in run.spec.chain()
    )


def _train(reference_plan: Plan, runs: Iterable[Planned], root: Path) -> tuple[Plan, execute.Tally]:
    suite = reference_plan.suite.model_copy(update={"keep": "everything"})
    repeated = replace(
        reference_plan, suite=suite, layout=Layout(suite.scale, root), runs={}, exhibits={}, key_by_identity={}
    )
    for run in runs:
        for spec in reversed(list(run.spec.chain())):
            if spec.identity not in repeated.key_by_identity:
                key = repeated.key_by_identity[spec.identity] = key_of(spec)
                repeated.runs[key] = Planned(key, spec, used=key)
    return repeated, execute.run_all(repeated, list(repeated.runs.values()))


def surroundings(result_record: Record) -> dict[str, object]:
    """What must be equal for equal results bit for bit, beside the specification."""
    known = result_record.provenance
    machine, on_cpu = known.get("machine", {}), known.get("device") == "cpu"
    return {
        "code": known.get("code"),
        "processor": machine.get("processor") if on_cpu else "a GPU",
        "vector units": machine.get("vector_units") if on_cpu else None,
        "device": known.get("device"),
        "threads": known.get("threads"),
        "precision": known.get("precision"),
        "packages": known.get("packages"),
        "company": known.get("company", []) if not on_cpu else [],
    }


def _differences(before: Record, after: Record) -> list[str]:
    first, second = surroundings(before), surroundings(after)
    return [f"{name} {_named(first[name], second[name])}" for name in first if first[name] != second[name]] or (
        ["a GPU is not deterministic"] if before.provenance.get("device") != "cpu" else []
    )


def _named(before: object, after: object) -> str:
    if isinstance(before, dict) and isinstance(after, dict):
        changed = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
        return ", ".join(f"{name} {before.get(name, 'absent')} → {after.get(name, 'absent')}" for name in changed)
    return f"{before} → {after}"


def spreads(records: Iterable[tuple[str, Record]]) -> dict[str, float]:
    """Metric -> standard deviation over seeds, pooled over groups.

    Args:
        records: (group, record) of a paper's reference.
    """
    groups: dict[tuple[str, str], list[float]] = {}
    for group, result_record in records:
        for name, value in result_record.results()["metrics"].items():
            groups.setdefault((group, name), []).append(value)
    variances: dict[str, list[float]] = {}
    for (_, name), values in groups.items():
        spread = stats.sd(values)
        if spread is not None:
            variances.setdefault(name, []).append(spread**2)
    return {name: math.sqrt(math.fsum(squares) / len(squares)) for name, squares in variances.items()}


def compare(before: Record, after: Record, spread: dict[str, float]) -> Comparison:
    """Holds a run against its reference: bit for bit where nothing else differs, else within the spread over seeds."""
    changed = _differences(before, after)
    if not changed:
        same = before.results() == after.results()
        return Comparison(after.label, same, "bit for bit", "" if same else _first_difference(before, after))
    first, second = before.results()["metrics"], after.results()["metrics"]
    if set(first) != set(second):
        names = ", ".join(sorted(set(first) ^ set(second)))
        return Comparison(after.label, False, f"other surroundings ({'; '.join(changed)})", f"metrics differ: {names}")
    worst, name = max(
        (abs(second[name] - first[name]) / max(SIGMAS * spread.get(name, 0.0), LEAST * abs(first[name]), 1e-12), name)
        for name in first
    )
    allowed = max(SIGMAS * spread.get(name, 0.0), LEAST * abs(first[name]), 1e-12)
    return Comparison(
        after.label,
        worst <= 1,
        f"within {SIGMAS:g} standard deviations over seeds, because of {'; '.join(changed)}",
        f"{name} {second[name]:.6g}, reference {first[name]:.6g}, {allowed:.3g} allowed",
    )


def _first_difference(before: Record, after: Record) -> str:
    first, second = before.results(), after.results()
    for name in sorted({*first["metrics"], *second["metrics"]}):
        a, b = first["metrics"].get(name), second["metrics"].get(name)
        if a != b:
            return f"{name} {b!r}, reference {a!r}"
    names = [name for name in second["series"] if first["series"].get(name) != second["series"][name]]
    return f"series {', '.join(names)} differ"


def verify(plan: Plan, *, count: int = 2) -> int:
    """Trains again, prints a line for each run, and returns 1 when one does not match.

    Raises:
        UserError: the scale has no reference, or none that its runs can use.
    """
    if count < 1:
        raise UserError(f"--count {count}: expected at least 1")
    reference_plan = reference.as_results(plan)
    cheap = cheapest(reference_plan, count)
    if not cheap:
        raise UserError(
            f"scale {plan.suite.scale}: the reference has none of its runs; the scale's settings have changed since. "
            f"Renew it with `python -m bench reference update --scale {plan.suite.scale} --why REASON`"
        )
    print(f"{len(cheap)} runs, about {60 * sum(map(hours, cheap)):.1f} minutes on 2 cores", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        repeated, tally = _train(reference_plan, cheap, Path(folder))
        comparisons = [_compared(reference_plan, repeated, run, tally) for run in cheap]
    for comparison in comparisons:
        print(comparison.line())
    absent = _without(reference_plan, cheap)
    if absent:
        print(f"note: no reference records of {', '.join(absent)}")
    return 0 if all(comparison.holds for comparison in comparisons) else 1


def _compared(reference_plan: Plan, repeated: Plan, run: Planned, tally: execute.Tally) -> Comparison:
    key = repeated.key_by_identity[run.spec.identity]
    if not repeated.layout.record(key).exists():
        return Comparison(run.spec.label(), False, "failed", tally.failed.get(key, "was not trained"))
    paper = run.exhibits[0].split("/")[0]
    known = [
        (other.spec.group, record.read(reference_plan.layout.record(other.used)))
        for other in reference_plan.runs.values()
        if other.exhibits[0].startswith(f"{paper}/") and reference_plan.layout.record(other.used).exists()
    ]
    return compare(
        record.read(reference_plan.layout.record(run.used)), record.read(repeated.layout.record(key)), spreads(known)
    )


def _without(reference_plan: Plan, runs: Sequence[Planned]) -> list[str]:
    papers = dict.fromkeys(name.split("/")[0] for name in reference_plan.exhibits)
    return [paper for paper in papers if not any(run.exhibits[0].startswith(f"{paper}/") for run in runs)]
